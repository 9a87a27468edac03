"""Gates: each end of a link has one, which decides what happens to the bytes, the FIN and the RST from that end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from labkit.events import Side
from labkit.wire.frames import Decoder

__all__ = ["AfterClose", "Delay", "Drop", "Gate", "HoldClose", "Intercept"]

_CLOSE: Final = 8
_END_OF_HEAD: Final = b"\r\n\r\n"

#: Bytes that may wait in one direction: about as many as a sender's system keeps until they are acknowledged.
_ROOM: Final = 64 * 1024

#: A limited rate is sent in so many pieces each second.
_PIECES: Final = 50


class Outlet(Protocol):
    """The end to which a direction leads, as far as a gate needs it."""

    @property
    def writable(self) -> bool:
        """Whether bytes may still be sent."""

    def write(self, data: bytes | bytearray) -> None:
        """Send bytes."""

    def send_fin(self) -> None:
        """Send FIN."""

    def reset(self) -> None:
        """Send RST."""


class Inlet(Protocol):
    """The end from which a direction comes, as far as a gate needs it."""

    @property
    def side(self) -> Side:
        """Which end of the link it is."""

    @property
    def decoder(self) -> Decoder:
        """The decoder of the bytes from this end."""

    @property
    def peer(self) -> Outlet:
        """The end to which the direction leads."""

    def record_loss(self, length: int, what: str | None = None) -> None:
        """Record what came from this end and was not passed on."""

    def record_held(self, length: int) -> None:
        """Record what came from this end and waits."""

    def record_fin(self) -> None:
        """Record a FIN from this end, when all bytes before it had their turn."""

    def record_reset(self) -> None:
        """Record a RST from this end, when all bytes before it had their turn."""

    def pause(self, why: str) -> None:
        """Stop reading, so that TCP stops the sender."""

    def resume(self, why: str) -> None:
        """Take back one reason for not reading."""

    def close_if_done(self) -> None:
        """Let the link close its sockets when nothing is left to do."""

    def let_through(self, request: bytes) -> None:
        """Connect to the server after all, and pass on what has come."""


class Gate:
    """Passes everything on, unchanged and in order. Each subclass does something else instead.

    Args:
        end: the end from which the direction comes; ``end.peer`` is the end to which it leads.
    """

    def __init__(self, end: Inlet) -> None:
        self.end: Final = end

    def data(self, data: bytes | bytearray) -> None:
        """Take bytes from the end: decode them, and then pass them on or record their loss."""
        end = self.end
        # Decode first: a program in another thread or process may record the message as soon as it is passed on.
        end.decoder.feed(data)
        if end.peer.writable:
            end.peer.write(data)
        else:
            end.record_loss(len(data))

    def fin(self) -> None:
        """Take a FIN from the end."""
        self.end.record_fin()
        self.end.peer.send_fin()

    def reset(self) -> None:
        """Take a RST from the end."""
        self.end.record_reset()
        self.end.peer.reset()

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be passed on."""
        return True

    def stop(self) -> None:
        """Forget what still waits, since the link is closed."""


class HoldClose(Gate):
    """Withholds Close frames, the FIN and the RST of a direction; all other frames pass.

    The first byte of a frame says whether it is a Close. So at most one byte waits here, or an incomplete Close.
    Bytes that cannot be decoded pass unchanged.

    Args:
        end: the end from which the direction comes.
    """

    def __init__(self, end: Inlet) -> None:
        super().__init__(end)
        self._pending = bytearray()
        self._in_close = False
        end.decoder.on_frame = self._on_frame

    def data(self, data: bytes | bytearray) -> None:
        """Take bytes from the end, and pass on all that is known not to be a Close."""
        decoder = self.end.decoder
        self._pending += data
        decoder.feed(data)
        if decoder.stopped:
            self._in_close = False
            self._decide(len(self._pending))
        elif not self._in_close or decoder.opcode is None:
            self._decide(len(self._pending) - decoder.undecided)

    def fin(self) -> None:
        """Withhold a FIN from the end."""
        self.end.record_fin()
        self._drop_pending()
        self.end.record_loss(0, "FIN")

    def reset(self) -> None:
        """Withhold a RST from the end."""
        self.end.record_reset()
        self._drop_pending()
        self.end.record_loss(0, "RST")

    def _on_frame(self, opcode: int, length: int) -> None:
        # All pending bytes but the last `length` belong to earlier frames.
        self._decide(len(self._pending) - length)
        self._in_close = opcode == _CLOSE

    def _decide(self, n: int) -> None:
        """Pass on the first n pending bytes, or drop them if they belong to a Close."""
        if n > 0:
            part = bytes(self._pending[:n])
            del self._pending[:n]
            if self._in_close:
                self.end.record_loss(n, "Close")
            else:
                self.end.peer.write(part)

    def _drop_pending(self) -> None:
        self._in_close = True
        self._decide(len(self._pending))


