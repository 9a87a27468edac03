"""Bytes of the wire's own between those of a client: any bytes, cut anywhere, arrive as they are and in order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import labkit
from labkit.faults.fault import Scene
from labkit.timeline import Timeline
from tests.wire.test_relay import pair

PROTOCOL = st.one_of(
    st.builds(labkit.BadOpcode, opcode=st.sampled_from([*range(3, 8), *range(11, 16)])),
    st.just(labkit.BadUtf8()),
    st.builds(labkit.TooBig, size=st.integers(65_536, (1 << 63) - 1)),
    st.just(labkit.UnmaskedFrame()),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=400)), max_size=8), st.booleans())
async def test_what_is_injected_stands_where_it_was_injected(steps: list[tuple[bool, bytes]], greeted: bool) -> None:
    """In the handshake or behind it, inside a frame or between two: never a crash, never a changed byte."""
    async with pair() as p:
        if greeted:
            await p.greet()
        for injected, data in steps:
            if injected:
                p.link.inject(data)
            else:
                await p.client.send(data)
            assert await p.server.read_exactly(len(data)) == data
        p.client.finish()
        assert await p.server.read() == b""
        told = p.wire.timeline.select("wire", "opaque")
        assert len(told) <= 1  # what cannot be decoded is told once, and the bytes go on


@settings(deadline=None, max_examples=30)
@given(PROTOCOL, st.binary(max_size=300), st.lists(st.binary(min_size=1, max_size=300), max_size=4))
async def test_a_protocol_fault_is_one_frame_among_any_bytes(
    fault: labkit.Fault, before: bytes, after: list[bytes]
) -> None:
    """Whatever the client has sent, and goes on sending, arrives around it, unchanged."""
    nothing: Any = None
    async with pair() as p:
        await p.greet()
        if before:
            await p.client.send(before)
            assert await p.server.read_exactly(len(before)) == before
        await fault.strike(Scene(p.wire, nothing, nothing, Timeline(), 5))
        head = await p.server.read_exactly(2)
        assert head[0] & 0x0F == (fault.opcode if isinstance(fault, labkit.BadOpcode) else head[0] & 0x0F)
        assert (head[1] >= 0x80) is not isinstance(fault, labkit.UnmaskedFrame)
        length = {127: 8}.get(head[1] & 0x7F, 0)
        announced = int.from_bytes(await p.server.read_exactly(length), "big") if length else head[1] & 0x7F
        if isinstance(fault, labkit.TooBig):
            assert announced == fault.size
            announced = 16 * 1024
        await p.server.read_exactly(announced + (4 if head[1] >= 0x80 else 0))
        for chunk in after:
            await p.client.send(chunk)
            assert await p.server.read_exactly(len(chunk)) == chunk
