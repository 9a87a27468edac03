"""Notebook 05: a receive that gives up waiting, and not the connection."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from labkit.events import ClientRecv, ClientSend, Event, HandlerRecv, HandlerSend, HandlerStart
from labkit.exercises.exercise import Exercise, Rule, Ruling, Trial
from labkit.exercises.punctual import excess, turn_at
from labkit.exercises.rules import answers_after, broken, kept, quiet, stays
from labkit.exercises.staging import TalksOn, empty, wordless
from labkit.exercises.summary import Summary, milliseconds
from labkit.experiment.run import Run
from labkit.faults import SlowLink

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


async def starter(websocket: ServerConnection) -> None:
    try:
        while True:
            message = await asyncio.wait_for(websocket.recv(), 0.1)
            await websocket.send(message)
    except (TimeoutError, ConnectionClosed):
        pass


async def solution(websocket: ServerConnection) -> None:
    try:
        while True:
            try:
                async with asyncio.timeout(0.1):
                    message = await websocket.recv()
            except TimeoutError:
                await websocket.send("still there?")
            else:
                await websocket.send(message)
    except ConnectionClosed:
        pass


async def a_new_task_each_time(websocket: ServerConnection) -> None:
    try:
        while True:
            receiving = asyncio.create_task(websocket.recv())
            done, _ = await asyncio.wait([receiving], timeout=0.1)
            await websocket.send(receiving.result() if done else "still there?")
    except ConnectionClosed:
        pass


async def around_the_loop(websocket: ServerConnection) -> None:
    try:
        async with asyncio.timeout(0.1):
            async for message in websocket:
                await websocket.send(message)
    except TimeoutError:
        await websocket.send("still there?")
    except ConnectionClosed:
        pass


async def lets_the_loss_escape(websocket: ServerConnection) -> None:
    while True:
        try:
            async with asyncio.timeout(0.1):
                message = await websocket.recv()
        except TimeoutError:
            message = "still there?"
        await websocket.send(message)


async def closes(websocket: ServerConnection) -> None:
    try:
        while True:
            try:
                message = await asyncio.wait_for(websocket.recv(), 0.1)
            except TimeoutError:
                await websocket.send("still there?")
                await websocket.close()
            else:
                await websocket.send(message)
    except ConnectionClosed:
        pass


async def sends_the_last_again(websocket: ServerConnection) -> None:
    message: str | bytes = ""
    try:
        while True:
            try:
                message = await asyncio.wait_for(websocket.recv(), 0.1)
            except TimeoutError:
                await websocket.send("still there?")
            await websocket.send(message)
    except ConnectionClosed:
        pass


async def asks_by_the_clock(websocket: ServerConnection) -> None:
    async def ask() -> None:
        while True:
            await asyncio.sleep(0.1)
            await websocket.send("still there?")

    asking = asyncio.create_task(ask())
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosed:
        pass
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def gives_up_in_the_end(websocket: ServerConnection) -> None:
    asked = 0
    try:
        while asked < 20:
            try:
                message = await asyncio.wait_for(websocket.recv(), 0.1)
            except TimeoutError:
                asked += 1
                await websocket.send("still there?")
            else:
                await websocket.send(message)
    except ConnectionClosed:
        pass


async def asks_too_late(websocket: ServerConnection) -> None:
    try:
        while True:
            try:
                message = await asyncio.wait_for(websocket.recv(), 0.15)
            except TimeoutError:
                await websocket.send("still there?")
            else:
                await websocket.send(message)
    except ConnectionClosed:
        pass


async def looks_every_now_and_then(websocket: ServerConnection) -> None:
    try:
        while True:
            await asyncio.sleep(0.1)
            try:
                message = await asyncio.wait_for(websocket.recv(), 0.001)
            except TimeoutError:
                await websocket.send("still there?")
            else:
                await websocket.send(message)
    except ConnectionClosed:
        pass


def once(run: Run) -> Ruling:
    """Each message comes back, and none comes back a second time while the client is quiet."""
    summary = Summary(run)
    sent = list(summary.events.all(ClientSend))
    received = [event for event in summary.events.all(ClientRecv) if event.text != "'still there?'"]
    if not sent:
        return Ruling("unknown", summary.ended)
    evidence = f"the client sent {summary.listed(sent)}, and got back {summary.listed(received)}"
    if [event.text for event in received] == [event.text for event in sent]:
        return kept(evidence)
    return broken(f"{evidence}; {summary.ended}")


def _asked(summary: Summary) -> list[tuple[Event, float]]:
    """The questions of the handler; for each, how long the client had been quiet, since a message or a question."""
    found: list[tuple[Event, float]] = []
    since: Event | None = summary.start
    for event in summary.events.all(HandlerStart, HandlerRecv, HandlerSend):
        question = isinstance(event, HandlerSend) and event.text == _QUESTION
        if question and since is not None:
            found.append((event, event.at - since.at))
        if question or not isinstance(event, HandlerSend):
            since = event
    return found


def asks(run: Run) -> Ruling:
    """The handler asks a quiet client, again and again, every 100 ms."""
    summary = Summary(run)
    asked = _asked(summary)
    if len(asked) < 2:
        times = f"once, at {summary.at(asked[0][0])}" if asked else "never"
        return broken(f'{summary.struck}, and said nothing more; you asked "still there?" {times}; {summary.ended}')
    times = ", ".join(summary.at(event) for event, _ in asked[:3])
    evidence = f'{summary.struck}; you asked "still there?" {len(asked):,} times, at {times} …'
    # The median, since a busy machine is late now and then; and it is late for a timer of the lab too.
    late = median(event.at - turn_at(run, event.at - silence + _EVERY) for event, silence in asked)
    interval = median(silence for _, silence in asked)
    if interval < _EARLIEST or late > _LATE + _TURNS * excess(run, asked[0][0].at, asked[-1][0].at):
        return broken(f"{evidence}: every {milliseconds(interval)}")
    # A loop that turns seldom does not tell 140 ms from 100; but one that asks after 100 ms does so now and then.
    quick = sorted(silence for _, silence in asked)[len(asked) // 10]
    if late > _LATE or not _EARLIEST - _LATE / 2 < quick < _EVERY + _LATE:
        return Ruling("unknown", f"{evidence}: every {milliseconds(interval)}, on a machine that is late", late=True)
    return kept(evidence)


def keeps(run: Run) -> Ruling:
    """The handler still runs and asks, since its client stays."""
    summary, ruling = Summary(run), stays(run)
    asked = len(_asked(summary))
    if ruling.state == "kept" and summary.events.first(HandlerSend) and 1 < asked < _MANY:
        return Ruling("unknown", f"{ruling.evidence}; you asked {asked} times only", late=True)
    return ruling


def asks_the_quiet_alone(run: Run) -> Ruling:
    """The handler does not ask a client that has just spoken.

    A question may come just after a message, if the client had been quiet for long enough before that one, and had not
    been asked: then the limit was over, and the message came too late.
    """
    summary = Summary(run)
    spoke = [event.at for event in summary.events.all(HandlerStart, HandlerRecv)]
    questions = [event for event in summary.events.all(HandlerSend) if event.text == _QUESTION]
    for question in questions:
        last = max((at for at in spoke if at <= question.at), default=question.at)
        before = sorted(at for at in [*spoke, *(asked.at for asked in questions)] if at < last)
        gaps = [after - at for at, after in pairwise([*before[-1:], last, question.at])]
        if max(gaps) < _EARLIEST:
            asked = f'you asked "still there?" at {summary.at(question)}'
            return broken(f"{asked}, when the client had been quiet for {milliseconds(gaps[-1])} only")
    if summary.fault is None and run.fault != "none":
        return Ruling("unknown", summary.ended)
    return kept(f"{summary.struck}; you received {len(spoke) - 1} messages, and asked no question within 100 ms of one")


def prompt(run: Run) -> Ruling:
    """The handler answers a client that talks when the messages come, and does not fall behind."""
    summary = Summary(run)
    sent = list(summary.after_the_fault.all(ClientSend))
    texts = {event.text for event in sent}
    received = [event for event in summary.after_the_fault.all(ClientRecv) if event.text in texts]
    if not sent or not received:
        return Ruling("unknown", f"{summary.struck}; {summary.ended}")
    # One that is lost breaks another rule; each answer belongs to the message of its place, from the beginning on.
    # A handler that looks at intervals is late by anything up to the interval, so its quick answers prove nothing.
    all_sent = summary.events.all(ClientSend)
    all_received = [event for event in summary.events.all(ClientRecv) if event.text != _QUESTION]
    pairs = [pair for pair in zip(all_sent, all_received, strict=False) if pair[0].at >= sent[0].at]
    waits = sorted(answer.at - message.at for message, answer in pairs)
    if not waits:
        return broken(f"{summary.struck}; it had {len(all_received)} answers to {len(all_sent)} messages")
    took = waits[len(waits) * 3 // 4]
    answers = f"{len(received)} answers to {len(sent)} messages, three of four within {milliseconds(took)}"
    evidence = f"{summary.struck}; it had {answers}"
    if took <= _PROMPT:
        return kept(evidence)
    if took <= _PROMPT + _TURNS * excess(run, sent[0].at, sent[-1].at):
        return Ruling("unknown", f"{evidence}, on a machine that is late", late=True)
    return broken(f"{evidence}: they wait for something else than the message")


#: So often, a handler has to ask before it is taken for one that does not give up.
_MANY = 22
_QUESTION = "'still there?'"
#: How long an answer may take, in seconds; of those that wait for the next question, a quarter takes 75 ms or more.
_PROMPT = 0.04
#: The interval in seconds, the shortest that passes for it, and how much later than a timer of the lab; and how many
#: turns of the loop it takes from a timer to a question.
_EVERY, _EARLIEST, _LATE, _TURNS = 0.1, 0.095, 0.015, 6

QUIET = (Trial(None, patience=3.5, trap=True),)
TALKS = (Trial(TalksOn(every=0.06, times=12), patience=1.0, trap=True),)
LATE = (Trial(SlowLink(delay=0.3, direction="to-server"), trap=True),)
WORDLESS = wordless(Trial(None, patience=1.0, trap=True))
ENDS = (Trial("reset", trap=True), Trial("fin", trap=True), Trial("close", trap=True))
ENDS_WORDLESS = wordless(*ENDS)

EXERCISE = Exercise(
    name="receive-timeout",
    notebook="05",
    title="a receive that gives up waiting, and not the connection",
    goal='Echo each message when it comes. When the client has been quiet for 100 ms, send "still there?" and go on '
    "waiting; after another 100 ms ask again, and so on for as long as it is quiet. A client that talks is not asked, "
    "and a quiet client is not a lost one. When the client goes, no exception leaves your handler, and nothing is "
    "logged.",
    starter=starter,
    solution=solution,
    hints=(
        "The limit is right, and in the right place. What is the handler doing after the first `TimeoutError`?",
        "Catch an exception that you want to survive inside the loop, and one that ends the work outside of it.",
        (
            "Put `try: async with asyncio.timeout(0.1): message = await websocket.recv()` into the `while`, with "
            '`except TimeoutError: await websocket.send("still there?")` and the echo in `else:`.'
        ),
    ),
    stacks=("websockets",),
    rules=(
        Rule("once", "Each message comes back, and only once.", QUIET + empty(*ENDS[2:]), once),
        Rule("prompt", "A client that talks has its answers when it talks, not at your next 100 ms.", TALKS, prompt),
        Rule("asks", 'A quiet client is asked "still there?" every 100 ms.', QUIET + WORDLESS, asks),
        Rule(
            "asks-the-quiet",
            "A client that has just spoken is not asked: 100 ms after its last message at the earliest.",
            TALKS + QUIET,
            asks_the_quiet_alone,
        ),
        Rule("keeps", "A quiet client keeps its connection, here for 3.5 s.", QUIET, keeps),
        Rule("late", "A message that comes after 300 ms of silence is answered.", LATE, answers_after),
        Rule(
            "nothing-escapes",
            "No exception leaves your handler when the client goes, and nothing is logged.",
            ENDS + ENDS_WORDLESS,
            quiet,
        ),
    ),
    wrong={
        a_new_task_each_time: "keeps",
        around_the_loop: "keeps",
        lets_the_loss_escape: "nothing-escapes",
        closes: "late",
        sends_the_last_again: "once",
        asks_by_the_clock: "asks-the-quiet",
        gives_up_in_the_end: "keeps",
        asks_too_late: "asks",
        looks_every_now_and_then: "prompt",
    },
)
