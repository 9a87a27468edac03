"""One socket of the wire: towards the client, or towards the server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final, Protocol, cast

from labkit.events import LinkEvent, Side, WireFin, WireFull, WireHeld, WireReset
from labkit.support.sockets import keep_from_children
from labkit.wire.frames import RETIRED, Decoder
from labkit.wire.gates import Gate

__all__ = ["CHUNK", "HIGH_WATER", "NOT_CONNECTED", "End"]

#: Bytes read from a socket at a time, and bytes that may wait for a peer that does not read. For each direction of a
#: link, the relay holds at most about ``2 * CHUNK + HIGH_WATER`` bytes.
CHUNK: Final = 64 * 1024
HIGH_WATER: Final = 64 * 1024

#: SO_LINGER on, for 0 seconds: closing the socket then sends RST (socket(7)). Windows has its own layout of the value.
_LINGER_0: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

#: The size of the receive buffer of a socket that will not be read, in bytes.
_SMALL_BUFFER: Final = 4096

#: The buffer of every closed connection.
_NO_BUFFER: Final = bytearray()

#: Why a client is not read from at first.
NOT_CONNECTED: Final = "the server is not connected"

_AT_FIRST: Final = frozenset({NOT_CONNECTED})
_NO_PAUSES: Final[frozenset[str]] = frozenset()


class Owner(Protocol):
    """The link that an end belongs to, as far as the end needs it.

    Attributes:
        moved: when bytes last came from either end.
        now: reads the clock.
    """

    moved: float

    @property
    def now(self) -> Callable[[], float]:
        """What reads the clock."""

    @property
    def number(self) -> int:
        """The number of the link."""

    def client_connected(self) -> None:
        """The client's socket is connected."""

    def server_connected(self) -> None:
        """The socket towards the server is connected."""

    def let_through(self, request: bytes) -> None:
        """Connect to the server after all, and pass on what has come from the client."""

    def record(self, event: LinkEvent) -> None:
        """Record an event of the link."""

    def record_loss(self, source: Side, length: int, what: str | None = None) -> None:
        """Record what came from one end and was not passed on."""

    def close_if_done(self) -> None:
        """Close the sockets when nothing is left to do."""


