"""Silence, middleboxes, protocol errors and handshakes, as raw sockets at both ends see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

import labkit
from labkit.events import WireLost
from labkit.faults.fault import Scene
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from labkit.wire import Relay
from tests import handlers
from tests.faults.test_bytes import got, strike

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\n\r\n"


# --- silence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "up", "down"),
    [("both", False, False), ("to-server", False, True), ("to-client", True, False)],
)
async def test_a_blackhole_swallows_a_direction(direction: Any, up: bool, down: bool) -> None:
    """Bytes of that direction never arrive, its FIN neither; the other direction is as it was."""
    async with strike(labkit.Blackhole(direction=direction)) as (peer, client, scene):
        client.send("up")
        peer.transport.write(b"\x81\x04down")
        lost = 2 - up - down
        for number in range(lost):
            event = await scene.timeline.until(
                lambda event, number=number: event.kind == "lost" and nth(scene, event) == number, scaled(5)
            )
            assert event is not None
        if up:
            await got(peer, 8)
            assert [frame.data for frame in peer.frames()] == [b"up"]
        if down:
            assert await scene.timeline.until(lambda event: event.kind == "recv", scaled(5)) is not None
        assert (peer.got != b"") is up
        assert bool(scene.timeline.select("client", "recv")) is down
        assert not peer.end.done()
        sources = sorted(event.data["source"] for event in scene.timeline.select("wire", "lost"))
        assert sources == ["client"] * (not up) + ["server"] * (not down)


def sent_after_the_fault(run: labkit.Run) -> list[str]:
    [struck] = run.timeline.select("wire", "fault")
    return [event.text for event in run.timeline.select("client", "send") if event.at > struck.at]


def nth(scene: Scene, event: Any) -> int:
    return scene.timeline.select("wire", "lost").index(event)


async def test_a_blackhole_has_something_to_swallow() -> None:
    """The client sends its messages once more, and none of them arrives."""
    async with strike(labkit.Blackhole(), "first", "last") as (peer, _, scene):
        client = 6 + len("first") + 6 + len("last")
        assert await scene.timeline.until(
            lambda _: sum(e.length for e in scene.timeline.all(WireLost)) == client, scaled(5)
        )
        assert [event.text for event in scene.timeline.select("client", "send")] == ["'first'", "'last'"]
        assert peer.got == b""


async def test_a_blackhole_swallows_fin_and_reset() -> None:
    """Neither a goodbye of TCP nor its end passes."""
    async with strike(labkit.Blackhole()) as (peer, client, scene):
        peer.transport.write_eof()
        assert await scene.timeline.until(lambda event: event.text == "FIN from the server withheld", scaled(5))
        assert client.transport is not None
        client.transport.get_extra_info("socket").setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER of zero
        client.transport.abort()
        assert await scene.timeline.until(lambda event: event.text == "RST from the client withheld", scaled(5))
        assert not peer.end.done()
        peer.transport.abort()


async def test_nobody_acknowledges_what_a_blackhole_swallows() -> None:
    """As with a real one the sender's buffer fills up and stays full; what the wire takes is bounded."""
    size = 32 << 20

    async with strike(labkit.Blackhole()) as (peer, _, scene):

        def taken() -> int:
            return sum(event.length for event in scene.timeline.all(WireLost))

        peer.transport.write(b"\x82\x7f" + size.to_bytes(8, "big") + bytes(size))  # one frame: quick to decode
        assert await scene.timeline.until(lambda _: taken() > 64 << 10, scaled(5))
        # In each turn of the loop a wire that went on would take 64 KiB more.
        for _ in range(100):
            await asyncio.sleep(0)
        assert taken() <= 128 << 10
        assert peer.transport.get_write_buffer_size() > 0


async def test_a_stalled_reader_whose_connection_ends_sends_nothing_more() -> None:
    """The server drops the connection at the first message of the fault, so the client does not go on."""

    async def drops(websocket: Any) -> None:
        await websocket.send(await websocket.recv())
        await websocket.recv()
        websocket.transport.abort()

    run = await labkit.play(drops, on="websockets", fault="stalled-reader")
    assert 1 <= len(sent_after_the_fault(run)) <= 3


@pytest.mark.parametrize(("message", "sent"), [("hello", 63), ("x" * 11, 1023)])
async def test_a_stalled_reader_goes_on_only_where_answers_may_fill_the_buffers(message: str, sent: int) -> None:
    """A thousand answers of a few bytes do not; so the client stops soon."""
    run = await labkit.play(
        handlers.websockets_echo, "websockets", "stalled-reader", messages=(message,), clock="autojump"
    )
    assert len(sent_after_the_fault(run)) == sent


