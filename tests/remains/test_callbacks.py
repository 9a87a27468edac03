"""What a handler has the loop call later, and forgets."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import labkit
from labkit.events import LoopLeaked
from labkit.remains.outlived import Outlived, Tasks
from labkit.remains.tasks import steps
from labkit.timeline import Scope, Timeline, scope

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors and signals are Unix' own")

#: What handlers keep beyond their end.
kept: list[Any] = []


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    for each in kept:
        if isinstance(each, socket.socket):
            each.close()
    kept.clear()


def sets_an_event(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(60, asyncio.Event().set)


def sets_a_result(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_at(loop.time() + 60, loop.create_future().set_result, 1)


def logs(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(60, functools.partial(logging.getLogger("members").info, "still here"))


def cancels_itself(loop: asyncio.AbstractEventLoop) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop.call_later(60, task.cancel)


def spins(loop: asyncio.AbstractEventLoop) -> None:
    def spin() -> None:
        loop.call_soon(spin)

    spin()


def reads(loop: asyncio.AbstractEventLoop) -> None:
    here, there = socket.socketpair()
    kept.extend([here, there])
    loop.add_reader(here, kept.append, "ready")


def writes(loop: asyncio.AbstractEventLoop) -> None:
    def flush() -> None:
        raise AssertionError("its buffer is full")

    here, there = socket.socketpair()
    kept.extend([here, there])
    here.setblocking(False)
    while True:
        try:
            here.send(bytes(1 << 16))
        except BlockingIOError:
            break
    loop.add_writer(here.fileno(), flush)


def hears_a_signal(loop: asyncio.AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR2, kept.clear)


@pytest.mark.parametrize(
    ("forgets", "told"),
    [
        (sets_an_event, "timer that calls Event.set, set in line {line}"),
        (sets_a_result, "timer that calls Future.set_result, set in line {line}"),
        (logs, "timer that calls Logger.info, set in line {line}"),
        (cancels_itself, "timer that calls cancel, set in line {line}"),
        (spins, "callback that calls spins.spin, line {first}"),
        (reads, "reader of descriptor {number} that calls list.append, set in line {line}"),
        (writes, "writer of descriptor {number} that calls writes.flush, line {first}"),
        (hears_a_signal, "handler of SIGUSR2 that calls list.clear, set in line {line}"),
    ],
)
async def test_what_the_loop_would_call_is_left_behind(forgets: Callable[[Any], None], told: str) -> None:
    """It is told with the function that it calls, and the lab takes it back."""
    loop: Any = asyncio.get_running_loop()
    numbers: list[int] = []

    async def handler(websocket: Any) -> None:
        forgets(loop)
        numbers.extend(each.fileno() for each in kept[:1])
        async for message in websocket:
            await websocket.send(message)

    readers = len(loop._selector.get_map())
    run = await labkit.play(handler, on="websockets", fault="close", patience=0.2)
    code = forgets.__code__
    last = max(line for _, _, line in code.co_lines() if line is not None)
    words = told.format(line=last, first=code.co_firstlineno + 1, number=numbers and numbers[0])
    assert words in (run.verdict.leaked or ()), run.verdict.leaked
    assert run.outcome == "leaked"
    assert len(loop._selector.get_map()) == readers
    assert not loop.remove_signal_handler(signal.SIGUSR2)


async def test_what_is_taken_back_or_is_over_is_not_left() -> None:
    """Nor what the library, or asyncio itself, has the loop call."""
    loop = asyncio.get_running_loop()

    async def handler(websocket: Any) -> None:
        read, write = os.pipe()
        event = asyncio.Event()
        loop.add_reader(read, event.set)
        loop.add_signal_handler(signal.SIGUSR2, event.set)
        loop.call_soon(kept.append, "soon")
        loop.call_later(60, kept.clear).cancel()
        try:
            async with asyncio.timeout(60):
                os.write(write, b"1")
                await event.wait()
            async for message in websocket:
                await websocket.send(message)
        finally:
            loop.remove_reader(read)
            loop.remove_signal_handler(signal.SIGUSR2)
            os.close(read)
            os.close(write)
            loop.call_soon(kept.append, "over")

    run = await labkit.play(handler, on="websockets", fault="reset", ping_interval=20)
    assert (run.verdict.leaked, run.outcome) == ((), "raised"), str(run)
    assert kept == ["soon", "over"]


async def test_a_callback_that_runs_in_the_last_moment_is_not_left() -> None:
    """It was there when the lab looked, and is gone some turns later; one that comes again and again stays."""
    timeline, loop = Timeline(), asyncio.get_running_loop()

    def once() -> None:
        kept.append("ran")

    def again() -> None:
        if "over" not in kept:
            loop.call_soon(again)

    left = Outlived(timeline, {"websockets"}, 1, lambda: "", lambda: False)
    token = scope.set(Scope(timeline, "handler", 1))
    loop.call_soon(once)
    loop.call_soon(again)
    scope.reset(token)
    assert left.alive(Tasks(timeline))
    await steps()
    left.tell(Tasks(timeline))
    kept.append("over")
    assert [event.name.rpartition(".")[2] for event in timeline.all(LoopLeaked)] == ["again"]


async def test_the_loops_methods_are_its_own_again() -> None:
    """As if nobody had looked."""
    before = asyncio.BaseEventLoop.call_later

    async def handler(_: Any) -> None:
        assert asyncio.BaseEventLoop.call_later is not before

    run = await labkit.play(handler, on="websockets")
    assert run.verdict.ending == "returned"
    assert asyncio.BaseEventLoop.call_later is before
