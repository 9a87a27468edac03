"""Overhearing a cancel changes nothing about it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import pytest
from aiohttp.helpers import TimerContext

from labkit.watch.cancels import Canceller, tell_cancels


class Ear:
    """Runs a coroutine as the lab does, and remembers who cancelled."""

    moment = None

    def __init__(self) -> None:
        self.cancellers: list[Canceller | None] = []
        self.gives_up = False

    @property
    def heard(self) -> list[str | None]:
        return [canceller.by if canceller else None for canceller in self.cancellers]

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await tell_cancels(coroutine, self)

    def cancelled(self, canceller: Canceller | None) -> None:
        self.cancellers.append(canceller)

    def suspended(self, awaited: object) -> None:
        pass

    def held(self) -> None:
        pass

    def replace(self, exception: BaseException) -> BaseException:
        return exception

    def is_given_up(self) -> bool:
        return self.gives_up


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


async def test_a_cancel_of_what_gathers_tasks_is_of_who_cancels_it() -> None:
    """The code of asyncio that hands it to each of the tasks is on the stack, and is not who did it."""

    def somebody(gathered: asyncio.Future[Any]) -> None:
        gathered.cancel()

    ear = Ear()
    gathered = asyncio.gather(ear.run(asyncio.Event().wait()))
    await asyncio.sleep(0)
    somebody(gathered)
    with pytest.raises(asyncio.CancelledError):
        await gathered
    assert ear.heard == ["test_a_cancel_of_what_gathers_tasks_is_of_who_cancels_it.somebody (tests)"]


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


async def test_a_cancel_is_heard_wherever_the_task_stands() -> None:
    """At a bare yield, where it waits for no future, and at its own hands, where it runs."""

    async def spins() -> None:
        while True:  # noqa: ASYNC110 - the bare yield is the point
            await asyncio.sleep(0)

    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    ear = Ear()
    task = asyncio.ensure_future(ear.run(spins()))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    task.cancel()
    itself = asyncio.ensure_future(ear.run(cancels_itself()))
    await asyncio.wait([task, itself])
    assert task.cancelled()
    assert itself.cancelled()
    heard = [by and by.removeprefix("test_a_cancel_is_heard_wherever_the_task_stands") for by in ear.heard]
    assert heard == [" (tests)", " (tests)", ".cancels_itself (tests)"]


async def test_who_cannot_be_known_is_unknown() -> None:
    """A cancel that asyncio passes on for the loop: nobody is on the stack."""
    ear = Ear()
    task = asyncio.ensure_future(ear.run(asyncio.Event().wait()))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(asyncio.gather(task, return_exceptions=True).cancel)
    await asyncio.wait([task])
    assert task.cancelled()
    assert ear.heard == [None]


@pytest.mark.parametrize(("later", "by"), [(True, "a timer (asyncio)"), (False, "a callback (asyncio)")])
@pytest.mark.parametrize("partial", [False, True], ids=["bare", "partial"])
async def test_a_cancel_that_was_given_to_the_loop_is_a_timers_or_a_callbacks(
    later: bool, by: str, partial: bool
) -> None:
    """The handler's own watchdog, as many write it."""
    ear = Ear()
    task = asyncio.ensure_future(ear.run(asyncio.Event().wait()))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    cancel = functools.partial(task.cancel, "too long") if partial else task.cancel
    if later:
        loop.call_later(0.001, cancel)
    else:
        loop.call_soon(cancel)
    await asyncio.wait([task])
    assert ear.heard == [by]


async def test_a_limit_of_the_librarys_client_is_the_handlers_own() -> None:
    """Aiohttp's client cancels the task that uses it when its time is up; aiohttp's server has no part in it."""
    ear = Ear()

    async def asks() -> None:
        with TimerContext(asyncio.get_running_loop()) as timer:
            asyncio.get_running_loop().call_soon(timer.timeout)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await ear.run(asks())
    assert ear.cancellers == [Canceller("a limit of aiohttp's client", "aiohttp.helpers", limit=True)]


async def test_afterwards_the_task_is_as_before() -> None:
    """Nobody listens any more to a task whose coroutine has ended."""
    ear = Ear()

    async def goes_on() -> None:
        await ear.run(asyncio.sleep(0))
        await asyncio.Event().wait()

    task = asyncio.ensure_future(goes_on())
    for _ in range(3):
        await asyncio.sleep(0)
    assert task.cancel.__self__ is task  # type: ignore[attr-defined]
    task.cancel()
    await asyncio.wait([task])
    assert ear.heard == []


async def test_a_cancel_that_comes_too_late_is_none() -> None:
    """Who kept the stand-in of a task that has ended cancels nobody, and is told so."""
    ear, kept = Ear(), []

    async def keeps() -> None:
        kept.append(asyncio.current_task().cancel)  # type: ignore[union-attr]

    await asyncio.ensure_future(ear.run(keeps()))
    assert kept[0]() is False
    assert ear.heard == []


async def test_a_stand_in_of_somebody_else_stays() -> None:
    """The lab takes off its own, and no more."""
    heard: list[object] = []

    async def stands_in() -> None:
        asyncio.current_task().cancel = heard.append  # type: ignore[union-attr, method-assign, assignment]

    async def run() -> None:
        await Ear().run(stands_in())
        asyncio.current_task().cancel("still there")  # type: ignore[union-attr]

    await asyncio.ensure_future(run())
    assert heard == ["still there"]


