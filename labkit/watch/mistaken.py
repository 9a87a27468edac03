"""Tells when a handler is written for another library than the one that calls it."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["written_for"]


def written_for(exception: BaseException, argument: Any, telltales: Mapping[str, Collection[str]]) -> str | None:
    """Find the library that a handler expects, by what the handler raised over its argument.

    Args:
        exception: what the handler raised.
        argument: what the handler was called with.
        telltales: for each other library, the names that only its own argument has.

    Returns:
        The library; None if the exception does not show it.
    """
    for library, names in telltales.items():
        # Python tells of an AttributeError which object lacks which name.
        if isinstance(exception, AttributeError) and exception.obj is argument and exception.name in names:
            return library
        # `async for` asks for the method without an AttributeError.
        lacks_iteration = isinstance(exception, TypeError) and "__aiter__" in str(exception)
        if lacks_iteration and f"got {type(argument).__name__}" in str(exception) and "__aiter__" in names:
            return library
        if _was_given_to(exception, argument, library):
            return library
    return None


def _was_given_to(exception: BaseException, argument: Any, library: str) -> bool:
    """Whether the exception comes out of a function of the library that was given the argument."""
    frames = [frame for frame, _ in traceback.walk_tb(exception.__traceback__)]
    if not frames or str(frames[-1].f_globals.get("__name__", "")).partition(".")[0] != library:
        return False
    return isinstance(exception, AttributeError | TypeError) and any(
        value is argument for value in frames[-1].f_locals.values()
    )
