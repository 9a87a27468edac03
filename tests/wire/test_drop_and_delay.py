"""Directions in which bytes are lost or late: never a changed byte, never a crash, and no timer that is left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from time import monotonic
from typing import Any

import pytest
import websockets
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

import labkit
from labkit.support.clock import scaled
from labkit.wire.end import CHUNK, HIGH_WATER
from tests.wire.test_relay import pair, soon

CHUNKS = st.lists(st.binary(min_size=1, max_size=2000), max_size=6)


@settings(deadline=None, max_examples=20)
@given(CHUNKS, CHUNKS, st.sampled_from([0.0, 0.002]), st.sampled_from([None, 200_000, 1_000_000.5]))
async def test_what_is_slow_arrives_unchanged_and_in_order(
    up: list[bytes], down: list[bytes], delay: float, rate: float | None
) -> None:
    """Whatever the bytes are and however they are cut, with a FIN behind them, in both directions at once."""
    async with pair() as p:
        p.link.slow(delay, rate)
        for chunk in up:
            await p.client.send(chunk)
        for chunk in down:
            await p.server.send(chunk)
        p.client.finish()
        p.server.finish()
        assert await p.server.read_exactly(len(b"".join(up))) == b"".join(up)
        assert await p.client.read_exactly(len(b"".join(down))) == b"".join(down)
        assert await p.server.read() == await p.client.read() == b""
        await soon(p.link.closed())


@settings(deadline=None, max_examples=20)
@given(CHUNKS, CHUNKS)
async def test_of_what_enters_a_blackhole_nothing_arrives(before: list[bytes], after: list[bytes]) -> None:
    """Of any bytes a beginning arrives unchanged; the rest is counted, to the byte."""
    early, late = b"".join(before), b"".join(after)
    async with pair() as p:
        for chunk in before:
            await p.client.send(chunk)
        assert await p.server.read_exactly(len(early)) == early
        p.link.blackhole("client")
        for chunk in after:
            await p.client.send(chunk)
        p.client.finish()
        await p.told("fin")
        assert await p.server.is_silent()
        assert sum(event.data["length"] for event in p.wire.timeline.select("wire", "lost")) == len(late)


async def test_a_blackhole_takes_no_more_than_a_senders_system_would() -> None:
    """Nobody acknowledges what is lost: then the sender is stopped, and stays so."""
    async with pair() as p:
        await p.greet()
        p.link.blackhole("client")
        async with asyncio.timeout(scaled(5)):
            while p.link.client.transport.is_reading():
                with contextlib.suppress(BlockingIOError):
                    p.client.sock.send(bytes(4096))
                await asyncio.sleep(0)
        lost = sum(event.data["length"] for event in p.wire.timeline.select("wire", "lost"))
        assert HIGH_WATER < lost <= HIGH_WATER + CHUNK
        assert await p.server.is_silent()


async def test_a_blackhole_does_not_tell_that_an_end_has_ended() -> None:
    """Both have sent FIN, and each still waits for the other's."""
    async with pair() as p:
        p.link.blackhole()
        p.client.finish()
        p.server.finish()
        for side in ("client", "server"):
            text = f"FIN from the {side} withheld"
            await soon(p.wire.timeline.until(lambda event, text=text: event.text == text))
        assert await p.client.is_silent()
        assert await p.server.is_silent()
        assert p.link.live


async def test_what_is_slow_comes_the_delay_later() -> None:
    """And without a rate all of it at once."""
    async with pair() as p:
        p.link.slow(0.05)
        began = asyncio.get_running_loop().time()
        await p.client.send(bytes(1000))
        assert await p.server.read() == bytes(1000)
        assert asyncio.get_running_loop().time() - began >= 0.05 * 0.99


async def test_a_rate_is_kept_however_the_bytes_come() -> None:
    """In many pieces or in one, and after a time in which nothing was sent."""
    loop = asyncio.get_running_loop()
    async with pair() as p:
        p.link.slow(0, 2000)
        for sizes in ([10] * 10, [100]):
            began = loop.time()
            for size in sizes:
                p.link.client.gate.data(bytes(size))
            await p.server.read_exactly(100)
            assert loop.time() - began >= 100 / 2000 * 0.99
            await asyncio.sleep(0.06)


async def test_a_very_slow_link_passes_byte_by_byte() -> None:
    """A byte is the smallest piece: at 10 bytes a second the first one comes before the others."""
    async with pair() as p:
        p.link.slow(0, 10)
        await p.client.send(b"abc")
        assert await p.server.read() in {b"a", b"ab"}


