"""What runs in an experiment's place prints, logs and complains: all of it becomes events.

Only while an experiment is under way do ``sys.stdout``, ``sys.stderr``, the root logger and the loop's exception
handler pass through here; each is put back when the last one ends. What comes from outside every experiment goes
where it always went.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO, cast

from labkit import tasks
from labkit.timeline import Lane, Place, Timeline, place
from labkit.wording import of_exception

__all__ = ["capture", "flush"]

#: Longer lines are cut: a timeline is to be read.
_LONGEST = 2000


class _Stream:
    """Stands in for ``sys.stdout`` or ``sys.stderr``, and behaves as it does in all else."""

    def __init__(self, inner: TextIO, name: str) -> None:
        self.inner = inner
        self.name_ = name
        self.pending: dict[tuple[int, Lane], str] = {}

    def write(self, text: str) -> int:
        here = place.get()
        if here is None:
            return self.inner.write(text)
        key = (id(here.timeline), here.lane)
        *lines, rest = (self.pending.pop(key, "") + text).split("\n")
        for line in lines:
            self._record(here, line)
        if rest:
            self.pending[key] = rest
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def finish(self, timeline: Timeline) -> None:
        """Record what was printed without a newline at its end."""
        for key in [key for key in self.pending if key[0] == id(timeline)]:
            self._record(Place(timeline, key[1]), self.pending.pop(key))

    def _record(self, here: Place, line: str) -> None:
        here.timeline.record(here.lane, "print", line[:_LONGEST], {"stream": self.name_})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _LogHandler(logging.Handler):
    """Turns the log records of an experiment into events."""

    def emit(self, record: logging.LogRecord) -> None:
        here = place.get()
        if here is None:
            # With this handler on the root, logging no longer falls back on its last resort by itself.
            last = logging.lastResort
            if logging.getLogger().handlers == [self] and last is not None and record.levelno >= last.level:
                last.handle(record)
            return
        exception = record.exc_info[1] if record.exc_info else None
        data = {
            "level": record.levelname,
            "levelno": record.levelno,
            "logger": record.name,
            "exception": None if exception is None else of_exception(exception),
        }
        try:
            message = record.getMessage()
        except Exception as problem:  # a wrong format string is the caller's; the record still counts
            message = f"{record.msg} [{of_exception(problem)}]"
        here.timeline.record(here.lane, "log", f"{record.levelname} {record.name}: {message}"[:_LONGEST], data)


class _Capture:
    """The stand-ins, shared by all experiments that are under way."""

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
            self._undo.callback(self._put_back, name, stream)
        root = logging.getLogger()
        handler = _LogHandler()
        root.addHandler(handler)
        self._undo.callback(root.removeHandler, handler)

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
    def _put_back(name: str, stream: _Stream) -> None:
        # If somebody redirected it meanwhile, theirs stays: ours passes everything on from now.
        if getattr(sys, name) is stream:
            setattr(sys, name, stream.inner)


_capture = _Capture()


def flush(timeline: Timeline) -> None:
    """Record what an experiment has printed without a newline at its end.

    Args:
        timeline: the experiment's.
    """
    _capture.flush(timeline)


class _LoopHandler:
    """Stands in for a loop's exception handler."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.users = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # On Python 3.12 and later the loop calls this in the context of the task at fault; before, ask the task.
        here = tasks.place_of(context.get("task") or context.get("future")) or place.get()
        if here is not None:
            exception = context.get("exception")
            told = None if exception is None else of_exception(exception)
            message = str(context.get("message", "an unhandled exception"))
            text = message if told is None else f"{message}: {told}"
            here.timeline.record("loop", "exception", text, {"message": message, "exception": told})
        elif self.inner is not None:
            self.inner(loop, context)
        else:
            loop.default_exception_handler(context)


@contextmanager
def capture(timeline: Timeline) -> Iterator[None]:
    """Turn prints, log records and the loop's complaints into events, while the block runs.

    Each goes to the timeline and the lane of the place where it was uttered, so experiments that share a loop do not
    mix. A logger with ``propagate=False`` is beyond reach.

    Args:
        timeline: the experiment's; what it printed without a last newline is recorded at the end of the block.
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
        with tasks.track(loop):
            yield
    finally:
        _capture.leave(timeline)
        ours.users -= 1
        if not ours.users and loop.get_exception_handler() is handler:
            loop.set_exception_handler(ours.inner)
