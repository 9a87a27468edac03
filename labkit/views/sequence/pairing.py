"""Finding the events that belong to the same message: sent by one side, seen by the wire, received by the other."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from labkit.events import (
    ClientCloseReceived,
    ClientCloseSent,
    ClientRecv,
    ClientSend,
    Event,
    HandlerClose,
    HandlerNotice,
    HandlerRecv,
    HandlerSend,
    LibraryCloseReceived,
    LibraryCloseSent,
    LibraryPingReceived,
    LibraryPingSent,
    LibraryPongReceived,
    LibraryPongSent,
    Side,
    WireFrame,
    WireLost,
    WireOpaque,
)

__all__ = ["Message", "Pairing", "pair"]

Kinds = tuple[type[Event], ...]

#: Where the events of each kind stand, in order.
Places = defaultdict[type[Event], list[int]]

#: The kinds of messages: the sender; the opcodes of its frames; the events in which it is sent and received.
_MESSAGES: Final[Sequence[tuple[Side, set[str], Kinds, Kinds]]] = (
    ("client", {"TEXT", "BINARY"}, (ClientSend,), (HandlerRecv,)),
    ("client", {"CLOSE"}, (ClientCloseSent,), (LibraryCloseReceived,)),
    ("client", {"PING"}, (), (LibraryPingReceived,)),
    ("client", {"PONG"}, (), (LibraryPongReceived,)),
    ("server", {"TEXT", "BINARY"}, (HandlerSend,), (ClientRecv,)),
    ("server", {"CLOSE"}, (HandlerClose, LibraryCloseSent), (ClientCloseReceived,)),
    ("server", {"PING"}, (LibraryPingSent,), ()),
    ("server", {"PONG"}, (LibraryPongSent,), ()),
)


@dataclass(frozen=True)
class Message:
    """The path of one message. Each step is the index of an event, or None if no event records the step.

    Attributes:
        source: the sender, ``"client"`` or ``"server"``.
        sent: the event in which the message was sent.
        passed: the event in which the wire saw it or lost it.
        arrived: the event in which it was received.
        lost: whether the wire lost it.
        closing: whether it is a Close frame.
    """

    source: str
    sent: int | None
    passed: int | None
    arrived: int | None
    lost: bool = False
    closing: bool = False

    def at(self, indices: Sequence[int]) -> Message:
        """Return the same message among more events.

        Args:
            indices: for each of the events here, its index there.
        """

        def there(step: int | None) -> int | None:
            return None if step is None else indices[step]

        return replace(self, sent=there(self.sent), passed=there(self.passed), arrived=there(self.arrived))


@dataclass(frozen=True)
class Pairing:
    """The messages of a timeline.

    Attributes:
        messages: the messages, each with the steps that are recorded.
        on_arrow: the indices of the frames that need no row, because a mark on the message's arrow shows them.
        merged: for each ``lost`` event, the last of the frames that it covers. These frames need no row either.
    """

    messages: list[Message] = field(default_factory=list)
    on_arrow: set[int] = field(default_factory=set)
    merged: dict[int, int] = field(default_factory=dict)


def pair(events: Sequence[Event]) -> Pairing:
    """Pair the messages of each connection and direction: the first sent with the first received, and so on.

    A later step never belongs to an earlier time. If nobody sent a frame or nobody read a message, its path lacks that
    step, and is not paired with a neighbour's step.

    Args:
        events: the events, in order.

    Returns:
        The events that belong together.
    """
    groups: dict[int | None, list[int]] = {}
    for i, event in enumerate(events):
        groups.setdefault(event.connection, []).append(i)
    if len(groups.keys() - {None}) < 2:
        return _pair(events)
    result = Pairing()
    for indices in groups.values():
        part = _pair([events[i] for i in indices])
        result.messages.extend(message.at(indices) for message in part.messages)
        result.on_arrow.update(indices[i] for i in part.on_arrow)
        result.merged.update({indices[lost]: indices[frame] for lost, frame in part.merged.items()})
    return result


def _pair(events: Sequence[Event]) -> Pairing:
    """Pair the messages of one connection."""
    by_kind: Places = defaultdict(list)
    for i, event in enumerate(events):
        by_kind[type(event)].append(i)
    frames_of: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i in by_kind[WireFrame]:
        passed = _frame(events, i)
        frames_of[passed.source, passed.opcode].append(i)
    on_wire = any(kind.about.lane == "wire" for kind, found in by_kind.items() if found)
    opaque = {event.source for event in (events[i] for i in by_kind[WireOpaque]) if isinstance(event, WireOpaque)}
    lost_in = _lost_frames(events, by_kind[WireLost])
    result = Pairing(merged={lost: frame for frame, lost in sorted(lost_in.items())})
    result.on_arrow.update(lost_in)
    seen_by_library = any(kind.about.lane == "library" for kind, found in by_kind.items() if found)
    for source, opcodes, sent, received in _MESSAGES:
        # An older recording has the handler's notice alone.
        got = (HandlerNotice,) if received == (LibraryCloseReceived,) and not seen_by_library else received
        sends, arrivals = _indices(by_kind, sent), _indices(by_kind, got)
        frames = sorted(i for opcode in opcodes for i in frames_of[source, opcode])
        data = "TEXT" in opcodes
        parts = _parts_lost(events, by_kind[WireLost], source, result.merged) if data else ()
        # If the wire can read the frames, a message that it never saw has not arrived.
        blind = not on_wire or source in opaque
        for message in _paths(
            source, sends, frames, arrivals, lost_in=lost_in, events=events, blind=blind, closing="CLOSE" in opcodes
        ):
            if data:
                result.messages.append(_lost_in_part(message, parts))
                if message.passed is not None and message.sent is not None and message.arrived is not None:
                    result.on_arrow.add(message.passed)
            elif message.closing or message.sent is not None or message.arrived is not None:
                result.messages.append(message)
    # Nobody may have recorded that a frame was sent, such as a client's ping. But its loss is drawn.
    known = {message.passed for message in result.messages}
    for lost, frame in result.merged.items():
        if lost not in known:
            result.messages.append(Message(_frame(events, frame).source, None, lost, None, lost=True))
    return result


def _indices(by_kind: Places, kinds: Kinds) -> list[int]:
    return sorted(i for kind in kinds for i in by_kind[kind])


def _frame(events: Sequence[Event], index: int) -> WireFrame:
    frame = events[index]
    assert isinstance(frame, WireFrame)
    return frame


def _parts_lost(events: Sequence[Event], lost: Sequence[int], source: str, merged: Mapping[int, int]) -> list[int]:
    """The ``lost`` events of one sender that cover no whole frame."""
    return [
        i
        for i, event in ((i, events[i]) for i in lost)
        if isinstance(event, WireLost) and event.source == source and event.what is None and i not in merged
    ]


def _lost_in_part(message: Message, parts: Sequence[int]) -> Message:
    """Mark a message as lost if the wire lost its beginning and never saw its end."""
    if message.sent is None or message.passed is not None or message.arrived is not None:
        return message
    behind = bisect_right(parts, message.sent)
    return message if behind == len(parts) else replace(message, passed=parts[behind], lost=True)


def _lost_frames(events: Sequence[Event], losses: Sequence[int]) -> dict[int, int]:
    """Find the lost frames: for the index of each, the index of its ``lost`` event.

    The wire records a ``lost`` event directly after the frames that it covers. If a frame arrives in pieces, the wire
    records it with the last piece, so the lengths of the earlier ``lost`` events count for that frame too.
    """
    lost_in: dict[int, int] = {}
    uncounted: dict[tuple[int, str], int] = {}  # bytes of a frame whose last piece is yet to come, by direction
    for i in losses:
        lost = events[i]
        assert isinstance(lost, WireLost)
        direction = lost.link, lost.source
        size = uncounted.pop(direction, 0) + lost.length
        for before in range(i - 1, -1, -1):
            frame = events[before]
            if not isinstance(frame, WireFrame) or (frame.link, frame.source) != direction or size < _size(frame):
                break
            size -= _size(frame)
            lost_in[before] = i
        uncounted[direction] = size
    return lost_in


def _size(frame: WireFrame) -> int:
    """The size of a frame on the wire in bytes (RFC 6455, section 5.2). A client's frame also has a mask of 4 bytes."""
    header = 2 if frame.length < 126 else 4 if frame.length < 65536 else 10
    return frame.length + header + (4 if frame.source == "client" else 0)


def _paths(
    source: str,
    sends: list[int],
    frames: list[int],
    arrivals: list[int],
    *,
    lost_in: dict[int, int],
    events: Sequence[Event],
    blind: bool,
    closing: bool = False,
) -> Iterator[Message]:
    sends_left, arrivals_left = deque(sends), deque(arrivals)
    for frame in frames:
        injected = _frame(events, frame).injected
        sent = sends_left.popleft() if sends_left and sends_left[0] < frame and not injected else None
        if frame in lost_in:
            yield Message(source, sent, lost_in[frame], None, lost=True, closing=closing)
        else:
            yield Message(source, sent, frame, _next(arrivals_left, frame), closing=closing)
    for sent in sends_left:
        yield Message(source, sent, None, _next(arrivals_left, sent) if blind else None, closing=closing)


def _next(arrivals: deque[int], after: int) -> int | None:
    while arrivals:
        if (arrival := arrivals.popleft()) > after:
            return arrival
    return None
