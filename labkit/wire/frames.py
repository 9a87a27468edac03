"""Decodes bytes into frames, for one direction of one connection.

The parser is that of the websockets library, used without its I/O. A decoder only watches a connection: it never
raises, whatever the bytes are. When it cannot follow, it says so once and stops.
"""

from __future__ import annotations

import contextlib
from codecs import utf_8_decode
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from websockets.exceptions import ProtocolError
from websockets.extensions import Extension
from websockets.frames import (  # type: ignore[attr-defined] # apply_mask: that of C, where there is one
    Close,
    Frame,
    Opcode,
    apply_mask,
)
from websockets.streams import StreamReader

from labkit.events import Side, WireFrame, WireHandshake, WireOpaque
from labkit.wire.http import Head, read_head, skip_body

__all__ = ["RETIRED", "Decoder", "Emit"]

#: Called with each event of the wire.
Emit = Callable[[WireFrame | WireHandshake | WireOpaque], None]

#: How many bytes of a payload are kept; the rest is only counted. It is more than the 125 bytes of a control frame
#: (RFC 6455 §5.5), so that the parser still sees when a control frame is too long.
HEAD: Final = 256

#: How many characters of a payload are shown.
SHOWN: Final = 40

#: The first byte of a message in one frame without extensions: FIN and TEXT, FIN and BINARY.
_WHOLE: Final = frozenset({0x81, 0x82})

_NAMES: Final = {int(opcode): opcode.name for opcode in Opcode}
_HANDSHAKE: Final = -1


