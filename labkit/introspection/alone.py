"""Which steps of a loop a server's library has to itself.

A library that was given nothing of the user's but a handler calls nothing else of it: so only what the handler does,
and what it starts, need be watched. That matters most on Python 3.11, where each call of a function is told to who
watches. On each version, nobody need look who asks for a property there, or whose line has started a task.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from contextvars import Context, ContextVar
from typing import Any, Final, Protocol
from weakref import ref

__all__ = [
    "Watcher",
    "begin_handler",
    "begin_outline",
    "end_handler",
    "has_alone",
    "leave_alone",
    "runs_alone",
    "users_code_runs",
    "watchers",
]


class Watcher(Protocol):
    """Who watches the code that a thread runs."""

    def begin(self) -> bool:
        """Watch from now on, until the step ends; return whether it had been let alone."""

    def end(self) -> None:
        """Let the rest of the step alone."""


#: Who watches each thread on Python 3.11.
watchers: Final[dict[int, Watcher]] = {}

#: Who runs in a context: a library alone (True); a library, and a handler whose lines nobody watches (False); a
#: library, but for what the handler has started (a reference to the handler's task); or anybody (None).
_alone: Final[ContextVar[object]] = ContextVar("labkit_alone", default=None)


def leave_alone(*given: Any) -> None:
    """Note that a library runs in this context, and in those that come of it, if it has nothing of the user's.

    Args:
        given: what it was given besides the handler; None, text and numbers run no code.
    """
    if all(isinstance(each, str | int | float | None) for each in given):
        _alone.set(True)


def has_alone(handle: object) -> bool:
    """Tell whether a library has a step of a loop to itself, up to where the handler's own step begins.

    Args:
        handle: the handle of asyncio that the loop runs.
    """
    context = getattr(handle, "_context", None)
    alone = context.get(_alone) if isinstance(context, Context) else None
    if not isinstance(alone, ref):
        return alone is not None
    # Steps of a task are methods of it.
    task = getattr(getattr(handle, "_callback", None), "__self__", None)
    return task is not None and alone() is task


def runs_alone() -> bool:
    """Tell whether the code that runs is a library's, and what has called it too."""
    return _alone.get() is True


def begin_handler(task: asyncio.Task[Any] | None) -> None:
    """Note that a handler is about to be called in a task: other steps in its context are of what it starts."""
    if _alone.get() is True:
        _alone.set(None if task is None else ref(task))


def begin_outline() -> None:
    """Note that a handler is about to be called that is watched in outline: its lines are as a library's."""
    if _alone.get() is True:
        _alone.set(False)


def end_handler(packages: Collection[str], left: object) -> None:
    """Note that the handler has ended: the library has the task for itself again, unless it was left code to run.

    Args:
        packages: the library's package, and others that belong to it.
        left: what the handler has returned or raised. An object of the user's own class may have methods that the
            library calls.
    """
    if _alone.get() is not None:
        if left is None or type(left).__module__.partition(".")[0] in packages:
            _alone.set(True)
        else:
            users_code_runs()


def users_code_runs() -> None:
    """Note that code of the user's may run from now on in this context, and in the rest of this step."""
    _alone.set(None)
    if (watcher := watchers.get(threading.get_ident())) is not None:
        watcher.begin()
