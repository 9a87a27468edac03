"""Choosing the events to draw when a picture has not enough rows for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.events import Event, HandlerEnd, WireFault
from labkit.views.words import Numbers, failed

__all__ = ["fold"]


def fold(events: Sequence[Event], candidates: Sequence[int], limit: int, stop: int | None) -> list[int]:
    """Choose the events to draw.

    The most important events are the fault and the handler's end, then the turning points, then the failures. Among
    the others, those next to the fault, to the beginning or to the end come first. The least important is what
    strangers do.

    Args:
        events: the events, in order.
        candidates: the indices of the events that would each take a row, in order.
        limit: the highest number of rows. Each gap, a series of events that are left out, also takes a row.
        stop: the index of the ``stop`` event, or None.

    Returns:
        The indices of the events to draw, in order.
    """
    if len(candidates) <= limit:
        return list(candidates)
    last = len(candidates) - 1
    numbers = Numbers(events)
    fault = next((n for n, i in enumerate(candidates) if isinstance(events[i], WireFault)), 0)
    struck = events[candidates[fault]].connection

    def rank(n: int) -> tuple[int, int]:
        index = candidates[n]
        distance = min(n, last - n, abs(n - fault))
        event, stopped = events[index], stop is not None and index > stop
        importance = _importance(event, stopped=stopped, last=n == last)
        if numbers.several:
            if event.connection in numbers.strangers:
                importance = 6
            elif stopped:
                importance = 5  # the lab ends the connections of those who stayed
            elif isinstance(event, HandlerEnd) and event.connection != struck:
                importance = 2
        return importance, distance

    order = sorted(range(len(candidates)), key=rank)
    keep = set(order[:limit])
    # Leaving out an event may open a new gap, which takes a row. So leave out the least important ones until all fits.
    for n in reversed(order[2:limit]):
        if len(keep) + _gaps(keep, last) <= limit:
            break
        keep.discard(n)
    # A gap of a single event would take a row too, so draw the event.
    edges = keep | {-1, last + 1}
    keep |= {n + 1 for n in edges if n + 2 in edges}
    return [candidates[n] for n in sorted(keep)]


def _gaps(keep: set[int], last: int) -> int:
    """Count the gaps: one after each event that is kept if the next event is left out."""
    return sum(n + 1 not in keep for n in keep if n != last) + (0 not in keep)


def _importance(event: Event, *, stopped: bool, last: bool) -> int:
    """The importance of an event; 0 is the highest."""
    if isinstance(event, WireFault):
        return 0
    if isinstance(event, HandlerEnd):
        return 1
    if event.about.turning_point or last:
        return 2
    return 3 if failed(event, stopped=stopped) else 4
