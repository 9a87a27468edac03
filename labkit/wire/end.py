"""One socket of the wire: towards the client, or towards the server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

from labkit.wire.frames import Decoder, Side
from labkit.wire.gates import Gate

if TYPE_CHECKING:
    from labkit.wire.link import Link

__all__ = ["CHUNK", "HIGH_WATER", "End"]

#: Bytes taken from a socket at a time, and bytes that may wait for a peer that does not read. For each direction of a
#: link the relay itself holds at most about twice the one and once the other.
CHUNK: Final = 64 * 1024
HIGH_WATER: Final = 64 * 1024

#: SO_LINGER on, for 0 seconds: closing the socket then sends RST (and Windows has its own layout of the value).
_LINGER_0: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


#: The receive buffer of an end that is not going to be read, in bytes.
_NARROW: Final = 4096


class End(asyncio.BufferedProtocol):
    """The wire's socket towards the client or towards the server.

    Args:
        link: whose end it is.
        side: which end of the link.
        decoder: watches what comes from it.

    Attributes:
        peer: the other end.
        gate: what happens to what comes from here.
        done: whether nothing more will come from here.
        writable: whether bytes may still be sent: connected, and no FIN or RST sent.
        lost: whether the socket is closed, or never came to be.
    """

    peer: End

    def __init__(self, link: Link, side: Side, decoder: Decoder) -> None:
        self.link: Final = link
        self.side: Final[Side] = side
        self.decoder: Final = decoder
        self.gate = Gate(self)
        self.transport: asyncio.Transport | None = None
        self.done = False
        self.writable = False
        self.lost = False
        self._eof = False
        self._was_full = False
        self._pauses: set[str] = set()
        self._buffer = bytearray(CHUNK)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.writable = True
        transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)  # asyncio sets TCP_NODELAY
        if self.side == "client":
            self.link.client_connected()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the size is ours, so that memory is bounded
        """Where to put what is read next."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self.link.moved = monotonic()
        self.gate.data(self._buffer[:nbytes])

    def pause_writing(self) -> None:
        """This end reads more slowly than the other one sends: stop that one."""
        if not self._was_full:
            self._was_full = True
            self.link.record("full", f"{HIGH_WATER // 1024} KiB and more wait for the {self.side}", side=self.side)
        self.peer.pause("peer is full")

    def resume_writing(self) -> None:
        """This end has read most of what waited."""
        self.peer.resume("peer is full")

    def eof_received(self) -> bool:
        """A FIN has come."""
        self._eof = self.done = True
        self.decoder.end()
        self.link.record("fin", f"FIN from the {self.side}", source=self.side)
        self.gate.fin()
        self.link.settle()
        return True  # keep the other direction open

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed: by a RST from its peer, or by the wire."""
        self.lost = True
        self.writable = False
        self.decoder.end()
        # Without an exception the wire itself has closed this socket.
        if exc is not None:
            self._reset_by_peer(exc)
        self.done = True
        self.peer.resume("peer is full")
        self.link.settle()

    # What the link and the gates call.

    @property
    def open(self) -> bool:
        """Whether the wire holds this socket, and has not closed it."""
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes | bytearray) -> None:
        """Send bytes; they are lost where nothing may be sent any more."""
        if not self.writable:
            self.link.lost(self.peer.side, len(data))
            return
        assert self.transport is not None
        self.transport.write(data)
        if self._eof:
            # After a FIN asyncio does not read any more, and would not see that these bytes are answered by a RST.
            error = self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._reset_by_peer(None)

    def finish(self) -> None:
        """Send FIN behind what is buffered, and go on reading."""
        if self.writable:
            assert self.transport is not None
            self.writable = False
            # The system refuses where a RST has come that asyncio has yet to see; connection_lost will tell.
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def close(self) -> None:
        """Close the socket as a process does: FIN behind what is buffered, and RST for whatever comes later."""
        if self.transport is not None and not self.lost:
            self.finish()  # before anything unread can turn the close into a RST
            self.done = True
            self.transport.close()

    def reset(self) -> None:
        """Close the socket with RST; what is buffered is lost."""
        if self.transport is not None and not self.lost:
            # On Windows the proactor's transport shuts the socket down first, so that a FIN goes ahead of the RST.
            with contextlib.suppress(OSError):  # as above
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            self.abort()

    def abort(self) -> None:
        """Close the socket now; what is buffered is lost."""
        if self.transport is not None and not self.lost:
            self.writable = False
            self.done = True
            if waiting := self.transport.get_write_buffer_size():
                self.link.lost(self.peer.side, waiting)
            self.transport.abort()

    def pause(self, why: str) -> None:
        """Stop reading, so that TCP stops the sender; for as long as any reason holds."""
        self._pauses.add(why)
        if self.transport is not None and not self._eof:  # after a FIN, resuming would read it again
            self.transport.pause_reading()

    def resume(self, why: str) -> None:
        """Take a reason back."""
        self._pauses.discard(why)
        if not self._pauses and self.transport is not None:
            self.transport.resume_reading()

    def narrow(self) -> None:
        """Have the system take in little of what comes, before it stops the sender."""
        if self.transport is not None:
            with contextlib.suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)

    def _reset_by_peer(self, exc: Exception | None) -> None:
        self.writable = False
        self.done = True
        how = "RST" if exc is None or isinstance(exc, ConnectionError) else f"{type(exc).__name__}: {exc}"
        self.link.record("reset", f"{how} from the {self.side}", source=self.side)
        self.gate.reset()
        if exc is None and self.transport is not None:
            self.transport.abort()
