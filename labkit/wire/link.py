"""One connection through the wire: its two ends, and the ways to break it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Literal

from labkit.errors import BadValue
from labkit.events import LinkEvent, Side, WireClosed, WireFin, WireLink, WireLost, WireReset, WireTcp
from labkit.support.descriptors import is_starved, note_starved
from labkit.support.sockets import find_ports
from labkit.timeline import Timeline
from labkit.wire.end import NOT_CONNECTED, End
from labkit.wire.frames import Decoder
from labkit.wire.gates import AfterClose, Delay, Drop, Gate, HoldClose, Intercept

__all__ = ["Ends", "Link"]

#: One end of a link, or both.
Ends = Literal["client", "server", "both"]

#: Connects the given end to the server.
Connect = Callable[[End], Coroutine[Any, Any, None]]


class Link:
    """One client's connection through the wire.

    Args:
        number: its number among the links on the timeline, from 0.
        timeline: where its events go.
        connect: connects to the server.
        opaque: why its bytes cannot be decoded, or None.
        on_request: called with the link when the client's request has come. It returns whether it has dealt with the
            request; if not, the link connects to the server and passes the request on. If None, the link connects to
            the server at once.

    Attributes:
        number: its number among the links on the timeline, from 0; the ``link`` of its events.
        timeline: where its events go.
        client: the socket towards the client.
        server: the socket towards the server.
        moved: when bytes last came from either end, as ``now`` tells it.
        now: reads the timeline's clock.
    """

    def __init__(
        self,
        number: int,
        timeline: Timeline,
        connect: Connect,
        *,
        opaque: str | None = None,
        on_request: Callable[[Link], bool] | None = None,
    ) -> None:
        self.number: Final = number
        self.timeline: Final = timeline
        self.now: Final = timeline.now
        self.moved = self.now()
        self._connect = connect
        self._connecting: asyncio.Task[Any] | None = None
        self._aborted = False
        self._closed: asyncio.Event | None = asyncio.Event()
        emit = timeline.append
        self.client: Final = End(self, "client", Decoder("client", number, emit, opaque=opaque))
        self.server: Final = End(self, "server", Decoder("server", number, emit, opaque=opaque))
        if on_request is not None:
            self.client.gate = Intercept(self.client, partial(on_request, self))
            self.server.done = self.server.closed = True
        self._intercepts = on_request is not None
        self._request = b""
        self.client.peer, self.server.peer = self.server, self.client
        self.client.decoder.peer, self.server.decoder.peer = self.server.decoder, self.client.decoder

    def __repr__(self) -> str:
        return f"<Link {self.number}, {'live' if self.live else 'closed'}>"

    @property
    def live(self) -> bool:
        """Whether either end is still open."""
        return self._closed is not None

    async def closed(self) -> None:
        """Wait until both sockets are closed."""
        if self._closed is not None:
            await self._closed.wait()

    # The ways to break it.

    def reset(self, to: Ends = "both") -> None:
        """Break the link with RST, as when a process dies with unread data, or a router forgets the connection.

        On the wire: a RST to each named end, and nothing of what was buffered for it. If the other end is not named,
        it stays connected, and what it sends is lost.

        Args:
            to: the end that gets the RST.
        """
        for end in self._ends(to):
            if end.transport is None:
                self._give_up_connecting()
            elif end.open or end.transport.get_write_buffer_size():
                self.record(WireReset(self.number, "wire", end.side, text=f"RST to the {end.side}"))
                end.reset()

    def fin(self, to: Ends = "both") -> None:
        """Close the sockets as a process does that ends without a Close frame.

        On the wire: a FIN to each named end, after what is on its way to that end. The socket is closed in both
        directions: a RST answers what that end sends later.

        Args:
            to: the end that gets the FIN. If the other end is not named, what it sends is lost.
        """
        for end in self._ends(to):
            if end.transport is None:
                self._give_up_connecting()
            elif end.open:
                self.record(WireFin(self.number, "wire", end.side, text=f"FIN to the {end.side}"))
                end.close()

    def half_close(self, to: Side = "server") -> None:
        """End one direction only, as ``shutdown(SHUT_WR)`` does.

        On the wire: a FIN to that end, after what is on its way to that end. What that end sends still passes; what
        the other end sends is lost.

        Args:
            to: the end that gets the FIN.
        """
        for end in self._ends(to):
            if end.writable:
                self.record(WireFin(self.number, "wire", end.side, text=f"FIN to the {end.side}"))
                end.peer.done = True
                end.send_fin()
                self.close_if_done()

    def inject(self, data: bytes, to: Side = "server") -> None:
        """Send bytes that the other end has not sent, after all that has been relayed.

        On the wire: these bytes, as they are. They are decoded as part of their direction; their events are marked
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
        """Withhold the Close frames, the FIN and the RST of one end from now on: a peer that never answers our Close.

        On the wire: all other frames of that end. The TCP connection stays open.

        Args:
            source: the end that seems not to close.
        """
        for end in self._ends(source):
            end.gate = HoldClose(end)

    def reset_after_close(self, source: Side = "client") -> None:
        """Break the link with RST as soon as a Close frame of one end has passed: nobody has answered it by then.

        On the wire: everything up to that Close, and RST to both ends directly after it.

        Args:
            source: the end whose Close it is.
        """
        for end in self._ends(source):
            end.gate = AfterClose(end, self.reset)

    def blackhole(self, source: Ends = "both") -> None:
        """Drop all that an end sends from now on: bytes, FIN and RST.

        On the wire: nothing more in that direction, and no sign of the loss.

        Args:
            source: the end whose bytes are dropped.
        """
        for end in self._ends(source):
            end.gate = Drop(end)

    def stall(self, source: Side = "server") -> None:
        """Stop reading what one end sends, as a peer that has stopped reading.

        On the wire: acknowledgements with a window that closes, until that end can send no more.

        Args:
            source: the end whose bytes are not read.
        """
        for end in self._ends(source):
            end.shrink_receive_buffer()
            end.pause("the peer does not read")

    def slow(self, delay: float, rate: float | None = None, source: Ends = "both") -> None:
        """Delay what an end sends from now on, and limit its rate.

        On the wire: the same bytes, FIN and RST in the same order, later.

        Args:
            delay: seconds.
            rate: bytes per second; no limit, if None.
            source: the end whose bytes are delayed.
        """
        for end in self._ends(source):
            end.gate = Delay(end, delay, rate)

    async def quiet(self, seconds: float) -> None:
        """Wait until nothing has come from either end for some time.

        Args:
            seconds: the time.
        """
        # Polling, since setting an asyncio.Event at every read would cost more.
        while (left := self.moved + seconds - self.now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    # Called by the ends and the wire.

    def client_connected(self) -> None:
        """Record the client, and connect to the server. Until then, what the client sends waits in its socket."""
        ports = None if self.client.transport is None else find_ports(self.client.transport)
        self.record(WireLink(self.number, ports, text="client connected"))
        if self._aborted:
            self.abort()
            return
        if self._intercepts:
            self.client.resume(NOT_CONNECTED)
        else:
            self._connect_server()

    def let_through(self, request: bytes) -> None:
        """Connect to the server after all, and pass on what the client has sent.

        Args:
            request: the bytes, which have been decoded.
        """
        self.client.gate = Gate(self.client)
        self.server.done = self.server.closed = False
        self._request = request
        self._connect_server()

    def _connect_server(self) -> None:
        self.client.pause(NOT_CONNECTED)
        name = f"wire link {self.number}"
        self._connecting = asyncio.get_running_loop().create_task(self._connect(self.server), name=name)
        self._connecting.add_done_callback(self._on_connected)

    def server_connected(self) -> None:
        """Record by which ports the server knows this link."""
        ports = None if self.server.transport is None else find_ports(self.server.transport, connected=True)
        if ports is not None:
            self.record(WireTcp(self.number, ports, text="connected to the server"))

    def _on_connected(self, task: asyncio.Task[Any]) -> None:
        exc = None if task.cancelled() else task.exception()
        if self.server.transport is None:
            self.server.done = self.server.closed = True
        if self._request:
            self.server.write(self._request)
            self._request = b""
        if exc is None:
            self.client.resume(NOT_CONNECTED)
        else:
            if is_starved(exc):
                note_starved()
            why = f"the server cannot be reached: {exc}"
            self.record(WireReset(self.number, "wire", "client", why, text=f"RST to the client: {why}"))
            self.client.reset()
        self.close_if_done()

    def _give_up_connecting(self) -> None:
        self.server.done = True
        if self._connecting is None:
            self.server.closed = True
        else:
            self._connecting.cancel()

    def abort(self) -> None:
        """Close both sockets now; what is on its way is lost."""
        self._aborted = True
        if self.server.transport is None:
            self._give_up_connecting()
        self.client.abort()
        self.server.abort()

    def close_if_done(self) -> None:
        """Close both sockets if nothing is left to do, and record it when both are closed."""
        client, server = self.client, self.server
        if client.done and server.done and client.gate.idle and server.gate.idle:
            client.close()
            server.close()
        connecting = self._connecting is not None and not self._connecting.done()
        if client.closed and server.closed and self._closed is not None and not connecting:
            client.gate.stop()
            server.gate.stop()
            client.retire()
            server.retire()
            self._connecting = None
            self._closed.set()
            self._closed = None
            self.record(WireClosed(self.number, text="link closed"))

    def record_loss(self, source: Side, length: int, what: str | None = None) -> None:
        """Record what came from one end and was not passed on."""
        text = f"{what} from the {source} withheld" if what else f"{length} bytes from the {source} lost"
        self.record(WireLost(self.number, source, length, what, text=text))

    def record(self, event: LinkEvent) -> None:
        """Record an event of this link."""
        self.timeline.append(event)

    def _ends(self, to: str) -> list[End]:
        ends = {"client": [self.client], "server": [self.server], "both": [self.server, self.client]}
        if to not in ends:
            raise BadValue(f"{to!r} is not an end of a link; the ends are 'client' and 'server'.")
        return ends[to]
