"""The plan of the sequence picture: which event stands in which row, and what connects them.

Plain data, without a size or a colour; the rows are the unit of the vertical axis.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from labkit.timeline import LANES, Event, Lane, Timeline
from labkit.views.folding import fold
from labkit.views.lifetimes import Bar, Note, lifetimes
from labkit.views.pairing import Pairing, pair
from labkit.views.words import IDLE, Shape, duration, failed, label, shape, shown, stop_of, zero

__all__ = ["Arrow", "Bar", "Fold", "Mark", "Note", "Plan", "Point", "plan"]

#: Lanes that are drawn also where nothing happened: their silence is a finding.
_ALWAYS = ("client", "wire", "handler")


@dataclass(frozen=True)
class Mark:
    """An event.

    Attributes:
        row: where it stands, from 0 down.
        lane: its column.
        shape: what kind of event it is.
        failed: whether it is a fault or a failure.
        label: its text.
        at: seconds since the picture's zero.
        slot: which of the lane's overlapping lifetimes it belongs to.
        flow: where the message that it belongs to runs to, ``"left"`` or ``"right"``; empty, if to none.
    """

    row: int
    lane: Lane
    shape: Shape
    failed: bool
    label: str
    at: float
    slot: int = 0
    flow: str = ""


@dataclass(frozen=True)
class Point:
    """A place in the picture; ``aside`` is where a message comes from of whose sender no event tells."""

    row: int
    lane: Lane
    slot: int = 0
    aside: str = ""


@dataclass(frozen=True)
class Arrow:
    """A message, or a part of its way.

    Attributes:
        start: where it begins.
        end: where it ends.
        lane: the sender's lane, whose hue it has.
        tick: whether it passes the wire on its way.
        lost: whether it ends at the wire.
        failed: whether that is a failure, and not the lab's doing.
    """

    start: Point
    end: Point
    lane: Lane
    tick: bool = False
    lost: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Fold:
    """A row that stands for what is not shown: time in which nothing happened, or events past the limit."""

    row: int
    text: str


@dataclass(frozen=True)
class Plan:
    """The plan of a picture.

    Attributes:
        lanes: the columns, from left to right.
        rows: the height.
        fault: the row at whose top the shade begins, or None.
        stop: the row at whose top the lab's own end begins, or None.
        since: what happened at zero.
    """

    lanes: tuple[Lane, ...]
    rows: int
    marks: list[Mark]
    arrows: list[Arrow]
    bars: list[Bar]
    notes: list[Note]
    folds: list[Fold]
    fault: int | None
    stop: int | None
    since: str


def plan(timeline: Timeline, *, limit: int = 60, lanes: Collection[Any] | None = None, lines: bool = False) -> Plan:
    """Make the plan of a picture.

    Args:
        timeline: the events.
        limit: how many rows to draw at most, folds of time not counted.
        lanes: the lanes to draw; those that have events, if None, and always client, wire and handler.
        lines: whether the lines of the handler are events too.

    Returns:
        The plan.

    Raises:
        UnknownName: there is no such lane.
    """
    events = shown(timeline, lanes, lines=lines)
    began, since = zero(timeline)
    pairing = pair(events)
    stop = stop_of(events)
    candidates = [i for i in range(len(events)) if i not in pairing.ticks]
    kept = fold(events, candidates, limit, stop)

    # A row for each event that is kept; one for each run of those that are not; one for a pause.
    rows: dict[int, int] = {}
    folds: list[Fold] = []
    row, last, hidden = 0, None, 0
    for i in [*candidates, None]:
        if i is not None and i not in kept:
            hidden += 1
            continue
        if hidden:
            folds.append(Fold(row, f"+{hidden} more event{'s' * (hidden > 1)}"))
            row, last, hidden = row + 1, None, 0
        if i is None:
            break
        pause = 0.0 if last is None else events[i].at - events[last].at
        if pause >= IDLE:
            folds.append(Fold(row, f"⋯ {duration(pause)} idle ⋯"))
            row += 1
        rows[i] = row
        row, last = row + 1, i

    # Where the loop has nothing else to tell, the lab's own end stands with the lab's relay: a lane less.
    used = {event.lane for i, event in enumerate(events) if i != stop} | set(_ALWAYS) if lanes is None else set(lanes)
    bars, notes, slots = lifetimes(events, rows, row, stop)
    arrows = _arrows(events, pairing, rows, slots, stop)

    def mark(i: int) -> Mark:
        event = events[i]
        text = label(event)
        if i in pairing.merged:
            text = f"{'withheld' if event.data.get('what') else 'lost'} {label(events[pairing.merged[i]])}"
        return Mark(
            row=rows[i],
            lane=event.lane if event.lane in used else "wire",
            shape=shape(event),
            failed=failed(event, stopped=stop is not None and i > stop),
            label=text,
            at=event.at - began,
            slot=slots.get(i, 0),
            flow=_flow(rows[i], event.lane, arrows),
        )

    fault = next((i for i in kept if events[i].kind == "fault"), None)
    return Plan(
        lanes=tuple(lane for lane in LANES if lane in used),
        rows=row,
        marks=[mark(i) for i in kept],
        arrows=arrows,
        bars=bars,
        notes=notes,
        folds=folds,
        fault=None if fault is None else rows[fault],
        stop=None if stop is None else rows.get(stop),
        since=since,
    )


def _arrows(
    events: Sequence[Event], pairing: Pairing, rows: dict[int, int], slots: dict[int, int], stop: int | None
) -> list[Arrow]:
    arrows = []
    for message in pairing.messages:
        tick = message.passed in pairing.ticks
        way = [i for i in (message.sent, None if tick else message.passed, message.arrived) if i is not None]
        bad = message.lost and (stop is None or message.passed is None or message.passed < stop)
        sender: Lane = "client" if message.source == "client" else "handler"
        if message.lost and message.sent is None and message.passed in rows:
            aside = "left" if message.source == "client" else "right"
            end = Point(rows[message.passed], "wire")
            arrows.append(Arrow(Point(end.row, "wire", aside=aside), end, sender, lost=True, failed=bad))
        for first, second in pairwise(way):
            if first in rows and second in rows:
                start = Point(rows[first], events[first].lane, slots.get(first, 0))
                end = Point(rows[second], events[second].lane, slots.get(second, 0))
                arrows.append(Arrow(start, end, sender, tick=tick, lost=message.lost, failed=bad))
    return arrows


def _flow(row: int, lane: Lane, arrows: Sequence[Arrow]) -> str:
    for arrow in arrows:
        if (row, lane) in {(arrow.start.row, arrow.start.lane), (arrow.end.row, arrow.end.lane)}:
            return "right" if arrow.lane == "client" else "left"
    return ""
