"""Each fault does on the wire what its docstring says: a raw socket in the server's place looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from websockets.frames import Frame
from websockets.server import ServerProtocol

import labkit
from labkit.clients.own import OwnClient
from labkit.faults.fault import Scene
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from labkit.wire import Relay
from tests.segments import needs_tcp_info, segments


class Peer(asyncio.Protocol):
    """A server that does the handshake by hand, and then notes what comes, as bytes."""

    def __init__(self) -> None:
        self.protocol = ServerProtocol()
        self.got = b""
        self.shaken = False
        self.more = asyncio.Event()
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.shaken:
            self.got += data
            self.more.set()
            return
        self.protocol.receive_data(data)
        for request in self.protocol.events_received():
            self.protocol.send_response(self.protocol.accept(request))  # type: ignore[arg-type]
            self.shaken = True
        for answer in self.protocol.data_to_send():
            self.transport.write(answer)

    def eof_received(self) -> bool:
        if not self.end.done():
            self.end.set_result("FIN")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.end.done():
            self.end.set_result("RST" if isinstance(exc, ConnectionResetError) else "closed")

    def frames(self) -> list[Frame]:
        """Decode what came, with an independent reading of RFC 6455 §5.2 for short masked frames."""
        found, rest = [], self.got
        while len(rest) >= 6:
            length, mask = rest[1] & 0x7F, rest[2:6]
            if rest[1] < 0x80 or length > 125 or len(rest) < 6 + length:
                break
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(rest[6 : 6 + length]))
            found.append(Frame(rest[0] & 0x0F, payload))  # type: ignore[arg-type]
            rest = rest[6 + length :]
        return found


class RawServer:
    """The server here is a raw socket; the faults of these families ask nothing else of it."""

    def narrow(self) -> None:
        """Its buffers stay as they are."""


RAW_SERVER: Any = RawServer()


@asynccontextmanager
async def strike(fault: labkit.Fault, *messages: str) -> AsyncIterator[tuple[Peer, OwnClient, Scene]]:
    """A client connects to a raw server through a wire, and the fault strikes."""
    loop = asyncio.get_running_loop()
    peers: list[Peer] = []

    def accept() -> Peer:
        peers.append(Peer())
        return peers[-1]

    listener = await loop.create_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    timeline = Timeline()
    async with Relay(f"ws://127.0.0.1:{port}/", timeline=timeline) as wire:
        client = OwnClient(wire.url, timeline)
        assert await client.connect()
        scene = Scene(wire, client, RAW_SERVER, timeline, scaled(5), messages)
        try:
            async with asyncio.timeout(scaled(20)):  # a fault that does nothing fails its test, and does not hang it
                assert await fault.due(scene)
                await fault.strike(scene)
                yield peers[0], client, scene
        finally:
            peers[0].transport.abort()
            await client.stop()
            listener.close()
    await listener.wait_closed()


async def got(peer: Peer, length: int) -> bytes:
    """Wait until the peer has this many bytes."""
    async with asyncio.timeout(scaled(5)):
        while len(peer.got) < length:
            peer.more.clear()
            await peer.more.wait()
    return peer.got


@pytest.mark.parametrize(
    ("fault", "payload"),
    [
        (labkit.Close(), b"\x03\xe8"),
        (labkit.Close(code=4000, reason="bye"), b"\x0f\xa0bye"),
        (labkit.GoingAway(), b"\x03\xe9"),
        (labkit.NoCode(), b""),
    ],
    ids=str,
)
async def test_a_close_frame(fault: labkit.Fault, payload: bytes) -> None:
    """The client sends one Close with this payload, and leaves the end of TCP to the server."""
    async with strike(fault) as (peer, _, _):
        await got(peer, 6 + len(payload))
        assert [(frame.opcode, frame.data) for frame in peer.frames()] == [(8, payload)]
        assert not peer.end.done()


@needs_tcp_info
async def test_close_at_once() -> None:
    """The last message once more and a Close, in one segment behind that of the handshake; no FIN."""
    async with strike(labkit.CloseAtOnce(), "first", "last") as (peer, client, scene):
        await got(peer, 6 + len("last") + 6 + 2)
        assert [(frame.opcode, frame.data) for frame in peer.frames()] == [(1, b"last"), (8, b"\x03\xe8")]
        from_client = scene.wire.links[0].client.transport  # the wire alone could make one segment of two
        assert from_client is not None
        assert (segments(from_client), segments(peer.transport)) == (2, 2)
        assert not peer.end.done()
    assert [event.text for event in client.timeline.select("client", "send", "close-sent")] == ["'last'", "Close 1000"]


async def test_closed_tab() -> None:
    """A Close and FIN, before the server has said a word; what it says then is answered with RST."""
    async with strike(labkit.ClosedTab()) as (peer, client, scene):
        assert await peer.end == "FIN"
        assert [(frame.opcode, frame.data) for frame in peer.frames()] == [(8, b"\x03\xe9")]
        await client.ended()
        peer.transport.write(b"\x88\x02\x03\xe9")
        assert await scene.timeline.until(lambda event: event.text == "RST from the client", scaled(5))
    told = client.timeline.select("client", "close-sent", "close-received", "ended")
    assert [event.text for event in told] == ["Close 1001", "connection closed"]


async def test_close_then_reset() -> None:
    """A Close, and a RST right behind it: the client does not wait for an answer, which never comes here."""
    async with strike(labkit.CloseThenReset()) as (peer, _, scene):
        assert await peer.end == "RST"
        assert [frame.opcode for frame in peer.frames()] == [8]
        [sent], [reset, *_] = scene.timeline.select("client", "close-sent"), scene.timeline.select("wire", "reset")
        assert reset.at - sent.at < scene.patience


async def test_fin() -> None:
    """A FIN without a Close; the client's socket is closed too."""
    async with strike(labkit.Fin()) as (peer, client, _):
        assert await peer.end == "FIN"
        assert peer.got == b""
        await client.ended()


