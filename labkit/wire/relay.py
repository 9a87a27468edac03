"""The wire: a TCP relay in the running loop, between any client and any server.

It sees every frame, and can break a connection in any way TCP can.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from labkit.errors import BadValue
from labkit.timeline import Timeline
from labkit.wire.end import End
from labkit.wire.frames import Side
from labkit.wire.link import Link, Target

__all__ = ["Wire"]

#: Turns of the loop in which a client that has been accepted becomes a link; one is enough, unless clients pour in.
_TURNS: Final = 100


class _Listening(socket.socket):
    """A socket that counts the clients that it has accepted."""

    accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a client, as asyncio asks for it."""
        client = super().accept()
        self.accepted += 1
        return client


class Wire:
    """A relay in front of one server.

    What comes from one end goes to the other, unchanged and in order: bytes, FIN and RST. A peer that does not read
    stops the sender. Everything is recorded on the timeline's ``wire`` lane. The methods that break a connection act
    on every link that is live at that moment; a ``Link`` has the same methods.

    Args:
        server_url: the server's URL, such as ``"ws://127.0.0.1:4711/"``. With ``wss:`` the bytes are relayed, and
            cannot be decoded.
        timeline: where to record; a new one, if None.

    Attributes:
        timeline: where it records.
        links: the links, in the order of connecting.

    Raises:
        BadValue: the URL is not one of a WebSocket server with a port.
    """

    def __init__(self, server_url: str, timeline: Timeline | None = None) -> None:
        self.timeline = Timeline() if timeline is None else timeline
        self.links: list[Link] = []
        self._upstream = _split(server_url)
        self._listener: asyncio.Server | None = None
        self._act: Callable[[End], None] | None = None

    @property
    def url(self) -> str:
        """The URL to give to the client: the server's, with the relay's address.

        Raises:
            BadValue: the wire is not open.
        """
        if self._listener is None or not self._listener.sockets:
            raise BadValue("the wire has a url only inside its `async with` block.")
        port = self._listener.sockets[0].getsockname()[1]
        userinfo, at, _ = self._upstream.netloc.rpartition("@")
        return self._upstream._replace(netloc=f"{userinfo}{at}127.0.0.1:{port}").geturl()

    async def __aenter__(self) -> Self:
        self._socket = _Listening(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._earlier = len(self.links)
        try:
            self._socket.bind(("127.0.0.1", 0))
            # Not serving yet, so that a cancel finds a server to close: a socket that is closed without it would
            # stay registered in the loop, and whoever is given its number next would never be served.
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(self._accept, sock=self._socket, start_serving=False)
            await self._listener.start_serving()
        except BaseException:
            if self._listener is not None:
                self._listener.close()
            self._socket.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the relay: when this returns, no socket and no task of it is left."""
        assert self._listener is not None
        try:
            # asyncio drops, unclosed, a client that it has accepted but not started to serve when the server closes.
            for _ in range(_TURNS):
                if self._socket.accepted <= len(self.links) - self._earlier:
                    break
                await asyncio.sleep(0)
        finally:
            self._listener.close()
            for link in self.links:
                link.abort()
        for link in self.links:
            await link.closed()

    def _accept(self) -> End:
        assert self._upstream.hostname is not None
        assert self._upstream.port is not None
        loop = asyncio.get_running_loop()
        connect = partial(loop.create_connection, host=self._upstream.hostname, port=self._upstream.port)
        opaque = "TLS" if self._upstream.scheme == "wss" else None
        link = Link(len(self.links), self.timeline, connect, opaque=opaque, act=self._act)
        self.links.append(link)
        return link.client

    def _live(self) -> list[Link]:
        return [link for link in self.links if link.live]

    def reset(self, to: Target = "both") -> None:
        """Break every live link with RST; see ``Link.reset``."""
        for link in self._live():
            link.reset(to)

    def fin(self, to: Target = "both") -> None:
        """Close every live link without a Close frame; see ``Link.fin``."""
        for link in self._live():
            link.fin(to)

    def half_close(self, to: Side = "server") -> None:
        """End one direction of every live link; see ``Link.half_close``."""
        for link in self._live():
            link.half_close(to)

    def inject(self, data: bytes, to: Side = "server") -> None:
        """Send bytes of the wire's own on every live link; see ``Link.inject``."""
        for link in self._live():
            link.inject(data, to)

    def hold_close(self, source: Side = "client") -> None:
        """Withhold the goodbye of one end, on every live link; see ``Link.hold_close``."""
        for link in self._live():
            link.hold_close(source)

    def blackhole(self, source: Target = "both") -> None:
        """Lose all that an end sends, on every live link; see ``Link.blackhole``."""
        for link in self._live():
            link.blackhole(source)

    def stall(self, source: Side = "server") -> None:
        """Stop reading what one end sends, on every live link; see ``Link.stall``."""
        for link in self._live():
            link.stall(source)

    def slow(self, delay: float, rate: float | None = None, source: Target = "both") -> None:
        """Delay and limit every live link; see ``Link.slow``."""
        for link in self._live():
            link.slow(delay, rate, source)

    async def quiet(self, seconds: float) -> None:
        """Wait until every live link has been quiet for some time; see ``Link.quiet``."""
        for link in self._live():
            await link.quiet(seconds)

    # What becomes of clients that are yet to come.

    def cut_handshakes(self, how: Literal["fin", "reset"] = "fin") -> None:
        """From now on, end a client's connection when its request has come; no server is connected.

        Args:
            how: by FIN or by RST.
        """
        self._act = (lambda end: end.link.fin("client")) if how == "fin" else (lambda end: end.link.reset("client"))

    def hang_handshakes(self) -> None:
        """From now on, take a client's request and never answer it; no server is connected."""
        self._act = lambda end: end.link.lost("client", 0, "request")

    def refuse_handshakes(self, status: int = 503) -> None:
        """From now on, answer a client's request in the server's place, as a proxy does; no server is connected.

        Args:
            status: the HTTP status.
        """
        phrase = HTTPStatus(status).phrase
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()

        def refuse(end: End) -> None:
            end.link.inject(head, to="client")
            end.link.fin("client")

        self._act = refuse


def _split(url: str) -> SplitResult:
    """Split a server's URL (RFC 6455 §3), or say what is wrong with it."""
    parts: SplitResult | None = None
    port: Any = None
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        parts = urlsplit(url)
        port = parts.port
    if not isinstance(parts, SplitResult) or parts.scheme not in ("ws", "wss") or not parts.hostname or not port:
        raise BadValue(f"{url!r} is not the URL of a server; the wire takes one such as 'ws://127.0.0.1:4711/'.")
    if parts.fragment:
        raise BadValue(f"{url!r} has a fragment, which the URL of a WebSocket must not have.")
    return parts
