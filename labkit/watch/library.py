"""Stands between a server's library and its sockets, and records what the library does by itself, when it does it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Literal, Protocol, TypeVar, cast

from labkit.events import (
    LibraryCloseReceived,
    LibraryCloseSent,
    LibraryFinReceived,
    LibraryGaveUp,
    LibraryLost,
    LibraryPaused,
    LibraryPingReceived,
    LibraryPingSent,
    LibraryPongReceived,
    LibraryPongSent,
    LibraryResumed,
    LibraryTcp,
    LibraryTcpClosed,
)
from labkit.introspection.alone import users_code_runs
from labkit.introspection.origin import is_users
from labkit.support.sockets import find_ports
from labkit.support.wording import describe_exception
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.asked import asked_by_user
from labkit.watch.control import CLOSE, PING, PONG, ControlFrames
from labkit.watch.meetings import meet
from labkit.watch.stand_ins import method_of_handler

__all__ = ["Tap", "TappedTransport"]

T = TypeVar("T")

#: What ends the head of an HTTP message (RFC 9112, section 2.1), and what begins the answer that opens a WebSocket.
_END_OF_HEAD: Final = b"\r\n\r\n"
_SWITCHING: Final = b"HTTP/1.1 101"

#: At most so many bytes of a request are kept until the server has answered it.
_MOST: Final = 64 * 1024

#: The codes with which a library fails a connection without waiting for the client's Close (RFC 6455, section 7.1.7),
#: and the code with which websockets tells that a ping was not answered.
_FAILING: Final = frozenset({1002, 1003, 1007, 1009})
_INTERNAL_ERROR: Final = 1011

#: A library that closes TCP so few turns of the loop after its Close has not waited for the client's: aiohttp's close()
#: wakes the task that is in receive(), and goes on two turns later.
_AT_ONCE: Final = 3

#: A size of a buffer, in bytes; the system makes of it the smallest that it allows (socket(7)).
_SMALLEST: Final = 1024


class Asked(Protocol):
    """Whoever is told of the handler's questions."""

    @property
    def packages(self) -> Collection[str]:
        """The packages of the library, whose own questions do not count."""

    def asked(self, answer: str) -> None:
        """Take the answer that the handler got, in words."""


