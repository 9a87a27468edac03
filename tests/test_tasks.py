"""Whose task is whose."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from labkit.tasks import describe, place_of, tasks_of, track, until_done
from labkit.timeline import Place, Timeline, place


async def test_a_task_belongs_where_it_was_started() -> None:
    """Two experiments and neither: each task is found in the place whose context it inherited."""
    loop = asyncio.get_running_loop()
    timelines = Timeline(), Timeline()
    with track(loop):
        tasks = []
        for timeline in timelines:
            context = contextvars.copy_context()
            context.run(place.set, Place(timeline, "handler"))
            tasks.append(asyncio.create_task(asyncio.Event().wait(), context=context))
        tasks.append(asyncio.create_task(asyncio.Event().wait()))
        assert [tasks_of(timeline) for timeline in timelines] == [[tasks[0]], [tasks[1]]]
        assert place_of(tasks[2]) is None
        assert place_of("no task") is None
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert tasks_of(timelines[0]) == []


async def test_the_task_factory_is_put_back() -> None:
    """Also where two experiments overlap, and where somebody has one of their own."""
    loop = asyncio.get_running_loop()

    def theirs(loop: asyncio.AbstractEventLoop, coro: object, **given: object) -> asyncio.Task[object]:
        return asyncio.Task(coro, loop=loop, **given)  # type: ignore[arg-type]

    for factory in (None, theirs):
        loop.set_task_factory(factory)  # type: ignore[arg-type]
        first, second = track(loop), track(loop)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert await asyncio.create_task(asyncio.sleep(0, "works")) == "works"
        second.__exit__(None, None, None)
        assert loop.get_task_factory() is factory
    loop.set_task_factory(None)


async def test_a_task_is_described_by_what_it_runs() -> None:
    """A name of its own comes first; one that asyncio made up says nothing."""

    async def heartbeat() -> None:
        await asyncio.sleep(0)

    plain, named = asyncio.create_task(heartbeat()), asyncio.create_task(heartbeat(), name="pulse")
    assert describe(plain).endswith(".heartbeat")
    assert describe(named).startswith("pulse (")
    await asyncio.wait([plain, named])


async def test_a_task_of_a_task_belongs_to_the_same_experiment() -> None:
    """However deep, and in a task group; who lists is not listed."""
    timeline = Timeline()
    token = place.set(Place(timeline, "handler"))
    ready = asyncio.Event()

    async def leaf() -> None:
        ready.set()
        await asyncio.Event().wait()

    async def branch() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(leaf(), name="leaf")

    with track(asyncio.get_running_loop()):
        task = asyncio.create_task(branch(), name="branch")
        await ready.wait()
        assert sorted(task.get_name() for task in tasks_of(timeline)) == ["branch", "leaf"]
        task.cancel()
        await asyncio.wait([task])
    place.reset(token)


async def test_a_task_that_must_not_be_left_half_done() -> None:
    """It is waited for through every cancel; the cancel is raised afterwards, and without one the result returned."""
    goes_on = asyncio.Event()

    async def work() -> str:
        await goes_on.wait()
        return "done"

    work_task = asyncio.create_task(work())
    waiting = asyncio.create_task(until_done(work_task))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await until_done(work_task) == "done"
