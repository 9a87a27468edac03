"""Holds a conversation between two of its frames: some pass, and all that comes after them waits in the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from labkit.wire.gates import Gate, Inlet

__all__ = ["Hold", "Holds"]

_END_OF_HEAD: Final = b"\r\n\r\n"

#: How long the extended length of a payload is, by the 7 bits that announce it (RFC 6455, section 5.2).
_EXTENDED: Final = {126: 2, 127: 8}

#: Bytes that may wait in one direction; then TCP stops the sender.
_ROOM: Final = 1024 * 1024

_WHY: Final = "the wire holds the conversation"


class HeldEnd(Inlet, Protocol):
    """The end from which a direction comes, as far as a hold needs it."""

    gate: Gate


class HeldLink(Protocol):
    """A link, as far as a hold needs it."""

    @property
    def number(self) -> int:
        """Its number among the links on the timeline."""

    @property
    def client(self) -> HeldEnd:
        """The socket towards the client."""

    @property
    def server(self) -> HeldEnd:
        """The socket towards the server."""


class Hold:
    """Lets so many frames of a link pass, of both directions together, and holds what comes after them.

    The handshake passes, and does not count. A FIN or a RST that comes later waits behind the frames.

    Args:
        link: the link, through which nothing has passed yet.
        count: how many frames pass.

    Attributes:
        number: the number of the link.
        passed: how many frames have begun to pass.
    """

    def __init__(self, link: HeldLink, count: int) -> None:
        self.number: Final = link.number
        self.passed = 0
        self._count = count
        self._open = False
        self._client = _Holding(link.client, self)
        self._server = _Holding(link.server, self)

    @property
    def full(self) -> bool:
        """Whether all these frames have passed to their last byte, so that everything else waits."""
        return self.is_open and self.passed == self._count and not self._client.inside and not self._server.inside

    @property
    def is_open(self) -> bool:
        """Whether the handshake has passed."""
        self._open = self._open or self._server.end.decoder.upgraded  # a closed link forgets it
        return self._open

    @property
    def delivered(self) -> int:
        """How many messages of the client have passed, each to its last byte."""
        return self._client.passed

    @property
    def withheld(self) -> int:
        """How many messages of the server wait here, each to its last byte."""
        return self._server.waiting

    def may_begin(self) -> bool:
        """Tell whether one more frame may pass, which then counts."""
        if self.passed == self._count:
            return False
        self.passed += 1
        return True

    def release(self) -> None:
        """Pass on what waits, and hold nothing more. What can no longer be passed on is lost."""
        self._client.release()
        self._server.release()


class Holds:
    """The holds of all links that are made from now on.

    Args:
        count: how many frames pass through each of them.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._holds: list[Hold] = []
        self._released = False

    def add(self, link: HeldLink) -> None:
        """Hold a link."""
        if not self._released:
            self._holds.append(Hold(link, self._count))

    def find(self, belongs: Callable[[int], bool]) -> Hold | None:
        """Find the hold of a link.

        Args:
            belongs: says of a link's number whether it is the one.

        Returns:
            The hold, or None.
        """
        return next((hold for hold in self._holds if belongs(hold.number)), None)

    def release(self) -> None:
        """Release all of them, and hold no further link."""
        self._released = True
        for hold in self._holds:
            hold.release()


