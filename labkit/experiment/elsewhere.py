"""A server that is not the lab's: anything that listens on this machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from labkit.errors import BadValue
from labkit.wire.relay import split_url

__all__ = ["Elsewhere", "address"]

#: The schemes of the URLs that a target may have, and those of the clients.
_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True)
class Elsewhere:
    """A server that listens already.

    Attributes:
        url: its URL, without the path.
        path: the path, and perhaps a query.
    """

    url: str
    path: str

    @property
    def name(self) -> str:
        """The whole URL."""
        return self.url.removesuffix("/") + self.path

    @classmethod
    def of(cls, url: str, *, allow_remote: bool = False) -> Elsewhere:
        """Read a URL.

        Args:
            url: such as ``"ws://127.0.0.1:8000/ws"``; ``http`` will do.
            allow_remote: whether it may be on another machine.

        Returns:
            The server.

        Raises:
            BadValue: it is not the URL of a server, or it is on another machine.
        """
        parts = split_url(url)
        host = parts.hostname or ""
        if not allow_remote and not _is_here(host):
            raise BadValue(
                f"{url} is on another machine, which a fault would disturb;"
                " if it is yours, and nobody else uses it, give allow_remote=True; `labkit probe` has --allow-remote"
            )
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        base = parts._replace(scheme=_SCHEMES[parts.scheme], path="/", query="")
        return cls(base.geturl(), path or "/")


def address(url: str) -> tuple[str, int]:
    """The host and the port of a URL that has been checked."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _is_here(host: str) -> bool:
    """Whether a host is this machine, without asking anybody."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    return found.is_loopback or found.is_unspecified