async def test_a_sender_that_a_slow_link_has_stopped_goes_on() -> None:
    """Each time that there is room again, until all has arrived."""
    async with pair() as p:
        p.link.slow(0, 8_000_000)
        big = bytes(range(256)) * 4096
        sending = asyncio.ensure_future(p.client.send(big))
        assert await p.server.read_exactly(len(big)) == big
        await sending
        assert p.link.client.transport.is_reading()


@pytest.mark.parametrize(("ends", "other"), [("client", "server"), ("server", "client")])
async def test_a_reset_travels_as_slowly_as_the_bytes_before_it(ends: str, other: str) -> None:
    """What was sent before it arrives before it."""
    async with pair() as p:
        p.link.slow(0.05)
        await getattr(p, ends).send(b"last words")
        getattr(p, ends).reset()
        assert await getattr(p, other).read_exactly(10) == b"last words"
        with pytest.raises(ConnectionResetError):
            await getattr(p, other).read()
        await soon(p.link.closed())


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_what_a_slow_link_still_has_when_tcp_ends_is_seen_first(how: str) -> None:
    """A message and the end of TCP right behind it: on the wire they have their turns in this order, and both late."""

    async def says_and_drops(request: web.Request) -> None:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
            if message.data == "again":
                assert request.transport is not None
                if how == "RST":
                    linger = struct.pack("ii", 1, 0)
                    request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                request.transport.close()

    async with (
        labkit.host(says_and_drops, on="aiohttp") as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
        websockets.connect(wire.url, compression=None) as ws,
    ):
        await ws.send("hello")
        assert await ws.recv() == "hello"
        wire.slow(0.05)
        await ws.send("again")
        assert await ws.recv() == "again"
        await ws.wait_closed()
    told = server.timeline.select("wire", "frame", "fin", "reset")
    from_server = [event.text for event in told if event.data["source"] == "server"]
    assert from_server == ["TEXT 'hello'", "TEXT 'again'", f"{how} from the server"]


async def test_a_slow_link_stops_a_fast_sender() -> None:
    """What waits is bounded; then TCP holds the sender back, and goes on when there is room."""
    async with pair() as p:
        p.link.slow(0.0, 400_000)
        big = bytes(range(256)) * 1024
        sending = asyncio.ensure_future(p.client.loop.sock_sendall(p.client.sock, big * 40))
        got = await p.server.read_exactly(20_000)
        assert not sending.done()
        waiting = p.link.client.gate._waiting  # type: ignore[attr-defined]
        assert 0 < waiting <= 3 * HIGH_WATER
        got += await p.server.read_exactly(100_000)
        assert got == big[: len(got)]
        sending.cancel()
        await asyncio.wait([sending])


async def test_no_timer_is_left_of_a_link_that_is_closed() -> None:
    """Bytes that wait for their time are forgotten with the link."""
    loop: Any = asyncio.get_running_loop()
    before = {timer for timer in loop._scheduled if not timer.cancelled()}
    async with pair() as p:
        p.link.slow(60)
        await p.client.send(b"never")
        async with asyncio.timeout(5):
            while p.link.client.gate.idle:  # noqa: ASYNC110 - nothing tells of bytes that wait
                await asyncio.sleep(0)
    left = {timer for timer in loop._scheduled if not timer.cancelled()} - before
    assert [timer for timer in left if "_pass_on" in repr(timer)] == []


async def test_a_peer_that_does_not_read_is_told_once() -> None:
    """The first time that an end is full is an event; a long transfer fills it again, and not the timeline."""
    async with pair() as p:
        sending = asyncio.ensure_future(p.client.loop.sock_sendall(p.client.sock, bytes(80_000_000)))

        async def client_is_stopped(stopped: bool) -> None:
            while p.link.client.transport.is_reading() is stopped:
                await asyncio.sleep(0)
                if not stopped and not await p.server.is_silent():
                    await p.server.read()

        for _ in range(3):
            await soon(client_is_stopped(True))
            await soon(client_is_stopped(False))
        sending.cancel()
        await asyncio.wait([sending])
        assert await p.told("full") == {"link": 0, "side": "server"}
        assert len(p.wire.timeline.select("wire", "full")) == 1


async def test_quiet_is_counted_from_the_last_byte() -> None:
    """In whichever direction it came."""
    async with pair() as p:
        await p.greet()
        last = p.link.moved
        await p.link.quiet(0.05)
        assert monotonic() - last >= 0.05

        for quiet in (p.link.quiet, p.wire.quiet):
            await p.server.send(b"x")
            await p.client.read_exactly(1)
            assert p.link.moved > last
            waiting = asyncio.ensure_future(quiet(scaled(0.2)))
            await asyncio.sleep(0.05)
            await p.client.send(b"x")
            await p.server.read_exactly(1)
            assert not waiting.done()
            last = p.link.moved
            await waiting
            assert monotonic() - last >= scaled(0.2)
