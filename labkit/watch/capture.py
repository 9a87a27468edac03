"""Turns the prints, the log records and the loop's errors of an experiment into events.

``sys.stdout``, ``sys.stderr``, what loggers hand on and what the loop is told of pass through here only while an
experiment runs; each is restored when the last experiment ends. Output from outside every experiment goes where it
always went.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from labkit.events import ClientPrint, HandlerPrint, LoopException
from labkit.introspection.origin import is_users
from labkit.remains.tasks import track
from labkit.support.replacing import replace
from labkit.support.wording import describe_exception
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.logged import LONGEST, hear_records, hear_warnings, is_forgotten
from labkit.watch.loop_errors import hear_loop

__all__ = ["capture", "flush"]


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
        here.record(printed(self.name_, text=line[:LONGEST]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


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
        self._undo.callback(hear_records())
        self._undo.callback(hear_warnings())
        self._undo.callback(replace(sys, "unraisablehook", _hearing_what_is_ignored))

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
        if here is not None and is_forgotten(dropped.exc_value):
            here.record(LoopException(None, str(dropped.exc_value), text=str(dropped.exc_value)))
        elif here is not None and code is not None and is_users(code.co_filename):
            message = f"Exception ignored in {source.__qualname__.replace('.<locals>', '')}"
            description = describe_exception(dropped.exc_value)
            here.record(LoopException(description, message, text=f"{message}: {description}"))
        before(dropped)

    return stand_in


@contextmanager
def capture(timeline: Timeline) -> Iterator[None]:
    """Turn prints, log records and the loop's errors into events, while the block runs.

    Each goes to the timeline and the lane of the scope of the code that made it, so experiments that share a loop do
    not mix. It does not matter how the program sets up its logging, and its loop, nor when.

    Args:
        timeline: the experiment's timeline. What the experiment has printed without a newline at its end is recorded
            at the end of the block.
    """
    _capture.enter()
    try:
        with hear_loop(asyncio.get_running_loop()) as loop, track(loop):
            yield
    finally:
        _capture.leave(timeline)
