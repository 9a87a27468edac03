"""Notebook 05: a receive that gives up waiting, and not the connection."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from labkit.clock import scaled
from labkit.exercises.exercise import Exercise, Finding, Rule, Trial
from labkit.exercises.rules import answers_after, broken, kept, quiet, stays
from labkit.exercises.story import Story, milliseconds
from labkit.experiment import Run
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


def once(run: Run) -> Finding:
    """Each message comes back, and none comes back a second time while the client is quiet."""
    story = Story(run)
    sent = list(story.all("client", "send"))
    came = [event for event in story.all("client", "recv") if event.text != "'still there?'"]
    if not sent:
        return Finding("unknown", story.ended)
    said = f"the client said {story.listed(sent)}"
    if [event.text for event in came] == [event.text for event in sent]:
        return kept(f"{said}; back came {story.listed(came)}")
    return broken(f"{said}; back came {story.listed(came)}; {story.ended}")


def asks(run: Run) -> Finding:
    """The handler asks a quiet client, again and again, every 100 ms."""
    story = Story(run)
    asked = [event for event in story.all("handler", "send") if event.text == "'still there?'"]
    if len(asked) < 2:
        told = f"once, at {story.at(asked[0])}" if asked else "never"
        return broken(f'{story.struck}, and said nothing more; you asked "still there?" {told}; {story.ended}')
    times = ", ".join(story.at(event) for event in asked[:3])
    told = f'{story.struck}; you asked "still there?" {len(asked):,} times, at {times} …'
    # The middle one: a busy machine is late now and then.
    gap = median(after.at - before.at for before, after in pairwise(asked))
    if not 0.9 * _EVERY <= gap <= _EVERY + scaled(_LATE):
        return broken(f"{told}: every {milliseconds(gap)}")
    return kept(told)


#: Seconds: how often, and how much later a busy machine may be.
_EVERY, _LATE = 0.1, 0.1

QUIET = (Trial(None, patience=1.0, trap=True),)
LATE = (Trial(SlowLink(delay=0.3, direction="to-server"), trap=True),)
ENDS = (Trial("reset", trap=True), Trial("fin", trap=True), Trial("close", trap=True))

EXERCISE = Exercise(
    name="receive-timeout",
    notebook="05",
    title="a receive that gives up waiting, and not the connection",
    goal='Echo each message. When the client is quiet for 100 ms, send "still there?" and go on waiting; a quiet '
    "client is not a lost one.",
    starter=starter,
    solution=solution,
    hints=(
        "The limit is right, and in the right place. What is the handler doing after the first `TimeoutError`?",
        "An exception that you want to survive is caught inside the loop; one that ends the work, outside of it.",
        (
            "Put `try: async with asyncio.timeout(0.1): message = await websocket.recv()` into the `while`, with "
            '`except TimeoutError: await websocket.send("still there?")` and the echo in `else:`.'
        ),
    ),
    stacks=("websockets",),
    rules=(
        Rule("once", "Each message comes back, and only once.", QUIET, once),
        Rule("asks", 'A quiet client is asked "still there?" every 100 ms.', QUIET, asks),
        Rule("keeps", "A quiet client keeps its connection.", QUIET, stays),
        Rule("late", "A message that comes after 300 ms of silence is answered.", LATE, answers_after),
        Rule("nothing-escapes", "No exception leaves your handler when the client goes.", ENDS, quiet),
    ),
    wrong={
        a_new_task_each_time: "keeps",
        around_the_loop: "keeps",
        lets_the_loss_escape: "nothing-escapes",
        closes: "late",
        sends_the_last_again: "once",
    },
)
