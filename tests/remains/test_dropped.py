"""Exceptions that nobody gets, since the future that has one is dropped."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import Any

import labkit


def fails(_: object = None) -> None:
    raise ValueError("no such member")


async def fails_later() -> None:
    fails()


async def test_a_coroutine_that_a_thread_gives_to_the_loop_is_told_of() -> None:
    """Of a task, asyncio complains; of this future, Python says nothing."""

    async def drops(websocket: Any) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: asyncio.run_coroutine_threadsafe(fails_later(), loop)).start()
        await websocket.wait_closed()

    run = await labkit.play(drops, on="websockets", fault="close")
    text = "Exception in fails_later() of a thread, whose future is dropped: ValueError: no such member"
    assert run.verdict.complaints == (text,)


async def test_a_call_in_a_pool_is_told_of() -> None:
    """As of `submit`."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        async def drops(websocket: Any) -> None:
            pool.submit(fails)
            await websocket.wait_closed()

        run = await labkit.play(drops, on="websockets", fault="close")
    text = "Exception in fails() in a thread, whose future is dropped: ValueError: no such member"
    assert run.verdict.complaints == (text,)


def by_result(future: concurrent.futures.Future[None]) -> BaseException | None:
    try:
        future.result()
    except ValueError as error:
        return error
    return None


async def test_who_asks_for_the_result_has_the_exception() -> None:
    """In the thread, by a callback, or in the loop; and what succeeds is no matter."""
    had: list[BaseException | None] = []

    async def asks(websocket: Any) -> None:
        loop = asyncio.get_running_loop()

        def asks_there() -> None:
            had.append(by_result(asyncio.run_coroutine_threadsafe(fails_later(), loop)))
            had.append(asyncio.run_coroutine_threadsafe(fails_later(), loop).exception())
            future = asyncio.run_coroutine_threadsafe(fails_later(), loop)
            future.add_done_callback(lambda each: had.append(each.exception()))
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)

        await asyncio.to_thread(asks_there)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            try:
                await asyncio.wrap_future(pool.submit(fails))
            except ValueError as error:
                had.append(error)
            pool.submit(len, "four")
        await websocket.wait_closed()

    run = await labkit.play(asks, on="websockets", fault="close")
    assert run.verdict.complaints == ()
    assert [type(each) for each in had] == [ValueError] * 4


async def test_one_that_asyncio_has_is_asyncios() -> None:
    """It does not complain of a call in a thread for which nobody waits any more."""
    goes_on = threading.Event()

    def fails_when_nobody_waits() -> None:
        goes_on.wait(10)
        fails()

    async def gives_up(websocket: Any) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(fails_when_nobody_waits), 0.01)
        goes_on.set()
        await websocket.wait_closed()

    run = await labkit.play(gives_up, on="websockets", fault="close")
    assert run.verdict.complaints == ()


async def test_a_future_is_what_it_was_for_the_handler() -> None:
    """By its class, as by what it does."""
    told: list[Any] = []

    async def asks(websocket: Any) -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(len, "four")
            told.extend([isinstance(future, concurrent.futures.Future), future.result(5)])
        await websocket.wait_closed()

    await labkit.play(asks, on="websockets", fault="close")
    assert told == [True, 4]
