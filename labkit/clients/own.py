"""The lab's own client: the sans-I/O protocol of websockets on a socket, so that it can also break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from labkit.clients.request import PLAIN, Request
from labkit.events import (
    ClientCloseReceived,
    ClientCloseSent,
    ClientConnect,
    ClientEnded,
    ClientError,
    ClientOpen,
    ClientRecv,
    ClientRefused,
    ClientSend,
    ClientTcp,
)
from labkit.support.sockets import connect, find_ports, keep_from_children
from labkit.support.wording import describe_exception
from labkit.timeline import Scope, Timeline

__all__ = ["OwnClient"]

#: The client stands for one elsewhere, whose log a server does not have.
_silent: Final = logging.getLogger("labkit.client")
_silent.setLevel(logging.CRITICAL + 1)


class OwnClient(asyncio.Protocol):
    """A WebSocket client (RFC 6455) that records what it sees on the ``client`` lane.

    It does not offer compression, so that the wire can show the messages.

    Args:
        url: the server's URL.
        timeline: where to record.
        number: the client's number among those of the experiment, from 1.
        request: what it asks for in its opening handshake.

    Attributes:
        timeline: where it records.
        number: its number.
        on_message: called with each message that it receives, if somebody wants them.
    """

    def __init__(self, url: str, timeline: Timeline, number: int = 1, request: Request = PLAIN) -> None:
        self.timeline = timeline
        self.number = number
        self.on_message: Callable[[str | bytes], None] | None = None
        self._here = Scope(timeline, "client", number)
        self._url = request.url(url)
        self._uri = parse_uri(self._url)
        self._request = request
        offered = [Subprotocol(each) for each in request.subprotocols]
        self._protocol = ClientProtocol(self._uri, subprotocols=offered or None, max_size=None, logger=_silent)
        self.transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._handshake: asyncio.Future[bool] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._held = False
        self._eof = False
        self._end_recorded = False
        self._fragments: list[Frame] = []

    async def ready(self) -> None:
        """Do nothing, since this client runs in the lab's own process."""

    async def connect(self) -> bool:
        """Connect, and do the opening handshake.

        Returns:
            Whether the server accepted. If it did not, the timeline says what it answered.
        """
        self._here.record(ClientConnect("labkit", text=f"connect {self._url}"))
        await connect(self, self._uri.host, self._uri.port, **({"ssl": _any_certificate()} if self._uri.secure else {}))
        return await self._handshake

    def send(self, message: str | bytes) -> None:
        """Send a message.

        Args:
            message: a ``str`` for a text frame, ``bytes`` for a binary one.
        """
        text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else message
        if not self._open:
            self._here.record(ClientError(None, text="cannot send: the connection is over"))
            return
        (self._protocol.send_text if text else self._protocol.send_binary)(payload)
        self._here.record(ClientSend.of(message))
        self._flush()

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame; the server then ends the TCP connection (RFC 6455, section 7.1.1).

        Args:
            code: the close code; a frame without a code, if None.
            reason: the reason, at most 123 bytes of UTF-8.
        """
        if not self._open:
            return
        self._protocol.send_close(code, reason)
        self._here.record(ClientCloseSent.of(code, reason))
        self._flush()

    @contextlib.contextmanager
    def in_one_write(self) -> Iterator[None]:
        """Hold back the frames that are sent inside the block, and write all of them at once at its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._flush()

    def close_socket(self) -> None:
        """Close the socket at once, after what has been sent, without waiting for the server.

        On the wire: FIN. A RST answers what the server sends later, since the socket is closed.
        """
        assert self.transport is not None
        # FIN first, since closing a socket that holds unread bytes sends RST. The call fails if a RST has come.
        if self.transport.can_write_eof():  # TLS says goodbye in its own way
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        self.transport.close()

    async def signal(self, number: int) -> None:
        """Refuse, since this client runs in the lab's own process."""
        raise NotImplementedError(f"signal {number} needs a client in a process of its own")

    async def ended(self) -> None:
        """Wait until the TCP connection is over, as the client sees it."""
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Drop the connection at once, if it is still there."""
        if self.transport is not None and not self._ended.done():
            doing = "open" if self._handshake.done() else "connecting"
            self._record_end("still-open", f"still {doing} when the lab stopped it")
            if not self._handshake.done():
                self._handshake.set_result(False)
            self.transport.abort()
            await self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the opening handshake."""
        self.transport = cast(asyncio.Transport, transport)  # that of uvloop has the methods, and another base class
        keep_from_children(transport)
        if (ports := find_ports(transport, connected=True)) is not None:
            self._here.record(ClientTcp(ports, text="TCP connection made"))
        request = self._protocol.connect()
        for name, value in self._request.headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Give the bytes to the protocol, and record the frames that come out."""
        self._protocol.receive_data(data)
        self._process_events()

    def eof_received(self) -> bool:
        """Note the server's FIN; the transport then closes by itself."""
        self._eof = True
        self._protocol.receive_eof()
        self._process_events()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Record how the connection ended."""
        if not self._handshake.done():
            self._here.record(ClientRefused(None, None, text="the connection ended in the handshake"))
            self._handshake.set_result(False)
        if exc is not None:
            description = describe_exception(exc)
            how = "reset" if isinstance(exc, ConnectionResetError) else "error"
            self._record_end(how, f"connection ended: {description}", description)
        else:
            self._record_end(
                "fin" if self._eof else "closed", "connection ended: FIN" if self._eof else "connection closed"
            )
        if not self._ended.done():
            self._ended.set_result(None)

    @property
    def _open(self) -> bool:
        """Whether frames may be sent."""
        assert self.transport is not None
        return self._protocol.state is State.OPEN and not self.transport.is_closing()

    def _record_end(self, how: str, text: str, exception: str | None = None) -> None:
        if not self._end_recorded:
            self._end_recorded = True
            code = self._protocol.close_code
            self._here.record(ClientEnded(how, None if code is None else int(code), exception, text=text))

    def _process_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._on_response(event)
            elif isinstance(event, Frame):
                self._on_frame(event)
        if self._protocol.parser_exc is not None and self._protocol.close_sent is not None:
            exception = self._protocol.parser_exc
            if not isinstance(exception, EOFError):
                description = describe_exception(exception)
                self._here.record(ClientError(description, text=description))
        self._flush()

    def _on_response(self, response: Response) -> None:
        problem = self._protocol.handshake_exc
        if problem is None:
            self._here.record(ClientOpen(response.status_code, text="handshake complete"))
        else:
            text = f"HTTP {response.status_code}" if isinstance(problem, InvalidStatus) else describe_exception(problem)
            self._here.record(ClientRefused(response.status_code, None, text=text))
        if not self._handshake.done():
            self._handshake.set_result(problem is None)

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            close = Close.parse(frame.data)
            # websockets reports a Close frame without a code as 1005 (RFC 6455, section 7.1.5): never on the wire.
            self._here.record(ClientCloseReceived.of(close.code if frame.data else None, close.reason))
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments.append(frame)
            if frame.fin:
                whole = b"".join(bytes(fragment.data) for fragment in self._fragments)
                message = whole.decode(errors="replace") if self._fragments[0].opcode is Opcode.TEXT else whole
                self._here.record(ClientRecv.of(message))
                self._fragments.clear()
                if self.on_message is not None:
                    self.on_message(message)

    def _flush(self) -> None:
        assert self.transport is not None
        if self._held:
            return
        # An empty piece stands for a FIN, which asyncio sends by itself after the server's FIN.
        if data := b"".join(self._protocol.data_to_send()):
            self.transport.write(data)


def _any_certificate() -> ssl.SSLContext:
    """TLS with any server: behind the wire, no certificate has the right name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
