"""Finds out whether an exception that ended a handler reports a lost connection, and which."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any

__all__ = ["LossType", "losses", "raised_on", "with_origins"]

#: The exceptions with which a library reports a lost connection.
LossType = type[Exception] | tuple[type[Exception], ...]


def losses(exception: BaseException, loss_type: LossType, *libraries: str) -> list[BaseException]:
    """Find the exceptions with which the library reports a lost connection: this one or another of the handler's.

    Args:
        exception: what the handler raised; its causes, its contexts and the members of a group are searched too.
        loss_type: the exceptions with which the library reports a loss. If other code raises this type too, such as
            ``ConnectionError``, only those count that the library raised.
        libraries: the library's package, and those that belong to it.

    Returns:
        The exceptions, the outermost first.
    """
    return [each for each in with_origins(exception) if isinstance(each, loss_type) and _is_from(each, libraries)]


def raised_on(exception: BaseException, connection: Any, *libraries: str) -> bool:
    """Tell whether an exception passed through one of the library's methods of this very connection."""
    # Ask only the library's frames: reading the variables of a frame would keep them alive.
    frames = (frame for frame, _ in traceback.walk_tb(exception.__traceback__) if _package(frame) in libraries)
    return connection is not None and any(frame.f_locals.get("self") is connection for frame in frames)


def with_origins(exception: BaseException) -> Iterator[BaseException]:
    """List an exception, its causes, its contexts and the members of a group, the outermost first."""
    seen: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [exception]
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen[id(current)] = current
        members = current.exceptions if isinstance(current, BaseExceptionGroup) else ()
        waiting += [*members, current.__cause__, current.__context__]
    yield from seen.values()


def _is_from(exception: BaseException, libraries: Collection[str]) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(exception.__traceback__)]
    raised_by = _package(frames[-1]) if frames else None
    return not {type(exception).__module__.partition(".")[0], raised_by}.isdisjoint(libraries)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
