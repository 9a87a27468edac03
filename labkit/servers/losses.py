"""What an exception that ends a handler tells of its connection."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["losses", "raised_on"]


def losses(exception: BaseException, lost: type[Exception], library: str) -> list[BaseException]:
    """Find by what the library told that a connection is over: this one, or another that the handler holds.

    Args:
        exception: what the handler raised; what it came from and the members of a group count too.
        lost: the exceptions by which the library tells it; a kind that others raise too counts if the library did.
        library: the library's package.

    Returns:
        The exceptions, the outermost first.
    """
    return [one for one in _with_origins(exception) if isinstance(one, lost) and _is_from(one, library)]


def raised_on(exception: BaseException, connection: Any, library: str) -> bool:
    """Tell whether an exception passed through one of the library's methods of this very connection."""
    # The library's frames alone: to ask others for their variables would keep alive what they hold.
    frames = (frame for frame, _ in traceback.walk_tb(exception.__traceback__) if _package(frame) == library)
    return connection is not None and any(frame.f_locals.get("self") is connection for frame in frames)


def _with_origins(exception: BaseException) -> Iterator[BaseException]:
    seen: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [exception]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen[id(one)] = one
        members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [*members, one.__cause__, one.__context__]
    yield from seen.values()


def _is_from(exception: BaseException, library: str) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(exception.__traceback__)]
    raised_by = _package(frames[-1]) if frames else None
    return library in {type(exception).__module__.partition(".")[0], raised_by}


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
