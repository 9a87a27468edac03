"""Finds the control frames in the bytes of one direction of a WebSocket connection, and counts its messages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

__all__ = ["CLOSE", "PING", "PONG", "ControlFrames"]

#: The opcodes of the control frames (RFC 6455, section 5.5).
CLOSE, PING, PONG = 0x8, 0x9, 0xA

#: The longest payload of a control frame, in bytes (RFC 6455, section 5.5).
_LONGEST = 125

#: How long the extended length of a payload is, by the 7 bits that announce it (RFC 6455, section 5.2).
_EXTENDED = {126: 2, 127: 8}


class ControlFrames:
    """Counts the messages, skips their payload, and reports the control frames (RFC 6455, section 5), as they come.

    It is there for each connection of a server, so it keeps as little as it can: at most one incomplete header or
    control frame. After a Close frame, or where the bytes are no frames, it reports nothing more.

    Args:
        report: called with each control frame's opcode and payload.

    Attributes:
        messages: how many messages have come, each to its last byte.
    """

    __slots__ = ("_ends", "_report", "_skip", "_start", "_stopped", "messages")

    def __init__(self, report: Callable[[int, bytes], None]) -> None:
        self._report = report
        self._start = b""  # of a header or of a control frame
        self._skip = 0  # bytes of a data frame that are still to come
        self._ends = False  # whether that frame is the last one of its message
        self.messages = 0
        self._stopped = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Args:
            data: any bytes; a frame may end anywhere in them.
        """
        if self._stopped:
            return
        if not self._start and not self._skip and 2 <= len(data) == data[1] + 2 < 128 and data[0] & 0x88 == 0x80:
            self.messages += 1  # a short message in one frame without a mask, as a server sends most
            return
        if self._start:
            data = self._start + bytes(data)
        at, end = self._skip, len(data)
        if self._ends and at <= end:
            self._ends = False
            self.messages += 1
        while end - at >= 2:
            first, second = data[at], data[at + 1]
            length = second & 0x7F
            extended = _EXTENDED.get(length, 0)
            body = at + 2 + extended + (4 if second & 0x80 else 0)
            if body > end:
                break
            if first & 0x08:
                if first & 0x70 or not first & 0x80 or length > _LONGEST:
                    self._stopped = True  # the library refuses this frame, and reads no further
                    return
                if body + length > end:
                    break
                self._take(
                    first & 0x0F, bytes(data[body - 4 : body]) if second & 0x80 else b"", data[body : body + length]
                )
                if self._stopped:
                    return
            elif extended:
                length = int.from_bytes(data[at + 2 : at + 2 + extended], "big")
            at = body + length
            if not first & 0x08 and first & 0x80:
                self._ends = at > end
                self.messages += at <= end
        self._skip = max(at - end, 0)
        self._start = bytes(data[at:])

    def _take(self, opcode: int, mask: bytes, payload: bytes | bytearray | memoryview) -> None:
        self._stopped = opcode == CLOSE
        self._report(
            opcode, bytes(a ^ b for a, b in zip(payload, cycle(mask), strict=False)) if mask else bytes(payload)
        )
