"""The events of one experiment, in the order in which they happened.

Everything that the lab shows or concludes is read from a timeline. The vocabulary of kinds:

========  ===================================================================================
lane      kinds
========  ===================================================================================
client    connect, open, refused, send, recv, close-sent, close-received, ended, error, signal, exit, log
wire      link, handshake, frame, fault, fin, reset, lost, full, opaque, closed
handler   start, lines, line, recv, send, close, notice, cancelled, print, log, note, end
cleanup   open, closing, closed, truncated, failed
loop      exception, shutdown, blocked, unblocked, stop, leaked
========  ===================================================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

from labkit.clock import now
from labkit.clock import timeout as at_most

__all__ = ["LANES", "Data", "Event", "Lane", "Place", "Timeline", "place"]

Lane = Literal["client", "wire", "handler", "cleanup", "loop"]

#: The lanes, from left to right.
LANES: Final[tuple[Lane, ...]] = get_args(Lane)

Data = Mapping[str, Any]
_NO_DATA: Final[Data] = MappingProxyType({})


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        at: seconds since the timeline began, on a monotonic clock.
        lane: where it happened.
        kind: what happened, a word of the module's table.
        text: the same for a reader, short.
        data: details by name, each a value that JSON can hold.
    """

    at: float
    lane: Lane
    kind: str
    text: str
    data: Data


class Timeline:
    """An append-only list of events; events may be recorded from any thread.

    Args:
        began: the clock's reading (``labkit.clock.now()``) that counts as zero; now, if not given.
    """

    def __init__(self, began: float | None = None) -> None:
        self.began: Final = now() if began is None else began
        # Plain tuples, and the subtraction left to the reader: recording stands in the path of every frame.
        self._raw: list[tuple[float, Lane, str, str, Data]] = []
        self._in_order = True
        self._listeners: list[Callable[[], None]] = []

    def record(self, lane: Lane, kind: str, text: str = "", data: Data = _NO_DATA) -> None:
        """Append an event that happens now.

        Args:
            lane: where it happens.
            kind: what happens, a word of the module's table.
            text: the same for a reader.
            data: details by name; not copied, so it must not change afterwards.
        """
        self._raw.append((now(), lane, kind, text, data))
        if self._listeners:
            for wake in tuple(self._listeners):
                wake()

    def record_at(self, at: float, lane: Lane, kind: str, text: str = "", data: Data = _NO_DATA) -> None:
        """Append an event that has happened, as another process tells of it; it takes its place by its time.

        Args:
            at: the reading of the clock, ``labkit.clock.now()``, when it happened.
            lane: where it happened.
            kind: what happened, a word of the module's table.
            text: the same for a reader.
            data: details by name; not copied, so it must not change afterwards.
        """
        self._in_order = False
        self._raw.append((at, lane, kind, text, data))
        for wake in tuple(self._listeners):
            wake()

    def __iter__(self) -> Iterator[Event]:
        began = self.began
        events = tuple(self._raw) if self._in_order else sorted(self._raw, key=itemgetter(0))
        for at, lane, kind, text, data in events:
            yield Event(at - began, lane, kind, text, data)

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: int) -> Event:
        if not self._in_order:
            return list(self)[index]
        return self._as_recorded(index)

    def _as_recorded(self, index: int) -> Event:
        at, lane, kind, text, data = self._raw[index]
        return Event(at - self.began, lane, kind, text, data)

    def __repr__(self) -> str:
        return f"<Timeline of {len(self)} events>"

    def select(self, lane: Lane | None = None, *kinds: str) -> list[Event]:
        """Pick events.

        Args:
            lane: only those of this lane; of all lanes, if None.
            kinds: only those of these kinds; of all kinds, if none is given.

        Returns:
            The events, in order.
        """
        return [e for e in self if (lane is None or e.lane == lane) and (not kinds or e.kind in kinds)]

    async def until(
        self, test: Callable[[Event], bool], timeout: float | None = None, *, start: int = 0
    ) -> Event | None:
        """Wait for an event.

        Args:
            test: tells whether an event is the one.
            timeout: seconds to wait at most (not scaled here), of time that the loop had; for ever, if None.
            start: how many events to pass over, in the order of recording. Events that are there already count.

        Returns:
            The first event that passes the test, or None when the time is up.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            # An event may come from another thread, and from a loop that has been closed since.
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        self._listeners.append(wake)
        try:
            async with at_most(timeout):
                while True:
                    changed.clear()
                    end = len(self._raw)
                    for index in range(start, end):
                        if test(event := self._as_recorded(index)):
                            return event
                    start = end
                    await changed.wait()
        except TimeoutError:
            return None
        finally:
            self._listeners.remove(wake)

    @classmethod
    def of(cls, events: Iterator[Event] | list[Event]) -> Timeline:
        """Rebuild a timeline from its events.

        Args:
            events: what iterating over a timeline gave.

        Returns:
            A timeline that gives the same events.
        """
        timeline = cls(began=0.0)
        timeline._raw.extend(events)
        return timeline


class Place(NamedTuple):
    """Where the running code stands: in which experiment, and on which lane."""

    timeline: Timeline
    lane: Lane


#: The place of the current context; a task that the handler starts inherits it.
place: ContextVar[Place | None] = ContextVar("labkit_place", default=None)
