"""Enters an async context manager in the loop of another thread, or runs a coroutine there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar

from labkit.support.loop import finish, until_done

__all__ = ["in_own_loop", "run_in_own_loop"]

T = TypeVar("T")

#: Seconds between two looks at whether the caller's loop is still there.
_LOOK: Final = 0.2


@asynccontextmanager
async def in_own_loop(make: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
    """Enter a context manager in a new loop, in a thread of its own, so that only that loop can be blocked.

    The new loop is of the same kind as the running one.

    Args:
        make: makes the context manager; called in the thread.

    Yields:
        The value of the context manager. The caller uses it from another loop.
    """
    loop = asyncio.get_running_loop()
    entered: asyncio.Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = loop.create_future()

    async def enter() -> None:
        leave = asyncio.Event()
        async with make() as value:
            tell(entered.set_result, (value, asyncio.get_running_loop(), leave))
            # If an interrupt has broken off the caller's loop, nobody sets `leave`.
            while not (leave.is_set() or loop.is_closed()):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await leave.wait()

    ended: asyncio.Future[None] = loop.create_future()

    def tell(callback: Callable[[Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed
            loop.call_soon_threadsafe(callback, value)

    def run() -> None:
        try:
            with asyncio.Runner(debug=loop.get_debug(), loop_factory=lambda: _new_loop_like(loop)) as runner:
                runner.run(enter())
        except BaseException as problem:  # raised again in the caller's thread
            tell(ended.set_exception, problem)
        else:
            tell(ended.set_result, None)

    async def start() -> None:
        either: list[asyncio.Future[Any]] = [entered, ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    async def stop() -> None:
        if entered.done():
            _, there, leave = entered.result()
            with contextlib.suppress(RuntimeError):  # it has ended by itself, as after an interrupt in a handler
                there.call_soon_threadsafe(leave.set)
        await asyncio.wait([ended])
        thread.join()

    # A daemon, so that Python can end though an interrupt has broken off the caller's loop.
    thread = threading.Thread(target=run, name="labkit server", daemon=True)
    try:
        thread.start()
        await until_done(asyncio.create_task(start()))
        if entered.done():
            yield entered.result()[0]
    finally:
        # Even if the caller is cancelled, wait until the thread has ended, so that it leaves nothing behind.
        await finish(stop)
        ended.result()


async def run_in_own_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a new loop, in a thread of its own, so that the caller's loop can be blocked meanwhile.

    Args:
        make: makes the coroutine.

    Returns:
        What it returns. What it raises passes through. A cancel of the caller cancels it.
    """
    async with in_own_loop(_life) as loop:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), loop))


@asynccontextmanager
async def _life() -> AsyncIterator[asyncio.AbstractEventLoop]:
    yield asyncio.get_running_loop()


def _new_loop_like(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    """Make a loop of the same class, with the same task factory; asyncio's default, where the class needs arguments."""
    try:
        new = type(loop)()
    except Exception:
        new = asyncio.new_event_loop()
    new.set_task_factory(loop.get_task_factory())
    return new
