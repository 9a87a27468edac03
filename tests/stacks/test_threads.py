"""A server in a loop and a thread of its own, which can be blocked alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import labkit
from labkit.faults import BlockedLoop
from labkit.stacks.threads import in_own_loop
from tests import handlers


@asynccontextmanager
async def thread(log: list[str]) -> AsyncIterator[threading.Thread]:
    """Give the thread that it is entered in."""
    log.append("enter")
    try:
        yield threading.current_thread()
    finally:
        await asyncio.sleep(0)
        log.append("leave")


async def test_it_is_entered_and_left_in_a_thread_of_its_own() -> None:
    """The thread lives as long as the block."""
    log: list[str] = []
    async with in_own_loop(lambda: thread(log)) as other:
        assert other is not threading.current_thread()
        assert log == ["enter"]
        assert other.is_alive()
    assert log == ["enter", "leave"]
    assert not other.is_alive()


async def test_what_it_raises_comes_here() -> None:
    """At the beginning and at the end."""

    @asynccontextmanager
    async def fails(when: str) -> AsyncIterator[None]:
        if when == "at once":
            raise ValueError(when)
        yield
        raise ValueError(when)

    for when in ("at once", "at the end"):
        with pytest.raises(ValueError, match=when):
            async with in_own_loop(lambda when=when: fails(when)):  # type: ignore[misc]
                assert when == "at the end"
    assert threading.enumerate() == [threading.main_thread()]


async def test_an_error_in_the_block_ends_the_thread_too() -> None:
    """And passes."""
    log: list[str] = []
    with pytest.raises(KeyError):
        async with in_own_loop(lambda: thread(log)):
            raise KeyError
    assert log == ["enter", "leave"]


async def test_a_loop_that_has_ended_by_itself_is_left_all_the_same() -> None:
    """An interrupt that a handler raises cancels what runs there; that comes here, and nothing else does."""

    @asynccontextmanager
    async def ends() -> AsyncIterator[threading.Thread]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel, "an interrupt")
        yield threading.current_thread()

    with pytest.raises(asyncio.CancelledError):
        async with in_own_loop(ends) as other:
            await asyncio.to_thread(other.join)


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_run_with_a_blocked_loop_may_be_interrupted_at_any_moment(on: str) -> None:
    """Once or twice in a row: the thread ends, its sockets are closed, and the next run works."""
    fault = BlockedLoop(seconds=0.05)
    for turns in (0, 1, 2, 5, 10, 20, 40):
        task = asyncio.ensure_future(labkit.play(handlers.echo(on), on=on, fault=fault, patience=0.2))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert threading.enumerate() == [threading.main_thread()]
    run = await labkit.play(handlers.echo(on), on=on, fault="close")
    assert run.verdict.ending == "returned"


async def test_what_a_handler_leaves_behind_in_its_own_loop_is_named() -> None:
    """As in any other."""
    kept: list[asyncio.Task[None]] = []

    async def leaky(websocket: object) -> None:
        async def heartbeat() -> None:
            await asyncio.Event().wait()

        kept.append(asyncio.create_task(heartbeat(), name="pulse"))
        await handlers.websockets_echo(websocket)

    run = await labkit.play(leaky, on="websockets", fault=BlockedLoop(seconds=0.05), patience=0.2)
    [left] = run.verdict.leaked
    assert left.startswith("task pulse (")
