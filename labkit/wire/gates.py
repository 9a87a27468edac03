"""What happens on the wire to the bytes, the FIN and the RST of one direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from labkit.wire.end import End

__all__ = ["Gate", "HoldClose"]

_CLOSE: Final = 8


class Gate:
    """Passes all of a direction on, unchanged and in order. A subclass is another fate of that direction.

    Args:
        end: where the direction begins; ``end.peer`` is where it leads.
    """

    def __init__(self, end: End) -> None:
        self.end: Final = end

    def data(self, data: bytes | bytearray) -> None:
        """Bytes have come from the end: decode first, then forward; what is lost is told after what it was."""
        end = self.end
        # An end in a thread or a process of its own may tell that it has received them as soon as they are sent.
        end.decoder.feed(data)
        if end.peer.writable:
            end.peer.write(data)
        else:
            end.link.lost(end.side, len(data))

    def fin(self) -> None:
        """A FIN has come from the end."""
        self.end.peer.finish()

    def reset(self) -> None:
        """A RST has come from the end."""
        self.end.peer.reset()

    @property
    def idle(self) -> bool:
        """Whether nothing of this direction still waits to be passed on."""
        return True

    def stop(self) -> None:
        """Forget what still waits: the link is closed."""


class HoldClose(Gate):
    """Withholds Close frames, the FIN and the RST of a direction; all other frames pass.

    A frame is a Close by its first byte, so nothing else ever waits here but a byte or a Close that is incomplete.
    What cannot be decoded passes unchanged.

    Args:
        end: where the direction begins.
    """

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self._pending = bytearray()
        self._in_close = False
        end.decoder.frame_starts = self._frame_starts

    def data(self, data: bytes | bytearray) -> None:
        """Bytes have come from the end: forward all that is known not to be a Close."""
        decoder = self.end.decoder
        self._pending += data
        decoder.feed(data)
        if decoder.stopped:
            self._in_close = False
            self._settle(len(self._pending))
        elif not self._in_close or decoder.opcode is None:
            self._settle(len(self._pending) - decoder.undecided)

    def fin(self) -> None:
        """A FIN has come from the end, and goes nowhere."""
        self._lose_rest()
        self.end.link.lost(self.end.side, 0, "FIN")

    def reset(self) -> None:
        """A RST has come from the end, and goes nowhere."""
        self._lose_rest()
        self.end.link.lost(self.end.side, 0, "RST")

    def _frame_starts(self, opcode: int, behind: int) -> None:
        self._settle(len(self._pending) - behind)
        self._in_close = opcode == _CLOSE

    def _settle(self, n: int) -> None:
        """Forward or lose the first n pending bytes, which belong to frames of one kind."""
        if n > 0:
            part = bytes(self._pending[:n])
            del self._pending[:n]
            if self._in_close:
                self.end.link.lost(self.end.side, n, "Close")
            else:
                self.end.peer.write(part)

    def _lose_rest(self) -> None:
        self._in_close = True
        self._settle(len(self._pending))
