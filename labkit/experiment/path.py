"""The path of one client: its connection through the wire to the server, while an experiment runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from labkit.clients import Client
from labkit.connections import Connections
from labkit.events import Event
from labkit.experiment.talk import Function, Talk
from labkit.timeline import Part, Timeline
from labkit.watch.moments import Moment
from labkit.watch.through import Held, Through
from labkit.wire import Hold, Holds, Relay, SomeLinks

__all__ = ["Path", "Serving"]


class Serving(Protocol):
    """What a path asks of a server; ``labkit.stacks.server.Server`` has its documentation.

    Attributes:
        seen: whether the lab sees its handlers.
    """

    seen: bool

    def exchanges(self, timeline: Timeline, served: Callable[[], Collection[int]]) -> Any: ...  # noqa: D102
    async def through(  # noqa: D102
        self, exchanges: Any, sent: int, patience: float, held: Held | None = ...
    ) -> Through: ...
    def watch_for(self, moment: Moment) -> None: ...  # noqa: D102
    def stands(self, only: Collection[int]) -> tuple[int | None, int]: ...  # noqa: D102
    def shut_down(self) -> None: ...  # noqa: D102
    async def cancel(self, only: Collection[int] | None = None) -> None: ...  # noqa: D102
    async def expire(self, only: Collection[int] | None = None) -> None: ...  # noqa: D102
    def throw(self, exception: Exception, only: Collection[int] | None = None) -> None: ...  # noqa: D102
    def narrow(self, only: Collection[int] | None = None) -> None: ...  # noqa: D102
    def block(self, seconds: float) -> None: ...  # noqa: D102
    async def settled(self, limit: float, only: Collection[int] | None = None) -> None: ...  # noqa: D102
    async def look(self, only: Collection[int]) -> None: ...  # noqa: D102
    async def outlived(self, limit: float, only: Collection[int] | None = None) -> None: ...  # noqa: D102


class Path:
    """What belongs to the connection of one client, and to no other client and no stranger.

    Args:
        client: the client.
        wire: the relay.
        server: the server.
        connections: tells which events belong to which connection.
        talk: the client's own conversation; None if it sends messages.

    Attributes:
        client: the client.
        timeline: its events, and those that belong to no connection.
        wire: its link.
        server: the server; of the handlers, its own.
        through: what is known of the client's conversation with its handler; None until somebody has waited for it.
        said: the messages that the client has sent in its conversation.
        talk: the client's own conversation.
    """

    def __init__(
        self, client: Client, wire: Relay, server: Serving, connections: Connections, talk: Function | None = None
    ) -> None:
        self.client = client
        self.timeline: Timeline = Part(client.timeline, self._owns)
        self.wire = SomeLinks(wire, lambda link: link.number in connections.links(client.number))
        self._relay = wire
        self.server = _OwnServer(server, self)
        self.through: Through | None = None
        self._connections = connections
        self._exchanges = server.exchanges(self.timeline, lambda: self.served)
        self._real_server = server
        self.said: list[str | bytes] = []
        self.talk = None if talk is None else Talk(talk, client, self.timeline, self.send)

    def send(self, message: str | bytes) -> None:
        """Make the client send a message."""
        self.said.append(message)
        self.client.send(message)

    async def wait_until_through(self, patience: float) -> Through:
        """Wait until all is through that the client has sent.

        Args:
            patience: the longest wait, in seconds.

        Returns:
            How it is known; or that it is unknown, when the patience is over.
        """
        self.through = await self._real_server.through(self._exchanges, len(self.said), patience)
        return self.through

    def hold_after(self, frames: int) -> Holds:
        """Have what comes after some frames held in the wire, for each connection from now on; see ``Relay``."""
        return self._relay.hold_after(frames)

    def find_hold(self, holds: Holds) -> Hold | None:
        """Find what holds the client's own connection; None if there is none yet."""
        return holds.find(lambda link: link in self._connections.links(self.client.number))

    async def wait_until_rest(self, held: Held, patience: float) -> Through:
        """Wait until the wire holds the conversation, and the handler has done all that it can with what has passed.

        Args:
            held: what the wire holds.
            patience: the longest wait for the handler, in seconds.

        Returns:
            How it is known; or that it is unknown, when the patience is over.
        """
        exchanges = self._real_server.exchanges(self.timeline, lambda: self.served)
        return await self._real_server.through(exchanges, 0, patience, held)

    def watch_for(self, moment: Moment) -> None:
        """Have a moment looked for, before the client connects."""
        self._real_server.watch_for(moment)

    @property
    def seen(self) -> bool:
        """Whether the lab sees the server's handlers."""
        return self._real_server.seen

    @property
    def served(self) -> set[int]:
        """The numbers of the connection on the server's side."""
        return self._connections.served(self.client.number)

    def stands(self) -> tuple[int | None, int]:
        """Tell at which line the client's handler waits, and how many times it has waited by now."""
        return self._real_server.stands(self.served)

    def _owns(self, event: Event) -> bool:
        return self._connections.owns(self.client.number, event)


class _OwnServer:
    """The server, as a fault sees it that strikes the connection of one client."""

    def __init__(self, server: Serving, path: Path) -> None:
        self._server = server
        self._path = path

    def shut_down(self) -> None:
        """Begin the library's own shutdown."""
        self._server.shut_down()

    async def cancel(self) -> None:
        """Cancel the client's handler, and wait until it either awaits something again or has ended."""
        await self._server.cancel(self._path.served)

    async def expire(self) -> None:
        """Let the limit of time around the client's handler expire, and wait as after a cancel."""
        await self._server.expire(self._path.served)

    def throw(self, exception: Exception) -> None:
        """Raise an exception in the client's handler, at the ``await`` where it stands."""
        self._server.throw(exception, self._path.served)

    def narrow(self) -> None:
        """Give the client's connection a small send buffer in the system, so that few unsent bytes fill it."""
        self._server.narrow(self._path.served)

    def block(self, seconds: float) -> None:
        """Block the event loop in which the server runs."""
        self._server.block(seconds)

    async def settled(self, limit: float) -> None:
        """Wait until the library has dealt with the end of the client's handler."""
        await self._server.settled(limit, self._path.served)

    async def look(self) -> None:
        """Look at what the client's handler has started by now."""
        await self._server.look(self._path.served)

    async def outlived(self, limit: float) -> None:
        """Wait until nothing is left of what the client's handler has started."""
        await self._server.outlived(limit, self._path.served)
