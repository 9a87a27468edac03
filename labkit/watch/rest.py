"""Looks at the tasks of a handler: which of them can go on by themselves, and where each of them stands."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final

from labkit.introspection.suspended import frames, shows
from labkit.remains.tasks import scope_of
from labkit.remains.tasks import tasks_of as tasks_started
from labkit.timeline import scope
from labkit.watch.call import Call
from labkit.watch.stand_ins import Entered, WaitsFor

__all__ = ["Place", "Standing", "may_run", "tasks_of", "timers_of", "waits_outside"]

#: Where a suspended coroutine stands: in each function that it has called, the line.
Place = tuple[tuple[CodeType, int | None], ...]

#: Modules whose functions wait until somebody in this process tells them to go on: a queue, a lock, other tasks.
_TOLD: Final = frozenset({"asyncio.queues", "asyncio.locks", "asyncio.tasks", "asyncio.taskgroups"})

#: The functions of ``_TOLD``, and of anyio, that wait for something else.
_NOT_TOLD: Final = frozenset({"sleep", "to_thread"})
_ANYIO: Final = ("anyio._backends._asyncio", "TaskGroup.__aexit__")


@dataclass(frozen=True)
class Standing:
    """How a task of a handler stands that has not ended.

    Attributes:
        task: the task.
        coroutine: its coroutine; that of the handler, for the task in which the handler itself runs.
        awaited: the future for which it waits; None if it can run now.
        waits_for: what it waits for in a method of the connection, if that comes from the client alone.
        told: whether it waits until other code in this process tells it to go on.
    """

    task: asyncio.Task[Any]
    coroutine: Any
    awaited: asyncio.Future[Any] | None
    waits_for: WaitsFor | None = None
    told: bool = False

    @property
    def due(self) -> float | None:
        """The loop's time at which a timer wakes it at the latest; None if no timer is known."""
        return None if self.awaited is None else _due(self.task, self.awaited)

    @property
    def rests(self) -> bool:
        """Whether it waits for the client, or to be told; a limit may still end its waiting for a message."""
        if self.waits_for == "end" and self.due is not None:
            return False  # it waits for the end only for a while, such as for a job's time, and then goes on by itself
        return self.waits_for is not None or self.told

    @property
    def place(self) -> Place:
        """Where it stands, through all the functions that it awaits."""
        # Not the instructions: `while` has its condition twice in the bytecode.
        return tuple((frame.f_code, frame.f_lineno) for frame in frames(self.coroutine))

    @property
    def where(self) -> str:
        """How far it has come, as a clause."""
        frame = next(frames(self.coroutine), None)
        if frame is None:
            return "a task was busy"
        # A line of Python's own library says nothing to a reader.
        librarys = str(frame.f_globals.get("__name__")).partition(".")[0] in sys.stdlib_module_names
        return f"{frame.f_code.co_name}() was busy" + ("" if librarys else f" at line {frame.f_lineno}")

    def is_due_after(self, time: float) -> bool:
        """Whether it sleeps beyond a time of the loop."""
        return (due := self.due) is not None and due > time


def tasks_of(call: Call) -> list[Standing]:
    """Look how each task of a handler stands that has not ended, in the running loop.

    Args:
        call: the call of the handler.

    Returns:
        The handler itself, and the tasks that it has started; the library's own do not count.
    """
    inside = {entered.task: entered for entered in call.entered}
    started = tasks_started(call.timeline, call.number)
    tasks = {task: task.get_coro() for task in started if scope_of(task) == call.here}
    if call.task is not None:
        tasks[call.task] = _beneath(call.coroutine, call.packages)
    own = [each for each in tasks.items() if each[0] is call.task or _package(each[1]) not in call.packages]
    return [_look(*each, inside) for each in own]


def waits_outside(call: Call) -> bool:
    """Tell whether a task of a handler waits for what neither its client, nor a timer, nor code of its own may bring.

    That is what a library does which leaves its work to a thread, such as one for a database.

    Args:
        call: the call of the handler.
    """
    inside = {entered.task for entered in call.entered}
    return any(
        each.awaited is not None and not each.told and not _is_a_timers(each) and not _is_shield(each.awaited)
        for each in tasks_of(call)
        if each.task not in inside
    )


def _is_a_timers(standing: Standing) -> bool:
    """Whether a timer sets the very future for which a task waits, as for ``asyncio.sleep``; a limit does not."""
    timers = getattr(standing.task.get_loop(), "_scheduled", ())
    return any(argument is standing.awaited for handle in timers for argument in handle._args or ())  # noqa: SLF001


def _is_shield(awaited: asyncio.Future[Any]) -> bool:
    """Whether ``asyncio.shield`` has made a future; the task in it is looked at by itself."""
    callbacks = getattr(awaited, "_callbacks", None) or ()
    return any("shield.<locals>" in getattr(callback, "__qualname__", "") for callback, *_ in callbacks)


