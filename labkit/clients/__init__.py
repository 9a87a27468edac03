"""Clients: the lab's own, the libraries', and each of them in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from labkit.checks import find
from labkit.client import Client as OwnClient
from labkit.clients.aiohttp_client import AiohttpClient
from labkit.clients.library import LibraryClient
from labkit.clients.websockets_client import WebsocketsClient
from labkit.errors import BadOption, UnknownName
from labkit.timeline import Timeline

__all__ = ["CLIENTS", "OWN", "Client", "check_client", "make_client"]

#: The name of the lab's own client, which can do what a polite one would not.
OWN: Final = "labkit"

#: The clients, by name.
CLIENTS: Final[dict[str, type[OwnClient | LibraryClient]]] = {
    OWN: OwnClient,
    "aiohttp": AiohttpClient,
    "websockets": WebsocketsClient,
}


class Client(Protocol):
    """What every client can do."""

    timeline: Timeline

    async def ready(self) -> None:
        """Wait until the client's program runs."""

    async def connect(self) -> bool:
        """Connect, and do the opening handshake; tell whether the server agreed."""

    def send(self, message: str | bytes) -> None:
        """Send a message, behind those that still wait to be sent."""

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Begin the closing handshake."""

    async def signal(self, number: int) -> None:
        """Send a signal to the client's process."""

    async def ended(self) -> None:
        """Wait until the connection is over, as this side sees it."""

    async def stop(self) -> None:
        """End the connection without ceremony, if there still is one."""


def check_client(name: str, options: Mapping[str, Any], *, own_process: bool = False) -> None:
    """Refuse a client that does not exist, and options that it does not take.

    Args:
        name: the client's name.
        options: keyword arguments for the library's own function.
        own_process: whether it is to live in a process of its own.

    Raises:
        UnknownName: there is no such client.
        BadOption: the library does not take an option, or it cannot be sent to another process.
    """
    kind = find("client", name, CLIENTS)
    if not issubclass(kind, LibraryClient):
        if options:
            raise BadOption("the lab's own client takes no options; give client='aiohttp' or client='websockets'")
        return
    names = kind.option_names()
    for option in options:
        if option not in names:
            raise BadOption(str(UnknownName(f"{kind.function} option", option, names)))
        if own_process and not isinstance(options[option], str | int | float | None):
            raise BadOption(
                f"{option}={options[option]!r} cannot be sent to the client's process; give text or a number"
            )


def make_client(
    name: str, url: str, timeline: Timeline, options: Mapping[str, Any], *, own_process: bool = False
) -> Client:
    """Make a client.

    Args:
        name: its name, one of ``CLIENTS``.
        url: where it will connect.
        timeline: where it records.
        options: keyword arguments for the library's own function.
        own_process: whether it lives in a process of its own, so that it can be sent signals.

    Returns:
        The client, not yet connected.
    """
    if own_process:
        from labkit.clients.process import ProcessClient

        return ProcessClient(name, url, timeline, options)
    kind = CLIENTS[name]
    return kind(url, timeline, options) if issubclass(kind, LibraryClient) else OwnClient(url, timeline)
