"""Directions in which bytes are lost or late: never a changed byte, never a crash, and no timer that is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.wire.end import HIGH_WATER
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
    """The first time that an end is full is an event; a long transfer does not fill the timeline."""
    async with pair() as p:
        sending = asyncio.ensure_future(p.client.loop.sock_sendall(p.client.sock, bytes(40_000_000)))
        assert await p.told("full") == {"link": 0, "side": "server"}
        for _ in range(200):
            await p.server.read(65_536)
        sending.cancel()
        await asyncio.wait([sending])
        assert len(p.wire.timeline.select("wire", "full")) == 1


async def test_quiet_is_counted_from_the_last_byte() -> None:
    """In whichever direction it came."""
    async with pair() as p:
        await p.greet()
        last = p.link.moved
        await p.link.quiet(0.05)
        assert asyncio.get_running_loop().time() - last >= 0.05 * 0.99
        await p.server.send(b"x")
        await p.client.read_exactly(1)
        assert p.link.moved > last
