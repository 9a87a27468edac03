"""The wire: a TCP relay in the running loop, between any client and any server.

It sees every frame, and can break a connection in every way that TCP allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import SplitResult, urlsplit

from labkit.errors import BadValue
from labkit.support.loop import check_loop
from labkit.support.sockets import connect, keep_from_children
from labkit.timeline import Timeline, check_timeline
from labkit.wire.breaking import Breaker
from labkit.wire.end import End
from labkit.wire.hold import Holds
from labkit.wire.link import Link

__all__ = ["Relay", "split_url"]

#: Turns of the loop until an accepted client becomes a link. One is enough, unless many clients come at once.
_TURNS: Final = 100


class _Listening(socket.socket):
    """A listening socket that counts the clients that it has accepted."""

    accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a client; asyncio calls this."""
        client = super().accept()
        self.accepted += 1
        return client


class Relay(Breaker):
    """A relay in front of one server.

    It passes bytes, FIN and RST from each end to the other, unchanged and in order. If a peer does not read, the sender
    is stopped. The wire records everything on the timeline's ``wire`` lane. The methods that break a connection act on
    every link that is live at that moment; a ``Link`` has the same methods.

    Args:
        server_url: the server's URL, such as ``"ws://127.0.0.1:4711/"``; ``http:`` will do. With ``wss:`` or ``https:``
            the wire relays the bytes, but cannot decode them.
        timeline: where to record; a new one, if None.

    Attributes:
        timeline: where it records.
        links: the links, in the order of connecting.

    Raises:
        BadValue: the URL is not the URL of a WebSocket server with a port.
    """

    def __init__(self, server_url: str, timeline: Timeline | None = None) -> None:
        check_timeline(timeline)
        self.timeline = Timeline() if timeline is None else timeline
        self._links: list[Link] = []
        self._upstream = split_url(server_url)
        self._to_server = partial(connect, host=str(self._upstream.hostname), port=self._upstream.port or 0)
        self._listener: asyncio.Server | None = None
        self._on_request: Callable[[Link], bool] | None = None
        self._holds: Holds | None = None

    @property
    def is_open(self) -> bool:
        """Whether it accepts clients, as it does inside its ``async with`` block."""
        return self._listener is not None and bool(self._listener.sockets)

    @property
    def url(self) -> str:
        """The URL for the client: the server's URL with the relay's address.

        Raises:
            BadValue: the wire is not open.
        """
        if self._listener is None or not self._listener.sockets:
            raise BadValue("the wire has a url only inside its `async with` block.")
        port = self._listener.sockets[0].getsockname()[1]
        userinfo, at, _ = self._upstream.netloc.rpartition("@")
        return self._upstream._replace(netloc=f"{userinfo}{at}127.0.0.1:{port}").geturl()

    async def __aenter__(self) -> Self:
        check_loop()
        self._socket = _Listening(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._links_before = len(self.links)
        try:
            self._socket.bind(("127.0.0.1", 0))
            keep_from_children(self._socket)
            # start_serving=False, so that a cancel finds a server to close. A socket that is closed without its
            # server stays registered in the loop, and the next socket with the same number would get no events.
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(self._accept, sock=self._socket, start_serving=False)
            await self._listener.start_serving()
        except BaseException:
            if self._listener is not None:
                self._listener.close()
            self._socket.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the relay: when this returns, it has no socket and no task left."""
        assert self._listener is not None
        try:
            # When a server closes, asyncio does not close a client that it has accepted and not begun to serve.
            for _ in range(_TURNS):
                if self._socket.accepted <= len(self.links) - self._links_before:
                    break
                await asyncio.sleep(0)
        finally:
            self._listener.close()
            for link in self.links:
                link.abort()
        for link in self.links:
            await link.closed()

    def _accept(self) -> End:
        opaque = "TLS" if self._upstream.scheme in ("wss", "https") else None
        link = Link(
            self.timeline.next_number("wire"),
            self.timeline,
            self._to_server,
            opaque=opaque,
            on_request=self._on_request,
        )
        if self._holds is not None:
            self._holds.add(link)
        self.links.append(link)
        return link.client

    @property
    def links(self) -> list[Link]:
        """The links, in the order of connecting."""
        return self._links

    def take_requests(self, take: Callable[[Link], bool]) -> None:
        """Ask about the request of each later client; see ``Breaker.take_requests``."""
        self._on_request = take

    def hold_after(self, frames: int) -> Holds:
        """Let so many frames of each later link pass, of both directions together, and hold what comes after them.

        Args:
            frames: how many; the handshake does not count.

        Returns:
            The holds, which somebody has to release.
        """
        self._holds = Holds(frames)
        return self._holds


def split_url(url: str) -> SplitResult:
    """Split a server's URL (RFC 6455 §3).

    Args:
        url: such as ``"ws://127.0.0.1:4711/"``; with ``http:`` or ``https:`` too, as a server's own messages tell it.

    Returns:
        Its parts.

    Raises:
        BadValue: it is not the URL of a server, or it has no port.
    """
    parts: SplitResult | None = None
    port: Any = None
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        parts = urlsplit(url)
        port = parts.port
    if (
        not isinstance(parts, SplitResult)
        or parts.scheme not in ("ws", "wss", "http", "https")
        or not parts.hostname
        or not port
    ):
        raise BadValue(
            f"{url!r} is not the URL of a server; the wire takes one such as 'ws://127.0.0.1:4711/', with its port."
        )
    if parts.fragment:
        raise BadValue(f"{url!r} has a fragment, which the URL of a WebSocket must not have.")
    return parts