class _Holding(Gate):
    """One direction of a link that is held.

    Args:
        end: the end from which the direction comes, whose gate this becomes.
        hold: counts the frames of both directions.

    Attributes:
        passed: how many messages have passed, each to its last byte.
        waiting: how many messages wait, each to its last byte.
    """

    def __init__(self, end: HeldEnd, hold: Hold) -> None:
        super().__init__(end)
        self._held_end = end
        self._hold = hold
        self._tail = b""  # the last bytes of the handshake so far
        self._head = bytearray()  # of the current frame
        self._rest = 0  # bytes of its payload that are still to come
        self._queue: list[bytes | Callable[[Gate], None]] = []
        self._size = 0
        self._holds = False
        self.passed = self.waiting = 0
        end.gate = self

    @property
    def inside(self) -> bool:
        """Whether a frame has begun to pass, and has not ended."""
        return bool(self._head) and not self._holds

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._queue

    def data(self, data: bytes | bytearray) -> None:
        """Take bytes from the end; pass on those of the handshake and of the first frames, and keep the others."""
        rest = bytes(data)
        while rest and not self._hold.is_open:
            # What a client sends before it has an answer, which clients of the lab do not, counts as its request.
            part = self._to_end_of_head(rest) if self.end.side == "server" else len(rest)
            super().data(rest[:part])
            rest = rest[part:]
        at = 0
        while at < len(rest) and not self._holds:
            if not self._head and not self._hold.may_begin():
                self._holds = True
                break
            at, ends = self._go_on(rest, at)
            self.passed += ends
        if at:
            super().data(rest[:at])
        if at < len(rest):
            self._keep(rest[at:])

    def _to_end_of_head(self, data: bytes) -> int:
        """How many of the bytes belong to the head of this answer; the end may be split between two reads."""
        joined = self._tail + data
        found = joined.find(_END_OF_HEAD)
        before = len(self._tail)
        self._tail = b"" if found >= 0 else joined[-len(_END_OF_HEAD) + 1 :]
        return len(data) if found < 0 else found + len(_END_OF_HEAD) - before

    def _go_on(self, data: bytes, at: int) -> tuple[int, bool]:
        """Go on with a frame; return where its bytes end here, and whether a message ends with it."""
        if not self._rest:
            while at < len(data) and len(self._head) < _size_of(self._head):
                self._head.append(data[at])
                at += 1
            if len(self._head) < _size_of(self._head):
                return at, False
            self._rest = _length_of(self._head)
        step = min(self._rest, len(data) - at)
        self._rest -= step
        if self._rest:
            return at + step, False
        first = self._head[0]
        self._head.clear()
        return at + step, bool(first & 0x80 and not first & 0x08)

    def _keep(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            at, ends = self._go_on(data, at)
            self.waiting += ends
        self._queue.append(data)
        self._size += len(data)
        if self._size > _ROOM:
            self.end.pause(_WHY)
        self.end.record_held(len(data))

    def fin(self) -> None:
        """Take a FIN from the end; it waits behind what is held."""
        if self._holds or self._hold.full:
            self._queue.append(lambda gate: gate.fin())
        else:
            super().fin()

    def reset(self) -> None:
        """Take a RST from the end; it waits behind what is held."""
        if self._holds or self._hold.full:
            self._queue.append(lambda gate: gate.reset())
        else:
            super().reset()

    def stop(self) -> None:
        """Tell that what still waits is lost, since the link is closed."""
        waiting, self._queue = self._queue, []
        for each in waiting:
            if isinstance(each, bytes):
                self.end.record_loss(len(each))

    def release(self) -> None:
        """Give what waits to the gate that the end has now, or to one that passes everything on."""
        if self._held_end.gate is self:
            self._held_end.gate = Gate(self.end)
        gate = self._held_end.gate
        waiting, self._queue = self._queue, []
        for each in waiting:
            if not isinstance(each, bytes):
                each(gate)
            elif self.end.peer.writable:
                gate.data(each)
            else:
                self.end.record_loss(len(each))
        self.end.resume(_WHY)
        self.end.close_if_done()


def _size_of(head: bytearray) -> int:
    """The size of a frame's header, as far as its first bytes tell it."""
    if len(head) < 2:
        return 2
    return 2 + _EXTENDED.get(head[1] & 0x7F, 0) + 4 * (head[1] >> 7)


def _length_of(head: bytearray) -> int:
    """The length of the payload that a whole header announces."""
    length = head[1] & 0x7F
    extended = _EXTENDED.get(length, 0)
    return int.from_bytes(head[2 : 2 + extended], "big") if extended else length
