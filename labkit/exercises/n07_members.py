"""Notebook 07: a set of connections that everybody shares."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed

import labkit
from labkit.clock import scaled
from labkit.exercises.exercise import Exercise, Finding, Handler, Rule, Trial
from labkit.exercises.rules import answers, broken, kept, quiet
from labkit.exercises.story import Story
from labkit.experiment import Run, play
from labkit.faults import Close
from labkit.tasks import until_done
from labkit.timeline import Timeline, place


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


_JOINED, _LEFT, _STAYED = "joined the members", "left the members", "still among the members"
_OTHER = "another member was there"

_MESSAGES = ("hello", "again")
#: Seconds that a message to the other client may take, and that it stays at most.
_MOMENT, _FOR_LONG = 0.25, 60.0


class Members(set[ServerConnection]):
    """A set that notes when somebody is entered."""

    def add(self, member: ServerConnection, /) -> None:
        """Enter one."""
        self.update((member,))

    def update(self, *others: Iterable[ServerConnection]) -> None:
        """Enter some."""
        before = len(self)
        super().update(*others)
        if len(self) > before:
            labkit.note(_JOINED)

    def __ior__(self, others: Any) -> Self:  # type: ignore[misc, override]
        self.update(others)
        return self


@asynccontextmanager
async def given(handler: Handler) -> AsyncIterator[Handler]:
    """Give the handler a set with two others in it: a live client, and a dead one that another handler left behind.

    Both are real connections; the dead one was reset.
    """
    dead = await _dead_connection()
    async with _another_client() as other:
        members = Members([dead, other.connection])

        @functools.wraps(handler)
        async def call(websocket: ServerConnection) -> None:
            try:
                await handler(websocket, members)
            finally:
                labkit.note(_STAYED if websocket in members else _LEFT)
                labkit.note(_OTHER, heard=await other.heard())

        # For the library it takes the connection alone.
        parameter = inspect.Parameter("websocket", inspect.Parameter.POSITIONAL_ONLY)
        vars(call)["__signature__"] = inspect.Signature([parameter])
        yield call


@dataclass(frozen=True)
class _Other:
    """A client that stays, and what it hears."""

    connection: ServerConnection
    timeline: Timeline

    async def heard(self) -> str:
        """Tell what it has received, a line each; what is on its way has a moment to arrive."""
        await self.timeline.until(lambda _: len(self._received()) >= len(_MESSAGES), scaled(_MOMENT))
        return "\n".join(self._received())

    def _received(self) -> list[str]:
        return [event.text for event in self.timeline.select("client", "recv")]


@asynccontextmanager
async def _another_client() -> AsyncIterator[_Other]:
    found: asyncio.Future[_Other] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def stays_on(websocket: ServerConnection) -> None:
        here = place.get()
        assert here is not None
        found.set_result(_Other(websocket, here.timeline))
        await over.wait()

    task = asyncio.create_task(play(stays_on, "websockets", None, messages=(), patience=_FOR_LONG))
    waiting: list[asyncio.Future[Any]] = [task, found]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        yield found.result()
    finally:
        over.set()
        await until_done(task)


async def _dead_connection() -> ServerConnection:
    found: list[ServerConnection] = []

    async def vanishes(websocket: ServerConnection) -> None:
        found.append(websocket)
        await websocket.wait_closed()

    await play(vanishes, "websockets", "reset", messages=())
    return found[0]


def reaches(run: Run) -> Finding:
    """Each message reaches the client that sent it, and the other one."""
    story, finding = Story(run), answers(run)
    other = next((event for event in story.all("handler", "note") if event.text == _OTHER), None)
    if finding.state != "kept" or other is None:
        return finding if finding.state != "kept" else Finding("unknown", story.ended)
    sent = [event.text for event in story.all("client", "send")]
    heard = str(other.data["heard"]).splitlines()
    if any(text not in heard for text in sent):
        told = f"the client sent {', '.join(sent)} to all, and had them back"
        return broken(f"{told}; another live member heard {', '.join(heard) or 'nothing'}")
    return kept(f"{finding.evidence}; another live member heard {', '.join(heard)}")


def strikes_off(run: Run) -> Finding:
    """The handler's connection was among the members, and is not when the handler has ended."""
    story = Story(run)
    notes = {event.text for event in story.all("handler", "note")}
    if _STAYED in notes:
        return broken(f"{story.struck}; {story.ended}, and its connection was still in `members`")
    if {_JOINED, _LEFT} <= notes:
        return kept(f"{story.struck}; `members` was without the connection when {story.ended}")
    if story.end is None:
        return Finding("unknown", f"{story.struck}; {story.ended}")
    return broken(f"{story.struck}; {story.ended}, and its connection was never in `members`")


# Whether there is an answer is what a rule asks.
ENDS = tuple(
    Trial(fault, _MESSAGES, answered=False, trap=True)
    for fault in ("close", "going-away", "reset", "fin", Close(code=4000))
)

EXERCISE = Exercise(
    name="members",
    notebook="07",
    title="a set of connections that everybody shares",
    goal="Your handler gets a second argument, a set with the connections of all clients. Enter yours, send each "
    "message to all, and strike yours off at every ending. One of the others in the set has been dead for a while.",
    starter=starter,
    solution=solution,
    hints=(
        "What does `send()` do on a connection that is gone, and whose handler is it that then ends?",
        (
            "One dead member must not end the round: for that websockets has a function. Striking off has to happen "
            "however the loop ends: for that Python has a statement."
        ),
        (
            "`broadcast(members, message)` from `websockets.asyncio.server` passes over the dead. Put "
            "`members.remove(websocket)` into `finally`, and `except ConnectionClosed: pass` before it."
        ),
    ),
    stacks=("websockets",),
    rules=(
        Rule("reaches", "Each message reaches all clients, though one of the members is dead.", ENDS, reaches),
        Rule("strikes-off", "Your connection is in `members`, and out of it at every ending.", ENDS, strikes_off),
        Rule("nothing-escapes", "No exception leaves your handler, and nothing is logged.", ENDS, quiet),
    ),
    wrong={
        strikes_off_while_it_counts: "reaches",
        gives_up_at_the_first: "reaches",
        only_after_a_goodbye: "strikes-off",
        lets_the_loss_escape: "nothing-escapes",
        answers_its_own_client: "reaches",
        never_joins: "strikes-off",
    },
    given=given,
)
