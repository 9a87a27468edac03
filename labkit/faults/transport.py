"""Transport: the TCP connection ends without a Close frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from websockets.frames import Frame, Opcode

from labkit.errors import BadValue
from labkit.faults.fault import Fault, Scene
from labkit.support.checks import check_choice, is_whole

__all__ = ["Fin", "HalfClose", "Reset", "TruncatedFrame"]


@dataclass(frozen=True)
class Fin(Fault, name="fin", family="transport"):
    """The client's socket is closed without a Close frame.

    On the wire: FIN. If the server then sends data, the client's system answers with RST, because the socket is closed.
    In life: a client program ends, crashes or is killed; the operating system closes its socket.
    Look for: 1006, a code that no frame ever carries; and how each library tells its handler.
    """

    happened = "the client vanished"
    ends = "connection"
    demands = "end"

    async def strike(self, scene: Scene) -> None:
        """Close both of the wire's sockets."""
        scene.wire.fin()


@dataclass(frozen=True)
class HalfClose(Fault, name="half-close", family="transport"):
    """The client sends nothing more, but still reads.

    On the wire: FIN from the client. Data from the server still arrive.
    In life: a client calls ``shutdown(SHUT_WR)``, or a proxy forwards only half of a close.
    Look for: TCP allows this, but WebSocket does not use it. The server treats it as the end of the connection.
    """

    happened = "the client vanished"
    ends = "connection"
    demands = "end"

    async def strike(self, scene: Scene) -> None:
        """Send FIN to the server only."""
        scene.wire.half_close()


@dataclass(frozen=True)
class Reset(Fault, name="reset", family="transport"):
    """The TCP connection is reset.

    On the wire: RST.
    In life: a load balancer or a firewall drops a connection; a host has restarted and does not know the connection
    any more; a program sets ``SO_LINGER`` to zero. A process that ends or is killed causes RST only if it has not read
    all data; otherwise FIN.
    Look for: 1006, the same as after FIN. Only the exception's ``__cause__`` may show the difference.
    """

    happened = "the client vanished"
    ends = "connection"
    demands = "end"

    async def strike(self, scene: Scene) -> None:
        """Reset the connection to each side."""
        scene.wire.reset()


@dataclass(frozen=True)
class TruncatedFrame(Fault, name="truncated-frame", family="transport"):
    """The connection ends in the middle of a frame.

    On the wire: the header of a masked text frame and a part of its payload, then FIN or RST.
    In life: a phone loses its network in the middle of an upload; a process is killed while it sends.
    Look for: the handler never gets the part that arrived.

    Args:
        announced: the length of the payload according to the frame's header, in bytes.
        sent: how many bytes of the payload are really sent, fewer than ``announced``.
        then: how the connection ends, ``"fin"`` or ``"reset"``.
    """

    happened = "the client vanished"
    ends = "connection"
    demands = "end"
    on_frames = True

    announced: int = 100
    sent: int = 10
    then: Literal["fin", "reset"] = "fin"

    def __post_init__(self) -> None:
        whole_numbers = is_whole(self.announced) and is_whole(self.sent)
        if not whole_numbers or not 0 <= self.sent < self.announced <= 65_535:
            raise BadValue(
                f"announced={self.announced!r} and sent={self.sent!r} make no truncated frame; it takes whole numbers,"
                " 0 <= sent < announced <= 65535"
            )
        check_choice("then", self.then, ("fin", "reset"))

    async def strike(self, scene: Scene) -> None:
        """Send the first part of the frame, then end the connection."""
        frame = Frame(Opcode.TEXT, b"?" * self.announced).serialize(mask=True)
        scene.wire.inject(frame[: len(frame) - self.announced + self.sent], to="server")
        if self.then == "fin":
            scene.wire.fin()
        else:
            scene.wire.reset()
