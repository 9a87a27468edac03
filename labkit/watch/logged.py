"""Hears what is logged and warned of in an experiment, however the program has set up its logging.

What is set up may change while the experiment runs: an application's ``dictConfig`` takes away every handler of the
root logger, and so does ``basicConfig(force=True)``. So the lab adds none; it listens where a logger calls its own.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any, Final, cast

from labkit.events import ClientLog, HandlerLog, LoopException
from labkit.support.replacing import replace
from labkit.support.wording import describe_exception
from labkit.timeline import scope

__all__ = ["LONGEST", "hear_records", "hear_warnings", "is_forgotten", "told_already"]

#: Longer lines are cut, so that a timeline stays readable.
LONGEST: Final = 2000

#: The threads in which the logger of asyncio tells, for now, what is told already.
told_already: Final[set[int]] = set()

#: So many records are remembered, so that one that a queue's listener gives to another logger is told once.
_REMEMBERED: Final = 256

_heard: Final[dict[tuple[object, ...], None]] = {}

#: What Python says of a coroutine that is dropped before its first step.
_FORGOTTEN: Final = r"coroutine .+ was never awaited"


def hear_records() -> Callable[[], None]:
    """Turn the log records of experiments into events, until what is returned is called."""

    def make(call_handlers: Callable[[logging.Logger, logging.LogRecord], None]) -> Callable[..., None]:
        @functools.wraps(call_handlers)
        def stand_in(logger: logging.Logger, record: logging.LogRecord) -> None:
            # Where nobody has set up logging, the timeline takes the place of its last resort.
            if not _hear(record) or logger.hasHandlers():
                call_handlers(logger, record)

        return stand_in

    return replace(logging.Logger, "callHandlers", make)


def _hear(record: logging.LogRecord) -> bool:
    """Record an event, if the record is an experiment's; return whether it is."""
    here = scope.get()
    if here is None:
        return False
    key = (here.timeline, record.created, record.thread, record.name, record.pathname, record.lineno)
    if key in _heard or (record.name == "asyncio" and threading.get_ident() in told_already):
        return True
    _heard[key] = None
    if len(_heard) > _REMEMBERED:
        del _heard[next(iter(_heard))]
    exception = record.exc_info[1] if record.exc_info else None
    description = None if exception is None else describe_exception(exception)
    try:
        message = record.getMessage()
    except Exception as problem:  # the format string does not fit its arguments; the record still counts
        message = f"{record.msg} [{describe_exception(problem)}]"
    text = f"{record.levelname} {record.name}: {message}"[:LONGEST]
    logged = ClientLog if here.lane == "client" else HandlerLog
    here.record(logged(record.levelno, record.levelname, record.name, description, text=text))
    return True


def hear_warnings() -> Callable[[], None]:
    """Count it as an error of an experiment if a coroutine is never awaited, until what is returned is called.

    Python warns of that, once for each line; here, each time, unless the user's own filters say otherwise.
    """

    def make(show: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(show)
        def stand_in(message: Any, category: Any, filename: str, lineno: int, *rest: Any, **more: Any) -> None:
            here = scope.get()
            if here is not None and is_forgotten(message):
                here.record(LoopException(None, str(message), text=str(message)))
            show(message, category, filename, lineno, *rest, **more)

        return stand_in

    undo = replace(warnings, "showwarning", make)
    before = list(warnings.filters)
    warnings.filterwarnings("always", _FORGOTTEN, RuntimeWarning, append=True)
    ours = [each for each in warnings.filters if each not in before]

    def leave() -> None:
        undo()
        filters = cast(list[Any], warnings.filters)
        for each in ours:
            if each in filters:
                filters.remove(each)

    return leave


def is_forgotten(warning: object) -> bool:
    """Tell whether a warning, or what Python makes of it with ``-W error``, says that nobody awaited a coroutine."""
    return isinstance(warning, RuntimeWarning) and re.match(_FORGOTTEN, str(warning)) is not None
