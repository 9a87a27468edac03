"""The stage of the exercise ``members``: a set with other connections, living and dead, and what becomes of it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from labkit.clients import OWN, make_client
from labkit.events import ClientRecv
from labkit.exercises.exercise import ExerciseHandler
from labkit.experiment.hosting import host
from labkit.experiment.play import play
from labkit.experiment.run import Run
from labkit.support.autojump import clock_of
from labkit.support.clock import scaled
from labkit.support.loop import until_done
from labkit.timeline import Timeline, scope

__all__ = ["MESSAGES", "Account", "Members", "account_of", "given"]

#: What the client of a trial sends.
MESSAGES: Final = ("hello", "again")

#: How many members are dead. With several, the order of a set does not hide a handler that gives up at the first.
_DEAD = 3
#: How long a message to another client may take, and the longest time that it stays; in seconds.
_ARRIVAL, _STAY = 0.25, 60.0
#: How long the buffer of a member is full, in seconds.
_FULL = 0.02


class Members(set[ServerConnection]):
    """A set that knows when a connection is added.

    Args:
        members: those that are there.
        comers: those that join as soon as somebody iterates over the set and lets the loop run: in the middle of the
            round, if it is not over by then.
        slow: the member whose client reads slowly. Its buffer is full when they join, so a ``send()`` waits.
    """

    def __init__(
        self, members: Iterable[ServerConnection], comers: Iterable[ServerConnection], slow: ServerConnection
    ) -> None:
        super().__init__(members)
        self.joined: dict[ServerConnection, float] = {}
        self._comers = list(comers)
        self._slow = slow
        self._clock = clock_of(asyncio.get_running_loop())

    def __iter__(self) -> Iterator[ServerConnection]:
        comers, self._comers = self._comers, []
        if comers:
            # What a transport tells its connection when its buffer is full, and when it has room again.
            self._slow.pause_writing()
            asyncio.get_running_loop().call_soon(self.update, comers)
            asyncio.get_running_loop().call_later(_FULL, self._slow.resume_writing)
        return super().__iter__()

    def add(self, member: ServerConnection, /) -> None:
        """Add a connection."""
        self.update((member,))

    def update(self, *others: Iterable[ServerConnection]) -> None:
        """Add several connections."""
        before = set(self)
        super().update(*others)
        self.joined.update(dict.fromkeys(self - before, self._clock.now()))

    def symmetric_difference_update(self, others: Iterable[ServerConnection], /) -> None:
        """Add those that are not there, and remove those that are."""
        before = set(self)
        super().symmetric_difference_update(others)
        self.joined.update(dict.fromkeys(self - before, self._clock.now()))

    def __ior__(self, others: Any) -> Self:  # type: ignore[misc, override]
        self.update(others)
        return self

    def __ixor__(self, others: Any) -> Self:  # type: ignore[misc, override]
        self.symmetric_difference_update(others)
        return self


@dataclass
class Account:
    """What became of the members in one run.

    Attributes:
        joined: when the handler added its own connection, in seconds since the timeline began; None if it did not.
        stayed: whether the connection was still there when the handler ended.
        gone: how many of the other clients were no longer there, or no longer connected.
        heard: what the client heard that was there from the beginning.
        heard_late: what the client heard that joined after the first answer.
        late_since: when that client joined.
    """

    joined: float | None = None
    stayed: bool = False
    gone: int = 0
    heard: Sequence[str] = ()
    heard_late: Sequence[str] = ()
    late_since: float = math.inf


_accounts: Final[WeakKeyDictionary[Timeline, Account]] = WeakKeyDictionary()


def account_of(run: Run) -> Account | None:
    """Return what became of the members in a run; None if the handler was not called."""
    return _accounts.get(run.timeline)


@asynccontextmanager
async def given(handler: ExerciseHandler) -> AsyncIterator[ExerciseHandler]:
    """Give the handler a set with other connections: a live one, and some that have ended.

    All are real. A dead one is like a connection that another handler did not remove. When the handler's client has
    its first answer, another live one joins; and one that is gone at once joins in the middle of a round, when the live
    one has no room for a message.
    """
    comer, *dead = await _dead_connections()
    called: asyncio.Future[Timeline] = asyncio.get_running_loop().create_future()
    async with _another_client() as other, _another_client() as late:
        members = Members([*dead, other.connection], [comer], other.connection)

        @functools.wraps(handler)
        async def call(websocket: ServerConnection) -> None:
            here = scope.get()
            assert here is not None
            account = _accounts.setdefault(here.timeline, Account())
            if not called.done():
                called.set_result(here.timeline)
            try:
                await handler(websocket, members)
            finally:
                joined = members.joined.get(websocket)
                account.joined = None if joined is None else joined - here.timeline.began
                account.stayed = websocket in members
                expected = {other.connection} | ({late.connection} & members.joined.keys())
                account.gone = len(expected - {member for member in members if member.state is State.OPEN})

        # wraps() copies a signature of two parameters; the library has to see a handler of one parameter.
        parameter = inspect.Parameter("websocket", inspect.Parameter.POSITIONAL_ONLY)
        vars(call)["__signature__"] = inspect.Signature([parameter])
        joining = asyncio.create_task(_join(late.connection, members, called))
        try:
            yield call
        finally:
            joining.cancel()
            await asyncio.wait([joining])
        if called.done():
            account = _accounts[called.result()]
            account.heard, account.heard_late = await other.heard(len(MESSAGES)), await late.heard(1)
            if (joined := members.joined.get(late.connection)) is not None:
                account.late_since = joined - called.result().began


async def _join(connection: ServerConnection, members: Members, called: asyncio.Future[Timeline]) -> None:
    timeline = await asyncio.shield(called)
    await timeline.until(lambda event: isinstance(event, ClientRecv))
    members.add(connection)


@dataclass(frozen=True)
class _Other:
    """Another client, which stays connected."""

    connection: ServerConnection
    timeline: Timeline

    async def heard(self, number: int) -> list[str]:
        """Return the messages that the client has received, after a short wait for those on the way."""
        await self.timeline.until(lambda _: len(self._received()) >= number, scaled(_ARRIVAL))
        return self._received()

    def _received(self) -> list[str]:
        return [event.text for event in self.timeline.all(ClientRecv)]


@asynccontextmanager
async def _another_client() -> AsyncIterator[_Other]:
    connected: asyncio.Future[_Other] = asyncio.get_running_loop().create_future()
    finished = asyncio.Event()

    async def stays_on(websocket: ServerConnection) -> None:
        here = scope.get()
        assert here is not None
        here.timeline.lent = True
        connected.set_result(_Other(websocket, here.timeline))
        await finished.wait()

    task = asyncio.create_task(play(stays_on, "websockets", None, messages=(), patience=_STAY))
    waiting: list[asyncio.Future[Any]] = [task, connected]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        yield connected.result()
    finally:
        finished.set()
        await until_done(task)


async def _dead_connections() -> list[ServerConnection]:
    connections: list[ServerConnection] = []
    complete = asyncio.Event()

    async def vanishes(websocket: ServerConnection) -> None:
        connections.append(websocket)
        if len(connections) == _DEAD + 1:
            complete.set()
        await websocket.wait_closed()

    async with host(vanishes, "websockets") as server, AsyncExitStack() as clients:
        server.timeline.lent = True
        for number in range(1, _DEAD + 2):
            client = make_client(OWN, server.url, server.timeline, {}, number=number)
            clients.push_async_callback(client.stop)
            await client.connect()
        await complete.wait()
        await clients.aclose()
        for connection in connections:
            await connection.wait_closed()
    return connections
