"""Notebook 07: a set of connections that everybody shares."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from labkit.clients import OWN, make_client
from labkit.events import ClientRecv, ClientSend, HandlerRecv
from labkit.exercises.exercise import Exercise, ExerciseHandler, Rule, Ruling, Trial
from labkit.exercises.rules import answers, broken, kept, quiet
from labkit.exercises.staging import wordless
from labkit.exercises.summary import Summary
from labkit.experiment.hosting import host
from labkit.experiment.play import play
from labkit.experiment.run import Run
from labkit.faults import Close
from labkit.support.autojump import clock_of
from labkit.support.clock import scaled
from labkit.support.loop import until_done
from labkit.timeline import Timeline, scope


async def starter(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    async for message in websocket:
        for member in members:
            await member.send(message)
    members.remove(websocket)


async def solution(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            broadcast(members, message)
    except ConnectionClosed:
        pass
    finally:
        members.remove(websocket)


async def strikes_off_while_it_counts(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            for member in members:
                try:
                    await member.send(message)
                except ConnectionClosed:
                    members.discard(member)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


async def gives_up_at_the_first(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            for member in list(members):
                await member.send(message)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


async def only_after_a_goodbye(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            broadcast(members, message)
        members.remove(websocket)
    except ConnectionClosed:
        pass


async def lets_the_loss_escape(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            broadcast(members, message)
    finally:
        members.remove(websocket)


async def answers_its_own_client(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosed:
        pass
    finally:
        members.remove(websocket)


async def never_joins(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    try:
        async for message in websocket:
            broadcast(members, message)
            await websocket.send(message)
    except ConnectionClosed:
        pass


async def joins_with_its_first_message(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    try:
        async for message in websocket:
            members.add(websocket)
            broadcast(members, message)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


async def empties_it_in_the_end(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            broadcast(members, message)
    except ConnectionClosed:
        pass
    finally:
        members.clear()


async def tells_those_of_the_beginning(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    everybody = set(members)
    try:
        async for message in websocket:
            broadcast(everybody, message)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


async def changes_a_copy(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            members = {member for member in members if member.state is State.OPEN}
            broadcast(members, message)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


async def tells_its_own_client_twice(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            await websocket.send(message)
            broadcast(members, message)
    except ConnectionClosed:
        pass
    finally:
        members.remove(websocket)


async def counts_while_others_join(websocket: ServerConnection, members: set[ServerConnection]) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            for member in members:
                with suppress(ConnectionClosed):
                    await member.send(message)
                await asyncio.sleep(0)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


_MESSAGES = ("hello", "again")
#: How many members are dead. With several, the order of a set does not hide a handler that gives up at the first.
_DEAD = 3
#: How long a message to another client may take, and the longest time that it stays; in seconds.
_ARRIVAL, _STAY = 0.25, 60.0


class Members(set[ServerConnection]):
    """A set that knows when a connection is added.

    Args:
        members: those that are there.
        comers: those that join as soon as somebody iterates over the set and lets the loop run: in the middle of the
            round, if it is not over by then.
    """

    def __init__(self, members: Iterable[ServerConnection] = (), comers: Iterable[ServerConnection] = ()) -> None:
        super().__init__(members)
        self.joined: dict[ServerConnection, float] = {}
        self._comers = list(comers)
        self._clock = clock_of(asyncio.get_running_loop())

    def __iter__(self) -> Iterator[ServerConnection]:
        while self._comers:
            asyncio.get_running_loop().call_soon(self.add, self._comers.pop())
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
class _Account:
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


_accounts: Final[WeakKeyDictionary[Timeline, _Account]] = WeakKeyDictionary()


@asynccontextmanager
async def given(handler: ExerciseHandler) -> AsyncIterator[ExerciseHandler]:
    """Give the handler a set with other connections: a live one, and some that have ended.

    All are real. A dead one is like a connection that another handler did not remove. When the handler's client has
    its first answer, another live one joins; and one that is gone at once joins as soon as others can.
    """
    comer, *dead = await _dead_connections()
    called: asyncio.Future[Timeline] = asyncio.get_running_loop().create_future()
    async with _another_client() as other, _another_client() as late:
        members = Members([*dead, other.connection], [comer])

        @functools.wraps(handler)
        async def call(websocket: ServerConnection) -> None:
            here = scope.get()
            assert here is not None
            account = _accounts.setdefault(here.timeline, _Account())
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
            account.heard, account.heard_late = await other.heard(len(_MESSAGES)), await late.heard(1)
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


def reaches(run: Run) -> Ruling:
    """Each message reaches the client that sent it, and the others, once."""
    summary, ruling, account = Summary(run), answers(run), _accounts.get(run.timeline)
    if ruling.state != "kept" or account is None:
        return ruling if ruling.state != "kept" else Ruling("unknown", summary.ended)
    sent = summary.events.all(ClientSend)
    texts = [event.text for event in sent]
    came_back = f"the client sent {', '.join(texts)} to all, and had them back"
    answered = summary.events.first(ClientRecv)
    later = [event.text for event in sent if answered is not None and event.at >= answered.at]
    # It joins at about the time at which the next message is sent: what counts is when the handler had that.
    reached = {event.text for event in summary.events.all(HandlerRecv) if event.at >= account.late_since}
    for who, heard, due, least in (
        ("another live member", account.heard, texts, set(texts)),
        ("a member that joined after the first answer", account.heard_late, later, reached.intersection(later)),
    ):
        told = [text for text in heard if text in texts]
        if told != [text for text in due if text in told] or not least.issubset(told):
            return broken(f"{came_back}; {who} heard {', '.join(heard) or 'nothing'}, not {', '.join(due)}")
    own = [event.text for event in summary.events.all(ClientRecv)]
    if twice := [text for text in texts if own.count(text) > 1]:
        return broken(f"the client sent {', '.join(texts)}; it had {twice[0]} back {own.count(twice[0])} times")
    return kept(f"{ruling.evidence}; another live member heard {', '.join(account.heard)}")


def strikes_off(run: Run) -> Ruling:
    """The handler adds its own connection before all else, and removes it, and no other client's, before it ends."""
    summary, account = Summary(run), _accounts.get(run.timeline)
    if summary.start is None or account is None or summary.end is None:
        return Ruling("unknown", f"{summary.struck}; {summary.ended}")
    if account.joined is None:
        return broken(f"{summary.struck}; {summary.ended}, and its connection was never in `members`")
    first = summary.events.first(HandlerRecv)
    if first is not None and account.joined > first.at:
        return broken(
            f"your handler received {first.text} at {summary.at(first)}, and its connection was not in `members` yet: "
            "what others sent before that did not reach its client"
        )
    if account.stayed:
        return broken(f"{summary.struck}; {summary.ended}, and its connection was still in `members`")
    if account.gone:
        return broken(f"{summary.struck}; {summary.ended}, and the connection of a client that stays was gone too")
    return kept(f"{summary.struck}; `members` was without the connection when {summary.ended}")


