"""A client on a raw socket. Frames, their masks and their lengths are written by hand (RFC 6455, section 5.2)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.differential.story import seconds

__all__ = ["BINARY", "CLOSE", "TEXT", "Peer", "frame", "text", "wait"]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

#: Seconds to wait for an answer that may never come; and the steps in which a wait is counted.
GRACE, STEPS = seconds(0.25), 40


async def wait(bell: asyncio.Event, until: Callable[[], bool], limit: float) -> bool:
    """Wait for something; only time in which the loop could run counts, since many plays share it.

    Args:
        bell: set whenever something is new.
        until: says whether it is there.
        limit: the longest wait, in seconds.
    """
    for _ in range(STEPS):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit / STEPS):
                while not until():
                    bell.clear()
                    await bell.wait()
                return True
    return until()


def frame(opcode: int, payload: bytes, *, mask: bool = True, announced: int | None = None) -> bytes:
    """Write a frame; ``announced`` is a length that is not that of the payload."""
    length = len(payload) if announced is None else announced
    bit = 0x80 if mask else 0
    if length < 126:
        head = bytes([0x80 | opcode, bit | length])
    elif length < 65_536:
        head = bytes([0x80 | opcode, bit | 126]) + struct.pack("!H", length)
    else:
        head = bytes([0x80 | opcode, bit | 127]) + struct.pack("!Q", length)
    if not mask:
        return head + payload
    key = os.urandom(4)
    whole = int.from_bytes(payload) ^ int.from_bytes((key * (len(payload) // 4 + 1))[: len(payload)])
    return head + key + whole.to_bytes(len(payload))


class Peer:
    """A client on a raw socket. It answers pings and Close frames, as every client does, until it is told not to.

    Args:
        port: the server's port on loopback.
        bell: set whenever something new comes.

    Attributes:
        heard: the messages that have come.
        over: whether the server has sent a Close or FIN or RST, or this end has.
        moved: when something last passed, as ``time.monotonic()``.
    """

    def __init__(self, port: int, bell: asyncio.Event) -> None:
        self._bell = bell
        self._port = port
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._reading: asyncio.Task[None] | None = None
        self._got = b""
        self._delay = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.holds_close = False
        self.heard: list[bytes] = []
        self.over = False
        self.moved = time.monotonic()

    @property
    def answers(self) -> int:
        """How many messages have come."""
        return len(self.heard)

    async def connect(self) -> None:
        """Connect, and do the opening handshake."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        request = (
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await self._loop.sock_sendall(self._socket, request.encode())
        while b"\r\n\r\n" not in self._got:
            data = await self._loop.sock_recv(self._socket, 65_536)
            assert data, "the server ended the handshake"
            self._got += data
        head, _, self._got = self._got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        self._reading = asyncio.create_task(self._read())

    async def send(self, *frames: bytes) -> None:
        """Send frames, in one write."""
        if self._delay:
            self._loop.call_later(self._delay, lambda: self._later(self._write(*frames)))
        else:
            await self._write(*frames)

    async def _write(self, *frames: bytes) -> None:
        self.moved = time.monotonic()
        with contextlib.suppress(OSError):
            await self._loop.sock_sendall(self._socket, b"".join(frames))

    async def say(self, message: str | bytes) -> None:
        """Send a message, and wait for an answer for a while."""
        before = self.answers
        await self.send(text(message))
        await wait(self._bell, lambda: self.answers > before or self.over, GRACE)

    async def close(self, payload: bytes = b"\x03\xe8") -> None:
        """Send a Close; what comes after it is left to the server."""
        await self.send(frame(CLOSE, payload))

    def stop_reading(self) -> None:
        """Read nothing more, and so answer nothing more."""
        if self._reading is not None:
            self._reading.cancel()

    def half_close(self) -> None:
        """Send FIN, and go on reading."""
        self.over = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def fin(self) -> None:
        """Send FIN, and answer with RST what comes after it."""
        self.half_close()
        self.end()

    def reset(self) -> None:
        """Send RST."""
        with contextlib.suppress(OSError):  # it is closed already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def end(self) -> None:
        """Close the socket."""
        self.over = True
        self.stop_reading()
        for task in self._tasks:
            task.cancel()
        if self._socket.fileno() != -1:
            # Before it is closed: its number may soon be that of another socket.
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def slow_down(self, delay: float) -> None:
        """Let everything take so long, in each direction, in seconds."""
        self._delay = delay

    async def _read(self) -> None:
        await self._take(b"")
        data: bytes | None = b""
        while data is not None:
            try:
                data = await self._loop.sock_recv(self._socket, 65_536) or None
            except OSError:
                data = None
            self.moved = time.monotonic()
            if self._delay:
                self._loop.call_later(self._delay, lambda data=data: self._later(self._take(data)))  # type: ignore[misc]
            else:
                await self._take(data)

    def _later(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, data: bytes | None) -> None:
        self._bell.set()
        if data is None:
            self.over = True
            if not self.holds_close:
                self.end()
            return
        self._got += data
        while (found := _split(self._got)) is not None:
            opcode, payload, self._got = found
            await self._answer(opcode, payload)
            self._bell.set()

    async def _answer(self, opcode: int, payload: bytes) -> None:
        if opcode in {TEXT, BINARY}:
            self.heard.append(payload)
        elif opcode == PING:
            await self.send(frame(PONG, payload))
        elif opcode == CLOSE:
            answered, self.over = self.over, True
            if not self.holds_close and not answered:
                await self.send(frame(CLOSE, payload))


def text(message: str | bytes) -> bytes:
    """Write the frame of a message."""
    return frame(TEXT, message.encode()) if isinstance(message, str) else frame(BINARY, message)


def _split(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Split the first frame of a server off: its opcode, its payload, and the rest."""
    if len(data) < 2:
        return None
    length, start = data[1] & 0x7F, 2
    if length > 125:
        size = 2 if length == 126 else 8
        start += size
        if len(data) < start:
            return None
        length = int.from_bytes(data[2:start])
    if len(data) < start + length:
        return None
    return data[0] & 0x0F, data[start : start + length], data[start + length :]
