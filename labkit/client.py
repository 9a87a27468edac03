"""The lab's own client: websockets' sans-I/O protocol on a socket, so that it can do what a polite client would not."""

from __future__ import annotations

import asyncio

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from labkit.timeline import Timeline
from labkit.wording import of_close, of_exception, of_message

__all__ = ["Client"]


class Client(asyncio.Protocol):
    """A WebSocket client (RFC 6455) that records what it sees on the ``client`` lane.

    It offers no compression, so that the wire can show what is said.

    Args:
        url: where to connect.
        timeline: where to record.
    """

    def __init__(self, url: str, timeline: Timeline) -> None:
        self.timeline = timeline
        self._uri = parse_uri(url)
        self._url = url
        self._protocol = ClientProtocol(self._uri, max_size=None)
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._handshake: asyncio.Future[bool] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._eof = False
        self._told_end = False
        self._fragments: list[Frame] = []

    async def ready(self) -> None:
        """Do nothing: this client's program is the lab's own."""

    async def connect(self) -> bool:
        """Connect, and do the opening handshake.

        Returns:
            Whether the server agreed; where it did not, the timeline says what it answered.
        """
        self.timeline.record("client", "connect", f"connect {self._url}", {"client": "labkit"})
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self._uri.host, self._uri.port)
        return await self._handshake

    def send(self, message: str | bytes) -> None:
        """Send a message.

        Args:
            message: a ``str`` for a text frame, ``bytes`` for a binary one.
        """
        text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else message
        if self._protocol.state is not State.OPEN:
            self.timeline.record("client", "error", "cannot send: the connection is over", {"exception": None})
            return
        (self._protocol.send_text if text else self._protocol.send_binary)(payload)
        self.timeline.record("client", "send", *of_message(message))
        self._flush()

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame, and leave it to the server to end the TCP connection (RFC 6455, section 7.1.1).

        Args:
            code: the close code; a frame without a code, if None.
            reason: the reason, at most 123 bytes of UTF-8.
        """
        if self._protocol.state is not State.OPEN:
            return
        self._protocol.send_close(code, reason)
        self.timeline.record("client", "close-sent", *of_close(code, reason))
        self._flush()

    async def signal(self, number: int) -> None:
        """Refuse: this client lives in the lab's own process."""
        raise NotImplementedError(f"signal {number} needs a client in a process of its own")

    async def ended(self) -> None:
        """Wait until the TCP connection is over, as this side sees it."""
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """End the connection without ceremony, if there still is one."""
        if self._transport is not None and not self._ended.done():
            doing = "open" if self._handshake.done() else "connecting"
            self._end("still-open", f"still {doing} when the lab stopped it")
            if not self._handshake.done():
                self._handshake.set_result(False)
            self._transport.abort()
            await self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the opening handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Feed the protocol, and record what it makes of the bytes."""
        self._protocol.receive_data(data)
        self._pump()

    def eof_received(self) -> bool:
        """Take the server's FIN; the transport then closes by itself."""
        self._eof = True
        self._protocol.receive_eof()
        self._pump()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Record how the connection ended."""
        if not self._handshake.done():
            self.timeline.record(
                "client", "refused", "the connection ended in the handshake", {"status": None, "exception": None}
            )
            self._handshake.set_result(False)
        if exc is not None:
            told = of_exception(exc)
            how = "reset" if isinstance(exc, ConnectionResetError) else "error"
            self._end(how, f"connection ended: {told}", told)
        else:
            self._end("fin" if self._eof else "closed", "connection ended: FIN" if self._eof else "connection closed")
        if not self._ended.done():
            self._ended.set_result(None)

    def _end(self, how: str, text: str, exception: str | None = None) -> None:
        if not self._told_end:
            self._told_end = True
            code = self._protocol.close_code
            self.timeline.record(
                "client",
                "ended",
                text,
                {"how": how, "code": None if code is None else int(code), "exception": exception},
            )

    def _pump(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._answered(event)
            elif isinstance(event, Frame):
                self._received(event)
        if self._protocol.parser_exc is not None and self._protocol.close_sent is not None:
            exception = self._protocol.parser_exc
            if not isinstance(exception, EOFError):
                self.timeline.record("client", "error", of_exception(exception), {"exception": of_exception(exception)})
        self._flush()

    def _answered(self, response: Response) -> None:
        problem = self._protocol.handshake_exc
        if problem is None:
            self.timeline.record("client", "open", "handshake complete", {"status": response.status_code})
        else:
            text = f"HTTP {response.status_code}" if isinstance(problem, InvalidStatus) else of_exception(problem)
            self.timeline.record("client", "refused", text, {"status": response.status_code, "exception": None})
        if not self._handshake.done():
            self._handshake.set_result(problem is None)

    def _received(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            close = Close.parse(frame.data)
            # A frame without a code is told as 1005, which is never on the wire (RFC 6455, section 7.1.5).
            self.timeline.record(
                "client", "close-received", *of_close(close.code if frame.data else None, close.reason)
            )
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments.append(frame)
            if frame.fin:
                whole = b"".join(bytes(fragment.data) for fragment in self._fragments)
                message = whole.decode(errors="replace") if self._fragments[0].opcode is Opcode.TEXT else whole
                self.timeline.record("client", "recv", *of_message(message))
                self._fragments.clear()

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._protocol.data_to_send():
            if data:  # empty for a FIN, which asyncio sends by itself when the server's has come
                self._transport.write(data)
