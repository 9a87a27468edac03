"""Bytes → frames, for one direction of one connection.

The parser is the one of the websockets library, fed apart from any I/O. A decoder watches a connection and never
decides about it: whatever the bytes are, it does not raise, and where it cannot follow it says so once and stops.
"""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Literal

from websockets.exceptions import ProtocolError
from websockets.extensions import Extension
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

__all__ = ["Decoder", "Emit", "Side"]

Side = Literal["client", "server"]

#: Takes a kind, a text and the data of an event of the wire.
Emit = Callable[[str, str, dict[str, Any]], None]

#: How many bytes of a payload are kept; the rest is counted. More than a control frame may hold (RFC 6455 §5.5), so
#: that the parser still tells when one is too long.
HEAD: Final = 256

#: How many characters of a payload are shown.
SHOWN: Final = 40

#: The handshake's lines, as the websockets library limits them: bytes a line, lines a head.
LINE: Final = 8192
LINES: Final = 130

_NAMES: Final = {int(opcode): opcode.name for opcode in Opcode}
_HANDSHAKE: Final = -1


class _Compressed(Extension):
    """Lets the parser accept RSV1, which permessage-deflate sets (RFC 7692 §6), and leaves the payload as it is."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:  # noqa: ARG002 - the library's signature
        frame.rsv1 = False
        return frame


_NO_EXTENSION: Final[Sequence[Extension]] = ()
_COMPRESSED: Final[Sequence[Extension]] = (_Compressed(),)


class Decoder:
    """Says what the bytes of one direction mean.

    It keeps at most what it was last fed, and the head of the frame or of the handshake that it is in.

    Args:
        source: the end that the bytes come from.
        link: the number of the link, for the events.
        emit: takes each event: ``frame``, ``opaque``, and from the server's side ``handshake``.
        opaque: why these bytes cannot be decoded, where that is known from the start.

    Attributes:
        request: the method and target of the client's request, such as ``"GET /"``, once it has passed.
        peer: the decoder of the other direction, which together with this one sees the handshake.
        stopped: whether it has given up, or has nothing more to decode.
        opcode: of the frame that it is in; None between two frames, and negative during the handshake.
        frame_starts: called, if set, with the opcode of each frame as it starts, and how many of the bytes that were
            fed are the frame's or come after it.
        injected: whether what is fed now was made by the wire; events tell.
    """

    def __init__(self, source: Side, link: int, emit: Emit, *, opaque: str | None = None) -> None:
        self.source: Final = source
        self.link: Final = link
        self.request: str | None = None
        self.peer: Decoder | None = None
        self.stopped = False
        self.opcode: int | None = _HANDSHAKE
        self.frame_starts: Callable[[int, int], None] | None = None
        self.injected = False
        self._why = opaque
        self._emit = emit
        self._reader = StreamReader()
        self._length = 0
        self._buffer = self._reader.buffer
        self._go_on = self._decode().__next__
        self._go_on()

    @property
    def undecided(self) -> int:
        """How many of the bytes that were fed belong to a frame whose opcode is not known yet: 0 or 1."""
        return len(self._reader.buffer) if self.opcode is None else 0

    def feed(self, data: bytes | bytearray) -> None:
        """Decode what comes next.

        Args:
            data: any bytes, cut anywhere.
        """
        if self.stopped:
            return
        self._buffer.extend(data)
        try:
            self._go_on()
        except StopIteration:
            self.stop()

    def end(self) -> None:
        """Say that nothing follows; a frame that is not complete is then told as ``opaque``."""
        if not self.stopped:
            self._reader.feed_eof()
            with contextlib.suppress(StopIteration):
                self._go_on()
            self.stop()

    def stop(self) -> None:
        """Decode nothing more, silently."""
        self.stopped = True
        self._reader.discard()

    def _decode(self) -> Generator[None, None, None]:
        # One generator for a connection's life, and few steps a frame: it stands in the path of every frame.
        reader, source, link, emit = self._reader, self.source, self.link, self._emit
        buffer, parse, read, read_long = reader.buffer, Frame.parse, reader.read_exact, self._read
        by_client = source == "client"
        compressed = False
        yield
        try:
            if self._why is not None:
                raise ProtocolError(self._why)
            if not (yield from self._handshake()):
                return
            while True:
                self.opcode = None
                while len(buffer) < 2:
                    if reader.eof:
                        if buffer:
                            raise EOFError
                        return
                    yield
                # Only the bits that decide how to call the parser; all else is the parser's to read.
                first, second = buffer[0], buffer[1]
                self.opcode = opcode = first & 0x0F
                if self.frame_starts is not None:
                    self.frame_starts(opcode, len(buffer))
                masked, rsv1 = second > 0x7F, first & 0x40
                frame = yield from parse(
                    read if second & 0x7F < 126 else read_long,
                    mask=masked,
                    extensions=_COMPRESSED if rsv1 else _NO_EXTENSION,
                )

                payload, name = frame.data, _NAMES[opcode]
                length = self._length or len(payload)
                if 0 < opcode < 3:
                    compressed = rsv1 != 0  # and so are the continuations
                data: dict[str, Any]
                if opcode < 3 and not compressed:
                    shown = _shown(payload, opcode, frame.fin and not self._length)
                    text = f"{name} {shown}"
                    data = {
                        "link": link,
                        "source": source,
                        "opcode": name,
                        "length": length,
                        "fin": frame.fin,
                        "payload": shown,
                    }
                else:
                    data = {"link": link, "source": source, "opcode": name, "length": length, "fin": frame.fin}
                    if opcode == 8:
                        text = _close(payload, data)
                    else:
                        text = f"{name} {_bytes(length)}"
                        if opcode > 8:
                            data["payload"] = _shown(payload, 2, True)
                        else:
                            data["compressed"] = True
                            text += " compressed"
                self._length = 0
                if masked is not by_client:  # RFC 6455 §5.1
                    data["unmasked" if by_client else "masked"] = True
                    text += " unmasked" if by_client else " masked"
                if self.injected:
                    data["injected"] = True
                emit("frame", text, data)
        except EOFError:
            if self.opcode != _HANDSHAKE:
                self._opaque("the connection ends inside a frame")
            elif self._reader.buffer:
                self._opaque("the connection ends inside the handshake")
        except Exception as exc:  # whatever the bytes are, the relay goes on
            self._opaque(str(exc) or type(exc).__name__)

    def _opaque(self, why: str) -> None:
        data: dict[str, Any] = {"link": self.link, "source": self.source, "why": why}
        if self.injected:
            data["injected"] = True
        self._emit("opaque", f"cannot decode: {why}", data)

    def _read(self, n: int) -> Generator[None, None, bytes | bytearray]:
        """Read for the parser: of a long payload the head only, so that memory stays bounded."""
        if n <= HEAD:
            return self._reader.read_exact(n)
        return self._read_head(n)

    def _read_head(self, n: int) -> Generator[None, None, bytes | bytearray]:
        head = yield from self._reader.read_exact(HEAD)
        if self.opcode is not None and self.opcode >= 8:
            return head  # a control frame of this length is the parser's to refuse
        buffer, left = self._reader.buffer, n - HEAD
        while left > len(buffer):
            if self._reader.eof:
                raise EOFError
            left -= len(buffer)
            buffer.clear()
            yield
        del buffer[:left]
        self._length = n
        return head

    def _handshake(self) -> Generator[None, None, bool]:
        """Read the head of the request or of the response (RFC 6455 §4); tell whether frames follow."""
        if self.source == "client":
            words = yield from self._first_line()
            if len(words) != 3 or not words[2].startswith("HTTP/1."):
                raise ProtocolError("not an HTTP request")
            self.request = f"{words[0]} {words[1]}"
            return True
        while True:
            words = yield from self._first_line()
            if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
                raise ProtocolError("not an HTTP response")
            status = int(words[1])
            if status == 101 or not 100 <= status < 200:  # others of 1xx only announce the response (RFC 9110 §15.2)
                break
        request = self.peer.request if self.peer is not None else None
        data: dict[str, Any] = {"link": self.link, "request": request, "status": status}
        if self.injected:
            data["injected"] = True
        self._emit("handshake", f"{request or '?'} → {status}", data)
        if status == 101:
            return True
        if self.peer is not None:
            self.peer.stop()
        return False

    def _first_line(self) -> Generator[None, None, list[str]]:
        """Read an HTTP head, and return the words of its first line."""
        line = yield from self._reader.read_line(LINE, ProtocolError)
        words = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
        for _ in range(LINES):
            line = yield from self._reader.read_line(LINE, ProtocolError)
            if not line.rstrip(b"\r\n"):
                return words
        raise ProtocolError(f"more than {LINES} lines in the handshake")


def _bytes(n: int) -> str:
    return "1 byte" if n == 1 else f"{n} bytes"


def _shown(payload: Any, opcode: int, whole: bool) -> str:
    """Write a payload, or the head of one, in at most ``SHOWN`` characters.

    Args:
        payload: the bytes; of a long payload ``HEAD`` of them, which is always more than can be shown.
        opcode: binary is shown as bytes, all else as text where it is UTF-8.
        whole: whether the text ends with the payload, so that it cannot end inside a character.
    """
    body: Any = payload
    try:
        # A continuation may be either, and may start or end inside a character.
        body = bytes(payload) if opcode == 2 else codecs.utf_8_decode(payload, "strict", whole and opcode == 1)[0]
    except UnicodeDecodeError:
        body = bytes(payload)
    if len(body) <= SHOWN:
        short = repr(body)
        if len(short) <= SHOWN:
            return short
    else:
        short = repr(body[:SHOWN])
    return f"{short[: SHOWN - 2]}…{short[-1]}"


def _close(payload: Any, data: dict[str, Any]) -> str:
    """Add what a Close frame says to its data, and return the event's text (RFC 6455 §5.5.1)."""
    try:
        Close.parse(payload)
    except (ProtocolError, UnicodeDecodeError) as exc:
        data["malformed"] = "reason is not UTF-8" if isinstance(exc, UnicodeDecodeError) else str(exc)
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
    reason = payload[2:].decode(errors="replace")
    data["code"], data["reason"] = code, reason
    text = "Close without a code" if code is None else f"Close {code}"
    if reason:
        text += f" {_shown(payload[2:], 1, True)}"
    return f"{text}, malformed: {data['malformed']}" if "malformed" in data else text
