"""Which events are the same message: sent here, seen on the wire, received there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from labkit.timeline import Event

__all__ = ["Message", "Pairing", "pair"]


@dataclass(frozen=True)
class Message:
    """The way of one message; each step is the index of an event, or None where no event tells of it.

    Attributes:
        source: the end that it comes from, ``"client"`` or ``"server"``.
        sent: where it was sent.
        passed: where the wire saw it, or lost it.
        arrived: where it was received.
        lost: whether it ended at the wire.
        closing: whether it is a Close frame.
    """

    source: str
    sent: int | None
    passed: int | None
    arrived: int | None
    lost: bool = False
    closing: bool = False


@dataclass(frozen=True)
class Pairing:
    """The messages of a timeline.

    Attributes:
        messages: one for each way that can be told.
        ticks: the frames of the wire that need no row of their own: a mark on their message's arrow says it all.
        merged: for each ``lost`` event, the last frame that it took; the frames have no row of their own either.
    """

    messages: list[Message] = field(default_factory=list)
    ticks: set[int] = field(default_factory=set)
    merged: dict[int, int] = field(default_factory=dict)


def pair(events: Sequence[Event]) -> Pairing:
    """Pair the messages of each direction, nth with nth.

    A step is only taken where it keeps the order of time: a frame that nobody sent, or a message that nobody read, is
    a way with a step missing, not a pair with its neighbour.

    Args:
        events: the events, in order.

    Returns:
        What belongs together.
    """
    fate = _fate(events)
    result = Pairing(merged={lost: frame for frame, lost in sorted(fate.items())})
    result.ticks.update(fate)
    for source, sender, receiver in (("client", "client", "handler"), ("server", "handler", "client")):
        sends = _indices(events, sender, "send")
        frames = _frames(events, source, {"TEXT", "BINARY"})
        arrivals = _indices(events, receiver, "recv")
        for message in _ways(source, sends, frames, arrivals, fate=fate, events=events):
            result.messages.append(_lost_in_part(message, result.merged, events))
            if message.passed is not None and message.sent is not None and message.arrived is not None:
                result.ticks.add(message.passed)
        closes = _indices(events, sender, "close-sent" if source == "client" else "close")
        told = _indices(events, receiver, "close-received" if source == "server" else "notice")
        frames = _frames(events, source, {"CLOSE"})
        for message in _ways(source, closes, frames, told, fate=fate, events=events, closing=True):
            result.messages.append(message)
    # What the library sends by itself, such as a PING, is no message; but that it was lost is seen.
    known = {message.passed for message in result.messages}
    for lost, frame in result.merged.items():
        if lost not in known:
            result.messages.append(Message(str(events[frame].data.get("source")), None, lost, None, lost=True))
    return result


def _indices(events: Sequence[Event], lane: str, kind: str) -> list[int]:
    return [i for i, event in enumerate(events) if event.lane == lane and event.kind == kind]


def _frames(events: Sequence[Event], source: str, opcodes: set[str]) -> list[int]:
    return [
        i
        for i in _indices(events, "wire", "frame")
        if events[i].data.get("source") == source and events[i].data.get("opcode") in opcodes
    ]


def _lost_in_part(message: Message, merged: Mapping[int, int], events: Sequence[Event]) -> Message:
    """A message of which the wire lost the beginning, and never saw the end."""
    if message.sent is None or message.passed is not None or message.arrived is not None:
        return message
    for lost in _indices(events, "wire", "lost"):
        mine = events[lost].data.get("source") == message.source and "what" not in events[lost].data
        if lost > message.sent and lost not in merged and mine:
            return replace(message, passed=lost, lost=True)
    return message


def _fate(events: Sequence[Event]) -> dict[int, int]:
    """For each frame that was lost, the ``lost`` event, which the wire records right behind the frames it took.

    A frame that came in pieces is told with its last one; what the ``lost`` of the others counted is kept for it.
    """
    fate: dict[int, int] = {}
    pieces: dict[tuple[object, object], int] = {}
    for lost in _indices(events, "wire", "lost"):
        data = events[lost].data
        way = data.get("link"), data.get("source")
        left = pieces.pop(way, 0) + int(data.get("length", 0))
        for i in range(lost - 1, -1, -1):
            event = events[i]
            mine = event.kind == "frame" and (event.data.get("link"), event.data.get("source")) == way
            if not mine or left < _size(event):
                break
            left -= _size(event)
            fate[i] = lost
        pieces[way] = left
    return fate


def _size(frame: Event) -> int:
    """The bytes of a frame on the wire (RFC 6455, section 5.2); a client's are masked."""
    length = int(frame.data.get("length", 0))
    head = 2 if length < 126 else 4 if length < 65536 else 10
    return length + head + (4 if frame.data.get("source") == "client" else 0)


def _ways(
    source: str,
    sends: list[int],
    frames: list[int],
    arrivals: list[int],
    *,
    fate: dict[int, int],
    events: Sequence[Event],
    closing: bool = False,
) -> Iterator[Message]:
    sends, arrivals = sends.copy(), arrivals.copy()
    for frame in frames:
        made_by_the_wire = events[frame].data.get("injected")
        sent = sends.pop(0) if sends and sends[0] < frame and not made_by_the_wire else None
        if frame in fate:
            yield Message(source, sent, fate[frame], None, lost=True, closing=closing)
        else:
            yield Message(source, sent, frame, _next(arrivals, frame), closing=closing)
    # Where the wire looks on, what it never saw has not arrived.
    wire = [event for event in events if event.lane == "wire"]
    blind = not wire or any(event.kind == "opaque" and event.data.get("source") == source for event in wire)
    for sent in sends:
        yield Message(source, sent, None, _next(arrivals, sent) if blind else None, closing=closing)


def _next(arrivals: list[int], after: int) -> int | None:
    while arrivals:
        if (arrival := arrivals.pop(0)) > after:
            return arrival
    return None