def may_run(task: asyncio.Task[Any] | None) -> bool:
    """Tell whether a task runs, or can run in the loop's next turn."""
    awaited = getattr(task, "_fut_waiter", None)  # asyncio has no public way to ask this
    return task is not None and (awaited is None or awaited.done())


def _look(task: asyncio.Task[Any], coroutine: Any, inside: Mapping[Any, Entered]) -> Standing:
    if may_run(task):
        return Standing(task, coroutine, None)
    awaited: Any = getattr(task, "_fut_waiter", None)
    entered = inside.get(task)
    waits_for = None if entered is None else entered.waits_for
    return Standing(task, coroutine, awaited, waits_for, entered is None and _is_told(coroutine, awaited))


def _is_told(coroutine: Any, awaited: Any) -> bool:
    """Whether a task waits until other code in this process tells it to go on."""
    if isinstance(awaited, asyncio.Task) or type(awaited).__name__ == "_GatheringFuture":
        return True
    found = list(frames(coroutine))
    if not found:
        return False
    module, code = found[-1].f_globals.get("__name__"), found[-1].f_code
    if module in _TOLD:
        return code.co_name not in _NOT_TOLD
    # A future of the user's own, such as `await asyncio.Future()`; but not one that a thread will set.
    own = code.co_filename == found[0].f_code.co_filename and type(awaited) is asyncio.Future
    return (own and not _is_set_by_thread(awaited)) or (module, code.co_qualname) == _ANYIO


def _is_set_by_thread(awaited: Any) -> bool:
    """Whether a future stands for a ``concurrent.futures.Future``; asyncio has no public way to ask this."""
    callbacks = getattr(awaited, "_callbacks", None) or ()
    return any("_chain_future" in getattr(callback, "__qualname__", "") for callback, *_ in callbacks)


def _due(task: asyncio.Task[Any], awaited: asyncio.Future[Any]) -> float | None:
    """When the first timer is due that wakes a task: its sleep, or the limit of its waiting.

    asyncio has no public way to ask this. A loop that keeps its timers elsewhere, as uvloop does, shows none.
    """
    # Asked at each await of a handler, and there are as many timers as experiments in the loop.
    first: float | None = None
    for handle in getattr(task.get_loop(), "_scheduled", ()):
        if not handle.cancelled() and _wakes(handle, task, awaited) and (first is None or handle.when() < first):
            first = handle.when()
    return first


def _wakes(handle: Any, task: asyncio.Task[Any], awaited: asyncio.Future[Any]) -> bool:
    for argument in handle._args:  # noqa: SLF001 - asyncio's sleep, or its wait_for
        if argument is awaited:
            return True
    owner = getattr(handle._callback, "__self__", None)  # noqa: SLF001 - asyncio's Timeout, or anyio's CancelScope
    if owner is None:
        return False  # asyncio's sleep, of another task
    return owner is awaited or getattr(owner, "_task", None) is task or getattr(owner, "_host_task", None) is task


def timers_of(call: Call) -> dict[asyncio.TimerHandle, float]:
    """Find the timers that a handler has set with ``loop.call_later`` or ``loop.call_at``, in the running loop.

    Args:
        call: the call of the handler.

    Returns:
        When each of them is due, in the loop's time. Timers that asyncio, anyio and the library set do not count, such
        as those of ``asyncio.sleep``: what they wake is a task.
    """
    return {
        handle: handle.when()
        for handle in getattr(asyncio.get_running_loop(), "_scheduled", ())
        if not handle._cancelled  # noqa: SLF001
        and handle._context.get(scope) == call.here  # noqa: SLF001 - as few steps as may be
        and not _is_of(handle._callback, call.packages)  # noqa: SLF001 - asyncio has no public way to ask this
    }


def _is_of(callback: Any, packages: Collection[str]) -> bool:
    """Whether a library has set a timer, or asyncio or anyio for itself: what these call then is private."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    module = getattr(callback, "__module__", None) or type(getattr(callback, "__self__", callback)).__module__
    package = str(module).partition(".")[0]
    if package in {"asyncio", "_asyncio", "anyio"}:
        return getattr(callback, "__name__", "_").startswith("_")
    return package in packages


def _package(coroutine: Any) -> str:
    frame = next(frames(coroutine), None)
    return "" if frame is None else str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _beneath(coroutine: Any, packages: Collection[str]) -> Any:
    """Find the user's own coroutine, where a framework stands between the library and the handler."""
    inner = coroutine
    while inner is not None and _package(inner) in packages:
        inner = None if getattr(inner, "cr_running", True) else inner.cr_await
    return coroutine if inner is None or not shows(inner) else inner
