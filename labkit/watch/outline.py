"""Calls of the handler of which only the outline is recorded: that they began, and how they ended.

To watch a connection closely takes some times as long as the library takes for it. That is nothing for a few, and too
much for a crowd: so a host watches no more than so many at once closely, and tells of the others what costs little.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container
from typing import Any

from labkit.events import LoopCrowd, WireTcp
from labkit.remains.outlived import Tasks
from labkit.remains.started import starts_of
from labkit.support.flag import Flag
from labkit.support.sockets import find_ports
from labkit.timeline import Scope, Timeline
from labkit.watch.library import Tap
from labkit.watch.lines import leave_out

__all__ = ["Outline", "Outlines"]


class Outline:
    """One call of the handler, in outline.

    Args:
        here: the scope of the connection.

    Attributes:
        here: the scope of the connection.
        task: the library's task in which the handler runs.
        coroutine: the handler's coroutine, once the handler is called.
        handled: an exception of the handler's that the library has made an answer of; it goes no further.
        given_up: whether the handler has swallowed every cancel; the next one closes its coroutine.
        ended: set when the handler has ended.
    """

    # There may be thousands.
    __slots__ = ("coroutine", "ended", "given_up", "handled", "here", "task")

    def __init__(self, here: Scope) -> None:
        self.here = here
        self.task = asyncio.current_task()
        self.coroutine: Any = None
        self.handled: BaseException | None = None
        self.given_up = False
        self.ended = Flag()

    def cancel(self, _: str) -> None:
        """Cancel the handler's task."""
        if self.given_up and self.coroutine is not None:
            with contextlib.suppress(Exception):  # what it does now is nobody's concern
                self.coroutine.close()
        if self.task is not None:
            self.task.cancel()


class Outlines:
    """The calls of a host's handler that are watched in outline.

    Args:
        timeline: where to record.
        closely: how many connections are watched closely at once; all, if None.

    Attributes:
        running: the calls that run now, by the number of the connection.
    """

    def __init__(self, timeline: Timeline, closely: int | None) -> None:
        self.running: dict[int, Outline] = {}
        self._timeline = timeline
        self._closely = closely
        self._numbers: set[int] = set()
        self._read = 0
        self._wired: set[tuple[int, int]] = set()

    def take(self, tap: Tap | None, watched: int) -> bool:
        """Decide how a connection is watched whose handler is about to be called; the next call on it is watched alike.

        One that comes through a wire of the lab is watched closely, since a fault may strike it.

        Args:
            tap: the tap of the connection.
            watched: how many handlers run that are watched closely.

        Returns:
            Whether in outline.
        """
        if tap is None or self._closely is None:
            return False
        if tap.closely is None:
            tap.closely = watched < self._closely or self._is_wired(tap)
            if not tap.closely:
                self._begin(tap)
        return not tap.closely

    def _begin(self, tap: Tap) -> None:
        if not self._numbers:
            text = f"more than {self._closely} connections at once: of each other one, only the outline is watched"
            self._timeline.append(LoopCrowd(self._closely or 0, text=text))
        self._numbers.add(tap.number)
        leave_out(self._timeline, tap.number)
        tap.let_alone()

    def _is_wired(self, tap: Tap) -> bool:
        """Whether a connection is that of a wire that records here; it has told its ports before the first byte."""
        events = self._timeline.recorded(self._read)
        self._read += len(events)
        self._wired.update(event.ports for event in events if isinstance(event, WireTcp) and event.ports is not None)
        return tap.transport is not None and find_ports(tap.transport) in self._wired

    def __contains__(self, number: object) -> bool:
        return number in self._numbers

    def left(self, tasks: Tasks, held: Container[int]) -> set[int]:
        """Find the connections whose handlers have ended, and may have left something.

        Args:
            tasks: the experiment's tasks that run now.
            held: the numbers of connections of which the library still holds something.
        """
        starts = starts_of(self._timeline)
        found = tasks.numbers | (set() if starts is None else starts.numbers)
        return {each for each in self._numbers if (each in found or each in held) and each not in self.running}
