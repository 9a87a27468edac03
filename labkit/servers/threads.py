"""An async context manager entered in another thread's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from labkit.tasks import until_done

__all__ = ["in_own_loop"]

T = TypeVar("T")


@asynccontextmanager
async def in_own_loop(make: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
    """Enter a context manager in a new loop, in a thread of its own, so that it can be blocked alone.

    Args:
        make: makes the context manager; called in the thread.

    Yields:
        What it gives. Whoever uses it stands in another loop.
    """
    loop = asyncio.get_running_loop()
    entered: asyncio.Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = loop.create_future()

    async def live() -> None:
        leave = asyncio.Event()
        async with make() as value:
            loop.call_soon_threadsafe(entered.set_result, (value, asyncio.get_running_loop(), leave))
            await leave.wait()

    ended: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as problem:  # to be raised where it can be seen
            loop.call_soon_threadsafe(ended.set_exception, problem)
        else:
            loop.call_soon_threadsafe(ended.set_result, None)

    async def start() -> None:
        either: list[asyncio.Future[Any]] = [entered, ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    async def stop() -> None:
        if entered.done():
            _, there, leave = entered.result()
            there.call_soon_threadsafe(leave.set)
        await asyncio.wait([ended])
        thread.join()

    thread = threading.Thread(target=run, name="labkit server")
    thread.start()
    try:
        await until_done(asyncio.create_task(start()))
        if entered.done():
            yield entered.result()[0]
    finally:
        # Whatever cancels: the thread comes to its end, and takes all that it has with it.
        await until_done(asyncio.create_task(stop()))
        ended.result()
