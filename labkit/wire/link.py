"""One connection through the wire: its two ends, and the ways to break it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Any, Final, Literal

from labkit.errors import BadValue
from labkit.timeline import Timeline
from labkit.wire.answers import Answer
from labkit.wire.end import End
from labkit.wire.frames import Decoder, Side
from labkit.wire.gates import HoldClose
from labkit.wire.losses import Blackhole, Slow

__all__ = ["Link", "Target"]

Target = Literal["client", "server", "both"]

#: Connects the protocol that a factory makes to the server.
Connect = Callable[[Callable[[], asyncio.BaseProtocol]], Coroutine[Any, Any, Any]]


class Link:
    """One client's connection through the wire.

    Args:
        number: its index in ``wire.links``.
        timeline: where its events go.
        connect: connects to the server.
        opaque: why its bytes cannot be decoded, or None.
        act: what is done with the client's request in the server's place, which then is never connected; or None.

    Attributes:
        number: its index in ``wire.links``; the ``link`` of its events.
        timeline: where its events go.
        client: the socket towards the client.
        server: the socket towards the server.
        moved: when bytes last came from either end, on the loop's clock.
    """

    def __init__(
        self,
        number: int,
        timeline: Timeline,
        connect: Connect,
        *,
        opaque: str | None = None,
        act: Callable[[End], None] | None = None,
    ) -> None:
        self.number: Final = number
        self.timeline: Final = timeline
        self.moved = monotonic()
        self._connect = connect
        self._connecting: asyncio.Task[Any] | None = None
        self._reached = False
        self._aborted = False
        self._closed = asyncio.Event()
        emit = partial(timeline.record, "wire")
        self.client: Final = End(self, "client", Decoder("client", number, emit, opaque=opaque))
        self.server: Final = End(self, "server", Decoder("server", number, emit, opaque=opaque))
        if act is not None:
            self.client.gate = Answer(self.client, act)
            self.server.done = self.server.lost = True
        self._answered = act is not None
        self.client.peer, self.server.peer = self.server, self.client
        self.client.decoder.peer, self.server.decoder.peer = self.server.decoder, self.client.decoder

    def __repr__(self) -> str:
        return f"<Link {self.number}, {'live' if self.live else 'closed'}>"

    @property
    def live(self) -> bool:
        """Whether either end is still open."""
        return not self._closed.is_set()

    async def closed(self) -> None:
        """Wait until both sockets are closed."""
        await self._closed.wait()

    # The faults.

    def reset(self, to: Target = "both") -> None:
        """Break the link with RST, as when a process dies with unread data, or a router forgets the connection.

        On the wire: a RST to each end named, and none of what was buffered for it. The other end, if one is spared,
        stays connected: what it sends is lost.

        Args:
            to: which end is told.
        """
        for end in self._ends(to):
            if end.transport is None:
                self._give_up_connecting()
            elif end.open or end.transport.get_write_buffer_size():
                self.record("reset", f"RST to the {end.side}", source="wire", to=end.side)
                end.reset()

    def fin(self, to: Target = "both") -> None:
        """Close the sockets as a process does that ends without a Close frame.

        On the wire: a FIN to each end named, behind what is on its way to it. The socket is closed in both
        directions: what that end sends later is answered with RST.

        Args:
            to: which end is told; what a spared one sends is lost.
        """
        for end in self._ends(to):
            if end.transport is None:
                self._give_up_connecting()
            elif end.open:
                self.record("fin", f"FIN to the {end.side}", source="wire", to=end.side)
                end.close()

    def half_close(self, to: Side = "server") -> None:
        """End one direction only, as ``shutdown(SHUT_WR)`` does.

        On the wire: a FIN to that end, behind what is on its way to it. What that end sends still flows; what the
        other one sends is lost.

        Args:
            to: the end that gets the FIN.
        """
        for end in self._ends(to):
            if end.writable:
                self.record("fin", f"FIN to the {end.side}", source="wire", to=end.side)
                end.peer.done = True
                end.finish()
                self.settle()

    def inject(self, data: bytes, to: Side = "server") -> None:
        """Send bytes that the other end has not sent, behind all that has been relayed.

        On the wire: these bytes, as they are. They are decoded as part of their direction, and their events carry
        ``injected``.

        Args:
            data: any bytes.
            to: the end that gets them.
        """
        for end in self._ends(to):
            end.write(data)
            decoder = end.peer.decoder
            decoder.injected = True
            decoder.feed(data)
            decoder.injected = False

    def hold_close(self, source: Side = "client") -> None:
        """Withhold the goodbye of one end from now on: a peer that never answers our Close.

        On the wire: all frames of that end but Close; nothing of its Close frames, its FIN or its RST. TCP stays open.

        Args:
            source: whose goodbye is withheld.
        """
        for end in self._ends(source):
            end.gate = HoldClose(end)

    def blackhole(self, source: Target = "both") -> None:
        """Lose all that an end sends from now on: bytes, FIN and RST.

        On the wire: nothing any more in that direction, and no sign of it.

        Args:
            source: whose direction it is.
        """
        for end in self._ends(source):
            end.gate = Blackhole(end)

    def stall(self, source: Side = "server") -> None:
        """Stop reading what one end sends: its peer has stopped reading.

        On the wire: acknowledgements with a window that closes, until that end cannot send any more.

        Args:
            source: whose bytes are not read.
        """
        for end in self._ends(source):
            end.narrow()
            end.pause("the peer does not read")

    def slow(self, delay: float, rate: float | None = None, source: Target = "both") -> None:
        """Pass on later, and no faster than a rate, what an end sends from now on.

        On the wire: the same bytes, FIN and RST in the same order, later.

        Args:
            delay: seconds.
            rate: bytes a second; no limit, if None.
            source: whose direction it is.
        """
        for end in self._ends(source):
            end.gate = Slow(end, delay, rate)

    async def quiet(self, seconds: float) -> None:
        """Wait until nothing has come from either end for some time.

        Args:
            seconds: for how long.
        """
        while (left := self.moved + seconds - monotonic()) > 0:  # noqa: ASYNC110 - an event a byte would cost more
            await asyncio.sleep(left)

    # What the ends and the wire call.

    def client_connected(self) -> None:
        """Note the client, and connect to the server; what the client sends until then waits in its socket."""
        self.record("link", "client connected")
        if self._aborted:
            self.abort()
            return
        if self._answered:
            return
        self.client.pause("the server is not connected")
        name = f"wire link {self.number}"
        self._connecting = asyncio.get_running_loop().create_task(self._connect(self._server), name=name)
        self._connecting.add_done_callback(self._connected)

    def _server(self) -> End:
        self._reached = True  # from here on connection_lost will tell when the socket is closed
        return self.server

    def _connected(self, task: asyncio.Task[Any]) -> None:
        if not self._reached:
            self.server.done = self.server.lost = True
        self.client.resume("the server is not connected")
        if not task.cancelled() and (exc := task.exception()) is not None:
            why = f"the server cannot be reached: {exc}"
            self.record("reset", f"RST to the client: {why}", source="wire", to="client", why=why)
            self.client.reset()
        self.settle()

    def _give_up_connecting(self) -> None:
        self.server.done = True
        if self._connecting is None:
            self.server.lost = True
        else:
            self._connecting.cancel()

    def abort(self) -> None:
        """Close both sockets now, whatever is on its way."""
        self._aborted = True
        if self.server.transport is None:
            self._give_up_connecting()
        self.client.abort()
        self.server.abort()

    def settle(self) -> None:
        """Close what has nothing left to do, and tell when all is closed."""
        client, server = self.client, self.server
        if client.done and server.done and client.gate.idle and server.gate.idle:
            client.close()
            server.close()
        if client.lost and server.lost and self.live and (self._connecting is None or self._connecting.done()):
            client.gate.stop()
            server.gate.stop()
            self._closed.set()
            self.record("closed", "link closed")

    def lost(self, source: Side, length: int, what: str = "") -> None:
        """Record what came from one end and went nowhere."""
        text = f"{what} from the {source} withheld" if what else f"{length} bytes from the {source} lost"
        data = {"link": self.number, "source": source, "length": length}
        self.timeline.record("wire", "lost", text, data | {"what": what} if what else data)

    def record(self, kind: str, text: str, **data: Any) -> None:
        """Record an event of this link."""
        self.timeline.record("wire", kind, text, {"link": self.number, **data})

    def _ends(self, to: str) -> list[End]:
        ends = {"client": [self.client], "server": [self.server], "both": [self.server, self.client]}
        if to not in ends:
            raise BadValue(f"{to!r} is not an end of a link; the ends are 'client' and 'server'.")
        return ends[to]
