"""Overhearing a cancel changes nothing about it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

from labkit.servers.cancels import Canceller, tell_cancels


class Ear:
    """Runs a coroutine as the lab does, and remembers who cancelled."""

    def __init__(self) -> None:
        self.heard: list[str | None] = []

    def told(self, canceller: Canceller | None) -> None:
        self.heard.append(canceller.by if canceller else None)

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await tell_cancels(coroutine, self.told)


async def test_what_is_returned_and_raised_passes() -> None:
    """As if the coroutine were awaited directly."""

    async def returns() -> int:
        await asyncio.sleep(0)
        return 3

    async def raises() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    ear = Ear()
    assert await ear.run(returns()) == 3
    with pytest.raises(ValueError, match="mine"):
        await ear.run(raises())
    assert ear.heard == []


async def test_the_canceller_is_named() -> None:
    """By the function that called cancel(), and the package that it comes from."""

    def somebody(task: asyncio.Task[Any]) -> None:
        task.cancel()

    ear = Ear()
    task = asyncio.ensure_future(ear.run(asyncio.Event().wait()))
    await asyncio.sleep(0)
    somebody(task)
    await asyncio.wait([task])
    assert task.cancelled()
    assert ear.heard == ["test_the_canceller_is_named.somebody (tests)"]


async def test_a_cancel_through_other_tasks_is_heard() -> None:
    """A task that waits for the task of the handler passes its own cancel on."""

    def somebody(task: asyncio.Task[Any]) -> None:
        task.cancel()

    ear = Ear()

    async def outer() -> None:
        await asyncio.ensure_future(ear.run(asyncio.Event().wait()))

    task = asyncio.ensure_future(outer())
    for _ in range(3):
        await asyncio.sleep(0)
    somebody(task)
    await asyncio.wait([task])
    assert [by and by.partition(" ")[0].rpartition(".")[2] for by in ear.heard] == ["somebody"]


async def test_a_timeout_is_asyncios() -> None:
    """The coroutine's own timeout works, and is told as what it is."""

    async def limited() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return f"timed out, {asyncio.current_task().cancelling()} cancels pending"  # type: ignore[union-attr]
        return "no"

    ear = Ear()
    assert await ear.run(limited()) == "timed out, 0 cancels pending"
    assert ear.heard == ["Timeout._on_timeout (asyncio)"]


async def test_who_cannot_be_known_is_unknown() -> None:
    """A cancel that strikes before the task waits is delivered by the loop: nobody is on the stack."""

    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    ear = Ear()
    task = asyncio.ensure_future(ear.run(cancels_itself()))
    await asyncio.wait([task])
    assert task.cancelled()
    assert ear.heard == [None]


async def test_the_ways_of_asyncio_work() -> None:
    """TaskGroup, wait_for, shield, gather and a swallowed cancel behave as without it."""

    async def work() -> list[str]:
        told = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(10))
                await asyncio.sleep(0)
                raise ValueError("mine")
        except* ValueError:
            told.append("group")
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except TimeoutError:
            told.append("wait_for")
        told += await asyncio.gather(asyncio.sleep(0, "gather"))
        inner = asyncio.ensure_future(asyncio.sleep(0.02, "shield"))
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError:
            told.append("cancelled")
        told.append(await inner)
        return told

    task = asyncio.ensure_future(Ear().run(work()))
    while "sleep" not in str(task):
        await asyncio.sleep(0.001)
        if task.get_coro() is not None:
            break
    assert await task == ["group", "wait_for", "gather", "shield"]


async def test_a_coroutine_that_swallows_its_cancels_can_be_closed() -> None:
    """Given up, it is closed where it stands; its `finally` runs."""
    told = []

    async def stubborn() -> None:
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    told.append("swallowed")
        finally:
            told.append("finally")

    given_up = False

    async def run() -> None:
        await tell_cancels(stubborn(), lambda _: None, lambda: given_up)

    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    for given_up in (False, False, True):  # noqa: B007 - the closure above reads it
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert task.cancelled()
    assert told == ["swallowed", "swallowed", "finally"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_an_eager_task_is_overheard_too() -> None:
    """As aiohttp starts its handlers since Python 3.12."""
    ear = Ear()
    loop = asyncio.get_running_loop()
    task = asyncio.Task(ear.run(asyncio.Event().wait()), loop=loop, eager_start=True)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(ear.heard) == 1
