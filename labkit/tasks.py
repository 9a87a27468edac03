"""Which asyncio tasks belong to which experiment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar

from labkit.timeline import Place, Timeline, place

__all__ = ["describe", "place_of", "tasks_of", "track", "until_done"]

T = TypeVar("T")

#: Where Python 3.11 keeps a task's place: on the task, so that it is still there when the task is collected.
_PLACE = "_labkit_place"


def place_of(task: object) -> Place | None:
    """Tell where a task was started.

    Args:
        task: a task.

    Returns:
        The place that it inherited from the code that started it, or None outside every experiment.
    """
    if not isinstance(task, asyncio.Task):
        return None
    if sys.version_info >= (3, 12):
        return task.get_context().get(place)
    return getattr(task, _PLACE, None)


def tasks_of(timeline: Timeline) -> list[asyncio.Task[Any]]:
    """List the unfinished tasks of an experiment, in the running loop.

    Args:
        timeline: the experiment's.

    Returns:
        The tasks that were started in its place, the current task excepted.
    """
    current = asyncio.current_task()
    return [
        task
        for task in asyncio.all_tasks()
        if task is not current and (here := place_of(task)) is not None and here.timeline is timeline
    ]


def describe(task: asyncio.Task[Any]) -> str:
    """Name a task for a reader: its coroutine's name, with its own where it has been given one."""
    coro = task.get_coro()
    what = getattr(coro, "__qualname__", type(coro).__name__).replace(".<locals>", "")
    name = task.get_name()
    return what if name.startswith("Task-") else f"{name} ({what})"


@contextmanager
def track(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Make :func:`place_of` work for the tasks of a loop, while the block runs.

    Python 3.12 and later can ask a task for its context. Python 3.11 cannot, so there a task factory, in front of the
    loop's own, notes the place of each new task.

    Args:
        loop: the running loop.
    """
    if sys.version_info >= (3, 12):
        yield
        return
    previous: Any = loop.get_task_factory()
    factory = previous if isinstance(previous, _Factory) else _Factory(previous)
    if factory is not previous:
        loop.set_task_factory(factory)
    factory.users += 1
    try:
        yield
    finally:
        factory.users -= 1
        # Left alone if somebody has put their own in front of it: it only adds a note.
        if not factory.users and loop.get_task_factory() is factory:
            loop.set_task_factory(factory.inner)


class _Factory:
    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.users = 0

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None
    ) -> asyncio.Future[Any]:
        make = self.inner or (lambda loop, coro, **given: asyncio.Task(coro, loop=loop, **given))
        task: asyncio.Future[Any] = make(loop, coro) if context is None else make(loop, coro, context=context)
        here = place.get() if context is None else context.get(place)
        if here is not None and isinstance(task, asyncio.Task):
            setattr(task, _PLACE, here)
        return task


async def until_done(task: asyncio.Task[T]) -> T:
    """Wait for a task to its end, whatever cancels; then raise the cancel that is owed.

    Args:
        task: what must not be left half done.

    Returns:
        What the task returns; what it raises, passes.
    """
    cancel = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancel = error
    if cancel is not None:
        raise cancel
    return task.result()