class Tap(asyncio.Protocol):
    """A protocol of asyncio in front of the library's own.

    It passes every call on at once, and everything that the library does with its transport. The library works as it
    does without the lab; only the type of the transport is the lab's. What the library starts for the connection, and
    with it the handler, runs in the scope of the connection.

    Args:
        inner: the library's protocol.
        timeline: where to record.
        number: the number of the connection.

    Attributes:
        number: the number of the connection.
        call: the call of the handler, which may ask the transport whether it is closing.
        closely: whether its handler is watched closely, or in outline; None before it is called.
        heard: called whenever bytes of the client have been given to the library, if somebody wants to know.
        inner: the library's protocol.
        transport: the transport that the library has, once the client is connected.
    """

    __slots__ = (
        "__weakref__",
        "_awaits_pong",
        "_dropped",
        "_ended",
        "_frames_in",
        "_frames_out",
        "_head",
        "_lost",
        "_paused",
        "_scope",
        "_unanswered",
        "_waits",
        "call",
        "closely",
        "heard",
        "inner",
        "number",
        "transport",
    )

    def __init__(self, inner: asyncio.Protocol, timeline: Timeline, number: int) -> None:
        self.number: Final = number
        self.inner = inner
        self.transport: TappedTransport | None = None
        self._dropped = False
        self._scope = Scope(timeline, "handler", number)
        self.call: Asked | None = None
        self.closely: bool | None = None
        self.heard: Callable[[], None] | None = None
        self._head: bytes | None = b""  # what the client sent after its last complete head; None after the handshake
        self._frames_in: ControlFrames | None = None
        self._frames_out: ControlFrames | None = None
        self._paused = False
        self._awaits_pong = False
        self._unanswered: int | None = None  # the code of a Close that waits for the client's; 0 if it has none
        self._waits = False  # whether the library waits for that; one that closes TCP at once does not
        self._lost = False  # whether TCP is gone
        self._ended = False  # whether the client has sent its Close or its FIN, or TCP is gone

    def abort(self) -> None:
        """Drop the TCP connection; one that is only being accepted never reaches the library."""
        self._dropped = True
        # asyncio's transport raises AttributeError where its buffer was still sent after `close()` and it then ended.
        if self.transport is not None and not self._lost:
            self.transport.abort()

    def let_alone(self) -> None:
        """Record nothing more of what the library does on this connection."""
        self._head = self._frames_in = self._frames_out = None

    @property
    def is_over(self) -> bool:
        """Whether TCP is gone, or the library has closed it."""
        return self._lost or (self.transport is not None and self.transport.is_closing())

    @property
    def scope(self) -> Scope:
        """The scope of the connection."""
        return self._scope

    @property
    def messages(self) -> tuple[int, int]:
        """How many messages of the client the library has got, and how many it has sent."""
        got, sent = self._frames_in, self._frames_out
        return 0 if got is None else got.messages, 0 if sent is None else sent.messages

    def narrow(self) -> None:
        """Give the connection the smallest send buffer that the system allows, so that few unsent bytes fill it."""
        opened = None if self.transport is None else self.transport.get_extra_info("socket")
        if opened is not None:
            with contextlib.suppress(OSError):  # the socket is closed
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALLEST)

    @property
    def unsent(self) -> int:
        """How many bytes keep the socket open, though the library has closed it: the client does not take them."""
        if self.transport is None or self._lost or not self.transport.is_closing():
            return 0
        return self.transport.unsent

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the library its transport."""
        accepted = cast(asyncio.Transport, transport)  # that of uvloop has the methods, and another base class
        if self._dropped:
            accepted.abort()
            return
        self.transport = TappedTransport(accepted, self)
        if (ports := find_ports(transport)) is not None:
            self._scope.record(LibraryTcp(ports, text="TCP connection accepted"))
        self._hand_on(self.inner.connection_made, self.transport)

    def data_received(self, data: bytes) -> None:
        """Record what the library gets, and hand it on."""
        if self._frames_in is not None:
            self._frames_in.feed(data)
        elif self._head is not None:
            self._head = (self._head + data).rpartition(_END_OF_HEAD)[2][-_MOST:]
        self._hand_on(self.inner.data_received, data)
        if self.heard is not None:
            self.heard()

    def eof_received(self) -> bool | None:
        """Record that the library gets the client's FIN."""
        self._ended = True
        if self._frames_in is not None:
            self._scope.record(LibraryFinReceived(text="gets FIN"))
        return self._hand_on(self.inner.eof_received)

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the library learns of the end of TCP."""
        if self.transport is None:
            return
        self._ended = self._lost = True
        if self._frames_in is not None:
            what = "" if exc is None else f": {type(exc).__name__}"
            what += ", and what is unsent is dropped" if self._paused else ""
            description = None if exc is None else describe_exception(exc)
            self._scope.record(LibraryLost(description, text=f"learns that TCP is gone{what}"))
            self._frames_in = self._frames_out = None
        self._hand_on(self.inner.connection_lost, exc)

    def pause_writing(self) -> None:
        """Record that the library's write buffer is full."""
        self._paused = True
        if self._frames_out is not None and self.transport is not None:
            unsent = self.transport.unsent
            self._scope.record(LibraryPaused(unsent, text=f"waits with sending: {unsent:,} bytes unsent"))
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Record that the library's write buffer has room again."""
        self._paused = False
        self._wait()  # whoever has sent a Close may have waited for the client to take it, and not for an answer
        if self._frames_out is not None:
            self._scope.record(LibraryResumed(text="sends again"))
        self.inner.resume_writing()

    def _hand_on(self, method: Callable[..., T], *args: Any) -> T:
        """Call the library's protocol in the scope of the connection."""
        token = scope.set(self._scope)
        # The user may have put code of their own in the library's place.
        if (code := getattr(method, "__code__", None)) is not None and is_users(code.co_filename):
            users_code_runs()
        try:
            return method(*args)
        finally:
            scope.reset(token)

    # Called by the library's transport.

    def writes(self, data: bytes | bytearray | memoryview) -> None:
        """Record what the library sends."""
        if (here := scope.get()) is not self._scope and here is not None:
            meet(self._scope.timeline, here)
        if self._frames_out is not None:
            self._frames_out.feed(data)
        elif self._head is not None and bytes(data[: len(_SWITCHING)]) == _SWITCHING:
            rest = bytes(data).partition(_END_OF_HEAD)[2]
            early, self._head = self._head, None
            self._frames_in = ControlFrames(self._gets_frame)
            self._frames_out = ControlFrames(self._sends_frame)
            self._frames_in.feed(early)
            self._frames_out.feed(rest)

    def closes(self, how: Literal["close", "write_eof", "abort"]) -> None:
        """Record that the library ends TCP.

        Args:
            how: the method that it calls. ``write_eof`` ends its own direction alone; ``abort`` drops unsent bytes.
        """
        if (here := scope.get()) is not None:
            meet(self._scope.timeline, here)
        if self._frames_out is None or self.transport is None or self.transport.is_closing():
            return
        if not self._ended:
            # Only a timer closes it outside of every task.
            if self._awaits_pong and self._unanswered is None and asyncio.current_task() is None:
                self._give_up("its ping was not answered")
            elif self._waits and self._unanswered not in _FAILING and how != "write_eof":
                self._give_up("its Close was not answered")
        dropped = self.transport.unsent if how == "abort" else 0
        what = "closes its direction of TCP" if how == "write_eof" else "closes TCP"
        at_once = self._unanswered is not None and not self._ended and not self._waits
        if at_once and method_of_handler() == "close":
            what += " without waiting for an answer to its Close"
        more = f", and drops {dropped:,} unsent bytes" if dropped else ""
        self._scope.record(LibraryTcpClosed(how, dropped, text=what + more))

    def _wait(self, turns: int = _AT_ONCE) -> None:
        """Note after some turns of the loop that the library waits for the client's Close, if it has sent its own."""
        if self._unanswered is None or self._paused:
            return
        self._waits = not turns
        if turns:
            asyncio.get_running_loop().call_soon(self._wait, turns - 1)

    def _give_up(self, why: str) -> None:
        self._scope.record(LibraryGaveUp(why, text=f"gives up: {why}"))

    def _gets_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self._ended = True
            self._scope.record(LibraryCloseReceived.of_frame(*_parse_close(payload)))
        elif opcode == PING:
            self._scope.record(LibraryPingReceived(text="gets a ping"))
        elif opcode == PONG:
            self._awaits_pong = False
            self._scope.record(LibraryPongReceived(text="gets a pong"))

    def _sends_frame(self, opcode: int, payload: bytes) -> None:
        by_handler = method_of_handler()
        if opcode == CLOSE:
            code, reason = _parse_close(payload)
            if code == _INTERNAL_ERROR and self._awaits_pong and not self._ended:
                self._give_up("its ping was not answered")
            self._unanswered = code or 0
            self._wait()
            if by_handler != "close":
                self._scope.record(LibraryCloseSent.of_frame(code, reason))
        elif opcode == PING and by_handler != "ping":
            self._awaits_pong = True
            self._scope.record(LibraryPingSent(text="sends a ping"))
        elif opcode == PONG and by_handler != "pong":
            self._scope.record(LibraryPongSent(text="sends a pong"))


