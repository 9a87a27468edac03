"""What a handler leaves when it has ended: told apart by whether it ends by itself, fails, or goes on."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
from aiohttp import web
from websockets.asyncio.client import connect

import labkit
from labkit.events import HandlerEnd, LoopEnded, LoopLeaked
from labkit.remains import outlived
from labkit.support.clock import scaled

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


async def test_a_task_that_ends_by_itself_is_not_left_behind() -> None:
    """The lab waits for it, for the rest of the patience, and tells when it has ended."""
    kept: set[Any] = set()

    async def saves(websocket: Any) -> None:
        await echo(websocket)
        kept.add(asyncio.create_task(asyncio.sleep(0.2), name="save"))

    run = await labkit.play(saves, on="websockets", fault="close", patience=20)
    assert run.verdict.leaked == ()
    [ended] = run.timeline.all(LoopEnded)
    assert ended.text == "task save (sleep) has ended, after its handler"
    assert ended.at - run.timeline.select("handler", "end")[0].at > 0.15
    assert ended.at < run.timeline.select("loop", "stop")[0].at


async def test_a_generator_that_the_loop_closes_is_told_where_it_is_the_handlers() -> None:
    """The iteration of a connection is the library's; who leaves it by an exception has started nothing."""

    async def fails(websocket: Any) -> None:
        async for _ in websocket:
            raise ValueError

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.05)

    async def fails_too(websocket: Any) -> None:
        await websocket.recv()
        async for _ in numbers():
            raise ValueError

    runs = [await labkit.play(handler, on="websockets", fault=None, patience=20) for handler in (fails, fails_too)]
    told = [[event.text for event in run.timeline.all(LoopEnded)] for run in runs]
    here = test_a_generator_that_the_loop_closes_is_told_where_it_is_the_handlers.__name__
    assert told == [[], [f"task {here}.numbers.aclose has ended, after its handler"]]


async def test_a_task_that_is_over_before_anybody_looks_is_told() -> None:
    """It starts when the handler has ended, and the lab's next look comes turns of the loop later."""

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)

    async def fails(websocket: Any) -> None:
        await websocket.recv()
        async for _ in numbers():
            raise ValueError

    run = await labkit.play(fails, on="websockets", fault=None)
    here = test_a_task_that_is_over_before_anybody_looks_is_told.__name__
    assert [event.text for event in run.timeline.all(LoopEnded)] == [
        f"task {here}.numbers.aclose has ended, after its handler"
    ]


async def test_the_tasks_of_a_client_are_not_the_handlers() -> None:
    """A client written with a library has tasks in the same loop; the lab ends them, and tells of none."""

    async def fails_at_once(websocket: Any) -> None:
        raise TypeError("old style")

    run = await labkit.play(fails_at_once, on="websockets", fault="close", client="websockets")
    assert run.timeline.select("client", "ended")
    assert run.timeline.all(LoopEnded) == []


async def test_a_task_that_goes_on_is_left_behind() -> None:
    """It is ended by the lab; a handler that still runs has left nothing yet."""
    kept: set[Any] = set()

    async def forgets(websocket: Any) -> None:
        kept.add(asyncio.create_task(asyncio.sleep(60), name="poll"))
        await echo(websocket)

    run = await labkit.play(forgets, on="websockets", fault="close", patience=0.3)
    line = forgets.__code__.co_firstlineno + 1
    assert run.verdict.leaked == (f"task poll (sleep), started in line {line}",)


async def test_a_task_that_its_handler_has_cancelled_may_clean_up() -> None:
    """Also after the lab has cancelled the handler: that is the lab's doing."""
    kept: set[Any] = set()

    async def polls() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)

    async def tidy(websocket: Any) -> None:
        task = asyncio.create_task(polls())
        kept.add(task)
        try:
            await websocket.wait_closed()
        finally:
            task.cancel()

    for fault in ("blackhole", "close"):
        run = await labkit.play(tidy, on="websockets", fault=fault, patience=0.3, messages=())
        assert run.verdict.leaked == (), fault


async def two_tasks(websocket: Any) -> None:
    async def writes() -> None:
        while True:
            await websocket.send("tick")
            await asyncio.sleep(0.02)

    await asyncio.gather(echo(websocket), writes())


async def test_a_task_that_fails_when_its_handler_is_gone_is_left_behind() -> None:
    """`gather` lets it go on, and swallows its exception; the same in one run and in twenty at once."""
    runs = await asyncio.gather(*(labkit.play(two_tasks, on="websockets", fault="reset") for _ in range(20)))
    line = two_tasks.__code__.co_firstlineno + 6
    failed = f"task two_tasks.writes, started in line {line}, which failed"
    assert {run.verdict.leaked for run in runs} == {
        (f"{failed}: ConnectionClosedError: no close frame received or sent",)
    }


async def test_an_exception_that_nobody_retrieves_is_a_complaint() -> None:
    """Asyncio says so when the task is collected; the lab waits for the task's end, so it is the same each time."""

    async def forgets_sender(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)

        async def sender() -> None:
            while True:
                await ws.send_str("tick")
                await asyncio.sleep(0.002)

        asyncio.create_task(sender(), name="sender")  # noqa: RUF006 - the mistake that this is about
        async for _ in ws:
            pass
        return ws

    runs = await asyncio.gather(*(labkit.play(forgets_sender, on="aiohttp", fault="reset") for _ in range(8)))
    complaint = "aiohttp.client_exceptions.ClientConnectionResetError: Cannot write to closing transport"
    assert {(run.verdict.leaked, run.verdict.complaints) for run in runs} == {
        ((), (f"Task exception was never retrieved: {complaint}",))
    }


