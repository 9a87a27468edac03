"""Lifetimes: from when to when a connection, a handler's call and the closing of a resource lasted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from labkit.events import Event, HandlerEnd, HandlerStart, Lane, ResourceEvent
from labkit.views.words import Numbers, failed, ranges

__all__ = ["Bar", "Remark", "lifetimes"]

#: The remark on a lifetime that has not ended, by its lane.
_UNFINISHED: Final[dict[Lane, str]] = {"client": "still open", "handler": "still running", "cleanup": "still closing"}


@dataclass(frozen=True)
class Bar:
    """A lifetime.

    Attributes:
        lane: the column.
        top: the row where the lifetime begins.
        bottom: the row where it ends; the number of rows if it has not ended.
        finished: whether it has ended.
        failed: whether it ended in a failure.
        slot: its number among the lifetimes that overlap in the lane, from 0.
        held: whether this is the time in which a resource is open and not yet closing, drawn as a line.
    """

    lane: Lane
    top: int
    bottom: int
    finished: bool
    failed: bool = False
    slot: int = 0
    held: bool = False


@dataclass(frozen=True)
class Remark:
    """A text on a lifetime that has not ended, at the lower edge or in the row where the lab ended the experiment.

    Attributes:
        row: the row; the number of rows for the lower edge.
        lane: the column.
        text: the text.
        slot: the slot beside which the text is.
    """

    row: int
    lane: Lane
    text: str
    slot: int = 0


@dataclass
class _Life:
    lane: Lane
    events: list[int]


def lifetimes(
    events: Sequence[Event], rows: Mapping[int, int], height: int, stop: int | None
) -> tuple[list[Bar], list[Remark], dict[int, int]]:
    """Find the lifetimes.

    Args:
        events: the events, in order.
        rows: the row of each event that is drawn, by the event's index.
        height: the number of rows.
        stop: the index of the ``stop`` event, or None.

    Returns:
        The bars, the remarks, and the slot of each event that belongs to a lifetime, by the event's index.
    """
    numbers = Numbers(events)
    ranks = _ranks(events) if numbers.several else {}
    bars: list[Bar] = []
    remarks: dict[tuple[int, Lane, str], list[int]] = {}
    slots = {i: ranks[event.connection] for i, event in enumerate(events) if _has_place(event, ranks)}

    def remark(row: int, life: _Life, text: str) -> None:
        number = numbers.of(events[life.events[0]])
        remarks.setdefault((row, life.lane, text), []).extend([] if number is None else [number])

    busy: dict[Lane, list[int]] = {}  # for each slot of a lane, the index of the event that ended its last lifetime
    for life in _lives(events):
        unfinished = _UNFINISHED[life.lane]
        last = life.events[-1]
        ended = events[last].about.life == "ends"
        slot = slots.get(life.events[0])
        if slot is None:
            slot_ends = busy.setdefault(life.lane, [])
            slot = next((n for n, until in enumerate(slot_ends) if until < life.events[0]), len(slot_ends))
            slot_ends[slot : slot + 1] = [last if ended else len(events)]
            slots.update(dict.fromkeys(life.events, slot))
        start = next((i for i in life.events if events[i].about.life == "begins"), None)
        if life.lane == "cleanup" and start != life.events[0]:
            bottom = height if start is None else _row(start, rows, height)
            bars.append(
                Bar(life.lane, _row(life.events[0], rows, height), bottom, start is not None, False, slot, True)
            )
        if start is None:
            number = events[life.events[0]].connection
            handler_ended = any(isinstance(event, HandlerEnd) and event.connection == number for event in events)
            remark(height, life, "never closed" if handler_ended else "still open")
            continue
        bottom = _row(last, rows, height) if ended else height
        did_fail = ended and failed(events[last], stopped=stop is not None and last > stop)
        bars.append(Bar(life.lane, _row(start, rows, height), bottom, ended, did_fail, slot))
        if not ended:
            remark(height, life, unfinished)
        elif stop is not None and stop in rows and start < stop < last:
            remark(rows[stop], life, unfinished)
    texts: dict[tuple[int, Lane], list[str]] = {}
    for (row, lane, text), those in remarks.items():
        texts.setdefault((row, lane), []).append(f"{ranges(those)} {text}" if those else text)
    # Where nothing is named, the last remark of a lane stands for all.
    found = [Remark(row, lane, words[-1]) for (row, lane), words in texts.items()]
    if numbers.several:
        # The client's remarks are to the left of its bars, and those of the other lanes to the right.
        lasts: dict[Lane, int] = {
            lane: max(bar.slot for bar in bars if bar.lane == lane) for _, lane in texts if lane != "client"
        }
        found = [Remark(row, lane, "; ".join(words), lasts.get(lane, 0)) for (row, lane), words in texts.items()]
    return bars, found, slots


def _ranks(events: Sequence[Event]) -> dict[int | None, int]:
    """The slot of each connection: the first that no connection has that is not over."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, event in enumerate(events):
        if event.connection is not None:
            first.setdefault(event.connection, i)
            last[event.connection] = i
    ends: list[int] = []
    ranks: dict[int | None, int] = {}
    for number, begin in first.items():
        rank = next((n for n, end in enumerate(ends) if end < begin), len(ends))
        ends[rank : rank + 1] = [last[number]]
        ranks[number] = rank
    return ranks


def _has_place(event: Event, ranks: Mapping[int | None, int]) -> bool:
    """Whether an event stands beside the bar of its connection. A resource has a bar of its own."""
    return event.connection in ranks and event.lane in ("client", "handler")


def _lives(events: Sequence[Event]) -> list[_Life]:
    lives: list[_Life] = []
    calls: dict[tuple[str, int], _Life] = {}
    for i, event in enumerate(events):
        ends = event.about.life == "ends"
        # A resource has an id, and a handler's call a number; a client has that of its connection.
        match event:
            case ResourceEvent():
                key, begins, belongs = (event.lane, event.id), True, True
            case HandlerStart() | HandlerEnd():
                key, begins, belongs = (event.lane, event.call), event.about.life == "begins", ends
            case _:
                key, begins, belongs = (event.lane, event.connection or 0), event.about.life == "begins", ends
        if begins and (key not in calls or not belongs):
            calls[key] = _Life(event.lane, [i])
            lives.append(calls[key])
        elif belongs and key in calls:
            calls[key].events.append(i)
            if ends:
                del calls[key]
    return lives


def _row(index: int, rows: Mapping[int, int], height: int) -> int:
    """The row of an event; if the event is left out, the row of the fold that replaces it."""
    if index in rows:
        return rows[index]
    later = [row for i, row in rows.items() if i > index]
    return min(later) - 1 if later else height - 1
