"""The plan of the sequence picture: the row of each event, and the arrows and bars between the events.

A plan is plain data. It has no sizes and no colours; the unit of the vertical axis is the row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from labkit.events import LANES, Event, Lane, Shape, WireFault, WireLost
from labkit.support.wording import plain
from labkit.timeline import Timeline
from labkit.views.sequence.folding import fold
from labkit.views.sequence.lifetimes import Bar, Remark, lifetimes
from labkit.views.sequence.pairing import Pairing, pair
from labkit.views.words import IDLE, Numbers, failed, pause, stop_of, visible, zero

__all__ = ["Arrow", "Bar", "Fold", "Mark", "Plan", "Point", "Remark", "plan"]

#: Lanes that are drawn even if they have no events: that nothing happened there is also a result.
_ALWAYS = ("client", "wire", "handler")


@dataclass(frozen=True)
class Mark:
    """The mark of an event.

    Attributes:
        row: the row, from 0 at the top.
        lane: the column.
        shape: the kind of mark.
        failed: whether the event is a fault or a failure.
        label: the text beside the mark.
        at: seconds since the picture's zero.
        slot: the number of its lifetime among those that overlap in the lane.
        flow: where the arrow of its message points, ``"left"`` or ``"right"``; empty if it has no arrow.
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
    """An end of an arrow.

    Attributes:
        row: the row.
        lane: the column.
        slot: the number of its lifetime among those that overlap in the lane.
        from_side: for a message whose sending is not recorded, the side from which its arrow comes, ``"left"`` or
            ``"right"``; otherwise empty.
    """

    row: int
    lane: Lane
    slot: int = 0
    from_side: str = ""


@dataclass(frozen=True)
class Arrow:
    """The arrow of a message, or of a part of its path.

    Attributes:
        start: the beginning.
        end: the tip.
        lane: the sender's lane, which gives the hue.
        via_wire: whether the arrow has a mark where it crosses the wire.
        lost: whether the message was lost at the wire.
        failed: whether the loss is a failure. It is none if the lab had already ended the experiment.
    """

    start: Point
    end: Point
    lane: Lane
    via_wire: bool = False
    lost: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Fold:
    """A row that replaces a pause, or events that are left out."""

    row: int
    text: str


@dataclass(frozen=True)
class Plan:
    """The plan of a picture.

    Attributes:
        lanes: the columns, from left to right.
        rows: the number of rows.
        marks: the marks of the events.
        arrows: the arrows of the messages.
        bars: the lifetimes.
        remarks: the texts on lifetimes that have not ended.
        folds: the rows that replace pauses and events.
        fault: the row of the fault; the shade begins at its top. None without a fault.
        stop: the row in which the lab ended the experiment, or None.
        origin: what happened at the picture's zero.
        several: whether there are several connections, which the labels name.
    """

    lanes: tuple[Lane, ...]
    rows: int
    marks: list[Mark]
    arrows: list[Arrow]
    bars: list[Bar]
    remarks: list[Remark]
    folds: list[Fold]
    fault: int | None
    stop: int | None
    origin: str
    several: bool = False


def plan(timeline: Timeline, *, limit: int = 60, lanes: Collection[Any] | None = None, lines: bool = False) -> Plan:
    """Make the plan of a picture.

    Args:
        timeline: the events.
        limit: the highest number of rows, without those for pauses.
        lanes: the lanes to draw. If None: client, wire and handler, and every other lane that has events.
        lines: whether to draw an event for each line of the handler too.

    Returns:
        The plan.

    Raises:
        UnknownName: there is no such lane.
    """
    events = visible(timeline, lanes, lines=lines)
    start, origin = zero(timeline)
    pairing, numbers = pair(events), Numbers(events)
    stop = stop_of(events)
    candidates = [i for i in range(len(events)) if i not in pairing.on_arrow]
    kept = fold(events, candidates, limit, stop)
    drawn = set(kept)

    # Each event that is kept has a row; so has each gap of events that are left out, and each pause.
    rows: dict[int, int] = {}
    folds: list[Fold] = []
    row, last, hidden = 0, None, 0
    for i in [*candidates, None]:
        if i is not None and i not in drawn:
            hidden += 1
            continue
        if hidden:
            folds.append(Fold(row, f"+{hidden} more events"))
            row, last, hidden = row + 1, None, 0
        if i is None:
            break
        gap = 0.0 if last is None else events[i].at - events[last].at
        if last is not None and gap >= IDLE:
            folds.append(Fold(row, f"⋯ {pause(events[last], gap)} ⋯"))
            row += 1
        rows[i] = row
        row, last = row + 1, i

    # If `stop` is the only event of the loop, it is drawn in the wire's lane, which saves a lane.
    used = {event.lane for i, event in enumerate(events) if i != stop} | set(_ALWAYS) if lanes is None else set(lanes)
    bars, remarks, slots = lifetimes(events, rows, row, stop)
    arrows = _arrows(events, pairing, rows, slots, stop)

    def mark(i: int) -> Mark:
        event = events[i]
        text = plain(event.label)
        if i in pairing.merged:
            withheld = isinstance(event, WireLost) and event.what is not None
            text = f"{'withheld' if withheld else 'lost'} {plain(events[pairing.merged[i]].label)}"
        if (number := numbers.of(event)) is not None:
            text = f"{number}: {text}"
        text += numbers.by(event, "")
        return Mark(
            row=rows[i],
            lane=event.lane if event.lane in used else "wire",
            shape=event.shape,
            failed=failed(event, stopped=stop is not None and i > stop),
            label=text,
            at=event.at - start,
            slot=slots.get(i, 0),
            flow=_flow(rows[i], event.lane, arrows),
        )

    fault = next((i for i in kept if isinstance(events[i], WireFault)), None)
    return Plan(
        lanes=tuple(lane for lane in LANES if lane in used),
        rows=row,
        marks=[mark(i) for i in kept],
        arrows=arrows,
        bars=bars,
        remarks=remarks,
        folds=folds,
        fault=None if fault is None else rows[fault],
        stop=None if stop is None else rows.get(stop),
        origin=origin,
        several=numbers.several,
    )


def _arrows(
    events: Sequence[Event], pairing: Pairing, rows: dict[int, int], slots: dict[int, int], stop: int | None
) -> list[Arrow]:
    arrows = []
    for message in pairing.messages:
        via_wire = message.passed in pairing.on_arrow
        steps = [i for i in (message.sent, None if via_wire else message.passed, message.arrived) if i is not None]
        is_failure = message.lost and (stop is None or message.passed is None or message.passed < stop)
        sender: Lane = "client" if message.source == "client" else "handler"
        if message.lost and message.sent is None and message.passed in rows:
            from_side = "left" if message.source == "client" else "right"
            end = Point(rows[message.passed], "wire")
            start = Point(end.row, "wire", from_side=from_side)
            arrows.append(Arrow(start, end, sender, lost=True, failed=is_failure))
        for first, second in pairwise(steps):
            if first in rows and second in rows:
                start = Point(rows[first], events[first].lane, slots.get(first, 0))
                end = Point(rows[second], events[second].lane, slots.get(second, 0))
                arrows.append(Arrow(start, end, sender, via_wire, message.lost, is_failure))
    return arrows


def _flow(row: int, lane: Lane, arrows: Sequence[Arrow]) -> str:
    for arrow in arrows:
        if (row, lane) in {(arrow.start.row, arrow.start.lane), (arrow.end.row, arrow.end.lane)}:
            return "right" if arrow.lane == "client" else "left"
    return ""
