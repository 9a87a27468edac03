"""Notebook 08: a busy handler, and a server that shuts down."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

import labkit
from labkit.exercises.exercise import Exercise, Finding, Rule, Trial
from labkit.exercises.rules import broken, cleans_up, kept, leaves_nothing, quiet, within
from labkit.exercises.story import Story, milliseconds
from labkit.experiment import Run

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


async def starter(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            await asyncio.sleep(float(seconds))  # the job
            await websocket.send("done")


async def solution(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            job = asyncio.create_task(asyncio.sleep(float(seconds)))
            closed = asyncio.create_task(websocket.wait_closed())
            await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                await websocket.send("done")
            job.cancel()
            closed.cancel()
            await asyncio.wait({job, closed})


async def forgets_the_job(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            job = asyncio.create_task(asyncio.sleep(float(seconds)))
            closed = asyncio.create_task(websocket.wait_closed())
            await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                await websocket.send("done")
            closed.cancel()


async def limits_the_job(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            try:
                async with asyncio.timeout(10):
                    await asyncio.sleep(float(seconds))
            except TimeoutError:
                return
            await websocket.send("done")


async def drops_every_job(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            try:
                async with asyncio.timeout(0.05):
                    await asyncio.sleep(float(seconds))
            except TimeoutError:
                return
            await websocket.send("done")


async def answers_a_closed_client(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            job = asyncio.create_task(asyncio.sleep(float(seconds)))
            closed = asyncio.create_task(websocket.wait_closed())
            await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)
            job.cancel()
            closed.cancel()
            await websocket.send("done")


async def cuts_the_job_short(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            await asyncio.sleep(min(float(seconds), 0.15))
            await websocket.send("done")


async def limits_every_job(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.sleep(float(seconds))
                with suppress(ConnectionClosed):
                    await websocket.send("done")


def done(run: Run) -> Finding:
    """Each job that had its time is answered, and none before its time."""
    story = Story(run)
    until = story.fault.at if story.fault else float("inf")
    jobs = [event for event in story.all("client", "send") if event.at < until]
    came = list(story.all("client", "recv"))
    for number, job in enumerate(jobs):
        seconds = float(job.text.strip("'"))
        told = f"a job of {seconds:g} s came at {story.at(job)}"
        if number < len(came):
            answer = came[number]
            took = answer.at - job.at
            if answer.text != "'done'":
                return broken(f"{told}, and was answered by {answer.text} at {story.at(answer)}")
            if took < 0.9 * seconds:
                return broken(f"{told}; its answer came {milliseconds(took)} later, so it was not done")
        elif seconds < _LONG:
            return broken(f"{told}, and no answer came; {story.ended}")
    if not jobs:
        return Finding("unknown", story.ended)
    return kept(f"{len(jobs)} jobs, {len(came)} answered, the last at {story.at(came[-1])}")


_LONG = 30.0
# Longer than the second that a handler has at the shutdown: a limit on every job cannot keep both rules.
STAYS = (Trial(None, messages=("1.2",), patience=3.0, answered=False),)
SHORT = (Trial("shutdown", messages=("0.01", "0.1")),)
LONG = (Trial("shutdown", messages=("0.01", "30"), answered=False),)

EXERCISE = Exercise(
    name="busy",
    notebook="08",
    title="a busy handler, and a server that shuts down",
    goal='Each message is a job of so many seconds, answered by "done". When the server shuts down in the middle of '
    "a job of 30 s, your handler ends within a second, with its worker closed and the job not left running.",
    starter=starter,
    solution=solution,
    hints=(
        "The client is told at once, by Close 1001. The handler is not: what is it waiting for, meanwhile?",
        (
            "Wait for two things at a time, the job and the end of the connection, and see which comes first. "
            "`websocket.wait_closed()` is the second."
        ),
        (
            "Make a task of each, `await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)`, send "
            "only if `job.done()`, then cancel both and wait for them."
        ),
    ),
    stacks=("websockets",),
    rules=(
        Rule("done", 'A job that has the time is done, and answered by "done".', SHORT + LONG + STAYS, done),
        Rule("ends", "Your handler ends within a second of the shutdown.", LONG, within(1.0)),
        Rule("release", "The worker is closed before your handler ends.", LONG, cleans_up),
        Rule("no-rest", "The job is not left behind.", LONG, leaves_nothing),
        Rule("nothing-escapes", "No exception leaves your handler, and nothing is logged.", SHORT + LONG, quiet),
    ),
    wrong={
        forgets_the_job: "no-rest",
        limits_the_job: "ends",
        limits_every_job: "done",
        drops_every_job: "done",
        cuts_the_job_short: "done",
        answers_a_closed_client: "nothing-escapes",
    },
)
