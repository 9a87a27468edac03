"""What all views have in common: how they write times and texts, and which events they show."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from labkit.errors import UnknownName
from labkit.events import (
    LANES,
    ClientConnect,
    ClientStranger,
    Event,
    HandlerBlocked,
    HandlerLine,
    HandlerNotice,
    Lane,
    LoopBlocked,
    LoopHeldUp,
    LoopStop,
    Shape,
)
from labkit.timeline import Timeline

__all__ = [
    "IDLE",
    "SIGNS",
    "Numbers",
    "duration",
    "failed",
    "milliseconds",
    "pause",
    "ranges",
    "stop_of",
    "visible",
    "zero",
]

#: The shortest pause that is folded, in seconds.
IDLE: Final = 0.04

#: The sign of each shape in a text.
SIGNS: Final[dict[Shape, str]] = {
    "begin": "●",
    "send": "▲",
    "receive": "▼",
    "close": "◆",
    "frame": "▪",
    "end": "■",
    "break": "✗",
    "lost": "×",
    "fault": "★",
    "notice": "◉",
    "say": "·",
}


class Numbers:
    """How a view names the connections, where there are several; where there is but one, it names none.

    Args:
        events: all events of the view.

    Attributes:
        several: whether there are several connections.
        strangers: the numbers of those that are no clients of the lab.
        clients: the numbers of the others, in order.
        width: the length of the longest number with a blank before it; 0 where none is named.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        connections: set[int] = set()
        self.strangers: set[int] = set()
        self._by_served: dict[int, int] = {}
        for event in events:
            if event.connection is not None:
                connections.add(event.connection)
                if event.served is not None:
                    self._by_served[event.served] = event.connection
                if isinstance(event, ClientStranger):
                    self.strangers.add(event.connection)
        self.clients = sorted(connections - self.strangers)
        self.several = len(connections) > 1
        self.width = 1 + len(str(max(connections))) if self.several else 0

    def of(self, event: Event) -> int | None:
        """Return the number of an event's connection, if a view has to name it."""
        return event.connection if self.several else None

    def by(self, event: Event, of: str) -> str:
        """Say whose handler has done what an event tells, if it is that of another connection.

        Args:
            event: the event.
            of: what to call that handler, before its number.

        Returns:
            Words to put behind the event's own, such as ``", by handler 2"``; or ``""``.
        """
        by = getattr(event, "by", None)
        number = self._by_served.get(by) if self.several and isinstance(by, int) else None
        if number is None:
            return ""
        return f", {'told to' if isinstance(event, HandlerNotice) else 'by'} {of}{number}"


def failed(event: Event, *, stopped: bool = False) -> bool:
    """Say whether an event counts as a fault or a failure. Pictures show these in vermilion.

    Args:
        event: the event.
        stopped: whether the lab had already ended the experiment. What the lab itself breaks then is no failure.

    Returns:
        Whether it counts as one.
    """
    return event.failed and not (stopped and event.lane != "loop")


def milliseconds(seconds: float) -> str:
    """Write a time for the time axis.

    Args:
        seconds: the time in seconds.

    Returns:
        The time in milliseconds with one decimal, such as ``1,500.3``.
    """
    return f"{round(seconds * 1000, 1) + 0.0:,.1f}"


def duration(seconds: float) -> str:
    """Write the length of a time.

    Args:
        seconds: the length in seconds.

    Returns:
        A text such as ``0.4 ms``, ``950 ms`` or ``2.0 s``.
    """
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1000:.{1 if seconds < IDLE else 0}f} ms"


def pause(last: Event, seconds: float) -> str:
    """Write what a pause is: its length, and whether the loop was blocked or nothing happened.

    Args:
        last: the event before the pause.
        seconds: the length of the pause.

    Returns:
        A text such as ``"950 ms idle"`` or ``"300 ms blocked"``.
    """
    return f"{duration(seconds)} {'blocked' if isinstance(last, HandlerBlocked | LoopBlocked | LoopHeldUp) else 'idle'}"


def zero(events: Iterable[Event]) -> tuple[float, str]:
    """Find the zero of a view's time axis.

    Args:
        events: the events, in order.

    Returns:
        The time of the zero in seconds, and what happened then: ``"connect"`` or ``"the start"``.
    """
    first: float | None = None
    for event in events:
        if isinstance(event, ClientConnect):
            return event.at, "connect"
        if first is None and not event.about.hidden:
            first = event.at
    return first or 0.0, "the start"


def stop_of(events: Iterable[Event]) -> int | None:
    """Find the event in which the lab ended the experiment.

    Args:
        events: the events, in order.

    Returns:
        The index of the ``stop`` event; None if there is none.
    """
    return next((i for i, event in enumerate(events) if isinstance(event, LoopStop)), None)


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers, such as ``1-3, 5``.

    Args:
        numbers: the numbers.

    Returns:
        The text, in which three or more that follow each other are a range.
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def visible(timeline: Timeline, lanes: Collection[Any] | None = None, *, lines: bool = False) -> list[Event]:
    """Choose the events that a view shows.

    Args:
        timeline: all events.
        lanes: the lanes to show; all if None.
        lines: whether to show an event for each line of the handler too.

    Returns:
        The events, in order, without those of hidden kinds.

    Raises:
        UnknownName: there is no such lane.
    """
    for lane in lanes or ():
        if lane not in LANES:
            raise UnknownName("lane", lane, LANES)
    wanted: Collection[Lane] = LANES if lanes is None else lanes
    return [
        event
        for event in timeline
        if event.lane in wanted and not event.about.hidden and (lines or not isinstance(event, HandlerLine))
    ]
