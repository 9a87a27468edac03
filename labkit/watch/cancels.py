"""Finds out who cancels a handler."""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

from labkit.watch.block import begin_step, end_step
from labkit.watch.limits import Cause, cause_of_cancel
from labkit.watch.stack import bounds
from labkit.watch.swallowed import Followed

__all__ = ["Canceller", "tell_cancels", "tell_cause"]


@dataclass(frozen=True)
class Canceller:
    """The code that called ``cancel()``.

    Attributes:
        by: the function, with its package in brackets, such as ``"RequestHandler.connection_lost (aiohttp)"``.
        package: the package alone; the whole name of a module that belongs to the library's client.
        limit: whether it is a limit of time.
    """

    by: str
    package: str
    limit: bool = False

    @property
    def whose(self) -> Literal["limit", "group", "other"]:
        """What the cancel is for."""
        return "limit" if self.limit else "group" if self.by == _GROUP else "other"

    @classmethod
    def at(cls, frame: FrameType) -> Canceller:
        """Name the code of a frame."""
        module = str(frame.f_globals.get("__name__", "?"))
        package = module.partition(".")[0]
        if module in _CLIENT_LIMITS:
            return cls(f"a limit of {package}'s client", module, limit=True)
        by = f"{frame.f_code.co_qualname.replace('.<locals>', '')} ({package})"
        return cls(by, package, limit=cause_of_cancel(frame) == "limit")


#: Modules with limits of a library's client. A handler that is one sets them; the server's library has no part in it.
_CLIENT_LIMITS = frozenset({"aiohttp.helpers"})

#: What cancels the task in which a task group is, when another of its tasks has failed.
_GROUP = "TaskGroup._on_task_done (asyncio)"

#: Modules that only pass on a cancel.
_PASSING_ON = frozenset({"asyncio.tasks", "asyncio.futures", __name__})

#: Modules that run the callbacks of the loop. If the search reaches them, the canceller is not on the stack.
_PYTHON_LOOP = frozenset({"asyncio.events", "asyncio.base_events", "nest_asyncio", "nest_asyncio2"})
_LOOP = _PYTHON_LOOP | {"asyncio.runners"}

#: The flags of the code of everything that a task may run.
_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _scheduled(frame: FrameType, floor: FrameType | None) -> Canceller | None:
    """Name the canceller if the loop itself calls ``task.cancel``: it was given to ``call_later`` or ``call_soon``."""
    if frame is floor:
        package = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        return Canceller(f"a timer or callback ({package})", package)
    handle = frame.f_locals.get("self")
    if not isinstance(handle, asyncio.Handle):
        return None
    if isinstance(handle, asyncio.TimerHandle):
        return Canceller("a timer (asyncio)", "asyncio", limit=True)
    return Canceller("a callback (asyncio)", "asyncio")


def _floor() -> FrameType | None:
    """Find the frame beneath the running loop, where the loop itself has none: uvloop is no Python code.

    Returns:
        The frame, which stays the same as long as the loop runs; None for a loop of Python code.
    """
    frame, floor = inspect.currentframe(), None
    while frame is not None:
        if frame.f_code.co_flags & _COROUTINE:
            floor = frame.f_back
        frame = frame.f_back
    return None if floor is None or floor.f_globals.get("__name__") in _PYTHON_LOOP else floor


def _canceller(frame: FrameType | None, floor: FrameType | None) -> Canceller | None:
    """Name the code that has called the function of a frame."""
    caller = frame = None if frame is None else frame.f_back
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if frame is floor or module in _LOOP:
            return _scheduled(frame, floor) if frame is caller else None
        if module not in _PASSING_ON:
            return Canceller.at(_owner(frame))
        frame = frame.f_back
    return None


def _owner(frame: FrameType) -> FrameType:
    """Find whose group of tasks it is that ends a task of its own; of another cancel, the code that asks for it.

    A handler's task is in no group but one of the library's.
    """
    outer: FrameType | None = frame
    if frame.f_code.co_qualname == "TaskGroup._abort":
        while outer is not None and outer.f_globals.get("__name__") == "asyncio.taskgroups":
            outer = outer.f_back
    return frame if outer is None or outer.f_globals.get("__name__") in _LOOP else outer


@contextmanager
def _observe_uncancel(task: asyncio.Task[Any], on_uncancel: Callable[[FrameType | None], None]) -> Iterator[None]:
    """Observe ``task.uncancel()``; what is called gets the frame that calls it."""

    def stand_in() -> int:
        on_uncancel(sys._getframe(1))  # noqa: SLF001 - as traceback and logging do
        return type(task).uncancel(task)

    setattr(task, "uncancel", stand_in)  # noqa: B010 - mypy forbids to assign to a method
    try:
        yield
    finally:
        if task.uncancel is stand_in:
            delattr(task, "uncancel")


