"""Protocol: bytes that break the rules of RFC 6455, in the middle of a healthy connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from websockets.frames import Frame, Opcode

from labkit.checks import is_whole
from labkit.errors import BadValue
from labkit.faults.fault import Fault, Scene

__all__ = ["BadOpcode", "BadUtf8", "TooBig", "UnmaskedFrame"]

#: Opcodes that RFC 6455 (section 5.2) reserves.
_RESERVED: Final = (*range(0x3, 0x8), *range(0xB, 0x10))

#: Of a payload that is too big, this much is sent: its frame is refused by its head.
_PART: Final = 16 * 1024


@dataclass(frozen=True)
class BadOpcode(Fault, name="bad-opcode", family="protocol"):
    """A frame of a kind that does not exist.

    On the wire: a masked frame with a reserved opcode; from the server Close 1002.
    In life: a broken client, a proxy that mixes connections up, somebody who tries things out.
    Look for: 1002, protocol error; whether the handler gets an exception, a message of a special type, or nothing.

    Args:
        opcode: a reserved one, 3 to 7 or 11 to 15.
    """

    opcode: int = 0x3

    def __post_init__(self) -> None:
        if not is_whole(self.opcode) or self.opcode not in _RESERVED:
            raise BadValue(f"opcode={self.opcode!r} is not reserved; it takes 3 to 7, or 11 to 15")

    async def strike(self, scene: Scene) -> None:
        """Send the frame to the server."""
        whole = bytearray(Frame(Opcode.TEXT, b"what is this?").serialize(mask=True))
        whole[0] = whole[0] & 0xF0 | self.opcode
        scene.wire.inject(bytes(whole), to="server")


@dataclass(frozen=True)
class BadUtf8(Fault, name="bad-utf8", family="protocol"):
    """A text message that is not text.

    On the wire: a masked text frame whose payload is not UTF-8; from the server Close 1007.
    In life: a client that sends Latin-1, or binary data in a text frame.
    Look for: 1007, invalid payload.
    """

    async def strike(self, scene: Scene) -> None:
        """Send the frame to the server."""
        scene.wire.inject(Frame(Opcode.TEXT, b"caf\xe9").serialize(mask=True), to="server")


@dataclass(frozen=True)
class TooBig(Fault, name="too-big", family="protocol"):
    """A message that is bigger than the server takes.

    On the wire: the head of a masked binary frame that announces ``size`` bytes, and the first of them; from the
    server Close 1009.
    In life: an upload in one message, or an attack on the server's memory.
    Look for: 1009, message too big; the limits are ``max_size`` (websockets, 1 MiB) and ``max_msg_size`` of the
    handler's ``WebSocketResponse`` (aiohttp, 4 MiB).

    Args:
        size: the length that is announced, in bytes.
    """

    size: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        if not is_whole(self.size) or not 65_536 <= self.size < 1 << 63:
            raise BadValue(f"size={self.size!r}; it takes a number of bytes from 65536, such as 8388608")

    async def strike(self, scene: Scene) -> None:
        """Send the head of the frame and the first bytes of its payload."""
        head = Frame(Opcode.BINARY, bytes(65_536)).serialize(mask=True)[:14]  # two bytes, the length in eight, the mask
        head = head[:2] + self.size.to_bytes(8, "big") + head[10:]
        scene.wire.inject(head + bytes(_PART), to="server")


@dataclass(frozen=True)
class UnmaskedFrame(Fault, name="unmasked-frame", family="protocol"):
    """A client's frame without a mask, which every client's frame must have.

    On the wire: a text frame as a server would send it.
    In life: a client that somebody has written in an afternoon.
    Look for: RFC 6455 (section 5.1) has the server close the connection; a lenient one takes the message.
    """

    async def strike(self, scene: Scene) -> None:
        """Send the frame to the server."""
        scene.wire.inject(Frame(Opcode.TEXT, b"no mask").serialize(mask=False), to="server")
