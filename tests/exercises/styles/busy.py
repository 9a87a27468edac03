"""A busy handler, and a server that shuts down."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import anyio
from websockets.exceptions import ConnectionClosed

import labkit
from tests.exercises.styles import styles_of

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

of = styles_of("busy")


async def job_or_end(websocket: ServerConnection, work: Coroutine[Any, Any, Any]) -> bool:
    job = asyncio.ensure_future(work)
    closed = asyncio.ensure_future(websocket.wait_closed())
    try:
        await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)
        return job.done()
    finally:
        job.cancel()
        closed.cancel()
        await asyncio.wait({job, closed})


class Worker:
    async def __call__(self, websocket: ServerConnection) -> None:
        async with labkit.resource("worker"):
            with suppress(ConnectionClosed):
                async for seconds in websocket:
                    if await job_or_end(websocket, asyncio.sleep(float(seconds))):
                        await websocket.send("done")


of.right += [Worker()]


async def working(word: str, websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            while True:
                if not await job_or_end(websocket, asyncio.sleep(float(await websocket.recv()))):
                    return
                await websocket.send(word)


of.right += [functools.partial(working, "done")]


def while_connected(handler: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], Any]:
    @functools.wraps(handler)
    async def run(websocket: ServerConnection) -> None:
        async with labkit.resource("worker"):
            with suppress(ConnectionClosed):
                await job_or_end(websocket, handler(websocket))

    return run


@of.keeps
@while_connected
async def decorated(websocket: ServerConnection) -> None:
    async for seconds in websocket:
        await asyncio.sleep(float(seconds))
        await websocket.send("done")


class Gone(Exception):
    pass


@of.keeps
async def in_a_task_group(websocket: ServerConnection) -> None:
    async def work() -> None:
        async for seconds in websocket:
            await asyncio.sleep(float(seconds))
            await websocket.send("done")

    async def watch() -> None:
        await websocket.wait_closed()
        raise Gone

    async with labkit.resource("worker"):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(work())
                group.create_task(watch())
        except* (Gone, ConnectionClosed):
            pass


@of.keeps
async def on_an_exit_stack(websocket: ServerConnection) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(labkit.resource("worker"))
        stack.enter_context(suppress(ConnectionClosed))
        async for seconds in websocket:
            with suppress(TimeoutError):
                await asyncio.wait_for(websocket.wait_closed(), float(seconds))
                return
            await websocket.send("done")


@of.keeps
async def in_anyio(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"), anyio.create_task_group() as group:

        async def watch() -> None:
            await websocket.wait_closed()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                await anyio.sleep(float(seconds))
                await websocket.send("done")


@of.keeps
async def side_by_side(websocket: ServerConnection) -> None:
    jobs: set[asyncio.Task[None]] = set()

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(ConnectionClosed):
            await websocket.send("done")

    async with labkit.resource("worker"):
        try:
            with suppress(ConnectionClosed):
                async for seconds in websocket:
                    job = asyncio.create_task(work(float(seconds)))
                    jobs.add(job)
                    job.add_done_callback(jobs.discard)
        finally:
            for job in jobs:
                job.cancel()
            if jobs:
                await asyncio.wait(set(jobs))


@of.keeps
async def with_a_callback(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                job = asyncio.create_task(asyncio.sleep(float(seconds)))
                closed = asyncio.create_task(websocket.wait_closed())
                closed.add_done_callback(lambda _, job=job: job.cancel())
                try:
                    await asyncio.wait({job})
                finally:
                    closed.cancel()
                    await asyncio.wait({closed})
                if not job.cancelled():
                    await websocket.send("done")


@of.breaks("done")
async def sleeps_in_the_loop(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            time.sleep(min(float(seconds), 1.5))  # noqa: ASYNC251 - that is what is wrong with it
            await websocket.send("done")


@of.breaks("done")
async def one_at_a_time_and_no_more(websocket: ServerConnection) -> None:
    job: asyncio.Task[None] | None = None

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(ConnectionClosed):
            await websocket.send("done")

    async with labkit.resource("worker"):
        try:
            with suppress(ConnectionClosed):
                async for seconds in websocket:
                    if job is None or job.done():
                        job = asyncio.create_task(work(float(seconds)))
        finally:
            if job is not None:
                job.cancel()
                await asyncio.wait({job})


@of.breaks("done")
async def the_last_one_counts(websocket: ServerConnection) -> None:
    job: asyncio.Task[None] | None = None

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(ConnectionClosed):
            await websocket.send("done")

    async with labkit.resource("worker"):
        try:
            with suppress(ConnectionClosed):
                async for seconds in websocket:
                    if job is not None:
                        job.cancel()
                    job = asyncio.create_task(work(float(seconds)))
        finally:
            if job is not None:
                job.cancel()
                await asyncio.wait({job})


@of.breaks("ends")
async def looks_for_1001(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                end = time.monotonic() + float(seconds)
                while time.monotonic() < end and websocket.close_code != 1001:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                if websocket.close_code != 1001:
                    await websocket.send("done")


@of.breaks("no-rest")
async def leaves_the_job(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                job = asyncio.create_task(asyncio.sleep(float(seconds)))
                closed = asyncio.create_task(websocket.wait_closed())
                await asyncio.wait({job, closed}, return_when=asyncio.FIRST_COMPLETED)
                closed.cancel()
                if job.done():
                    await websocket.send("done")


@of.breaks("release")
async def closes_the_worker_behind(websocket: ServerConnection) -> None:
    worker = await labkit.resource("worker").open()
    with suppress(ConnectionClosed):
        async for seconds in websocket:
            if not await job_or_end(websocket, asyncio.sleep(float(seconds))):
                return
            await websocket.send("done")
    await worker.close()


@of.breaks("nothing-escapes")
async def answers_in_any_case(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        async for seconds in websocket:
            await job_or_end(websocket, asyncio.sleep(float(seconds)))
            await websocket.send("done")


@of.breaks("nothing-escapes")
async def the_first_job_is_never_interrupted(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        await asyncio.sleep(float(await websocket.recv()))
        await websocket.send("done")
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                if not await job_or_end(websocket, asyncio.sleep(float(seconds))):
                    return
                await websocket.send("done")


@of.breaks("done")
async def one_job_and_no_more(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            if await job_or_end(websocket, asyncio.sleep(float(await websocket.recv()))):
                await websocket.send("done")


@of.breaks("done")
async def does_no_job_at_all(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        assert websocket.request is not None


@of.keeps
async def has_timers_fill_a_queue(websocket: ServerConnection) -> None:
    done: asyncio.Queue[str] = asyncio.Queue()
    timers: list[asyncio.TimerHandle] = []

    async def answer() -> None:
        with suppress(ConnectionClosed):
            while True:
                await websocket.send(await done.get())

    async with labkit.resource("worker"):
        answering = asyncio.create_task(answer())
        try:
            async for seconds in websocket:
                timer = asyncio.get_running_loop().call_later(float(seconds), done.put_nowait, "done")
                timers.append(timer)
        finally:
            for timer in timers:
                timer.cancel()
            answering.cancel()
            await asyncio.wait([answering])


@of.breaks("done")
async def takes_two_seconds_at_least(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed):
            async for seconds in websocket:
                if await job_or_end(websocket, asyncio.sleep(max(float(seconds), 2.0))):
                    await websocket.send("done")


@of.breaks("done")
async def gives_up_what_takes_two_seconds(websocket: ServerConnection) -> None:
    async with labkit.resource("worker"):
        with suppress(ConnectionClosed, TimeoutError):
            async for seconds in websocket:
                if await asyncio.wait_for(job_or_end(websocket, asyncio.sleep(float(seconds))), 2.0):
                    await websocket.send("done")


@of.keeps
async def waits_for_what_is_due_next(websocket: ServerConnection) -> None:
    loop = asyncio.get_running_loop()
    due: list[float] = []
    message: asyncio.Task[Any] | None = None
    async with labkit.resource("worker"):
        try:
            while True:
                message = message or asyncio.ensure_future(websocket.recv())
                await asyncio.wait([message], timeout=max(0.0, min(due) - loop.time()) if due else None)
                while due and min(due) <= loop.time():
                    due.remove(min(due))
                    await websocket.send("done")
                if message.done():
                    due.append(loop.time() + float(message.result()))
                    message = None
        except ConnectionClosed:
            pass
        finally:
            if message is not None:
                message.cancel()
                await asyncio.gather(message, return_exceptions=True)
