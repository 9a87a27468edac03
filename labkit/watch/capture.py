"""Turns the prints, the log records and the loop's errors of an experiment into events.

``sys.stdout``, ``sys.stderr``, the root logger and the loop's exception handler pass through here only while an
experiment runs; each is restored when the last experiment ends. Output from outside every experiment goes where it
always went.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO, cast

from labkit.events import ClientLog, ClientPrint, HandlerLog, HandlerPrint, LoopException
from labkit.introspection.origin import is_users
from labkit.introspection.steps import scope_of_handle
from labkit.remains.tasks import scope_of, track
from labkit.support.descriptors import is_starved, note_starved
from labkit.support.replacing import replace
from labkit.support.wording import describe_exception
from labkit.timeline import Scope, Timeline, scope

__all__ = ["capture", "flush"]

#: Longer lines are cut, so that a timeline stays readable.
_LONGEST = 2000


class _Stream:
    """A stand-in for ``sys.stdout`` or ``sys.stderr``, which behaves like the original outside an experiment."""

    def __init__(self, inner: TextIO, name: str) -> None:
        self.inner = inner
        self.name_ = name
        self.pending: dict[Scope, str] = {}

    def write(self, text: str) -> int:
        here = scope.get()
        if here is None:
            return self.inner.write(text)
        *lines, rest = (self.pending.pop(here, "") + text).split("\n")
        for line in lines:
            self._record(here, line)
        if rest:
            self.pending[here] = rest
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def finish(self, timeline: Timeline) -> None:
        """Record what an experiment has printed without a newline at its end."""
        if self.pending:  # asked at the end of each handler
            for here in [here for here in self.pending if here.timeline is timeline]:
                self._record(here, self.pending.pop(here))

    def _record(self, here: Scope, line: str) -> None:
        printed = ClientPrint if here.lane == "client" else HandlerPrint
        here.record(printed(self.name_, text=line[:_LONGEST]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _LogHandler(logging.Handler):
    """Turns the log records of an experiment into events."""

    def emit(self, record: logging.LogRecord) -> None:
        here = scope.get()
        if here is None:
            # Since the root logger has this handler, `logging` does not use its last resort: do so in its place.
            last = logging.lastResort
            if logging.getLogger().handlers == [self] and last is not None and record.levelno >= last.level:
                last.handle(record)
            return
        exception = record.exc_info[1] if record.exc_info else None
        description = None if exception is None else describe_exception(exception)
        try:
            message = record.getMessage()
        except Exception as problem:  # the format string does not fit its arguments; the record still counts
            message = f"{record.msg} [{describe_exception(problem)}]"
        text = f"{record.levelname} {record.name}: {message}"[:_LONGEST]
        logged = ClientLog if here.lane == "client" else HandlerLog
        here.record(logged(record.levelno, record.levelname, record.name, description, text=text))


def _reaches_the_root(logger: logging.Logger) -> bool:
    """Whether a logger's records are handed on up to the root logger."""
    current: logging.Logger | None = logger
    while current is not None and current.parent is not None:
        if not current.propagate:
            return False
        current = current.parent
    return True


