"""Protocol: the client sends bytes that break the rules of RFC 6455."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from websockets.frames import Frame, Opcode

from labkit.errors import BadValue
from labkit.faults.fault import Fault, Scene
from labkit.support.checks import is_whole

__all__ = ["BadOpcode", "BadUtf8", "TooBig", "UnmaskedFrame"]

#: Opcodes that RFC 6455 (section 5.2) reserves.
_RESERVED: Final = (*range(0x3, 0x8), *range(0xB, 0x10))

#: How many bytes of the payload ``too-big`` sends. They need not be all, since a server refuses the frame's header.
_PART: Final = 16 * 1024


@dataclass(frozen=True)
class BadOpcode(Fault, name="bad-opcode", family="protocol"):
    """The client sends a frame with a reserved opcode.

    On the wire: a masked frame with a reserved opcode, then Close 1002 from the server.
    In life: a broken client, a proxy that mixes up connections, or an attacker who tests the server.
    Look for: 1002, protocol error; and whether the handler gets an exception, a message of a special type, or nothing.

    Args:
        opcode: a reserved opcode, 3 to 7 or 11 to 15.
    """

    happened = "the client broke the protocol"
    ends = "connection"
    demands = "end"
    on_frames = True

    opcode: int = 0x3

    def __post_init__(self) -> None:
        if not is_whole(self.opcode) or self.opcode not in _RESERVED:
            raise BadValue(f"opcode={self.opcode!r} is not reserved; it takes 3 to 7, or 11 to 15")

    async def strike(self, scene: Scene) -> None:
        """Send the frame to the server."""
        frame = bytearray(Frame(Opcode.TEXT, b"what is this?").serialize(mask=True))
        frame[0] = frame[0] & 0xF0 | self.opcode  # the opcode is the lower half of the first byte
        scene.wire.inject(bytes(frame), to="server")


@dataclass(frozen=True)
class BadUtf8(Fault, name="bad-utf8", family="protocol"):
    """The client sends a text message that is not valid UTF-8.

    On the wire: a masked text frame whose payload is not valid UTF-8, then Close 1007 from the server.
    In life: a client sends Latin-1, or binary data in a text frame.
    Look for: 1007, invalid payload.
    """

    happened = "the client broke the protocol"
    ends = "connection"
    demands = "end"
    on_frames = True

    async def strike(self, scene: Scene) -> None:
        """Send the frame to the server."""
        scene.wire.inject(Frame(Opcode.TEXT, b"caf\xe9").serialize(mask=True), to="server")


@dataclass(frozen=True)
class TooBig(Fault, name="too-big", family="protocol"):
    """The client sends a message that is bigger than the server accepts.

    On the wire: the header of a masked binary frame that announces ``size`` bytes, and the first of these bytes; then
    Close 1009 from the server.
    In life: an upload in one message, or an attack on the server's memory.
    Look for: 1009, message too big. The limits are ``max_size`` (websockets, 1 MiB), ``max_msg_size`` of the
    handler's ``WebSocketResponse`` (aiohttp, 4 MiB) and ``ws_max_size`` (uvicorn, 16 MiB, so ``size`` must be more).

    Args:
        size: the length of the payload according to the frame's header, in bytes.
    """

    happened = "the client broke the protocol"
    ends = "connection"
    demands = "end"
    on_frames = True

    size: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        if not is_whole(self.size) or not 65_536 <= self.size < 1 << 63:
            raise BadValue(f"size={self.size!r}; it takes a number of bytes from 65536, such as 8388608")

    async def strike(self, scene: Scene) -> None:
        """Send the frame's header and the first bytes of its payload."""
        # From 65536 bytes on, a header is 2 bytes, the length in 8 bytes, and the mask in 4 (RFC 6455, section 5.2).
        header = Frame(Opcode.BINARY, bytes(65_536)).serialize(mask=True)[:14]
        header = header[:2] + self.size.to_bytes(8, "big") + header[10:]
        scene.wire.inject(header + bytes(_PART), to="server")


@dataclass(frozen=True)
class UnmaskedFrame(Fault, name="unmasked-frame", family="protocol"):
    """The client sends a frame without a mask. Every frame of a client must have one.

    On the wire: a text frame as a server would send it.
    In life: a simple client that somebody wrote without a library.
    Look for: RFC 6455 (section 5.1) says that the server must close the connection. A tolerant server accepts the
    message.
    """

    happened = "the client broke the protocol"
    ends = "connection"
    demands = "end or stay"
    on_frames = True

    async def strike(self, scene: Scene) -> None:
        """Send the frame to the server."""
        scene.wire.inject(Frame(Opcode.TEXT, b"no mask").serialize(mask=False), to="server")
