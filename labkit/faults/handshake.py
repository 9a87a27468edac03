"""Handshake: the opening handshake fails, so no handler starts. These faults show what the client sees."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from labkit.errors import BadValue
from labkit.faults.fault import Fault, Scene
from labkit.support.checks import check_choice, is_whole

__all__ = ["HandshakeCut", "HandshakeHang", "HandshakeRefused"]


@dataclass(frozen=True)
class HandshakeCut(Fault, name="handshake-cut", family="handshake"):
    """The connection ends in the middle of the handshake.

    On the wire: the client's request, then FIN or RST instead of an answer. The server never sees the client.
    In life: a server that restarts, a proxy without a server behind it, or another program that listens on the port.
    Look for: the exception of the client's library; compare ``client="aiohttp"`` and ``client="websockets"``.

    Args:
        then: how the connection ends, ``"fin"`` or ``"reset"``.
    """

    happened = "the handshake broke"
    ends = "handshake"
    demands = "nothing"
    moment = "handshake"

    then: Literal["fin", "reset"] = "fin"

    def __post_init__(self) -> None:
        check_choice("then", self.then, ("fin", "reset"))

    async def strike(self, scene: Scene) -> None:
        """Make the wire end the client's connection when the request has arrived."""
        scene.wire.cut_handshakes(self.then)


@dataclass(frozen=True)
class HandshakeHang(Fault, name="handshake-hang", family="handshake"):
    """Nobody answers the handshake.

    On the wire: the client's request, and nothing else. The server never sees the client.
    In life: a server with a blocked event loop, a full backlog, or a proxy that waits for a server that is down.
    Look for: how long the client waits: ``open_timeout`` of websockets, the ``ClientTimeout`` of aiohttp.
    """

    happened = "the handshake broke"
    ends = "handshake"
    demands = "nothing"
    moment = "handshake"

    async def strike(self, scene: Scene) -> None:
        """Make the wire accept the client's request and never answer it."""
        scene.wire.hang_handshakes()


@dataclass(frozen=True)
class HandshakeRefused(Fault, name="handshake-refused", family="handshake"):
    """A proxy refuses the handshake.

    On the wire: the client's request, and an HTTP error response instead of 101. The server never sees the client.
    In life: a load balancer without a healthy server (503), a proxy that does not support WebSocket (400, 426), an
    expired login (401, 403).
    Look for: the exception contains the status, and the client may try again.

    Args:
        status: the HTTP status, a registered one from 400 to 599.
    """

    happened = "the handshake broke"
    ends = "handshake"
    demands = "nothing"
    on_frames = True
    moment = "handshake"

    status: int = 503

    def __post_init__(self) -> None:
        known = [status.value for status in HTTPStatus if status.value >= 400]
        if not is_whole(self.status) or self.status not in known:
            raise BadValue(f"status={self.status!r}; it takes the status of an HTTP error, such as 503")

    async def strike(self, scene: Scene) -> None:
        """Make the wire answer instead of the server."""
        scene.wire.refuse_handshakes(self.status)
