"""Notebook 07: a set of connections that everybody shares."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from labkit.events import ClientRecv, ClientSend, HandlerRecv
from labkit.exercises.exercise import Exercise, Rule, Ruling, Trial
from labkit.exercises.members import MESSAGES, account_of, given
from labkit.exercises.rules import answers, broken, kept, quiet
from labkit.exercises.staging import wordless
from labkit.exercises.summary import Summary
from labkit.experiment.run import Run
from labkit.faults import Close


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


def reaches(run: Run) -> Ruling:
    """Each message reaches the client that sent it, and the others, once."""
    summary, ruling, account = Summary(run), answers(run), account_of(run)
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
    summary, account = Summary(run), account_of(run)
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
    Trial(fault, MESSAGES, answered=False, trap=True)
    for fault in ("close", "going-away", "reset", "fin", Close(code=4000))
)
WORDLESS = wordless(ENDS[0], ENDS[2])

EXERCISE = Exercise(
    name="members",
    notebook="07",
    title="a set of connections that everybody shares",
    goal="Your handler gets a second argument, a set with the connections of all clients. Add yours at once, send "
    "each message to all who are there then, once, and remove yours at every ending, but nobody's who is still there. "
    "Some of those in the set have been dead for a while; one reads slowly, so that a `send()` to it waits; and others "
    "join at any time, meanwhile too. No exception leaves your handler, and nothing is logged.",
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