# Not `answered`: a missing answer is no bug here, because the rule "reaches" checks it.
ENDS = tuple(
    Trial(fault, _MESSAGES, answered=False, trap=True)
    for fault in ("close", "going-away", "reset", "fin", Close(code=4000))
)
WORDLESS = wordless(ENDS[0], ENDS[2])

EXERCISE = Exercise(
    name="members",
    notebook="07",
    title="a set of connections that everybody shares",
    goal="Your handler gets a second argument, a set with the connections of all clients. Add yours at once, send "
    "each message to all who are there then, once, and remove yours at every ending, but nobody's who is still there. "
    "Some of those in the set have been dead for a while, and others join at any time. No exception leaves your "
    "handler, and nothing is logged.",
    starter=starter,
    solution=solution,
    hints=(
        "What does `send()` do on a connection that is gone, and which handler ends then?",
        (
            "One dead member must not end the round: websockets has a function for that. You have to remove your "
            "connection however the loop ends: Python has a statement for that."
        ),
        (
            "`broadcast(members, message)` from `websockets.asyncio.server` skips dead connections. Put "
            "`members.remove(websocket)` into `finally`, and `except ConnectionClosed: pass` before it."
        ),
    ),
    stacks=("websockets",),
    rules=(
        Rule(
            "reaches",
            "Each message reaches all clients that are there, once, even if some members are dead.",
            ENDS,
            reaches,
        ),
        Rule(
            "strikes-off",
            "Your connection is in `members` from the start, and out of it at every ending; those of others who are "
            "there stay.",
            ENDS + WORDLESS,
            strikes_off,
        ),
        Rule("nothing-escapes", "No exception leaves your handler, and nothing is logged.", ENDS + WORDLESS, quiet),
    ),
    wrong={
        strikes_off_while_it_counts: "reaches",
        gives_up_at_the_first: "reaches",
        only_after_a_goodbye: "strikes-off",
        lets_the_loss_escape: "nothing-escapes",
        answers_its_own_client: "reaches",
        never_joins: "strikes-off",
        joins_with_its_first_message: "strikes-off",
        empties_it_in_the_end: "strikes-off",
        tells_those_of_the_beginning: "reaches",
        changes_a_copy: "strikes-off",
        tells_its_own_client_twice: "reaches",
        counts_while_others_join: "nothing-escapes",
    },
    given=given,
)
