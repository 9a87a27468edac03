"""Locks that a handler acquires and does not release."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

import labkit
from labkit.events import LoopEnded


def line(function: Any, number: int) -> str:
    """So many lines below the first one of a function."""
    return f"line {function.__code__.co_firstlineno + number}"


@pytest.mark.parametrize("kind", [asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore])
async def test_a_lock_that_is_not_released_is_left_behind(kind: type[Any]) -> None:
    """The next client would wait for it; the lab releases it."""
    lock = kind()

    async def leaves(websocket: Any) -> None:
        await lock.acquire()
        await websocket.recv()
        await websocket.recv()
        lock.release()

    async def releases(websocket: Any) -> None:
        async with lock:
            await websocket.wait_closed()

    for fault in ("close", "reset"):
        run = await labkit.play(leaves, on="websockets", fault=fault, patience=0.2)
        text = f"{kind.__name__} of asyncio, acquired in {line(leaves, 1)} and not released"
        assert run.verdict.leaked == (text,)
        assert not lock.locked()
    run = await labkit.play(releases, on="websockets", fault="reset")
    assert run.verdict.leaked == ()


async def test_each_way_to_release_one_counts() -> None:
    """By hand, with a stack, with a condition, in a task, and after the handler's end."""
    lock, late = asyncio.Lock(), asyncio.Lock()
    condition = asyncio.Condition()
    tasks, ended = [], asyncio.Event()

    async def releases(lock: asyncio.Lock) -> None:
        await ended.wait()
        lock.release()

    async def handler(websocket: Any) -> None:
        await lock.acquire()
        lock.release()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(lock)
        async with condition:
            tasks.append(asyncio.create_task(notifies()))
            await condition.wait()
        await late.acquire()
        tasks.append(asyncio.create_task(releases(late)))
        await websocket.wait_closed()
        ended.set()

    async def notifies() -> None:
        async with condition:
            condition.notify_all()

    run = await labkit.play(handler, on="websockets", fault="close", patience=20)
    assert run.verdict.leaked == ()
    assert "Lock of asyncio has been released, after its handler" in [e.text for e in run.timeline.all(LoopEnded)]


async def test_a_lock_goes_with_the_task_that_has_it() -> None:
    """The task is what is left, and may release it."""
    lock, tasks = asyncio.Lock(), []

    async def holds() -> None:
        async with lock:
            await asyncio.sleep(60)

    async def leaves(websocket: Any) -> None:
        tasks.append(asyncio.create_task(holds()))
        await websocket.wait_closed()

    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.2)
    assert [each.partition(",")[0].rpartition(".")[2] for each in run.verdict.leaked or ()] == ["holds"]


async def test_who_takes_what_another_gives_owes_nothing() -> None:
    """A semaphore also counts what there is: one adds, another takes."""
    jobs = asyncio.Semaphore(0)

    async def takes(websocket: Any) -> None:
        async for _ in websocket:
            jobs.release()
            await jobs.acquire()

    run = await labkit.play(takes, on="websockets", fault="close", messages=("a", "b"))
    assert run.verdict.leaked == ()


async def test_a_lock_that_nobody_has_any_more_blocks_nobody() -> None:
    """It was the handler's own."""

    async def drops(websocket: Any) -> None:
        await asyncio.Lock().acquire()
        await websocket.wait_closed()

    run = await labkit.play(drops, on="websockets", fault="close")
    assert run.verdict.leaked == ()
