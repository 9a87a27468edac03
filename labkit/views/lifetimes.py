"""Bars: how long a connection, a handler's call and the closing of a resource lasted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from labkit.timeline import Event, Lane
from labkit.views.words import failed

__all__ = ["Bar", "Note", "lifetimes"]

#: lane → what begins a lifetime, what ends it, and what is said of one that has not ended.
_LIVES: Final[dict[Lane, tuple[str, set[str], str]]] = {
    "client": ("connect", {"ended", "refused", "exit"}, "still open"),
    "handler": ("start", {"end"}, "still running"),
    "cleanup": ("closing", {"closed", "truncated", "failed"}, "still closing"),
}


@dataclass(frozen=True)
class Bar:
    """A lifetime.

    Attributes:
        lane: its column.
        top: the row where it begins.
        bottom: the row where it ends, or the picture's height.
        finished: whether it has ended.
        failed: whether it ended in a failure.
        slot: which of the lane's overlapping lifetimes it is, from 0.
        held: whether it is a resource that is open, and not yet closing: drawn as a line.
    """

    lane: Lane
    top: int
    bottom: int
    finished: bool
    failed: bool = False
    slot: int = 0
    held: bool = False


@dataclass(frozen=True)
class Note:
    """What is said of a lifetime that has not ended, at the lower edge or where the lab ended the experiment."""

    row: int
    lane: Lane
    text: str


@dataclass
class _Life:
    lane: Lane
    events: list[int]


def lifetimes(
    events: Sequence[Event], rows: Mapping[int, int], height: int, stop: int | None
) -> tuple[list[Bar], list[Note], dict[int, int]]:
    """Find the lifetimes.

    Args:
        events: the events, in order.
        rows: the row of each event that is drawn.
        height: the number of rows.
        stop: the index of the lab's own ``stop``, or None.

    Returns:
        The bars; the notes; and for each event that belongs to a lifetime, its slot.
    """
    bars: list[Bar] = []
    notes: dict[tuple[int, Lane], str] = {}
    slots: dict[int, int] = {}
    busy: dict[Lane, list[int]] = {}  # for each slot of a lane, the index at which its last lifetime ended
    for life in _lives(events):
        begins, ends, unfinished = _LIVES[life.lane]
        last = life.events[-1]
        over = events[last].kind in ends
        taken = busy.setdefault(life.lane, [])
        slot = next((n for n, until in enumerate(taken) if until < life.events[0]), len(taken))
        taken[slot : slot + 1] = [last if over else len(events)]
        slots.update(dict.fromkeys(life.events, slot))
        start = next((i for i in life.events if events[i].kind == begins), None)
        if life.lane == "cleanup" and start != life.events[0]:
            bottom = height if start is None else _row(start, rows, height)
            bars.append(
                Bar(life.lane, _row(life.events[0], rows, height), bottom, start is not None, False, slot, True)
            )
        if start is None:
            ended = any((event.lane, event.kind) == ("handler", "end") for event in events)
            notes[height, life.lane] = "never closed" if ended else "still open"
            continue
        bottom = _row(last, rows, height) if over else height
        bad = over and failed(events[last], stopped=stop is not None and last > stop)
        bars.append(Bar(life.lane, _row(start, rows, height), bottom, over, bad, slot))
        if not over:
            notes[height, life.lane] = unfinished
        elif stop is not None and stop in rows and start < stop < last:
            notes[rows[stop], life.lane] = unfinished
    return bars, [Note(row, lane, text) for (row, lane), text in notes.items()], slots


def _lives(events: Sequence[Event]) -> list[_Life]:
    lives: list[_Life] = []
    calls: dict[object, _Life] = {}
    for i, event in enumerate(events):
        if event.lane not in _LIVES:
            continue
        begins, ends, _ = _LIVES[event.lane]
        # A resource is known by its id, a handler's call by its number, the client's connections by their order.
        key = (event.lane, event.data.get("id" if event.lane == "cleanup" else "call"))
        first = event.kind == begins and event.lane != "cleanup"
        if first or (event.lane == "cleanup" and event.kind != "note" and key not in calls):
            calls[key] = _Life(event.lane, [i])
            lives.append(calls[key])
        elif key in calls and (event.lane == "cleanup" or event.kind in ends):
            calls[key].events.append(i)
            if event.kind in ends:
                del calls[key]
    return lives


def _row(index: int, rows: Mapping[int, int], height: int) -> int:
    """The row of an event; of one that is left out, a place in the fold that stands for it."""
    if index in rows:
        return rows[index]
    later = [row for i, row in rows.items() if i > index]
    return min(later) - 1 if later else height - 1
