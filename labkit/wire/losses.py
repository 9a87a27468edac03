"""Directions in which bytes are lost, or take their time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from labkit.wire.gates import Gate

if TYPE_CHECKING:
    from labkit.wire.end import End

__all__ = ["Blackhole", "Slow"]

#: Bytes that may wait in one direction: what a sender's system would hold back until somebody acknowledges it.
_ROOM: Final = 64 * 1024

#: In how many pieces a second a limited rate is doled out.
_PIECES: Final = 50


class Blackhole(Gate):
    """Loses all of a direction: bytes, FIN and RST.

    TCP would not acknowledge what is lost, so the sender's buffer would fill up. A relay cannot withhold an
    acknowledgement; once that much is lost it stops reading instead, which has the same effect on the sender.

    Args:
        end: where the direction begins.
    """

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self._lost = 0

    @property
    def idle(self) -> bool:
        """Never: what is lost does not arrive, so the other end is not told that this one has ended."""
        return False

    def data(self, data: bytes | bytearray) -> None:
        """Bytes have come from the end: decode them, to tell what is lost."""
        self.end.decoder.feed(data)
        self.end.link.lost(self.end.side, len(data))
        self._lost += len(data)
        if self._lost > _ROOM:
            self.end.pause("nobody acknowledges")

    def fin(self) -> None:
        """A FIN has come from the end, and goes nowhere."""
        self.end.link.lost(self.end.side, 0, "FIN")

    def reset(self) -> None:
        """A RST has come from the end, and goes nowhere."""
        self.end.link.lost(self.end.side, 0, "RST")


class Slow(Gate):
    """Passes a direction on in order, but later, and no faster than a rate.

    Args:
        end: where the direction begins.
        delay: seconds from an end to the other.
        rate: bytes a second; no limit, if None.
    """

    def __init__(self, end: End, delay: float, rate: float | None) -> None:
        super().__init__(end)
        self._delay = delay
        self._rate = rate
        self._piece = None if rate is None else max(1, int(rate / _PIECES))
        self._loop = asyncio.get_running_loop()
        self._free = 0.0  # when the last byte that waits will have been sent
        self._waiting = 0
        self._queue: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._queue

    def data(self, data: bytes | bytearray) -> None:
        """Bytes have come from the end: they wait; more than the room for them stops the sender."""
        whole = bytes(data)
        size = self._piece or len(whole)
        for start in range(0, len(whole), size):
            piece = whole[start : start + size]
            self._wait(len(piece), lambda piece=piece: Gate.data(self, piece))  # type: ignore[misc]
        if self._waiting > _ROOM:
            self.end.pause("the link is slow")

    def fin(self) -> None:
        """A FIN has come from the end, behind what waits."""
        self._wait(0, lambda: Gate.fin(self))

    def reset(self) -> None:
        """A RST has come from the end, behind what waits."""
        self._wait(0, lambda: Gate.reset(self))

    def stop(self) -> None:
        """Forget what waits."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, length: int, action: Callable[[], None]) -> None:
        sent = max(self._free, self._loop.time())
        if self._rate is not None:
            sent += length / self._rate
        self._free = sent
        self._waiting += length
        self._queue.append((sent + self._delay, length, action))
        if self._timer is None:
            self._timer = self._loop.call_at(self._queue[0][0], self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        while self._queue and self._queue[0][0] <= self._loop.time():
            _, length, action = self._queue.popleft()
            self._waiting -= length
            action()
        if self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._pass_on)
        if self._waiting <= _ROOM // 4:
            self.end.resume("the link is slow")
        self.end.link.settle()
