"""Whose code stands on the stack of a step: the user's, a library's, or the lab's own."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Final, NamedTuple

__all__ = ["Place", "bounds", "describe_place", "find_place", "may_be_broken"]

#: Packages whose code is not the user's.
_LIBRARIES: Final = frozenset({"aiohttp", "frozenlist", "multidict", "uvloop", "websockets", "yarl"})

#: Modules of the lab whose code is as the user's: handlers of its own, and what Python calls at each of their lines.
_AS_USERS: Final = ("labkit.exercises.", "labkit.watch.lines")

#: The code outside of which nothing belongs to a step.
bounds: Final[set[CodeType]] = set()


class Place(NamedTuple):
    """A place in the user's code; ``own`` says whether it is in the handler's file."""

    file: str
    line: int
    function: str
    own: bool


def _top(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_labs(frame: FrameType) -> bool:
    return _top(frame) == "labkit" and not str(frame.f_globals.get("__name__")).startswith(_AS_USERS)


def _is_users(frame: FrameType, file: str | None) -> bool:
    top = _top(frame)
    if frame.f_code.co_filename == file:
        return True
    if top == "labkit":
        return not _is_labs(frame)
    return top not in _LIBRARIES and top not in sys.stdlib_module_names


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of the running step, from the innermost outwards."""
    while frame is not None and frame.f_code not in bounds:
        yield frame
        frame = frame.f_back


def find_place(frame: FrameType | None, file: str | None) -> Place | None:
    """Find the place in the user's code that runs.

    Args:
        frame: the innermost frame.
        file: the handler's file, or None.

    Returns:
        The innermost place in the handler's file, or else the outermost in others; None if no user's code runs.
    """
    found = None
    for each in _stack(frame):
        if _is_users(each, file):
            own = each.f_code.co_filename == file
            found = Place(each.f_code.co_filename, each.f_lineno, each.f_code.co_qualname, own)
            if own:
                break
    return found


def may_be_broken(frame: FrameType | None, file: str | None) -> bool:
    """Tell whether the user's code runs, or what it has called; but nothing of the lab's inside it.

    Nor what Python calls there when a destructor has failed, since it drops an exception that comes out of that.

    Args:
        frame: the innermost frame.
        file: the handler's file, or None.
    """
    hook = _hook()
    for each in _stack(frame):
        if _is_labs(each) or each.f_code is hook:
            return False
        if _is_users(each, file):
            return True
    return False


def _hook() -> CodeType | None:
    """The code of what Python calls with an exception that nobody can catch; None if it is Python's own."""
    hook = sys.unraisablehook
    while isinstance(hook, partial):
        hook = hook.func
    return getattr(hook, "__code__", None)


def describe_place(place: Place) -> str:
    """Name a place for a reader."""
    source = linecache.getline(place.file, place.line).strip()
    if not place.own:
        return f"{place.function.replace('.<locals>', '')} ({Path(place.file).name}:{place.line})"
    return f"line {place.line}" + (f": {source}" if source else "")