async def test_what_is_raised_in_place_of_a_cancel_is_freed() -> None:
    """Nothing keeps the exception alive when the coroutine has caught it, and goes on."""

    class Mine(Exception):
        pass

    def instead(_: BaseException) -> BaseException:
        error = Mine()
        freed.append(weakref.ref(error))
        return error

    async def catches() -> None:
        with contextlib.suppress(Mine):
            await asyncio.Event().wait()
        went_on.set()
        await asyncio.Event().wait()

    freed: list[weakref.ref[BaseException]] = []
    went_on = asyncio.Event()
    ear = Ear()
    ear.replace = instead  # type: ignore[method-assign,assignment]
    task = asyncio.ensure_future(ear.run(catches()))
    await asyncio.sleep(0)
    gc.disable()
    try:
        task.cancel()
        await went_on.wait()
        assert freed[0]() is None
    finally:
        gc.enable()
        task.cancel()
        await asyncio.wait([task])


def test_in_a_notebook_it_is_nobody_too() -> None:
    """There nest_asyncio runs the loop, and calls what is due."""
    program = """
import asyncio
from labkit.support.loop import run
from tests.watch.test_cancels import Ear

async def inner():
    ear = Ear()
    task = asyncio.ensure_future(ear.run(asyncio.Event().wait()))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(asyncio.gather(task, return_exceptions=True).cancel)
    await asyncio.wait([task])
    return ear.cancellers

async def cell():
    print(run(inner()))

asyncio.run(cell())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[None]\n"


# What people await in handlers. Each says what it lives through; the test compares that with and without the lab.

Log = list[object]


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def swallows(log: Log) -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        log.append((error.args, cancelling()))
        asyncio.current_task().uncancel()  # type: ignore[union-attr]
    await asyncio.sleep(0)
    return f"went on, {cancelling()} cancels pending"


async def shields(log: Log) -> None:
    inner = asyncio.ensure_future(asyncio.sleep(0.01, "inner"))
    try:
        await asyncio.shield(inner)
    except asyncio.CancelledError:
        log.append("cancelled")
        log.append(await inner)
        raise


async def groups(log: Log) -> None:
    async def member() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("member ends")

    async with asyncio.TaskGroup() as group:
        group.create_task(member())
        await asyncio.Event().wait()


async def fails_in_a_group(log: Log) -> None:
    async def member() -> None:
        raise ValueError("member")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(member())
            await asyncio.Event().wait()
    except* ValueError as errors:
        log.append((len(errors.exceptions), cancelling()))
    await asyncio.Event().wait()


async def waits_for(log: Log) -> None:
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 60)
    finally:
        log.append("finally")


async def gathers(log: Log) -> None:
    try:
        await asyncio.gather(asyncio.Event().wait(), asyncio.Event().wait())
    finally:
        log.append(len(asyncio.all_tasks()))


async def limits_itself(log: Log) -> None:
    async with asyncio.timeout(60) as limit:
        try:
            await asyncio.Event().wait()
        finally:
            log.append(limit.expired())


async def waits_for_a_condition(log: Log) -> None:
    condition = asyncio.Condition()
    async with condition:
        try:
            await condition.wait()
        finally:
            log.append(condition.locked())


async def yields(log: Log) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            log.append("generator closed")

    async for _ in numbers():
        pass


async def awaits_what_is_no_future(log: Log) -> None:
    class Wrong:
        def __await__(self) -> Generator[int]:
            yield 5

    try:
        await Wrong()
    except RuntimeError as error:
        log.append(str(error).partition(":")[0])
    await asyncio.Event().wait()


async def awaits_itself(log: Log) -> None:
    task = asyncio.current_task()
    assert task is not None
    try:
        await task
    except RuntimeError as error:
        log.append(str(error).partition(":")[0])
    await asyncio.Event().wait()


WAYS = [
    swallows,
    shields,
    groups,
    fails_in_a_group,
    waits_for,
    gathers,
    limits_itself,
    waits_for_a_condition,
    yields,
    awaits_what_is_no_future,
    awaits_itself,
]


@pytest.mark.parametrize("cancels", [1, 2])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_it_is_as_if_nobody_listened(way: Callable[[Log], Coroutine[Any, Any, Any]], cancels: int) -> None:
    """The same steps, the same result, the same count of cancels: with the lab and without it."""

    async def life(overheard: bool) -> tuple[object, ...]:
        log: Log = []

        async def run() -> Any:
            return await (Ear().run(way(log)) if overheard else way(log))

        task = asyncio.ensure_future(run())
        for _ in range(cancels):
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel("why")
        [result] = await asyncio.gather(task, return_exceptions=True)
        return repr(result), log, task.cancelled(), task.cancelling()

    plainly, overheard = await life(overheard=False), await life(overheard=True)
    assert overheard == plainly
    assert plainly[1], "the way has nothing to tell"


async def test_a_coroutine_that_is_closed_is_closed() -> None:
    """GeneratorExit goes where it should, as when a loop is torn down under it; nobody has cancelled."""
    told: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            told.append("finally")

    ear, coroutine = Ear(), waits()  # held, so that it is not closed by being collected
    steps = ear.run(coroutine)
    steps.send(None)
    steps.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert told == ["finally"]
    assert ear.heard == []


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

    coroutine = stubborn()  # held, so that it is not closed by being collected

    ear = Ear()
    task = asyncio.ensure_future(ear.run(coroutine))
    await asyncio.sleep(0)
    for ear.gives_up in (False, False, True):
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
