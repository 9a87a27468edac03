"""Notebook 08: a busy handler, and a server that shuts down."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

import labkit
from labkit.events import ClientRecv, ClientSend
from labkit.exercises.exercise import Exercise, Rule, Ruling, Trial
from labkit.exercises.punctual import stood_still
from labkit.exercises.rules import broken, cleans_up, kept, leaves_nothing, quiet, within
from labkit.exercises.staging import AllAtOnce, InTheMiddle, WhenAnswered, wordless
from labkit.exercises.summary import Summary, milliseconds
from labkit.experiment.run import Run
from labkit.support.clock import scaled

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


async def starter(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            await asyncio.sleep(float(seconds))  # the job
            await websocket.send("done")


async def solution(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                job = asyncio.create_task(asyncio.sleep(float(seconds)))
                closed = asyncio.create_task(websocket.wait_closed())
                await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)
                done = job.done()
                job.cancel()
                closed.cancel()
                await asyncio.wait({job, closed})
                if done:
                    await websocket.send("done")


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


async def blocks_the_loop(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            time.sleep(min(float(seconds), 1.5))  # noqa: ASYNC251 - that is what is wrong with it
            await websocket.send("done")


async def knows_the_shutdown_alone(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                job = asyncio.create_task(asyncio.sleep(float(seconds)))
                closed = asyncio.create_task(websocket.wait_closed())
                await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)
                if websocket.close_code == 1001:
                    job.cancel()
                closed.cancel()
                await asyncio.wait({job, closed})
                await websocket.send("done")


async def forgets_what_comes_meanwhile(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            while True:
                job = asyncio.create_task(asyncio.sleep(float(await websocket.recv())))
                try:
                    while not job.done():
                        with suppress(TimeoutError):
                            async with asyncio.timeout(0.02):
                                await websocket.recv()
                finally:
                    job.cancel()
                await websocket.send("done")


async def ends_the_latest_job(websocket: ServerConnection) -> None:
    latest: asyncio.Task[None] | None = None

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(ConnectionClosed):
            await websocket.send("done")

    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                latest = asyncio.create_task(work(float(seconds)))
        if latest is not None:
            latest.cancel()
            await asyncio.wait([latest])


def done(run: Run) -> Ruling:
    """Each job that had enough time is answered, and none before its time. Several jobs may run side by side."""
    summary = Summary(run)
    # A client that sends several jobs at once sends them after the mark of what is staged.
    at_once = summary.fault is not None and summary.fault_class is AllAtOnce
    until = summary.fault.at if summary.fault and not at_once else float("inf")
    jobs = [event for event in summary.events.all(ClientSend) if event.at < until]
    answers = list(summary.events.all(ClientRecv))
    if (blocked := run.verdict.blocked) > _FREE:
        where = "" if run.verdict.blocked_line is None else f", in line {run.verdict.blocked_line}"
        return broken(
            f"your handler kept the loop for {milliseconds(blocked)}{where}: nothing else could run meanwhile"
        )
    if summary.fault is None and run.fault != "none" and summary.end is not None:
        return broken(f"{len(answers)} jobs were answered, and {summary.ended}, before the client was through")
    if not jobs:
        return Ruling("unknown", summary.ended)
    if wrong := next((answer for answer in answers if answer.text != "'done'"), None):
        return broken(f"a job was answered by {wrong.text} at {summary.at(wrong)}; {summary.ended}")
    # The shortest first: those that run side by side are done in this order.
    for number, job in enumerate(sorted(jobs, key=_seconds) if at_once else jobs):
        job_came = f"a job of {_seconds(job):g} s came at {summary.at(job)}"
        if number < len(answers):
            took = answers[number].at - job.at
            if took < 0.9 * _seconds(job):
                return broken(f"{job_came}; its answer came {milliseconds(took)} later, so it was not done")
            most = sum(map(_seconds, jobs)) if at_once else _seconds(job)  # of several, one may wait for another
            if most < _LONG and took - most - stood_still(run, job.at, answers[number].at) > scaled(_SLACK):
                return broken(f"{job_came}; its answer came only {milliseconds(took)} later")
            if _seconds(job) >= _LONG:
                stood = "so your handler keeps the loop from everything else, and the shutdown could not begin"
                return broken(f"{job_came}; its answer came {milliseconds(took)} later, before the end: {stood}")
        elif _seconds(job) < _LONG:
            return broken(f"{job_came}, and no answer came; {summary.ended}")
    return kept(f"{len(jobs)} jobs, {len(answers)} answered, the last at {summary.at(answers[-1])}")


def _seconds(job: ClientSend) -> float:
    return float(job.text.strip("'"))


#: A handler that keeps the loop for longer, in seconds, does its job in the loop.
_FREE = 0.25
_LONG = 30.0
#: How long after its time the answer to a job may come, in seconds, multiplied by ``LABKIT_TIME_SCALE``.
_SLACK = 0.4
# The job takes longer than the second that a handler has at the shutdown, so a limit on every job breaks a rule.
STAYS = (Trial(None, messages=("2.2",), patience=4.0, answered=False),)
AT_ONCE = (Trial(AllAtOnce(messages=("0.3", "0.05")), messages=("0.01",)),)
SHORT = (Trial(WhenAnswered("shutdown"), messages=("0.01", "0.1")),)
LONG = (Trial(InTheMiddle("shutdown"), messages=("0.01",)), Trial(InTheMiddle("close"), messages=("0.01",)))
VANISHES = (Trial(InTheMiddle("reset"), messages=("0.01",)),)
WORDLESS = wordless(Trial("close"), Trial("shutdown"))

EXERCISE = Exercise(
    name="busy",
    notebook="08",
    title="a busy handler, and a server that shuts down",
    goal='Each message is a job of so many seconds, answered by "done" when it is done; several may be sent at once. '
    "When the connection ends in the middle of a job of 30 s, because the server shuts down, or the client closes or "
    "vanishes, your handler ends within a second, with its worker closed, and no job is left running that nobody has "
    "ended. No exception leaves your handler after a shutdown or a Close, and nothing is logged.",
    starter=starter,
    solution=solution,
    hints=(
        "The client gets Close 1001 at once. The handler does not notice it: what is it waiting for?",
        (
            "Wait for two things at a time, the job and the end of the connection, and see which comes first. "
            "`websocket.wait_closed()` is the second."
        ),
        (
            "Make a task of each, `await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)`, look "
            "whether `job.done()`, cancel both and wait for them; send only if it was done."
        ),
    ),
    stacks=("websockets",),
    works=True,
    rules=(
        Rule(
            "done",
            'Each job that has the time is done, and answered by "done"; others can go on meanwhile.',
            SHORT + LONG + STAYS + AT_ONCE,
            done,
        ),
        Rule("ends", "Your handler ends within a second of the connection's end.", LONG + VANISHES, within(1.0)),
        Rule("release", "The worker is closed before your handler ends.", LONG + VANISHES, cleans_up),
        Rule("no-rest", "No job is left behind.", LONG + VANISHES, leaves_nothing),
        Rule(
            "nothing-escapes",
            "After a shutdown or a Close, no exception leaves your handler, and nothing is logged.",
            SHORT + LONG + WORDLESS,
            quiet,
        ),
    ),
    wrong={
        forgets_the_job: "no-rest",
        limits_the_job: "ends",
        limits_every_job: "done",
        drops_every_job: "done",
        cuts_the_job_short: "done",
        answers_a_closed_client: "nothing-escapes",
        blocks_the_loop: "done",
        knows_the_shutdown_alone: "ends",
        forgets_what_comes_meanwhile: "done",
        ends_the_latest_job: "no-rest",
    },
)
