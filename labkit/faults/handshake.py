"""Handshake: the client never gets as far as a WebSocket; what it sees is the point."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Literal

from labkit.checks import check_choice, is_whole
from labkit.errors import BadValue
from labkit.faults.fault import Fault, Moment, Scene

__all__ = ["HandshakeCut", "HandshakeHang", "HandshakeRefused"]


@dataclass(frozen=True)
class HandshakeCut(Fault, name="handshake-cut", family="handshake"):
    """The connection ends in the middle of the handshake.

    On the wire: the client's request, then FIN or RST in place of an answer. The server never sees the client.
    In life: a server that restarts, a proxy that has no server behind it, a port on which something else listens.
    Look for: what the client's library calls it: with ``client="aiohttp"`` and ``client="websockets"``.

    Args:
        then: how it ends, ``"fin"`` or ``"reset"``.
    """

    then: Literal["fin", "reset"] = "fin"
    moment: ClassVar[Moment] = "handshake"

    def __post_init__(self) -> None:
        check_choice("then", self.then, ("fin", "reset"))

    async def strike(self, scene: Scene) -> None:
        """Have the wire end the client's connection when its request has come."""
        scene.wire.cut_handshakes(self.then)


@dataclass(frozen=True)
class HandshakeHang(Fault, name="handshake-hang", family="handshake"):
    """Nobody answers the handshake.

    On the wire: the client's request, and nothing. The server never sees the client.
    In life: a server whose loop is blocked, a backlog that is full, a proxy that waits for a server that is down.
    Look for: how long the client waits: ``open_timeout`` of websockets, the ``ClientTimeout`` of aiohttp.
    """

    moment: ClassVar[Moment] = "handshake"

    async def strike(self, scene: Scene) -> None:
        """Have the wire take the client's request."""
        scene.wire.hang_handshakes()


@dataclass(frozen=True)
class HandshakeRefused(Fault, name="handshake-refused", family="handshake"):
    """A proxy refuses the handshake.

    On the wire: the client's request, and an HTTP response with an error in place of 101. The server never sees the
    client.
    In life: a load balancer without a healthy server (503), a proxy that does not know WebSocket (400, 426), a login
    that has expired (401, 403).
    Look for: the status is in the exception, and the client may try again.

    Args:
        status: the HTTP status, one of 400 to 599 that exists.
    """

    status: int = 503
    moment: ClassVar[Moment] = "handshake"

    def __post_init__(self) -> None:
        known = [status.value for status in HTTPStatus if status.value >= 400]
        if not is_whole(self.status) or self.status not in known:
            raise BadValue(f"status={self.status!r}; it takes the status of an HTTP error, such as 503")

    async def strike(self, scene: Scene) -> None:
        """Have the wire answer in the server's place."""
        scene.wire.refuse_handshakes(self.status)