async def test_a_stalled_reader_closes_its_window() -> None:
    """What the server sends piles up until its writes stop; the client sends nothing of its own accord."""
    async with strike(labkit.StalledReader()) as (peer, _, scene):
        assert scene.timeline.select("client", "send") == []  # it had no message before the fault
        stopped = asyncio.Event()
        protocol: Any = peer
        protocol.pause_writing = stopped.set
        protocol.resume_writing = lambda: None
        async with asyncio.timeout(scaled(10)):
            while not stopped.is_set():
                peer.transport.write(b"\x82\x7e\xff\xff" + bytes(0xFFFF))
                await asyncio.sleep(0)
        assert scene.timeline.select("client", "recv") == []


# --- middleboxes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("then", "end"), [("reset", "RST"), ("fin", "FIN")])
async def test_an_idle_connection_is_cut(then: Any, end: str) -> None:
    """After that long without a byte, to both sides."""
    fault = labkit.IdleTimeout(seconds=0.05, then=then)
    async with strike(fault) as (peer, client, scene):
        assert await peer.end == end
        assert peer.got == b""
        await client.ended()
        [cut] = [e for e in scene.timeline.select("wire", "reset", "fin") if e.data.get("to") == "server"]
        quiet_since = max(e.at for e in scene.timeline if e.lane == "wire" and e.at < cut.at)
        assert cut.at - quiet_since >= scaled(0.05) * 0.99


@pytest.mark.parametrize("talker", ["client", "server"])
async def test_a_chatty_connection_is_spared(talker: str) -> None:
    """Whoever talks: each byte begins the time anew."""
    fault = labkit.IdleTimeout(seconds=0.8)
    async with connected() as (client, peer, scene):
        due = asyncio.ensure_future(fault.due(scene))
        for _ in range(20):
            (client if talker == "client" else peer).write(b"x")
            await asyncio.sleep(scaled(0.05))
            assert not due.done()
        assert await due
        due = asyncio.ensure_future(fault.due(scene))
        await asyncio.sleep(0)
        scene.timeline.record("handler", "end", "returned", {"ending": "returned", "call": 1})
        assert not await due


@pytest.mark.parametrize(("direction", "slow"), [("both", "both"), ("to-server", "up"), ("to-client", "down")])
async def test_a_slow_link_delays_and_keeps_the_order(direction: Any, slow: str) -> None:
    """The same bytes in the same order, each the delay later; the other direction takes no time."""
    fault = labkit.SlowLink(delay=0.1, direction=direction)
    async with connected() as (client, peer, scene):
        await fault.strike(scene)
        for way, (sender, receiver) in {"up": (client, peer), "down": (peer, client)}.items():
            began = asyncio.get_running_loop().time()
            for word in (b"one ", b"two ", b"three"):
                sender.write(word)
                await asyncio.sleep(0)
            sender.write_eof()
            assert await receiver.read() == b"one two three"
            took = asyncio.get_running_loop().time() - began
            assert (took >= scaled(0.1) * 0.99) is (slow in {way, "both"})


async def test_over_a_slow_link_the_client_waits_for_each_answer() -> None:
    """It sends its messages once more, one after the other, each when the answer to the one before is there."""
    fault = labkit.SlowLink(delay=0.01)
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, messages=("a", "b"), patience=0.3)
    [struck] = run.timeline.select("wire", "fault")
    talk = [(e.kind, e.text) for e in run.timeline.select("client", "send", "recv") if e.at > struck.at]
    assert talk == [("send", "'a'"), ("recv", "'a'"), ("send", "'b'"), ("recv", "'b'")]


async def test_over_a_slow_link_a_client_whose_connection_ends_sends_nothing_more() -> None:
    """The first of its two messages is answered with the end of the connection."""

    async def returns(websocket: Any) -> None:
        for _ in range(2):
            await websocket.send(await websocket.recv())
        await websocket.recv()

    fault = labkit.SlowLink(delay=0.01)
    run = await labkit.play(returns, on="websockets", fault=fault, messages=("a", "b"))
    assert sent_after_the_fault(run) == ["'a'"]


