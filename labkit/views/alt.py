"""The sequence picture in words, for readers who cannot see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from labkit.events import Event, WireFault
from labkit.support.wording import plain
from labkit.timeline import Timeline
from labkit.views.words import Numbers, duration, visible, zero

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["alt_text"]

#: The highest number of characters. A screen reader reads all of them, and its user cannot skip any.
_LIMIT: Final = 1200
#: The highest number of connections of which each gets a summary of its own.
_FEW: Final = 4


def alt_text(timeline: Timeline, verdict: Verdict | None) -> str:
    """Describe the sequence picture in words.

    The verdict comes first. Then one sentence sums up the events before the fault. Then each event from the fault on
    has a sentence.

    Args:
        timeline: the events.
        verdict: what the events prove, or None.

    Returns:
        Plain sentences, 1200 characters at most. If they do not fit, the last one says how many events are left out.
    """
    events, numbers = visible(timeline), Numbers(timeline)
    start, origin = zero(timeline)
    sentences = [_short(verdict.sentence, 600)] if verdict is not None else []
    fault = next((i for i, event in enumerate(events) if isinstance(event, WireFault)), None)
    if not events:
        return " ".join([*sentences, "No events were recorded."])
    if fault is not None:
        sentences.append(_before(events[:fault], events[fault].at - start, origin, numbers))
        events, start = events[fault:], events[fault].at
    for n, event in enumerate(events):
        rest = len(events) - n
        sentence = _sentence(event, event.at - start, fault is not None, numbers)
        more = f"{rest} more event{'s' * (rest > 1)}."
        # There must be space for this sentence, and for the one that counts the events left out.
        if sum(map(len, sentences)) + len(sentences) + len(sentence) + len(more) + 2 > _LIMIT:
            sentences.append(more)
            break
        sentences.append(sentence)
    return " ".join(sentences)


def _before(events: Sequence[Event], span: float, origin: str, numbers: Numbers) -> str:
    """Sum up the events before the fault."""
    how_many = f"{len(events)} event{'s' * (len(events) != 1)}"
    if 1 < len(numbers.clients) <= _FEW:
        own = {number: [event for event in events if event.connection == number] for number in numbers.clients}
        parts = [f"on connection {number} {', '.join(_talk(those))}" for number, those in own.items() if _talk(those)]
    else:
        parts = _talk(events)
    account = ": ".join(filter(None, [how_many, ("; " if len(numbers.clients) > 1 else ", ").join(parts)]))
    return f"Before the fault, in the {duration(span)} since {origin}, {account}."


def _talk(events: Sequence[Event]) -> list[str]:
    """Sum up the messages of each side."""
    counts = Counter((event.lane, event.kind) for event in events)
    parts = []
    # A lane without events is left out: nobody may have recorded there, so "sent 0" could be false.
    for lane in [lane for lane in ("client", "handler") if any(event.lane == lane for event in events)]:
        sent, received = counts[lane, "send"], counts[lane, "recv"]
        parts.append(f"the {lane} sent {sent} and received {received} message{'s' * (received != 1)}")
    return parts


def _sentence(event: Event, at: float, after: bool, numbers: Numbers) -> str:
    clause = event.clause(_short(plain(event.text), 120)) + numbers.by(event, "the handler of connection ")
    if (number := numbers.of(event)) is not None:
        clause = f"on connection {number} {clause}"
    if not after:
        return f"At {duration(at)} {clause}."
    return f"After {duration(at)} {clause}." if at else f"Then {clause}."


def _short(text: str, length: int) -> str:
    text = plain(text)
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
