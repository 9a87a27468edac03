"""Finds out who makes something: the line of the user's code, and the libraries through which it is made."""

from __future__ import annotations

import asyncio
import os
import sysconfig
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

from labkit.introspection.place import stack_of

__all__ = [
    "OWNERS",
    "Origin",
    "find_line",
    "find_origin",
    "is_owned",
    "is_users",
    "line_of",
    "name_file",
    "note_line",
    "runs_users_code",
]

#: Where Python and packages are installed.
_INSTALLED: Final = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)

#: Where the lab is, and where it has handlers of its own.
_LAB: Final = str(Path(__file__).parents[1]) + os.sep
_HANDLERS: Final = _LAB + "exercises" + os.sep

#: Modules that run a handler, its connection's methods, or its threads. What is outside of these is not the handler's.
_RUNS: Final = frozenset(
    {
        "labkit.watch.cancels",
        "labkit.watch.stand_ins",
        "labkit.remains.threads",
        "nest_asyncio",
        "nest_asyncio2",
        "uvloop",
    }
)
#: Functions that run a loop's callbacks, and with them its tasks.
_LOOP: Final = frozenset(
    {("asyncio.events", "_run"), ("asyncio.base_events", "run_forever"), ("asyncio.runners", "run")}
)


#: The attribute of a task with the line of the user's code that has started it, in words.
_STARTED: Final = "_labkit_line"

#: Classes whose objects hold what they make, such as the threads of a pool, and close it with themselves.
OWNERS: Final[set[type]] = set()


class Origin(NamedTuple):
    """Where something is made.

    Attributes:
        line: the line of the user's code, such as ``"line 12"`` or ``"line 3 of pool.py"``; None if it is not known.
        by_users: whether the user's code is on the stack, so that no library does it by itself.
        modules: the modules through which that line makes it, the innermost first.
        objects: the objects whose methods it calls for that.
    """

    line: str | None
    by_users: bool
    modules: tuple[str, ...]
    objects: tuple[Any, ...]


def is_owned(objects: Collection[Any]) -> bool:
    """Tell whether something goes with an object that has to be closed itself.

    Args:
        objects: the objects whose methods make it.
    """
    kinds = tuple(OWNERS)
    return any(isinstance(each, kinds) for each in objects)


def note_line(task: asyncio.Task[Any], frame: FrameType | None, file: str) -> None:
    """Note the line of the user's code that starts a task, for :func:`line_of`.

    Args:
        task: the task.
        frame: the innermost frame of the code that starts it.
        file: the handler's file.
    """
    setattr(task, _STARTED, find_line(frame, file))


def line_of(task: asyncio.Task[Any] | None) -> str | None:
    """Return the line of the user's code that has started a task, in words; None if it is not known."""
    return getattr(task, _STARTED, None)


def find_line(frame: FrameType | None, file: str) -> str | None:
    """Find the line of the user's code that is running.

    Args:
        frame: the innermost frame.
        file: the handler's file. A line of it is preferred; one of another file is told with the file's name.

    Returns:
        The line in words. If there is no user's code on the stack, down to the loop or the thread, it is the line that
        has started the running task; None if that is not known either.
    """
    return _find_line(frame, file) or line_of(_running_task())


def _find_line(frame: FrameType | None, file: str) -> str | None:
    users = [each for each in _outwards(frame) if is_users(each.f_code.co_filename)]
    for each in users:
        if each.f_code.co_filename == file:
            return f"line {each.f_lineno}"
    return f"line {users[0].f_lineno} of {name_file(users[0].f_code.co_filename)}" if users else None


def name_file(file: str) -> str:
    """Name a file of the user's code for a reader, where it is not the handler's.

    Args:
        file: its path. The kernel makes up one for each cell of a notebook, which tells a reader nothing.
    """
    path = Path(file)
    return "another cell" if path.parent.name.startswith("ipykernel_") else path.name


def find_origin(frame: FrameType | None, file: str) -> Origin:
    """Find the line of the user's code that is running, and what is between it and the innermost frame.

    Args:
        frame: the innermost frame.
        file: the handler's file.

    Returns:
        Where something is made.
    """
    modules: list[str] = []
    objects: list[Any] = []
    for each in _outwards(frame):
        if is_users(each.f_code.co_filename):
            break
        modules.append(_module(each))
        # Everybody keeps the loop, and what belongs to asyncio, such as a lock, refers to it.
        if each.f_code.co_varnames[:1] == ("self",) and not modules[-1].startswith("asyncio."):
            objects.append(each.f_locals.get("self"))
    line = _find_line(frame, file)
    return Origin(line or line_of(_running_task()), line is not None, tuple(modules), tuple(objects))


def runs_users_code(thread: int) -> bool:
    """Tell whether the user's code is on the stack of a thread, down to its loop.

    Args:
        thread: the thread's identifier.
    """
    for code, _, names in stack_of(thread):
        if _is_outside(str(names.get("__name__", "")), code.co_name):
            return False
        if is_users(code.co_filename):
            return True
    return False


def _is_outside(module: str, function: str) -> bool:
    """Whether a function of a module runs the handler, or a loop."""
    return module in _RUNS or (module, function) in _LOOP


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames on the stack, down to what runs the handler, or a loop."""
    while frame is not None and not _is_outside(_module(frame), frame.f_code.co_name):
        yield frame
        frame = frame.f_back


@cache
def is_users(file: str) -> bool:
    """Tell whether a file is the user's own, and not one of Python, of a package, or of the lab.

    Args:
        file: its name.
    """
    return not file.startswith((*_INSTALLED, "<frozen")) and (not file.startswith(_LAB) or file.startswith(_HANDLERS))


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))