async def test_a_task_that_dies_later_is_told_with_its_exception() -> None:
    """Also where somebody keeps it, so that asyncio never collects it, and says nothing."""
    kept: set[Any] = set()

    async def handler(websocket: Any) -> None:
        leaves = asyncio.Event()

        async def dies() -> None:
            await leaves.wait()
            await asyncio.sleep(0.1)
            raise ValueError("too late")

        kept.add(asyncio.create_task(dies(), name="save"))
        try:
            await echo(websocket)
        finally:
            leaves.set()

    run = await labkit.play(handler, on="websockets", fault="close", patience=20)
    [ended] = run.timeline.all(LoopEnded)
    assert ended.exception == "ValueError: too late"
    assert run.verdict.leaked == ()
    assert run.verdict.complaints == ("Task exception was never retrieved: ValueError: too late",)


async def test_a_call_in_a_thread_that_goes_on_is_left_behind() -> None:
    """A timeout ends the waiting, not the call."""
    stop = threading.Event()

    async def queries(websocket: Any) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.to_thread(stop.wait, 60)
        await asyncio.get_running_loop().run_in_executor(None, str.upper, "over before")
        await echo(websocket)

    run = await labkit.play(queries, on="websockets", fault="close", patience=0.3)
    stop.set()
    line = queries.__code__.co_firstlineno + 3
    assert run.verdict.leaked == (f"call of Event.wait in a thread, started in line {line}",)


async def test_a_thread_that_goes_on_is_left_behind() -> None:
    """By its name, and the line that has started it."""
    stop = threading.Event()

    async def forgets_thread(websocket: Any) -> None:
        threading.Thread(target=stop.wait, name="pump").start()
        await echo(websocket)

    run = await labkit.play(forgets_thread, on="websockets", fault="close", patience=0.3)
    stop.set()
    first = forgets_thread.__code__.co_firstlineno
    assert run.verdict.leaked == (f"thread 'pump', started in line {first + 1}",)


async def test_a_thread_that_ends_by_itself_is_not() -> None:
    """Nor one that was over before."""

    async def handler(websocket: Any) -> None:
        threading.Thread(target=lambda: None, name="short").start()
        threading.Thread(target=lambda: threading.Event().wait(0.2), name="long").start()
        await echo(websocket)

    run = await labkit.play(handler, on="websockets", fault="close", patience=20)
    assert run.verdict.leaked == ()
    assert [event.name for event in run.timeline.all(LoopEnded)] == ["long"]


async def by_asyncio() -> None:
    await asyncio.create_subprocess_exec(*SLEEPS)


async def by_popen() -> None:
    subprocess.Popen(SLEEPS)  # noqa: ASYNC220 - as people write it


@pytest.mark.parametrize("start", [by_asyncio, by_popen])
@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
async def test_a_child_process_that_goes_on_is_left_behind_and_ended(start: Any) -> None:
    """In a server it would live on."""

    async def forgets_process(websocket: Any) -> None:
        await start()
        await echo(websocket)

    before = set(psutil.Process().children())
    run = await labkit.play(forgets_process, on="websockets", fault="close", patience=0.3)
    [left] = run.verdict.leaked
    assert left.startswith(f"process {sys.executable.rpartition('/')[2]!r}, started in line ")
    assert not set(psutil.Process().children()) - before


async def test_of_two_experiments_each_has_its_own() -> None:
    """They share a loop and a process."""
    stop = threading.Event()

    def forgets(name: str) -> Any:
        async def handler(websocket: Any) -> None:
            threading.Thread(target=stop.wait, name=name).start()
            await echo(websocket)

        return handler

    runs = await asyncio.gather(
        *(labkit.play(forgets(name), on="websockets", fault="close", patience=0.3) for name in ("one", "two"))
    )
    stop.set()
    assert [run.verdict.leaked[0].partition(",")[0] for run in runs] == ["thread 'one'", "thread 'two'"]


async def test_the_end_of_a_handler_in_a_crowd_looks_at_its_own_tasks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at those of all connections: the end of two thousand would take minutes. What each has left is told."""
    looks: list[int | None] = []
    left: set[asyncio.Task[Any]] = set()
    tasks_of = outlived.tasks_of

    def counted(timeline: Any, number: int | None) -> Any:
        looks.append(number)
        return tasks_of(timeline, number)

    async def leaves(websocket: Any) -> None:
        left.add(asyncio.create_task(asyncio.Event().wait()))
        await echo(websocket)

    monkeypatch.setattr(outlived, "tasks_of", counted)
    async with labkit.host(leaves, on="websockets", patience=0.3) as server:
        clients = [await connect(server.url) for _ in range(30)]
        looks.clear()
        for client in clients:
            client.transport.abort()
        await server.timeline.until(lambda _: not server.running, scaled(20))
        assert Counter(looks) == Counter(event.served for event in server.timeline.all(HandlerEnd))
    assert len(server.timeline.all(LoopLeaked)) == 30
