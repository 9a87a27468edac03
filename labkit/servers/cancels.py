"""Who cancels a handler."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Canceller", "tell_cancels"]


class Canceller:
    """The code that called ``cancel()``.

    Attributes:
        by: its function, with the package in brackets, such as ``"RequestHandler.connection_lost (aiohttp)"``.
        package: the package alone.
    """

    def __init__(self, frame: FrameType) -> None:
        self.package: str = str(frame.f_globals.get("__name__", "?")).partition(".")[0]
        self.by: str = f"{frame.f_code.co_qualname.replace('.<locals>', '')} ({self.package})"


#: Modules that only pass a cancel on.
_PASSING_ON = frozenset({"asyncio.tasks", "asyncio.futures", __name__})

#: Modules that call whatever is due; where the search ends here, the canceller is not on the stack.
_LOOP = frozenset({"asyncio.events", "asyncio.base_events", "asyncio.runners", "nest_asyncio", "nest_asyncio2"})


def _canceller(frame: FrameType | None) -> Canceller | None:
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module in _LOOP:
            return None
        if module not in _PASSING_ON:
            return Canceller(frame)
        frame = frame.f_back
    return None


@contextmanager
def _overheard(task: asyncio.Task[Any], told: Callable[[Canceller | None], None]) -> Iterator[None]:
    """Overhear ``task.cancel()``, whether the task waits for a future, has only yielded, or runs.

    A stand-in on this one task: whoever cancels calls it, at once and on their own stack, and so does the cancel of a
    task that waits for this one. What the task awaits is left alone, so it wakes exactly when it would have.
    """
    cancel = task.cancel

    def stand_in(msg: Any = None) -> bool:
        if not task.done():
            told(_canceller(inspect.currentframe()))
        return cancel(msg)

    setattr(task, "cancel", stand_in)  # noqa: B010 - mypy does not let one assign to a method
    try:
        yield
    finally:
        if task.cancel is stand_in:
            delattr(task, "cancel")


@types.coroutine
def tell_cancels(
    coroutine: Coroutine[Any, Any, Any],
    told: Callable[[Canceller | None], None],
    given_up: Callable[[], bool] = lambda: False,
    *,
    waits: Callable[[], None] = lambda: None,
    raised: Callable[[BaseException], BaseException] = lambda exception: exception,
) -> Generator[Any, Any, Any]:
    """Await a coroutine, and tell of each cancel of its task.

    Args:
        coroutine: what to await; it runs in the current task, as if awaited directly.
        told: called at the moment of the cancel with who called it, or None where that is not on the stack.
        given_up: asked when something is about to be raised in the coroutine; if it says yes, the coroutine is
            closed instead, and the exception raised here: the end of one that swallows every cancel.
        waits: called whenever the coroutine waits for something.
        raised: called with what is about to be raised in the coroutine; what it returns is raised there.

    Returns:
        What the coroutine returns; what it raises, passes.
    """
    task = asyncio.current_task()
    assert task is not None
    with _overheard(task, told):
        return (yield from _drive(coroutine, given_up, waits, raised))


def _drive(
    coroutine: Coroutine[Any, Any, Any],
    given_up: Callable[[], bool],
    waits: Callable[[], None],
    raised: Callable[[BaseException], BaseException],
) -> Generator[Any, Any, Any]:
    steps: Any = coroutine.__await__()
    step, argument = steps.send, None
    while True:
        try:
            awaited = step(argument)
        except StopIteration as stop:
            return stop.value
        finally:
            argument = None  # an exception that its own traceback holds would live until the next garbage collection
        waits()
        try:
            step, argument = steps.send, (yield awaited)
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as exception:
            if given_up():
                steps.close()
                raise
            step, argument = steps.throw, raised(exception)