def _parse_close(payload: bytes) -> tuple[int | None, str]:
    """Read the code and the reason of a Close frame (RFC 6455, section 5.5.1)."""
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None, payload[2:].decode(errors="replace")


class TappedTransport(asyncio.Transport):
    """The transport that the library has: asyncio's own, except that the tap hears of some calls first.

    Args:
        inner: asyncio's transport.
        tap: the tap.

    Attributes:
        tap: the tap.
    """

    __slots__ = ("_inner", "tap")

    def __init__(self, inner: asyncio.Transport, tap: Tap) -> None:
        self._inner = inner
        self.tap: Final = tap

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        self.tap.writes(data)
        self._inner.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send bytes, in parts."""
        parts = list(list_of_data)
        for part in parts:
            self.tap.writes(part)
        self._inner.writelines(parts)

    def write_eof(self) -> None:
        """End this direction."""
        self.tap.closes("write_eof")
        self._inner.write_eof()

    def close(self) -> None:
        """Close, after the unsent bytes."""
        self.tap.closes("close")
        self._inner.close()

    def abort(self) -> None:
        """Close now, and drop the unsent bytes."""
        self.tap.closes("abort")
        self._inner.abort()

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        with contextlib.suppress(AttributeError):  # one of TLS forgets its protocol when it is closed a second time
            return self._inner.get_write_buffer_size()
        return 0

    def is_closing(self) -> bool:
        """Tell whether it is closing or closed; the handler's own question may be how it notices."""
        closing = self._inner.is_closing()
        if closing and self.tap.call is not None and asked_by_user(self.tap.call.packages):
            self.tap.call.asked("transport.is_closing() is True")
        return closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the library's protocol."""
        return self.tap.inner

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Take another protocol of the library."""
        self.tap.inner = cast(asyncio.Protocol, protocol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _pass_on(name: str) -> None:
    def method(self: TappedTransport, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._inner, name)(*args, **kwargs)

    setattr(TappedTransport, name, method)


# asyncio.Transport defines these, so `__getattr__` is not asked for them.
for _name in (
    "can_write_eof",
    "get_extra_info",
    "get_write_buffer_limits",
    "get_write_buffer_size",
    "is_reading",
    "pause_reading",
    "resume_reading",
    "set_write_buffer_limits",
):
    _pass_on(_name)
