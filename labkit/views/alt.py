"""The sequence picture in words, for those who do not see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from labkit.timeline import Event, Timeline
from labkit.views.words import duration, plain, shown, zero

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["alt_text"]

#: Characters; a screen reader reads it all, and cannot skip.
_LIMIT: Final = 1200

#: (lane, kind) → a clause, with the event's text where it says ``{}``.
_CLAUSES: Final[dict[tuple[str, str], str]] = {
    ("client", "connect"): "the client connects",
    ("client", "open"): "the handshake is complete",
    ("client", "refused"): "the client is refused: {}",
    ("client", "send"): "the client sends {}",
    ("client", "recv"): "the client receives {}",
    ("client", "close-sent"): "the client sends {}",
    ("client", "close-received"): "the client receives {}",
    ("client", "ended"): "for the client: {}",
    ("client", "error"): "the client fails: {}",
    ("client", "signal"): "the client's process is sent {}",
    ("client", "exit"): "the client's {}",
    ("wire", "link"): "the wire takes the client's connection",
    ("wire", "handshake"): "the wire sees the handshake",
    ("wire", "frame"): "the wire passes {} from the {source}",
    ("wire", "fault"): "the fault strikes: {}",
    ("wire", "closed"): "the wire's link is closed",
    ("handler", "start"): "the handler {}",
    ("handler", "recv"): "the handler receives {}",
    ("handler", "send"): "the handler sends {}",
    ("handler", "close"): "the handler calls {}",
    ("handler", "notice"): "the handler is told: {}",
    ("handler", "cancelled"): "the handler is {}",
    ("handler", "print"): "the handler prints '{}'",
    ("handler", "log"): "the log says: {}",
    ("handler", "error"): "in the handler {}",
    ("handler", "note"): "the handler notes: {}",
    ("handler", "end"): "the handler ends: {}",
    ("cleanup", "open"): "{} is opened",
    ("cleanup", "closing"): "{} begins to close",
    ("cleanup", "closed"): "{} is closed",
    ("cleanup", "truncated"): "the closing of {} is cut short",
    ("cleanup", "failed"): "the closing of {} fails",
    ("loop", "exception"): "the loop reports: {}",
    ("loop", "leaked"): "left behind: {}",
}


def alt_text(timeline: Timeline, verdict: Verdict | None) -> str:
    """Tell what the sequence picture shows.

    The verdict comes first, then what led to the fault in one sentence, then what followed, event by event.

    Args:
        timeline: the events.
        verdict: what they prove, or None.

    Returns:
        Plain sentences, 1200 characters at most; where that is too few, the last one says how many events are left.
    """
    events = shown(timeline)
    began, since = zero(timeline)
    told = [_short(verdict.sentence, 600)] if verdict is not None else []
    fault = next((i for i, event in enumerate(events) if (event.lane, event.kind) == ("wire", "fault")), None)
    if not events:
        return " ".join([*told, "No events were recorded."])
    if fault is not None:
        told.append(_before(events[:fault], events[fault].at - began, since))
        events, began = events[fault:], events[fault].at
    for n, event in enumerate(events):
        rest = len(events) - n
        sentence = _sentence(event, event.at - began, fault is not None)
        more = f"{rest} more event{'s' * (rest > 1)}."
        # Room for this sentence, and for the number of those that may have to go after it.
        if sum(map(len, told)) + len(told) + len(sentence) + len(more) + 2 > _LIMIT:
            told.append(more)
            break
        told.append(sentence)
    return " ".join(told)


def _before(events: Sequence[Event], span: float, since: str) -> str:
    """Sum up what led to the fault."""
    counts = Counter((event.lane, event.kind) for event in events)
    parts = []
    # Of a lane on which nothing was recorded, nothing is known.
    for lane in [lane for lane in ("client", "handler") if any(event.lane == lane for event in events)]:
        sent, received = counts[lane, "send"], counts[lane, "recv"]
        parts.append(f"the {lane} sent {sent} and received {received} message{'s' * (received != 1)}")
    how_many = f"{len(events)} event{'s' * (len(events) != 1)}"
    account = ": ".join(filter(None, [how_many, ", ".join(parts)]))
    return f"Before the fault, in the {duration(span)} since {since}, {account}."


def _sentence(event: Event, at: float, after: bool) -> str:
    pattern = _CLAUSES.get((event.lane, event.kind), "on the wire: {}" if event.lane == "wire" else "{}")
    # By hand: a message may hold braces.
    clause = pattern.replace("{source}", str(event.data.get("source"))).replace("{}", _short(plain(event.text), 120))
    if not after:
        return f"At {duration(at)} {clause}."
    return f"After {duration(at)} {clause}." if at else f"Then {clause}."


def _short(text: str, room: int) -> str:
    text = plain(text)
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"