class _Capture:
    """The stand-ins, which all running experiments share."""

    def __init__(self) -> None:
        self._users = 0
        self._lock = threading.Lock()  # a server may run in a thread of its own
        self._streams: list[tuple[str, _Stream]] = []
        self._undo = ExitStack()

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._begin()

    def _begin(self) -> None:
        for name in ("stdout", "stderr"):
            stream = _Stream(getattr(sys, name), name)
            setattr(sys, name, stream)
            self._streams.append((name, stream))
            self._undo.callback(self._restore, name, stream)
        root = logging.getLogger()
        handler = _LogHandler()
        root.addHandler(handler)
        self._undo.callback(root.removeHandler, handler)
        self._hear_those_that_do_not_propagate(handler)
        self._undo.callback(replace(sys, "unraisablehook", _hearing_what_is_ignored))

    def _hear_those_that_do_not_propagate(self, handler: logging.Handler) -> None:
        """Have the records of loggers with ``propagate=False`` too, as most of those have that a configuration made."""

        def make(call_handlers: Callable[[logging.Logger, logging.LogRecord], None]) -> Callable[..., None]:
            @functools.wraps(call_handlers)
            def stand_in(logger: logging.Logger, record: logging.LogRecord) -> None:
                if not _reaches_the_root(logger):
                    handler.handle(record)
                call_handlers(logger, record)

            return stand_in

        self._undo.callback(replace(logging.Logger, "callHandlers", make))

    def flush(self, timeline: Timeline) -> None:
        for _, stream in self._streams:
            stream.finish(timeline)

    def leave(self, timeline: Timeline) -> None:
        self.flush(timeline)
        with self._lock:
            self._users -= 1
            if not self._users:
                self._undo.close()
                self._streams.clear()

    @staticmethod
    def _restore(name: str, stream: _Stream) -> None:
        # If other code has redirected the stream meanwhile, leave that: our stand-in now passes everything on.
        if getattr(sys, name) is stream:
            setattr(sys, name, stream.inner)


_capture = _Capture()


def flush(timeline: Timeline) -> None:
    """Record what an experiment has printed without a newline at its end.

    Args:
        timeline: the experiment's timeline.
    """
    _capture.flush(timeline)


def _hearing_what_is_ignored(before: Callable[[Any], None]) -> Callable[[Any], None]:
    """Record what Python drops of the user's code, such as what a ``__del__`` raises; Python prints it as ever."""

    @functools.wraps(before)
    def stand_in(dropped: Any) -> None:
        here, source = scope.get(), dropped.object
        codes = (getattr(source, name, None) for name in ("__code__", "cr_code", "gi_code", "ag_code"))
        code = next((each for each in codes if each is not None), None)
        # The garbage collector may come to other people's objects in the middle of a handler.
        if here is not None and code is not None and is_users(code.co_filename):
            message = f"Exception ignored in {source.__qualname__.replace('.<locals>', '')}"
            description = describe_exception(dropped.exc_value)
            here.record(LoopException(description, message, text=f"{message}: {description}"))
        before(dropped)

    return stand_in


class _LoopHandler:
    """A stand-in for a loop's exception handler."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.users = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "socket" in context and is_starved(context.get("exception")):  # a server cannot accept a client
            note_starved()
            return
        # Python 3.12 and later call this in the context of the code at fault; for Python 3.11, ask the task, or the
        # handle of a callback or a timer.
        here = (
            scope_of(context.get("task") or context.get("future"))
            or scope_of_handle(context.get("handle"))
            or scope.get()
        )
        if here is not None:
            exception = context.get("exception")
            description = None if exception is None else describe_exception(exception)
            message = str(context.get("message", "an unhandled exception"))
            text = message if description is None else f"{message}: {description}"
            here.record(LoopException(description, message, text=text))
        elif self.inner is not None:
            self.inner(loop, context)
        else:
            loop.default_exception_handler(context)


@contextmanager
def capture(timeline: Timeline) -> Iterator[None]:
    """Turn prints, log records and the loop's errors into events, while the block runs.

    Each goes to the timeline and the lane of the scope of the code that made it, so experiments that share a loop do
    not mix. The records of loggers with ``propagate=False`` count too.

    Args:
        timeline: the experiment's timeline. What the experiment has printed without a newline at its end is recorded
            at the end of the block.
    """
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    if not isinstance(handler, _LoopHandler):
        handler = cast(Any, _LoopHandler(handler))
        loop.set_exception_handler(handler)
    ours = cast(_LoopHandler, handler)
    ours.users += 1
    _capture.enter()
    try:
        with track(loop):
            yield
    finally:
        _capture.leave(timeline)
        ours.users -= 1
        if not ours.users and loop.get_exception_handler() is handler:
            loop.set_exception_handler(ours.inner)
