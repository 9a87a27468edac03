"""Who cancels a handler."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable, Coroutine, Generator
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


class _Awaited:
    """A future as the task sees it, so that its ``cancel`` can be overheard.

    ``Task.cancel()`` calls ``cancel()`` on whatever the task waits for, at once and on the caller's stack. All else
    goes to the future itself, so the task wakes exactly when it would have.
    """

    def __init__(self, future: Any, told: Callable[[Canceller | None], None]) -> None:
        self._future = future
        self._told = told
        future._asyncio_future_blocking = False  # noqa: SLF001 - the protocol between futures and tasks
        self._asyncio_future_blocking = True

    def cancel(self, msg: Any = None) -> bool:
        self._told(_canceller(inspect.currentframe()))
        return bool(self._future.cancel(msg=msg))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)


@types.coroutine
def tell_cancels(
    coroutine: Coroutine[Any, Any, Any],
    told: Callable[[Canceller | None], None],
    given_up: Callable[[], bool] = lambda: False,
    *,
    waits: Callable[[], None] = lambda: None,
    raised: Callable[[BaseException], BaseException] = lambda exception: exception,
) -> Generator[Any, Any, Any]:
    """Await a coroutine, and tell of each cancel that reaches it.

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
    steps: Any = coroutine.__await__()
    step, argument = steps.send, None
    task = asyncio.current_task()
    heard = False

    def hear(canceller: Canceller | None) -> None:
        nonlocal heard
        heard = True
        told(canceller)

    while True:
        try:
            awaited = step(argument)
        except StopIteration as stop:
            return stop.value
        finally:
            argument = None  # an exception that its own traceback holds would live until the next garbage collection
        # A task that awaits itself is left to asyncio, which refuses that.
        if getattr(awaited, "_asyncio_future_blocking", None) and awaited is not task:
            awaited = _Awaited(awaited, hear)
        heard, cancels = False, task.cancelling() if task is not None else 0
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
            # A cancel finds nothing to cancel where the task only yields, or is about to wake anyway.
            if not heard and task is not None and task.cancelling() > cancels:
                told(None)
            step, argument = steps.throw, raised(exception)
