"""Which events to draw where there are more than fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from labkit.timeline import Event
from labkit.views.words import failed

__all__ = ["fold"]

#: What a reader looks for first.
_TURNING_POINTS: Final = {
    ("client", "connect"),
    ("client", "ended"),
    ("handler", "start"),
    ("handler", "notice"),
    ("handler", "cancelled"),
    ("handler", "end"),
    ("loop", "stop"),
}


def fold(events: Sequence[Event], candidates: Sequence[int], limit: int, stop: int | None) -> list[int]:
    """Choose what to draw.

    The fault and the end come first, then the turning points, then failures, then what is nearest to the fault, to
    the beginning or to the end.

    Args:
        events: the events, in order.
        candidates: the indices of those that would have a row of their own, in order.
        limit: how many rows there may be; a run of events that are left out takes one of them.
        stop: the index of the lab's own ``stop``, or None.

    Returns:
        The indices to draw, in order.
    """
    if len(candidates) <= limit:
        return list(candidates)
    order = sorted(range(len(candidates)), key=lambda place: _rank(place, events, candidates, stop))
    keep = set(order[:limit])
    # Each event that goes may open a run of its own, which takes a row: the least important go until all fits.
    for place in reversed(order[2:limit]):
        if len(keep) + _runs(keep, len(candidates)) <= limit:
            break
        keep.discard(place)
    # A fold for a single event would take as much room as the event.
    keep |= {place for place in range(len(candidates)) if {place - 1, place + 1} <= keep}
    return [candidates[place] for place in sorted(keep)]


def _runs(keep: set[int], count: int) -> int:
    return sum(place not in keep and (place == 0 or place - 1 in keep) for place in range(count))


def _rank(place: int, events: Sequence[Event], candidates: Sequence[int], stop: int | None) -> tuple[int, int]:
    index = candidates[place]
    event = events[index]
    marks = [0, len(candidates) - 1]
    marks += [other for other, i in enumerate(candidates) if events[i].kind == "fault"][:1]
    near = min(abs(place - mark) for mark in marks)
    if event.kind == "fault":
        return 0, 0
    if (event.lane, event.kind) == ("handler", "end"):
        return 1, near
    if (event.lane, event.kind) in _TURNING_POINTS or place == len(candidates) - 1:
        return 2, near
    return 3 if failed(event, stopped=stop is not None and index > stop) else 4, near
