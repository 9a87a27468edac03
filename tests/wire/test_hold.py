"""A conversation is held between two of its frames: so many pass, and what comes after them waits in the wire."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from labkit.support.clock import scaled
from labkit.wire import Hold, Holds
from tests.wire.test_relay import REQUEST, RESPONSE, Pair, pair

#: A message in two frames, with a ping between them; one with a long header; an empty one.
FRAMES = (
    Frame(Opcode.TEXT, b"hel", fin=False),
    Frame(Opcode.PING, b""),
    Frame(Opcode.CONT, b"lo"),
    Frame(Opcode.BINARY, bytes(300)),
    Frame(Opcode.TEXT, b""),
)
UP = tuple(frame.serialize(mask=True) for frame in FRAMES)
DOWN = tuple(frame.serialize(mask=False) for frame in FRAMES)


def hold(p: Pair, count: int) -> tuple[Holds, Hold]:
    """Hold the pair's link, through which nothing has passed yet."""
    holds = Holds(count)
    holds.add(p.link)
    found = holds.find(lambda number: number == p.link.number)
    assert found is not None
    return holds, found


def kept(p: Pair) -> int:
    """How many bytes the wire has told that it holds."""
    return sum(event.data["length"] for event in p.wire.timeline.select("wire", "held"))


async def send_in_parts(send: Any, data: bytes, step: int) -> None:
    """Send bytes, and let the wire read each part before the next."""
    for start in range(0, len(data), step):
        await send(data[start : start + step])
        for _ in range(3):
            await asyncio.sleep(0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, len(FRAMES)), st.integers(1, 40), st.booleans())
async def test_so_many_frames_pass_however_they_are_cut(count: int, step: int, by_client: bool) -> None:
    """Of either end, to the last byte and not one more; the rest comes unchanged when it is released."""
    async with pair() as p:
        holds, held = hold(p, count)
        await send_in_parts(p.client.send, REQUEST, step)
        await p.server.read_exactly(len(REQUEST))
        assert not held.full
        sender, receiver, frames = (p.client, p.server, UP) if by_client else (p.server, p.client, DOWN)
        head = b"" if by_client else RESPONSE
        if by_client:
            await p.server.send(RESPONSE)
            await p.client.read_exactly(len(RESPONSE))
        await send_in_parts(sender.send, head + b"".join(frames), step)
        sender.finish()
        early, late = head + b"".join(frames[:count]), b"".join(frames[count:])
        assert await receiver.read_exactly(len(early)) == early
        if late:
            await p.wire.timeline.until(lambda _: kept(p) == len(late), timeout=scaled(5))
        assert held.full
        assert held.passed == count
        assert await receiver.is_silent()
        ends = [frame.fin and frame.opcode is not Opcode.PING for frame in FRAMES]
        assert held.delivered == by_client * sum(ends[:count])
        assert held.withheld == (not by_client) * sum(ends[count:])
        holds.release()
        assert await receiver.read_exactly(len(late)) == late
        assert await receiver.read() == b""


async def test_the_frames_of_both_directions_count_together() -> None:
    """One of each has passed, so the next of either waits."""
    async with pair() as p:
        _, held = hold(p, 2)
        await p.greet()
        await p.client.send(UP[4])
        assert await p.server.read_exactly(len(UP[4])) == UP[4]
        assert not held.full
        await p.server.send(DOWN[4] + DOWN[4])
        assert await p.client.read_exactly(len(DOWN[4])) == DOWN[4]
        await p.client.send(UP[4])
        assert held.full
        await p.wire.timeline.until(lambda _: len(p.wire.timeline.select("wire", "held")) == 2)
        assert await p.server.is_silent()
        assert await p.client.is_silent()


@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_what_a_fault_cuts_off_is_lost(how: str) -> None:
    """It is counted, to the byte, and no frame of it is told as passed."""
    async with pair() as p:
        holds, _ = hold(p, 0)
        await p.greet()
        await p.client.send(UP[4] + UP[0])
        await p.told("held")
        getattr(p.link, how)()
        holds.release()
        assert await p.told("lost") == {"link": 0, "source": "client", "length": len(UP[4] + UP[0])}
        assert p.wire.timeline.select("wire", "frame") == []


async def test_what_enters_a_blackhole_that_is_opened_meanwhile_is_lost() -> None:
    """What has waited goes where the direction now leads."""
    async with pair() as p:
        holds, _ = hold(p, 0)
        await p.greet()
        await p.client.send(UP[4])
        await p.told("held")
        p.link.blackhole("client")
        holds.release()
        await p.told("lost")
        assert await p.server.is_silent()
        await p.server.send(DOWN[4])
        assert await p.client.read_exactly(len(DOWN[4])) == DOWN[4]