@contextmanager
def _observe_cancel(task: asyncio.Task[Any], on_cancel: Callable[[Canceller | None], None]) -> Iterator[None]:
    """Observe ``task.cancel()``, whether the task waits for a future, has only yielded, or runs.

    This puts a stand-in for ``cancel`` on this one task. The canceller calls the stand-in directly, so its code is on
    the stack; the cancel of a task that waits for this one calls it too. What the task awaits is not changed, so the
    task wakes exactly when it would without the lab.
    """
    cancel = task.cancel
    floor = _floor()

    def stand_in(msg: Any = None) -> bool:
        if not task.done():
            on_cancel(_canceller(inspect.currentframe(), floor))
        return cancel(msg)

    setattr(task, "cancel", stand_in)  # noqa: B010 - mypy forbids to assign to a method
    try:
        yield
    finally:
        if task.cancel is stand_in:
            delattr(task, "cancel")
            if inspect.isfunction(cancel):  # the stand-in of an outer block
                setattr(task, "cancel", cancel)  # noqa: B010 - the same


@contextmanager
def tell_cause(on_given_up: Callable[[Cause], None]) -> Iterator[None]:
    """Tell what ends the waiting in the block too early, if a limit of time or a cancel does.

    Args:
        on_given_up: called with the cause.
    """
    task = asyncio.current_task()
    assert task is not None
    cause: Cause = "other"

    def note(_: Canceller | None) -> None:
        nonlocal cause
        cause = cause_of_cancel(inspect.currentframe())

    with _observe_cancel(task, note):
        try:
            yield
        except TimeoutError:
            on_given_up("limit")  # the library's own, which the handler has set
            raise
        except asyncio.CancelledError:
            on_given_up(cause)
            raise


@types.coroutine
def tell_cancels(
    coroutine: Coroutine[Any, Any, Any],
    on_cancel: Callable[[Canceller | None], None],
    given_up: Callable[[], bool] = lambda: False,
    *,
    on_wait: Callable[[], None] = lambda: None,
    replace: Callable[[BaseException], BaseException] = lambda exception: exception,
    held: Callable[[], asyncio.Future[None] | None] = lambda: None,
    followed: Followed | None = None,
) -> Generator[Any, Any, Any]:
    """Await a coroutine, and report each cancel of its task.

    Args:
        coroutine: the coroutine; it runs in the current task, as if awaited directly.
        on_cancel: called at the moment of each cancel with the canceller, or with None if it is not on the stack.
        given_up: asked whenever an exception is about to be raised in the coroutine. If it returns True, the coroutine
            is closed instead and the exception is raised here; this ends a coroutine that swallows every cancel.
        on_wait: called whenever the coroutine waits for something.
        replace: called with each exception that is about to be raised in the coroutine; what it returns is raised.
        held: asked whenever the coroutine could go on; it goes on when what this returns is done. A cancel reaches it
            before.
        followed: told of what becomes of each cancel in the coroutine.

    Returns:
        What the coroutine returns. What it raises passes through.
    """
    task = asyncio.current_task()
    assert task is not None
    followed = followed or Followed(coroutine, lambda _: None)
    with _observe_cancel(task, on_cancel), _observe_uncancel(task, followed.uncancelled), closing(followed):
        return (yield from _drive(coroutine, given_up, on_wait, replace, held, followed))


def run_step(step: Callable[[Any], Any], argument: Any) -> Any:
    """Let a handler run to its next ``await``; on the stack, this frame tells that a handler runs now."""
    begun = begin_step()
    if begun is None:
        return step(argument)
    try:
        return step(argument)
    finally:
        end_step(begun)


bounds.add(run_step.__code__)


def _wait(awaited: Any, held: Callable[[], asyncio.Future[None] | None]) -> Generator[Any, Any, Any]:
    """Wait for what a coroutine awaits, and then until nothing holds it."""
    try:
        result = yield awaited
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException:
        if (gate := held()) is not None:
            yield from gate
        raise
    if (gate := held()) is not None:
        yield from gate
    return result


def _drive(
    coroutine: Coroutine[Any, Any, Any],
    given_up: Callable[[], bool],
    on_wait: Callable[[], None],
    replace: Callable[[BaseException], BaseException],
    held: Callable[[], asyncio.Future[None] | None],
    followed: Followed,
) -> Generator[Any, Any, Any]:
    # `yield from` by hand (PEP 380), so that the lab can act between two steps of the coroutine.
    steps: Any = coroutine.__await__()
    step, argument = steps.send, None
    while True:
        try:
            awaited = run_step(step, argument)
        except StopIteration as stop:
            followed.returned()
            return stop.value
        except BaseException as exception:
            followed.raised(exception)
            raise
        finally:
            # An exception whose traceback holds this frame would otherwise live until the next garbage collection.
            argument = None
        followed.waits()
        on_wait()
        try:
            step, argument = steps.send, (yield from _wait(awaited, held))
            followed.goes_on()
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as exception:
            if given_up():
                steps.close()
                raise
            step, argument = steps.throw, replace(exception)
            followed.comes(argument)
