"""Clients: the lab's own client, and clients written with the libraries; each can run in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from labkit.clients.aiohttp import AiohttpClient
from labkit.clients.library import LibraryClient
from labkit.clients.own import OwnClient
from labkit.clients.request import PLAIN, Request, make_request
from labkit.clients.websockets import WebsocketsClient
from labkit.errors import BadOption, UnknownName
from labkit.support.checks import find
from labkit.timeline import Timeline

__all__ = ["CLIENTS", "OWN", "Client", "Request", "check_client", "make_client", "make_request"]

#: The name of the lab's own client, which can also break the rules of the protocol.
OWN: Final = "labkit"

#: The clients, by name.
CLIENTS: Final[dict[str, type[OwnClient | LibraryClient]]] = {
    OWN: OwnClient,
    "aiohttp": AiohttpClient,
    "websockets": WebsocketsClient,
}


class Client(Protocol):
    """What every client can do.

    Attributes:
        timeline: where it records.
        number: its number among the clients of the experiment, from 1; its events belong to the connection with it.
        on_message: called with each message that it receives, if somebody wants them; set before it connects.
    """

    timeline: Timeline
    number: int
    on_message: Callable[[str | bytes], None] | None

    async def ready(self) -> None:
        """Wait until the client's program runs."""

    async def connect(self) -> bool:
        """Connect, and do the opening handshake; return whether the server accepted."""

    def send(self, message: str | bytes) -> None:
        """Send a message, after those that still wait to be sent."""

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Begin the closing handshake."""

    async def signal(self, number: int) -> None:
        """Send a signal to the client's process."""

    async def ended(self) -> None:
        """Wait until the connection is over, as the client sees it."""

    async def stop(self) -> None:
        """Drop the connection at once, if it is still there."""


def check_client(name: str, options: Mapping[str, Any], *, own_process: bool = False, request: Request = PLAIN) -> None:
    """Refuse a client that does not exist, and options that the client does not take.

    Args:
        name: the client's name.
        options: keyword arguments for the library's own function.
        own_process: whether the client will run in a process of its own.
        request: what it will ask for in its opening handshake.

    Raises:
        UnknownName: there is no such client.
        BadOption: the library does not take an option, or it cannot be sent to another process, or it asks for the same
            as the request.
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
        if (twice := kind.asks_for(request, option)) is not None:
            raise BadOption(f"{option!r} is given twice: as an option of the client, and as {twice}= of the lab")
        if own_process and not isinstance(options[option], str | int | float | None):
            raise BadOption(
                f"{option}={options[option]!r} cannot be sent to the client's process; give text or a number"
            )


def make_client(
    name: str,
    url: str,
    timeline: Timeline,
    options: Mapping[str, Any],
    *,
    own_process: bool = False,
    number: int = 1,
    request: Request = PLAIN,
) -> Client:
    """Make a client.

    Args:
        name: the client's name, one of ``CLIENTS``.
        url: the server's URL.
        timeline: where it records.
        options: keyword arguments for the library's own function.
        own_process: whether the client runs in a process of its own, so that it can get signals.
        number: its number among the clients of the experiment, from 1.
        request: what it asks for in its opening handshake.

    Returns:
        The client, not yet connected.
    """
    if own_process:
        from labkit.clients.process import ProcessClient

        return ProcessClient(name, url, timeline, options, number, request)
    kind = CLIENTS[name]
    if issubclass(kind, LibraryClient):
        return kind(url, timeline, options, number, request)
    return OwnClient(url, timeline, number, request)
