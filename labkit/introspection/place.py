"""Whose code stands on the stack of a step: the user's, a library's, or the lab's own."""

from __future__ import annotations

import gc
import linecache
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, chain, repeat, starmap, tee
from operator import attrgetter, methodcaller
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

__all__ = [
    "Called",
    "Place",
    "bounds",
    "describe_place",
    "find_place",
    "local_of",
    "may_be_broken",
    "stack_from",
    "stack_of",
]

#: What a frame says of one call on a stack: its code, its line, if it has one, and the names of its module.
Called = tuple[CodeType, int | None, dict[str, Any]]

#: Packages whose code is not the user's.
_LIBRARIES: Final = frozenset({"aiohttp", "frozenlist", "multidict", "uvloop", "websockets", "yarl"})

#: Modules of the lab whose code is as the user's: handlers of its own, and what Python calls at each of their lines.
_AS_USERS: Final = ("labkit.exercises.", "labkit.watch.lines")

#: The code outside of which nothing belongs to a step.
bounds: Final[set[CodeType]] = set()


class Place(NamedTuple):
    """A place in the user's code; ``own`` says whether it is in the handler's file. What is in no file is of C."""

    file: str
    line: int
    function: str
    own: bool


def stack_of(thread: int) -> list[Called]:
    """Read the stack of a thread, which may be another one, from the innermost call outwards.

    Args:
        thread: the thread's identifier.

    Returns:
        Its calls; none, if there is no such thread.
    """
    return _read(map(methodcaller("get", thread), starmap(sys._current_frames, [()])))  # noqa: SLF001


def local_of(thread: int, code: CodeType, name: str) -> Any:
    """Read a local variable of the innermost call of a thread, which may be another one.

    Args:
        thread: the thread's identifier.
        code: the function's code.
        name: the variable's name.

    Returns:
        Its value; None if it has none, or another function runs there.
    """
    with _without_collector():
        frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no other way
        return frame.f_locals.get(name) if frame is not None and frame.f_code is code else None


def stack_from(frame: FrameType | None) -> list[Called]:
    """Read the stack of the running thread from a frame outwards.

    Args:
        frame: the innermost frame.
    """
    return _read([frame])


def _read(frames: Iterable[FrameType | None]) -> list[Called]:
    """Read a frame, and those outside it, in a single call of C.

    Between two instructions the other thread may go on; a frame that has returned by then may name one outside it that
    is no more, and Python 3.11 crashes when it is read (python/cpython#99110). A frame's code is read afterwards, since
    Python tells audit hooks of that, which may be in Python; filelock has one.
    """
    read: list[tuple[FrameType, tuple[int | None, dict[str, Any]]]] = []
    try:
        outwards = accumulate(chain(frames, repeat("f_back")), getattr)  # type: ignore[arg-type] # they are of two kinds
        each, again = tee(outwards)
        with _without_collector():
            read.extend(zip(each, map(attrgetter("f_lineno", "f_globals"), again), strict=False))
    except AttributeError:
        pass  # there is nothing outside the outermost
    return [(frame.f_code, *line_and_names) for frame, line_and_names in read]


_collecting: Final = threading.Lock()


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector away, while the block runs.

    Python 3.11 collects whenever an object is made, such as that of a frame; and a destructor in Python lets the other
    thread go on. Python then writes into a frame that is no more, and crashes, or waits for itself for ever. Later
    versions collect between two instructions alone.
    """
    if sys.version_info >= (3, 12):
        yield
        return
    with _collecting:
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()


def _module(called: Called) -> str:
    return str(called[2].get("__name__", ""))


def _is_labs(called: Called) -> bool:
    module = _module(called)
    return module.partition(".")[0] == "labkit" and not module.startswith(_AS_USERS)


def _is_users(called: Called, file: str | None) -> bool:
    top = _module(called).partition(".")[0]
    if called[0].co_filename == file:
        return True
    if top == "labkit":
        return not _is_labs(called)
    return top not in _LIBRARIES and top not in sys.stdlib_module_names


def _of_step(stack: Iterable[Called]) -> Iterator[Called]:
    """The calls of the running step, from the innermost outwards."""
    for called in stack:
        if called[0] in bounds:
            return
        yield called


def find_place(stack: Iterable[Called], file: str | None) -> Place | None:
    """Find the place in the user's code that runs.

    Args:
        stack: the calls, from the innermost outwards.
        file: the handler's file, or None.

    Returns:
        The innermost place in the handler's file, or else the outermost in others; None if no user's code runs.
    """
    found = None
    for called in _of_step(stack):
        code, line, _ = called
        # Some instructions of the compiler's own belong to no line.
        if _is_users(called, file) and line is not None:
            own = code.co_filename == file
            found = Place(code.co_filename, line, code.co_qualname, own)
            if own:
                break
    return found


def may_be_broken(stack: Iterable[Called], file: str | None) -> bool:
    """Tell whether the user's code runs, or what it has called; but nothing of the lab's inside it.

    Nor what Python calls by itself, in the middle of that: a destructor, a weak reference's callback, and the hook for
    what these raise. It drops an exception that comes out of them.

    Args:
        stack: the calls, from the innermost outwards.
        file: the handler's file, or None.
    """
    hook = _hook()
    for called in _of_step(stack):
        if _is_labs(called) or called[0] is hook:
            return False
        if _is_users(called, file):
            return True
        if _is_dropped(called):
            return False
    return False


def _is_dropped(called: Called) -> bool:
    return called[0].co_name == "__del__" or _module(called) in {"weakref", "_weakrefset"}


def _hook() -> CodeType | None:
    """The code of what Python calls with an exception that nobody can catch; None if it is Python's own."""
    hook: Any = getattr(sys.unraisablehook, "__wrapped__", sys.unraisablehook)  # beneath the lab's stand-in
    while isinstance(hook, partial):
        hook = hook.func
    return getattr(hook, "__code__", None)


def describe_place(place: Place) -> str:
    """Name a place for a reader."""
    if not place.file:
        return f"{place.function}(), a callback"
    source = linecache.getline(place.file, place.line).strip()
    if not place.own:
        return f"{place.function.replace('.<locals>', '')} ({Path(place.file).name}:{place.line})"
    return f"line {place.line}" + (f": {source}" if source else "")
