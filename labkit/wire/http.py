"""The HTTP on a connection before its frames: reads the heads of requests and responses, skips bodies (RFC 9112)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from websockets.exceptions import ProtocolError

if TYPE_CHECKING:
    from websockets.streams import StreamReader

__all__ = ["Head", "read_head", "skip_body"]

#: Limits of a head, as in the websockets library: bytes in a line, and lines in a head.
LINE: Final = 8192
LINES: Final = 130


@dataclass(frozen=True)
class Head:
    """The head of a request or of a response.

    Attributes:
        words: the words of the first line, at most three.
        fields: the header fields, by name in lower case.
    """

    words: list[str]
    fields: Mapping[str, str]

    @property
    def upgrades(self) -> bool:
        """Whether a request asks for a WebSocket (RFC 6455, section 4.1)."""
        return "websocket" in self.fields.get("upgrade", "").lower()

    @property
    def closes(self) -> bool:
        """Whether the connection ends after this message (RFC 9112, section 9.6)."""
        return "close" in self.fields.get("connection", "").lower()

    @property
    def sized(self) -> bool:
        """Whether it says where the body ends."""
        return "content-length" in self.fields or "transfer-encoding" in self.fields


def read_head(reader: StreamReader) -> Generator[None, None, Head]:
    """Read a head.

    Args:
        reader: the bytes to read.

    Returns:
        The head.

    Raises:
        ProtocolError: a line is too long, or there are too many lines.
    """
    line = yield from _read_line(reader)
    words = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
    fields: dict[str, str] = {}
    for _ in range(LINES):
        line = yield from _read_line(reader)
        if not line.rstrip(b"\r\n"):
            return Head(words, fields)
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.strip().lower()] = value.strip()
    raise ProtocolError(f"more than {LINES} lines in the handshake")


def skip_body(reader: StreamReader, head: Head) -> Generator[None, None, None]:
    """Skip the body after a head: it comes in chunks, or has a given length (RFC 9112, section 6).

    Args:
        reader: the bytes to read.
        head: the head. If it gives neither chunks nor a length, there is no body.

    Raises:
        ProtocolError: the length is not a number.
    """
    if "chunked" not in head.fields.get("transfer-encoding", "").lower():
        yield from _skip(reader, _number(head.fields.get("content-length", "0"), 10))
        return
    while True:
        line = yield from _read_line(reader)
        size = _number(line.partition(b";")[0].decode("latin-1"), 16)
        if not size:
            break
        yield from _skip(reader, size + len(b"\r\n"))
    while (yield from _read_line(reader)).rstrip(b"\r\n"):
        pass  # a line of the trailer section (RFC 9112, section 7.1.2)


def _read_line(reader: StreamReader) -> Generator[None, None, bytes]:
    """Read a line, with the one argument that every version of websockets takes."""
    try:
        return bytes((yield from reader.read_line(LINE)))
    except RuntimeError as problem:  # what it raises for a line that is too long
        raise ProtocolError(str(problem)) from None


def _number(text: str, base: int) -> int:
    try:
        return int(text.strip(), base)
    except ValueError:
        raise ProtocolError(f"the length of a body is {text.strip()!r}") from None


def _skip(reader: StreamReader, count: int) -> Generator[None, None, None]:
    """Skip a number of bytes, without keeping them."""
    while count > len(reader.buffer):
        count -= len(reader.buffer)
        reader.buffer.clear()
        yield
    del reader.buffer[:count]