class End(asyncio.BufferedProtocol):
    """The wire's socket towards the client or towards the server.

    Args:
        link: the link that this end belongs to.
        side: which end of the link it is.
        decoder: decodes what comes from this end.

    Attributes:
        peer: the other end of the link.
        gate: decides what happens to the bytes, the FIN and the RST from this end.
        done: whether nothing more will come from this end.
        writable: whether bytes may still be sent: the socket is connected, and no FIN or RST has been sent.
        closed: whether the socket is closed, or was never connected.
    """

    peer: End

    def __init__(self, link: Owner, side: Side, decoder: Decoder) -> None:
        self.link: Final = link
        self.side: Final[Side] = side
        self.decoder = decoder
        self.gate: Gate = Gate(self)
        self.transport: asyncio.Transport | None = None
        self.done = False
        self.writable = False
        self.closed = False
        self._eof = False
        self._how = "RST"
        self._was_full = False
        self._pauses: frozenset[str] = _AT_FIRST if side == "client" else _NO_PAUSES
        self._early = b""  # what came in spite of a pause
        self._buffer = bytearray(CHUNK)

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connected socket."""
        self.transport = cast(asyncio.Transport, transport)  # that of uvloop has the methods, and another base class
        keep_from_children(transport)
        self.writable = True
        self.transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)  # asyncio sets TCP_NODELAY
        if self.side == "client":
            # Python 3.11.2 and uvloop start to read after this call, even where it pauses; so pause behind that.
            asyncio.get_running_loop().call_soon(self.link.client_connected)
        else:
            self.link.server_connected()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - a fixed size, so that memory is bounded
        """Return the buffer for the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand new bytes to the gate."""
        self.link.moved = self.link.now()
        if self._pauses:  # uvloop may read once before a pause takes effect
            self._early += self._buffer[:nbytes]
        else:
            self.gate.data(self._buffer[:nbytes])

    def pause_writing(self) -> None:
        """Stop reading from the other end, which sends faster than this end's peer reads."""
        if not self._was_full:
            self._was_full = True
            text = f"{HIGH_WATER // 1024} KiB and more wait for the {self.side}"
            self.link.record(WireFull(self.link.number, self.side, text=text))
        self.peer.pause("peer is full")

    def resume_writing(self) -> None:
        """Read from the other end again: this end's peer has read most of what waited."""
        self.peer.resume("peer is full")

    def eof_received(self) -> bool:
        """Hand the peer's FIN to the gate."""
        self._eof = True
        if not self._pauses:
            self._take_fin()
        return True  # asyncio then keeps the other direction open

    def _take_fin(self) -> None:
        self.done = True
        self.gate.fin()
        self.link.close_if_done()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed: by a RST from the peer, or by the wire itself."""
        self.closed = True
        self.writable = False
        self._early = b""
        if exc is not None:
            self._reset_by_peer(exc)
        else:  # the wire itself has closed this socket
            self.decoder.end()
        self.done = True
        self.peer.resume("peer is full")
        self.link.close_if_done()

    # Called by the link and the gates.

    def record_loss(self, length: int, what: str | None = None) -> None:
        """Record what came from this end and was not passed on."""
        self.link.record_loss(self.side, length, what)

    def record_held(self, length: int) -> None:
        """Record what came from this end and waits."""
        text = f"{length} bytes from the {self.side} held"
        self.link.record(WireHeld(self.link.number, self.side, length, text=text))

    def record_fin(self) -> None:
        """Record the peer's FIN, when all bytes before it had their turn."""
        self.decoder.end()
        self.link.record(WireFin(self.link.number, self.side, text=f"FIN from the {self.side}"))

    def record_reset(self) -> None:
        """Record the peer's RST, when all bytes before it had their turn."""
        self.decoder.end()
        self.link.record(WireReset(self.link.number, self.side, text=f"{self._how} from the {self.side}"))

    def close_if_done(self) -> None:
        """Let the link close its sockets when nothing is left to do."""
        self.link.close_if_done()

    def let_through(self, request: bytes) -> None:
        """Let the link connect to the server after all, and pass on what has come."""
        self.link.let_through(request)

    @property
    def open(self) -> bool:
        """Whether the socket is connected, and the wire has not begun to close it."""
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes | bytearray) -> None:
        """Send bytes. They are lost if this end is no longer writable."""
        if not self.writable:
            self.peer.record_loss(len(data))
            return
        assert self.transport is not None
        self.transport.write(data)
        if self._eof:
            # After a FIN, asyncio no longer reads, so it would not see a RST that answers these bytes.
            error = self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._reset_by_peer(None)

    def send_fin(self) -> None:
        """Send FIN after the buffered bytes, and continue to read."""
        if self.writable:
            assert self.transport is not None
            self.writable = False
            # The system call fails if a RST has come that asyncio has not seen yet; connection_lost will report it.
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def close(self) -> None:
        """Close the socket as a process does: send FIN after the buffered bytes, and answer later bytes with RST."""
        if self.transport is not None and not self.closed:
            self.send_fin()  # first, since closing a socket that holds unread bytes sends RST instead of FIN
            self.done = True
            self.transport.close()

    def reset(self) -> None:
        """Close the socket with RST; the buffered bytes are lost."""
        if self.transport is not None and not self.closed:
            # On Windows, the proactor's transport shuts the socket down first, so a FIN goes ahead of the RST.
            with contextlib.suppress(OSError):  # a RST has come, as in `send_fin`
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            self.abort()

    def abort(self) -> None:
        """Close the socket now; the buffered bytes are lost."""
        if self.transport is not None and not self.closed:
            self.writable = False
            self.done = True
            if waiting := self.transport.get_write_buffer_size():
                self.peer.record_loss(waiting)
            self.transport.abort()

    def pause(self, why: str) -> None:
        """Stop reading, so that TCP stops the sender, for as long as any reason holds."""
        self._pauses |= {why}
        if self.transport is not None and not self._eof:  # after a FIN, resuming would read the FIN again
            self.transport.pause_reading()

    def resume(self, why: str) -> None:
        """Take back one reason, and read again if no reason is left."""
        if why not in self._pauses:
            return
        self._pauses -= {why}
        if self._early and not self._pauses:
            early, self._early = self._early, b""
            self.gate.data(early)  # which may pause it again
        if self._pauses or self.transport is None:
            return
        if not self._eof:  # else it would read the FIN again
            self.transport.resume_reading()
        elif not self.done:
            self._take_fin()

    def retire(self) -> None:
        """Release what a closed connection does not need, since a wire keeps all its links and may have thousands."""
        self._buffer = _NO_BUFFER
        self._pauses = _NO_PAUSES
        self.transport = None
        self.decoder = RETIRED
        self.gate = Gate(self)

    def shrink_receive_buffer(self) -> None:
        """Make the system accept only a few more bytes before it stops the sender."""
        if self.transport is not None:
            with contextlib.suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)

    def _reset_by_peer(self, exc: Exception | None) -> None:
        self.writable = False
        self.done = True
        # To send a FIN after the peer's RST fails with ENOTCONN, which uvloop reports as the end of the connection.
        if not (exc is None or isinstance(exc, ConnectionError) or getattr(exc, "errno", None) == errno.ENOTCONN):
            self._how = f"{type(exc).__name__}: {exc}"
        self.gate.reset()
        if exc is None and self.transport is not None:
            self.transport.abort()
