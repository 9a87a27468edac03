"""Finds out who cancels a handler."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, Protocol, cast

from labkit.introspection.alone import watchers
from labkit.introspection.place import bounds
from labkit.watch.block import begin_step, end_step
from labkit.watch.limits import Cause, cause_of_cancel
from labkit.watch.swallowed import Followed

__all__ = ["Canceller", "run_step", "tell_cancels", "tell_cause"]


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
    if isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        return None  # and a frame that is looked at stays in memory as long as its coroutine
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


class _Observed:
    """Observes ``task.cancel()``, whether the task waits for a future, has only yielded, or runs, in a ``with`` block.

    This puts a stand-in for ``cancel`` on this one task. The canceller calls the stand-in directly, so its code is on
    the stack; the cancel of a task that waits for this one calls it too. What the task awaits is not changed, so the
    task wakes exactly when it would without the lab.

    Args:
        task: the task.
        on_cancel: called with the canceller, or with None if it is not on the stack.
        followed: is told of ``task.uncancel()`` too, with the frame that calls it, and closed at the end.
    """

    # No attribute is named as those by which a limit of time refers to its task: `watch.rest` looks for such.
    __slots__ = ("_before", "_floor", "_followed", "_of", "_on_cancel")

    def __init__(
        self, task: Any, on_cancel: Callable[[Canceller | None], None], followed: Followed | None = None
    ) -> None:
        self._of = task
        self._on_cancel = on_cancel
        self._followed = followed

    def __enter__(self) -> None:
        self._before = self._of.cancel
        self._floor = _floor()
        self._of.cancel = self.cancel
        if self._followed is not None:
            self._of.uncancel = self.uncancel

    def __exit__(self, *_: object) -> None:
        task, before = self._of, self._before
        if self._followed is not None:
            self._followed.close()
            if _object_of(task.uncancel) is self:
                del task.uncancel
        if _object_of(task.cancel) is self:
            del task.cancel
            if isinstance(_object_of(before), _Observed):  # an outer block's
                task.cancel = before

    def cancel(self, msg: Any = None) -> bool:
        """Stand in for the task's own."""
        if not self._of.done():
            self._on_cancel(_canceller(inspect.currentframe(), self._floor))
        return cast(bool, self._before(msg))

    def uncancel(self) -> int:
        """Stand in for the task's own."""
        if self._followed is not None:
            self._followed.uncancelled(sys._getframe(1))  # noqa: SLF001 - as traceback and logging do
        return cast(int, type(self._of).uncancel(self._of))


def _object_of(method: object) -> object:
    """The object of a bound method; None of a function."""
    return getattr(method, "__self__", None)


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

    with _Observed(task, note):
        try:
            yield
        except TimeoutError:
            on_given_up("limit")  # the library's own, which the handler has set
            raise
        except asyncio.CancelledError:
            on_given_up(cause)
            raise


class Listener(Protocol):
    """Who is told what becomes of a coroutine. It is one object, and not five functions: there may be thousands."""

    def cancelled(self, canceller: Canceller | None) -> None:
        """Take who cancels the task, at that moment; None if that is not on the stack."""

    def suspended(self, awaited: object) -> None:
        """Note that the coroutine waits for a future; or, with None, that it has only let others have a turn."""

    @property
    def moment(self) -> object:
        """The moment for which the coroutine may be held; None if there is none."""

    def held(self) -> asyncio.Future[None] | None:
        """Return what must be done before the coroutine goes on, whenever it could; a cancel reaches it before."""

    def replace(self, exception: BaseException) -> BaseException:
        """Return what is raised in the coroutine in place of an exception that is about to be."""

    def is_given_up(self) -> bool:
        """Tell, whenever an exception is about to be raised in the coroutine, whether it is closed instead.

        The exception is then raised out of it. This ends a coroutine that swallows every cancel.
        """


@types.coroutine
def tell_cancels(
    coroutine: Coroutine[Any, Any, Any], listener: Listener, followed: Followed | None = None
) -> Generator[Any, Any, Any]:
    """Await a coroutine, and report each cancel of its task.

    Args:
        coroutine: the coroutine; it runs in the current task, as if awaited directly.
        listener: who is told of the cancels, and asked what the coroutine may do.
        followed: told of what becomes of each cancel in the coroutine.

    Returns:
        What the coroutine returns. What it raises passes through.
    """
    task = asyncio.current_task()
    assert task is not None
    followed = followed or Followed(coroutine, lambda _: None)
    # In Python's own loop, each step is known; and without watchers, nobody need be told of it. Each call of a function
    # counts here, in a handler that waits often.
    known = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    # `yield from` by hand (PEP 380), so that the lab can act between two steps of the coroutine.
    steps: Any = coroutine.__await__()
    send, throw = steps.send, steps.throw
    value, thrown = None, None
    with _Observed(task, listener.cancelled, followed):
        while True:
            try:
                if not known or watchers:
                    awaited = run_step(send, value) if thrown is None else run_step(throw, thrown)
                else:
                    awaited = send(value) if thrown is None else throw(thrown)
            except StopIteration as stop:
                followed.returned()
                return stop.value
            except BaseException as exception:
                followed.raised(exception)
                raise
            finally:
                # An exception whose traceback holds this frame would otherwise live until the next garbage collection.
                value = thrown = None
            if followed.under_way:
                followed.waits()
            listener.suspended(awaited)
            try:
                try:
                    value = yield awaited
                except (asyncio.CancelledError, GeneratorExit):
                    raise
                except BaseException:
                    if listener.moment is not None and (gate := listener.held()) is not None:
                        yield from gate
                    raise
                if listener.moment is not None and (gate := listener.held()) is not None:
                    yield from gate
                if followed.asked:
                    followed.goes_on()
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as exception:
                if listener.is_given_up():
                    steps.close()
                    raise
                thrown = listener.replace(exception)
                followed.comes(thrown, awaited)


def run_step(step: Callable[[Any], Any], argument: Any) -> Any:
    """Let a handler run to its next ``await``."""
    begun = begin_step()
    watcher = watchers.get(threading.get_ident()) if watchers else None
    if watcher is not None and not watcher.begin():
        watcher = None
    if begun is None and watcher is None:
        return step(argument)
    try:
        return step(argument)
    finally:
        if watcher is not None:
            watcher.end()
        if begun is not None:
            end_step(begun)


# On the stack, these frames tell that a handler runs now.
bounds.update((run_step.__code__, tell_cancels.__code__))
