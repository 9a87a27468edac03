"""Whose task is whose."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import Any

import pytest
from websockets.asyncio.server import broadcast

import labkit
from labkit.remains.tasks import describe_task, reap, scope_of, tasks_of, track
from labkit.support.loop import until_done
from labkit.timeline import Scope, Timeline, scope


async def test_a_task_belongs_where_it_was_started() -> None:
    """Two experiments and neither: each task is found in the scope whose context it inherited."""
    loop = asyncio.get_running_loop()
    timelines = Timeline(), Timeline()
    with track(loop):
        tasks = []
        for timeline in timelines:
            context = contextvars.copy_context()
            context.run(scope.set, Scope(timeline, "handler"))
            tasks.append(asyncio.create_task(asyncio.Event().wait(), context=context))
        tasks.append(asyncio.create_task(asyncio.Event().wait()))
        assert [tasks_of(timeline) for timeline in timelines] == [[tasks[0]], [tasks[1]]]
        assert scope_of(tasks[2]) is None
        assert scope_of("no task") is None
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert tasks_of(timelines[0]) == []


async def test_the_task_factory_is_put_back() -> None:
    """Also where two experiments overlap, and where somebody has one of their own, which makes the tasks all along."""
    loop = asyncio.get_running_loop()
    made: list[object] = []

    def theirs(loop: asyncio.AbstractEventLoop, coro: object, **given: object) -> asyncio.Task[object]:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **given)  # type: ignore[arg-type]

    for factory in (None, theirs):
        loop.set_task_factory(factory)  # type: ignore[arg-type]
        first, second = track(loop), track(loop)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        timeline = Timeline()
        with timeline.scope():
            task = asyncio.create_task(asyncio.sleep(0, "works"))
        assert tasks_of(timeline) == [task]  # the second one is still under way
        assert await task == "works"
        second.__exit__(None, None, None)
        assert loop.get_task_factory() is factory
    assert len(made) == 1
    loop.set_task_factory(None)


async def test_a_task_factory_that_came_meanwhile_stays() -> None:
    """The lab's is beneath it, and does no more than add a note."""
    loop = asyncio.get_running_loop()
    with track(loop):
        beneath = loop.get_task_factory()

        def theirs(loop: asyncio.AbstractEventLoop, coro: Any, **given: Any) -> Any:
            return beneath(loop, coro, **given) if beneath else asyncio.Task(coro, loop=loop, **given)

        loop.set_task_factory(theirs)
    assert loop.get_task_factory() is theirs
    loop.set_task_factory(None)


async def test_a_task_runs_in_the_context_that_it_was_given() -> None:
    """The lab's note changes nothing about it."""
    context, word = contextvars.copy_context(), contextvars.ContextVar("word", default="nothing")
    context.run(word.set, "its own")

    async def reads() -> str:
        return word.get()

    with track(asyncio.get_running_loop()):
        assert await asyncio.create_task(reads(), context=context) == "its own"
        assert await asyncio.create_task(reads()) == "nothing"


async def test_what_is_left_behind_is_named_and_ended() -> None:
    """A task that waits is; one that takes a few steps to end by itself is not; one that refuses is told twice."""
    timeline = Timeline()

    async def steps(number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)

    async def late() -> None:
        await steps(4)
        starter.append(asyncio.create_task(steps(4), name="started late"))
        starter[0].cancel()

    async def refuses() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    starter: list[asyncio.Task[None]] = []
    with track(asyncio.get_running_loop()):
        with timeline.scope():
            tasks = [
                asyncio.create_task(steps(4), name="ends"),
                asyncio.create_task(late(), name="starts another"),
                asyncio.create_task(asyncio.Event().wait(), name="waits"),
                asyncio.create_task(refuses(), name="refuses"),
            ]
        await reap(timeline)
    told = [(event.data["name"].partition(" (")[0], event.data["stubborn"]) for event in timeline]
    assert sorted(told) == [("refuses", False), ("refuses", True), ("waits", False)]
    assert all(task.done() for task in tasks)


async def test_a_task_is_described_by_what_it_runs() -> None:
    """A name of its own comes first; one that asyncio made up says nothing."""

    async def heartbeat() -> None:
        await asyncio.sleep(0)

    plain, named = asyncio.create_task(heartbeat()), asyncio.create_task(heartbeat(), name="the Task-1")
    what = "test_a_task_is_described_by_what_it_runs.heartbeat"
    assert [describe_task(plain), describe_task(named)] == [what, f"the Task-1 ({what})"]
    await asyncio.wait([plain, named])


async def test_a_task_of_a_task_belongs_to_the_same_experiment() -> None:
    """However deep, and in a task group; who lists is not listed."""
    timeline = Timeline()
    token = scope.set(Scope(timeline, "handler"))
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
    scope.reset(token)


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


class Ticker:
    """Tells all its clients the time, from the first one's coming on."""

    def __init__(self) -> None:
        self.clients: set[Any] = set()
        self.task: asyncio.Task[None] | None = None

    async def tick(self) -> None:
        while self.clients:
            broadcast(self.clients, "tick")
            await asyncio.sleep(0.02)

    async def serve(self, websocket: Any) -> None:
        self.clients.add(websocket)
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self.tick())
        try:
            await websocket.wait_closed()
        finally:
            self.clients.discard(websocket)


async def test_a_task_for_all_connections_is_not_ones_to_end() -> None:
    """The handler of the first client has started it, and those of the others have it too, as long as there are any."""
    ticker = Ticker()
    run = await labkit.play(ticker.serve, on="websockets", fault="reset", clients=2, messages=(), patience=0.3)
    assert run.verdict.leaked == ()
    assert ticker.task is not None
    assert ticker.task.done()  # the lab has ended it


class Forgetful:
    """Has a task for each connection, in the same place."""

    task: asyncio.Task[None] | None = None

    async def serve(self, websocket: Any) -> None:
        self.task = asyncio.create_task(asyncio.sleep(60), name="pump")
        await websocket.wait_closed()


@pytest.mark.parametrize("clients", [1, 2])
async def test_a_task_in_the_place_of_all_is_ones_own_if_nobody_else_has_it(clients: int) -> None:
    """The next connection puts its own there."""
    run = await labkit.play(
        Forgetful().serve, on="websockets", fault="reset", clients=clients, messages=(), patience=0.3
    )
    line = Forgetful.serve.__code__.co_firstlineno + 1
    assert run.verdict.leaked == (f"task pump (sleep), started in line {line}",)