async def test_after_a_fin_the_servers_data_is_answered_with_a_reset() -> None:
    """Nobody holds the client's socket any more, so what the server still sends comes to nobody."""
    async with strike(labkit.Fin()) as (peer, _, _):
        await peer.end
        peer.end = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(scaled(5)):
            while not peer.end.done():
                peer.transport.write(b"\x81\x02hi")
                await asyncio.sleep(0.001)


async def test_half_close() -> None:
    """A FIN to the server, while the client still gets what the server sends."""
    async with strike(labkit.HalfClose()) as (peer, _, scene):
        assert await peer.end == "FIN"
        assert peer.got == b""
        peer.transport.write(b"\x81\x02hi")
        event = await scene.timeline.until(lambda event: event.kind == "recv", scaled(5))
        assert event is not None
        assert event.text == "'hi'"
        assert not scene.timeline.select("client", "close-received", "ended")


async def test_reset() -> None:
    """A RST, to both sides."""
    async with strike(labkit.Reset()) as (peer, client, scene):
        assert await peer.end == "RST"
        await client.ended()
        assert scene.timeline.select("client", "ended")[0].data["how"] == "reset"


@pytest.mark.parametrize(("then", "end"), [("fin", "FIN"), ("reset", "RST")])
async def test_truncated_frame(then: str, end: str) -> None:
    """The head of a masked text frame that announces 100 bytes, 10 of them, and the end."""
    async with strike(labkit.TruncatedFrame(then=then)) as (peer, _, _):  # type: ignore[arg-type]
        assert await peer.end == end
        assert peer.got[:2] == bytes([0x81, 0x80 | 100])
        assert len(peer.got) == 2 + 4 + 10


async def test_truncated_frame_with_a_long_header() -> None:
    """From 126 bytes on the length takes two bytes more; as many bytes of the payload are sent as for a short one."""
    async with strike(labkit.TruncatedFrame(announced=1000, sent=20)) as (peer, _, _):
        assert await peer.end == "FIN"
        assert peer.got[:4] == bytes([0x81, 0x80 | 126]) + (1000).to_bytes(2, "big")
        assert len(peer.got) == 2 + 2 + 4 + 20


async def test_ignore_close() -> None:
    """The server's Close reaches the client; the client's answer and its FIN are withheld, and TCP stays up."""
    async with strike(labkit.IgnoreClose()) as (peer, client, scene):
        client.send("still here")
        peer.transport.write(b"\x88\x02\x03\xe8")
        withheld = await scene.timeline.until(lambda event: event.kind == "lost", scaled(5))
        assert withheld is not None
        assert scene.timeline.select("client", "close-received")
        await got(peer, 6 + len("still here"))
        assert [frame.data for frame in peer.frames()] == [b"still here"]
        assert not peer.end.done()
