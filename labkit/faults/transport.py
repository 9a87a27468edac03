"""Transport: TCP ends without a Close frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from websockets.frames import Frame, Opcode

from labkit.checks import check_choice, is_whole
from labkit.errors import BadValue
from labkit.faults.fault import Fault, Scene

__all__ = ["Fin", "HalfClose", "Reset", "TruncatedFrame"]


@dataclass(frozen=True)
class Fin(Fault, name="fin", family="transport"):
    """The client's socket is closed without a Close frame.

    On the wire: FIN; what the server still sends is answered with RST, since nobody holds the socket any more.
    In life: a client program that ends or crashes; its operating system closes the socket for it.
    Look for: 1006, the code that is never on the wire; and how each library tells its handler.
    """

    async def strike(self, scene: Scene) -> None:
        """Close the sockets."""
        scene.wire.fin()


@dataclass(frozen=True)
class HalfClose(Fault, name="half-close", family="transport"):
    """The client will send nothing more, but still reads.

    On the wire: FIN from the client; data from the server still arrive.
    In life: ``shutdown(SHUT_WR)``, or a proxy that passes on only half of a close.
    Look for: TCP allows this, WebSocket has no use for it: the server treats it as the end.
    """

    async def strike(self, scene: Scene) -> None:
        """Send FIN to the server alone."""
        scene.wire.half_close()


@dataclass(frozen=True)
class Reset(Fault, name="reset", family="transport"):
    """The connection is torn down at once.

    On the wire: RST.
    In life: a process killed with data unread, a load balancer or firewall that drops a connection, a host that
    restarted and knows nothing of it, ``SO_LINGER`` of zero.
    Look for: the same 1006 as after a FIN; the difference shows, if at all, in the exception's ``__cause__``.
    """

    async def strike(self, scene: Scene) -> None:
        """Reset both sides."""
        scene.wire.reset()


@dataclass(frozen=True)
class TruncatedFrame(Fault, name="truncated-frame", family="transport"):
    """The connection ends in the middle of a frame.

    On the wire: the head of a masked text frame and a part of its payload, then FIN or RST.
    In life: a phone loses its network in the middle of an upload; a process is killed while it sends.
    Look for: the part that arrived is never given to the handler.

    Args:
        announced: the length of the payload that the frame's head tells, in bytes.
        sent: how many of them are sent, fewer than announced.
        then: what follows, ``"fin"`` or ``"reset"``.
    """

    announced: int = 100
    sent: int = 10
    then: Literal["fin", "reset"] = "fin"

    def __post_init__(self) -> None:
        whole = is_whole(self.announced) and is_whole(self.sent)
        if not whole or not 0 <= self.sent < self.announced <= 65_535:
            raise BadValue(
                f"announced={self.announced!r} and sent={self.sent!r} make no truncated frame; it takes whole numbers,"
                " 0 <= sent < announced <= 65535"
            )
        check_choice("then", self.then, ("fin", "reset"))

    async def strike(self, scene: Scene) -> None:
        """Send the part of the frame, then end the connection."""
        whole = Frame(Opcode.TEXT, b"?" * self.announced).serialize(mask=True)
        scene.wire.inject(whole[: len(whole) - self.announced + self.sent], to="server")
        if self.then == "fin":
            scene.wire.fin()
        else:
            scene.wire.reset()