async def test_the_waits_of_a_fault_are_stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    """With LABKIT_TIME_SCALE=3, an idle timeout and a delay of 50 ms are 150 ms."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", "3")
    loop = asyncio.get_running_loop()
    async with connected() as (client, peer, scene):
        client.write(b"x")
        assert await peer.read(1) == b"x"
        began = loop.time()
        assert await labkit.IdleTimeout(seconds=0.05).due(scene)
        assert loop.time() - began >= 0.15 * 0.9
        await labkit.SlowLink(delay=0.05).strike(scene)
        began = loop.time()
        client.write(b"y")
        assert await peer.read(1) == b"y"
        assert loop.time() - began >= 0.15 * 0.99


async def test_a_slow_link_keeps_to_its_rate() -> None:
    """1,000 bytes at 5,000 a second take a fifth of a second, and come in pieces."""
    fault = labkit.SlowLink(delay=0, rate=5000)
    async with connected() as (client, peer, scene):
        await fault.strike(scene)
        began = asyncio.get_running_loop().time()
        client.write(bytes(1000))
        pieces = 0
        rest = 1000
        while rest:
            rest -= len(await peer.read(1000))
            pieces += 1
        assert asyncio.get_running_loop().time() - began >= 0.2 * 0.95
        assert pieces > 3


# --- protocol --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "first", "second", "length"),
    [
        (labkit.BadOpcode(), 0x83, 0x80 | 13, 6 + 13),
        (labkit.BadOpcode(opcode=0xC), 0x8C, 0x80 | 13, 6 + 13),
        (labkit.BadOpcode(opcode=0xF), 0x8F, 0x80 | 13, 6 + 13),
        (labkit.BadUtf8(), 0x81, 0x80 | 4, 6 + 4),
        (labkit.TooBig(), 0x82, 0x80 | 127, 14 + 16 * 1024),
        (labkit.UnmaskedFrame(), 0x81, 7, 2 + 7),
    ],
    ids=str,
)
async def test_the_malformed_bytes(fault: labkit.Fault, first: int, second: int, length: int) -> None:
    """Exactly one frame, and what is wrong with it is in its head or its payload."""
    async with strike(fault) as (peer, _, _):
        whole = await got(peer, length)
        assert (whole[0], whole[1], len(whole)) == (first, second, length)
        if isinstance(fault, labkit.BadUtf8):
            [frame] = peer.frames()
            with pytest.raises(UnicodeDecodeError):
                bytes(frame.data).decode()
        if isinstance(fault, labkit.TooBig):
            assert int.from_bytes(whole[2:10], "big") == fault.size
        if isinstance(fault, labkit.UnmaskedFrame):
            assert whole[2:] == b"no mask"


# --- handshakes ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def knock(fault: labkit.Fault) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, list[Any]]]:
    """A raw client asks for a handshake through a wire where the fault has struck; the list is of servers reached."""
    reached: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(reader)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    timeline = Timeline()
    async with Relay(f"ws://127.0.0.1:{port}/", timeline=timeline) as wire:
        nobody: Any = None
        await fault.strike(Scene(wire, nobody, nobody, timeline, scaled(5)))
        parts = urlsplit(wire.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(REQUEST[:20])
        await asyncio.sleep(0)
        assert not reader.at_eof()
        writer.write(REQUEST[20:])
        yield reader, writer, reached
        writer.close()
    server.close()
    await server.wait_closed()


async def test_a_handshake_that_is_cut() -> None:
    """FIN when the request is whole; the server never sees the client."""
    async with knock(labkit.HandshakeCut()) as (reader, _, reached):
        assert await reader.read() == b""
        assert reached == []


async def test_a_handshake_that_is_reset() -> None:
    """RST when the request is whole."""
    async with knock(labkit.HandshakeCut(then="reset")) as (reader, _, reached):
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert reached == []


@pytest.mark.parametrize(("status", "phrase"), [(503, b"Service Unavailable"), (401, b"Unauthorized")])
async def test_a_handshake_that_is_refused(status: int, phrase: bytes) -> None:
    """An HTTP response, as a proxy gives it, and FIN."""
    async with knock(labkit.HandshakeRefused(status=status)) as (reader, _, reached):
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 %d %b\r\n" % (status, phrase))
        assert answer.endswith(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        assert reached == []


async def test_a_handshake_that_hangs() -> None:
    """Nothing comes, and the connection stays; the client may give up, and nobody minds."""
    async with knock(labkit.HandshakeHang()) as (reader, _, reached):
        reading = asyncio.ensure_future(reader.read())
        await asyncio.wait([reading], timeout=0.1)  # of nothing there is no event
        assert not reading.done()
        reading.cancel()
        assert reached == []


# --- two raw ends ----------------------------------------------------------------------------------------------------


class End:
    """A raw socket: what is read and written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.read = reader.read
        self.write = writer.write
        self.write_eof = writer.write_eof
        self.writer = writer


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[End, End, Scene]]:
    """A raw client and a raw server with a wire in between."""
    arrived: asyncio.Queue[End] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.put_nowait(End(reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    timeline = Timeline()
    async with Relay(f"ws://127.0.0.1:{port}/", timeline=timeline) as wire:
        parts = urlsplit(wire.url)
        client = End(*await asyncio.open_connection(parts.hostname, parts.port))
        peer = await arrived.get()
        nobody: Any = None
        yield client, peer, Scene(wire, nobody, nobody, timeline, scaled(5))
        client.writer.close()
        peer.writer.close()
    server.close()
    await server.wait_closed()


# --- whom a fault needs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", labkit.FAULTS.values(), ids=str)
async def test_a_fault_needs_no_more_than_it_says(fault: labkit.Fault) -> None:
    """Here are a wire and two raw sockets: that will do for those that need the wire alone, and for no other."""
    async with connected() as (_, _, scene):
        assert await fault.due(scene)
        if fault.needs == "wire":
            await fault.strike(scene)
        else:
            with pytest.raises((AttributeError, AssertionError)):
                await fault.strike(scene)