class _Compressed(Extension):
    """Lets the parser accept RSV1, which permessage-deflate sets (RFC 7692 §6), and leaves the payload compressed."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:  # noqa: ARG002 - the library's signature
        frame.rsv1 = False
        return frame


_NO_EXTENSION: Final[Sequence[Extension]] = ()
_COMPRESSED: Final[Sequence[Extension]] = (_Compressed(),)


class Decoder:
    """Turns the bytes of one direction into events.

    It keeps at most the bytes that it was last fed, and the head of the current frame or handshake.

    Args:
        source: the end that the bytes come from.
        link: the number of the link, for the events.
        emit: called with each event: ``frame``, ``opaque``, and for the server's side ``handshake``.
        opaque: why these bytes cannot be decoded, if that is known from the start.

    Attributes:
        request: the method and target of the client's last request, such as ``"GET /"``, once it has passed.
        requests: the method and target of each request of the client.
        refusals: how many requests the server has answered without switching to WebSocket.
        upgraded: whether the server has switched to WebSocket (status 101).
        peer: the decoder of the other direction; the two share the handshake.
        stopped: whether it has given up, or has nothing more to decode.
        opcode: the opcode of the current frame; None between two frames, and negative during the handshake.
        on_frame: if set, called when a frame starts, with the frame's opcode and the number of bytes fed so far from
            the start of the frame on.
        injected: whether the wire itself made the bytes that are fed now; their events say so.
    """

    def __init__(self, source: Side, link: int, emit: Emit, *, opaque: str | None = None) -> None:
        self.source: Final = source
        self.link: Final = link
        self.request: str | None = None
        self.peer: Decoder | None = None
        self.stopped = False
        self.opcode: int | None = _HANDSHAKE
        self.on_frame: Callable[[int, int], None] | None = None
        self.injected = False
        self.refusals = 0
        self.upgraded = False
        self.requests: list[str] = []
        self._why_opaque = opaque
        self._emit = emit
        self._reader = StreamReader()
        self._length = 0
        self._buffer = self._reader.buffer
        # The generator stops at each `yield` until more bytes are there.
        self._resume = self._decode().__next__
        self._resume()

    @property
    def undecided(self) -> int:
        """How many of the bytes fed so far belong to a frame whose opcode is not known yet: 0 or 1."""
        return len(self._reader.buffer) if self.opcode is None else 0

    def feed(self, data: bytes | bytearray) -> None:
        """Decode the next bytes.

        Args:
            data: any bytes; a frame may end anywhere in them.
        """
        if self.stopped:
            return
        self._buffer.extend(data)
        try:
            self._resume()
        except StopIteration:
            self.stop()

    def end(self) -> None:
        """Note that no more bytes follow. A frame that is incomplete is then reported as ``opaque``."""
        if not self.stopped:
            self._reader.feed_eof()
            with contextlib.suppress(StopIteration):
                self._resume()
            self.stop()

    def stop(self) -> None:
        """Stop decoding, without an event."""
        self.stopped = True
        self._reader.discard()

    def _decode(self) -> Generator[None, None, None]:
        # One generator for the life of a connection, with few steps for each frame, since every frame passes here.
        reader, source, link, emit = self._reader, self.source, self.link, self._emit
        buffer, parse, read, read_long = reader.buffer, Frame.parse, reader.read_exact, self._read
        by_client = source == "client"
        unmasked, head = (0x80, 6) if by_client else (0, 2)  # a client masks every frame, a server none (RFC 6455 §5.1)
        compressed = False
        payload: bytes | bytearray
        yield
        try:
            if self._why_opaque is not None:
                raise ProtocolError(self._why_opaque)
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
                # Read only the bits that decide how to call the parser; the parser reads all others.
                first, second = buffer[0], buffer[1]
                self.opcode = opcode = first & 0x0F
                if self.on_frame is not None:
                    self.on_frame(opcode, len(buffer))
                if first in _WHOLE and 0 <= (length := second - unmasked) <= 125 and len(buffer) >= head + length:
                    # A short message in one frame, as most are. The parser would take several times as long.
                    payload = buffer[head : head + length]
                    if by_client:
                        payload = apply_mask(payload, buffer[2:6])
                    del buffer[: head + length]
                    compressed = False
                    name, shown = _NAMES[opcode], _shown(payload, opcode, True)
                    text = f"{name} {shown}"
                    emit(WireFrame(link, source, name, length, True, shown, injected=self.injected, text=text))
                    continue
                masked, rsv1 = second > 0x7F, first & 0x40
                frame = yield from parse(
                    read if second & 0x7F < 126 else read_long,
                    mask=masked,
                    extensions=_COMPRESSED if rsv1 else _NO_EXTENSION,
                )
                if 0 < opcode < 3:
                    compressed = rsv1 != 0  # RSV1 of the first fragment holds for its continuations (RFC 7692 §6)
                emit(self._event_of(frame, opcode, masked=masked, compressed=compressed and opcode < 3))
                self._length = 0
        except EOFError:
            if self.opcode != _HANDSHAKE:
                self._opaque("the connection ends inside a frame")
            elif self._reader.buffer:
                self._opaque("the connection ends inside the handshake")
        except Exception as exc:  # the relay must go on, whatever the bytes are
            self._opaque(str(exc) or type(exc).__name__)

    def _event_of(self, frame: Frame, opcode: int, *, masked: bool, compressed: bool) -> WireFrame:
        payload: Any = frame.data
        name, length = _NAMES[opcode], self._length or len(payload)
        shown = code = reason = malformed = None
        if opcode == 8:
            code, reason, malformed = _parse_close(payload)
            text = _close_text(payload, code, malformed)
        elif opcode > 8:
            shown, text = _shown(payload, 2, True), f"{name} {_bytes(length)}"
        elif compressed:
            text = f"{name} {_bytes(length)} compressed"
        else:
            shown = _shown(payload, opcode, frame.fin and not self._length)
            text = f"{name} {shown}"
        wrong = masked is (self.source == "server")
        if wrong:
            text += " masked" if masked else " unmasked"
        return WireFrame(
            self.link,
            self.source,
            name,
            length,
            frame.fin,
            shown,
            compressed,
            code,
            reason,
            malformed,
            masked=wrong and masked,
            unmasked=wrong and not masked,
            injected=self.injected,
            text=text,
        )

    def _opaque(self, why: str) -> None:
        self._emit(WireOpaque(self.link, self.source, why, self.injected, text=f"cannot decode: {why}"))

    def _read(self, n: int) -> Generator[None, None, bytes | bytearray]:
        """Read for the parser. Keep only the head of a long payload, so that memory stays bounded."""
        if n <= HEAD:
            return self._reader.read_exact(n)
        return self._read_head(n)

    def _read_head(self, n: int) -> Generator[None, None, bytes | bytearray]:
        head = yield from self._reader.read_exact(HEAD)
        if self.opcode is not None and self.opcode >= 8:
            return head  # the parser refuses a control frame of this length
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
        """Read requests or responses up to the opening handshake (RFC 6455 §4); return whether frames follow."""
        return (yield from self._requests() if self.source == "client" else self._responses())

    def _requests(self) -> Generator[None, None, bool]:
        while True:
            head = yield from read_head(self._reader)
            if len(head.words) != 3 or not head.words[2].startswith("HTTP/1."):
                raise ProtocolError("not an HTTP request")
            self.request = f"{head.words[0]} {head.words[1]}"
            self.requests.append(self.request)
            yield from skip_body(self._reader, head)
            if (yield from self._frames_follow(head)):
                return True

    def _frames_follow(self, head: Head) -> Generator[None, None, bool]:
        """Wait until the client sends more after a request; return whether that is frames, or another request."""
        while not self._reader.buffer and not self._reader.eof:
            yield
        if self.peer is None or self.peer.upgraded:
            return True
        # The client has not waited for the answer. If it asked for a WebSocket, it sends frames.
        return head.upgrades and self.peer.refusals < len(self.requests)

    def _responses(self) -> Generator[None, None, bool]:
        while True:
            head = yield from read_head(self._reader)
            if len(head.words) < 2 or not head.words[0].startswith("HTTP/1.") or not head.words[1].isdecimal():
                raise ProtocolError("not an HTTP response")
            status = int(head.words[1])
            if status != 101 and 100 <= status < 200:  # any other 1xx comes before the response (RFC 9110 §15.2)
                continue
            requests = self.peer.requests if self.peer is not None else []
            request = requests[self.refusals] if self.refusals < len(requests) else None
            text = f"{request or '?'} → {status}"
            self._emit(WireHandshake(self.link, request, status, self.injected, text=text))
            if status == 101:
                self.upgraded = True
                return True
            self.refusals += 1
            bodiless = status in {204, 304} or (request or "").startswith("HEAD ")
            if head.closes or not (bodiless or head.sized):  # the rest of the connection is the body
                if self.peer is not None:
                    self.peer.stop()
                return False
            if not bodiless:
                yield from skip_body(self._reader, head)


def _bytes(n: int) -> str:
    return "1 byte" if n == 1 else f"{n} bytes"


def _shown(payload: Any, opcode: int, whole: bool) -> str:
    """Write a payload, or the head of one, in at most ``SHOWN`` characters.

    Args:
        payload: the bytes; only the first ``HEAD`` bytes of a long payload, which are still more than can be shown.
        opcode: a binary payload is shown as bytes, any other as text if it is UTF-8.
        whole: whether the text ends with the payload, so that the payload must not end inside a character.
    """
    body: Any = payload
    try:
        # A continuation may be either, and may start or end inside a character.
        body = bytes(payload) if opcode == 2 else utf_8_decode(payload, "strict", whole and opcode == 1)[0]
    except UnicodeDecodeError:
        body = bytes(payload)
    if len(body) <= SHOWN:
        short = repr(body)
        if len(short) <= SHOWN:
            return short
    else:
        short = repr(body[:SHOWN])
    return f"{short[: SHOWN - 2]}…{short[-1]}"


def _parse_close(payload: Any) -> tuple[int | None, str, str | None]:
    """Read a Close frame (RFC 6455 §5.5.1): return its code or None, its reason, and what is malformed or None."""
    malformed = None
    try:
        Close.parse(payload)
    except (ProtocolError, UnicodeDecodeError) as exc:
        malformed = "reason is not UTF-8" if isinstance(exc, UnicodeDecodeError) else str(exc)
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
    return code, payload[2:].decode(errors="replace"), malformed


def _close_text(payload: Any, code: int | None, malformed: str | None) -> str:
    text = "Close without a code" if code is None else f"Close {code}"
    if len(payload) > 2:
        text += f" {_shown(payload[2:], 1, True)}"
    return text if malformed is None else f"{text}, malformed: {malformed}"


#: The decoder of every closed connection: it decodes nothing, and holds no buffer of its own.
RETIRED: Final = Decoder("client", -1, lambda _: None)
RETIRED.stop()
