"""What becomes of a client's opening handshake when no server gets to see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from labkit.wire.gates import Gate

if TYPE_CHECKING:
    from labkit.wire.end import End

__all__ = ["Answer"]

_END_OF_HEAD: Final = b"\r\n\r\n"


class Answer(Gate):
    """Takes a client's request in the server's place, and does something once all of it has come.

    Args:
        end: the end towards the client.
        act: what is done.
    """

    def __init__(self, end: End, act: Callable[[End], None]) -> None:
        super().__init__(end)
        self._act = act
        self._head = b""
        self._done = False

    def data(self, data: bytes | bytearray) -> None:
        """Bytes of the request; what comes behind it has no meaning."""
        self.end.decoder.feed(data)
        self._head = (self._head + data)[-len(data) - len(_END_OF_HEAD) :]
        if not self._done and _END_OF_HEAD in self._head:
            self._done = True
            self._act(self.end)

    def fin(self) -> None:
        """The client gives up; there is no server to tell."""

    def reset(self) -> None:
        """The client is gone; there is no server to tell."""