class AfterClose(Gate):
    """Passes everything on, and does something as soon as a Close frame has passed, before anybody can answer it.

    Args:
        end: the end from which the direction comes.
        act: what to do; called once.
    """

    def __init__(self, end: Inlet, act: Callable[[], None]) -> None:
        super().__init__(end)
        self._act: Callable[[], None] | None = act
        self._in_close = False
        end.decoder.on_frame = self._on_frame

    def data(self, data: bytes | bytearray) -> None:
        """Take bytes from the end, and pass them on."""
        super().data(data)
        decoder, act = self.end.decoder, self._act
        if self._in_close and act is not None and (decoder.opcode is None or decoder.stopped):
            self._act = None
            act()

    def _on_frame(self, opcode: int, _: int) -> None:
        self._in_close = self._in_close or opcode == _CLOSE


class Drop(Gate):
    """Drops everything of a direction: bytes, FIN and RST.

    In a real network nobody would acknowledge these bytes, so the sender's buffer would fill up. A relay cannot
    withhold acknowledgements. After as many bytes as fit into such a buffer it stops reading instead, which has the
    same effect on the sender.

    Args:
        end: the end from which the direction comes.
    """

    def __init__(self, end: Inlet) -> None:
        super().__init__(end)
        self._dropped = 0

    @property
    def idle(self) -> bool:
        """Never True, so the link does not close the other end: nothing may show there that this end is done."""
        return False

    def data(self, data: bytes | bytearray) -> None:
        """Take bytes from the end; decode them to record what is lost."""
        self.end.decoder.feed(data)
        self.end.record_loss(len(data))
        self._dropped += len(data)
        if self._dropped > _ROOM:
            self.end.pause("nobody acknowledges")

    def fin(self) -> None:
        """Drop a FIN from the end."""
        self.end.record_fin()
        self.end.record_loss(0, "FIN")

    def reset(self) -> None:
        """Drop a RST from the end."""
        self.end.record_reset()
        self.end.record_loss(0, "RST")


class Delay(Gate):
    """Passes a direction on in order, but later, and no faster than a rate.

    Args:
        end: the end from which the direction comes.
        delay: seconds from one end to the other.
        rate: bytes per second; no limit, if None.
    """

    def __init__(self, end: Inlet, delay: float, rate: float | None) -> None:
        super().__init__(end)
        self._delay = delay
        self._rate = rate
        self._piece = None if rate is None else max(1, int(rate / _PIECES))
        self._loop = asyncio.get_running_loop()
        self._free = 0.0  # the loop's time at which the last waiting byte will have been sent
        self._waiting = 0
        self._queue: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._queue

    def data(self, data: bytes | bytearray) -> None:
        """Take bytes from the end, and let them wait; when too many wait, stop the sender."""
        whole = bytes(data)
        size = self._piece or len(whole)
        for start in range(0, len(whole), size):
            piece = whole[start : start + size]
            self._wait(len(piece), lambda piece=piece: Gate.data(self, piece))  # type: ignore[misc]
        if self._waiting > _ROOM:
            self.end.pause("the link is slow")

    def fin(self) -> None:
        """Take a FIN from the end, and let it wait behind the bytes."""
        self._wait(0, lambda: Gate.fin(self))

    def reset(self) -> None:
        """Take a RST from the end, and let it wait behind the bytes."""
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
        self.end.close_if_done()


class Intercept(Gate):
    """Takes a client's request before the server is connected.

    Args:
        end: the end towards the client.
        on_request: called when the whole request has come; returns whether it has dealt with it.
    """

    def __init__(self, end: Inlet, on_request: Callable[[], bool]) -> None:
        super().__init__(end)
        self._on_request = on_request
        self._head = bytearray()
        self._done = False

    def data(self, data: bytes | bytearray) -> None:
        """Take bytes of the request; any bytes after a request that is dealt with are ignored."""
        self.end.decoder.feed(data)
        if self._done:
            return
        # The end of the head may be split between two reads.
        start = max(0, len(self._head) - len(_END_OF_HEAD))
        self._head += data
        if self._head.find(_END_OF_HEAD, start) >= 0 or len(self._head) > _ROOM:
            self._done = True
            if not self._on_request():
                self.end.let_through(bytes(self._head))
            self._head.clear()

    def fin(self) -> None:
        """Ignore a FIN from the client: no server is connected."""
        self.end.record_fin()

    def reset(self) -> None:
        """Ignore a RST from the client: no server is connected."""
        self.end.record_reset()
