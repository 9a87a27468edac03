"""Clients with names, of one server whose handlers share a set of connections: for what ``play`` does not stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from labkit.errors import BadValue, LabError
from labkit.events import ClientEnded, ClientRecv, ClientSend, HandlerEnd
from labkit.experiment.hosting import host
from labkit.experiment.wire import Wire
from labkit.support.checks import check_seconds
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from labkit.watch.handler import Handler
from labkit.wire import Link

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

__all__ = ["Guest", "Party", "party"]

#: How long anything of a party may take, in seconds.
_LIMIT: Final = 10.0


class Guest:
    """A client with a name.

    Args:
        name: its name; the ``who`` of its events on the client lane.
        timeline: the timeline of the party.
        link: its link through the wire, which can be broken alone.
        client: its end of the connection.
        server: the other end, which its handler has got.
        call: the number of its handler's call.
    """

    def __init__(
        self, name: str, timeline: Timeline, link: Link, client: ClientConnection, server: ServerConnection, call: int
    ) -> None:
        self.name: Final = name
        self.link: Final = link
        self.client: Final = client
        self.server: Final = server
        self._timeline = timeline
        self._named = {"who": name}
        self._call = call
        self._listening = asyncio.create_task(self._listen())

    @property
    def received(self) -> list[str]:
        """What it has received, in order, without blanks around."""
        return [event.text for event in self._timeline.all(ClientRecv) if event.more == self._named]

    @property
    def code(self) -> int | None:
        """The close code that it was told while the party lasted; None if it was connected until then."""
        return next((event.code for event in self._timeline.all(ClientEnded) if event.more == self._named), None)

    @property
    def ending(self) -> str | None:
        """How its handler has ended, in words; None as long as it runs."""
        return next((event.text for event in self._timeline.all(HandlerEnd) if event.call == self._call), None)

    async def send(self, message: str) -> None:
        """Send a message.

        Args:
            message: the message.
        """
        self._timeline.append(ClientSend(None, None, text=message, more=self._named))
        await self.client.send(message)

    async def settled(self) -> None:
        """Wait until all has arrived that either end has sent before, or until its connection is over.

        What the server has sent before it answers a ping has arrived when the answer has.
        """
        try:
            await (await self.client.ping())
        except ConnectionClosed:
            await asyncio.wait([self._listening])

    async def stop(self) -> None:
        """Receive no more."""
        self._listening.cancel()
        await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        with suppress(ConnectionClosed):
            async for message in self.client:
                self._timeline.append(ClientRecv(None, None, text=str(message).strip(), more=self._named))
        code = self.client.close_code
        self._timeline.append(ClientEnded(None, code, None, text=f"{code}", more=self._named))


class Party(Mapping[str, Guest]):
    """The guests by their names, as ``labkit.party`` yields them.

    Args:
        guests: the guests, in the order in which a loop over the members comes to them.
        members: the connections that the handlers share.
        timeline: what has happened.
    """

    def __init__(self, guests: Sequence[Guest], members: Collection[ServerConnection], timeline: Timeline) -> None:
        self.members: Final = members
        self.timeline: Final = timeline
        self._guests = {guest.name: guest for guest in guests}

    def __getitem__(self, name: str) -> Guest:
        return self._guests[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._guests)

    def __len__(self) -> int:
        return len(self._guests)

    async def until(self, test: Callable[[], object], seconds: float = _LIMIT) -> None:
        """Wait for an event after which something is true.

        Args:
            test: asks whether it is.
            seconds: the longest wait, times ``LABKIT_TIME_SCALE``.

        Raises:
            LabError: it has not become true in time.
        """
        limit = scaled(check_seconds("seconds", seconds))
        if not test() and not await self.timeline.until(lambda _: bool(test()), limit, start=len(self.timeline)):
            raise LabError(f"it has not become true within {limit:g} s")

    async def settled(self, *names: str) -> None:
        """Wait for guests, one after the other, as :meth:`Guest.settled` does.

        Args:
            names: their names; all of them, if there is none.
        """
        for name in names or self:
            await self[name].settled()


@asynccontextmanager
async def party(
    handler: Handler, names: Sequence[str], *, members: Collection[ServerConnection], **options: Any
) -> AsyncIterator[Party]:
    """Host a handler of ``websockets`` for clients that have names, each with a link of its own that can be broken.

    Each of them receives, and puts down what it has received, and when: ``labkit.deliveries`` shows it.

    Args:
        handler: the handler. It keeps the connections of all clients in a set.
        names: the names. The first is that of the client to which a loop over the set comes first, and so on.
        members: that set. At first it is empty.
        options: keyword arguments for ``websockets.serve``.

    Yields:
        The guests, when all of them are in the set.

    Raises:
        BadValue: two have the same name, or there is none.
        LabError: the handler has not put all of them into the set.
    """
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise BadValue(f"names={names!r}; it takes several names, each of them once")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(host(handler, on="websockets", compression=None, **options))
        wire = await enter(Wire(server.url, timeline=server.timeline))
        clients = [await enter(connect(f"{wire.url}{number}", compression=None)) for number in range(len(names))]
        stack.callback(wire.reset)  # before the clients say goodbye, which one that is stalled would answer late
        together = Party((), members, server.timeline)
        await together.until(lambda: len(members) == len(names))
        guests = []
        for name, member in zip(names, members, strict=True):
            number = int(member.request.path.strip("/")) if member.request else 0
            guest = Guest(name, server.timeline, wire.links[number], clients[number], member, number + 1)
            stack.push_async_callback(guest.stop)
            guests.append(guest)
        yield Party(guests, members, server.timeline)
