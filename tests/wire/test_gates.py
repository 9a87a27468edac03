"""Gates: in which order the wire tells of bytes and passes them on, and what it does in a server's place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.support.clock import scaled
from labkit.wire import Relay
from labkit.wire.gates import Gate
from tests.wire.test_relay import CLOSE, HELLO, REQUEST, Peer, dial, listening, pair, soon, url_of


@pytest.mark.parametrize(("writable", "then"), [(True, "write"), (False, "lost")])
def test_a_frame_is_told_before_it_can_arrive(writable: bool, then: str) -> None:
    """An end in another thread or process tells of its arrival at once; the wire has told of its passing by then."""
    did: list[str] = []
    end: Any = SimpleNamespace(
        side="client",
        decoder=SimpleNamespace(feed=lambda _: did.append("feed")),
        peer=SimpleNamespace(writable=writable, write=lambda _: did.append("write")),
        record_loss=lambda _: did.append("lost"),
    )
    Gate(end).data(b"hello")
    assert did == ["feed", then]


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize(("leave", "what"), [(Peer.finish, "FIN"), (Peer.reset, "RST")])
async def test_a_close_that_is_cut_off_is_withheld_too(leave: Callable[[Peer], None], what: str, cut: int) -> None:
    """What had come of it when its client went is counted, and after it the FIN or the RST."""
    async with pair() as p:
        await p.greet()
        p.link.hold_close()
        await p.client.send(HELLO + CLOSE[:cut])
        assert await p.server.read_exactly(len(HELLO)) == HELLO
        leave(p.client)
        await soon(p.wire.timeline.until(lambda event: event.data.get("what") == what))
        lost = [(event.data["what"], event.data["length"]) for event in p.wire.timeline.select("wire", "lost")]
        assert lost == [("Close", cut), (what, 0)]
        assert await p.server.is_silent()


# In the server's place


@contextlib.asynccontextmanager
async def knocking() -> AsyncIterator[tuple[Relay, Callable[[], Any]]]:
    """A wire, and a call that connects a client to it; the server is never connected to."""
    peers: list[Peer] = []
    with listening() as listener:
        async with Relay(url_of(listener)) as wire:

            async def knock() -> Peer:
                peers.append(await dial(wire.url))
                return peers[-1]

            yield wire, knock
        with pytest.raises(BlockingIOError):
            listener.accept()
    for peer in peers:
        peer.sock.close()


async def test_a_request_is_answered_once_it_is_whole() -> None:
    """Wherever it is cut, in the middle of its blank line too; the answer is marked as the wire's own."""
    async with knocking() as (wire, knock):
        wire.refuse_handshakes(503)
        client = await knock()
        for cut in (REQUEST[:10], REQUEST[10:-3], REQUEST[-3:-1]):
            moved = wire.links[0].moved if wire.links else 0.0
            await client.send(cut)
            async with asyncio.timeout(scaled(5)):
                while not wire.links or wire.links[0].moved == moved:  # noqa: ASYNC110 - bytes have no event
                    await asyncio.sleep(0)
            assert await client.is_silent()
        await client.send(REQUEST[-1:])
        assert (await client.read()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert await client.read() == b""
        await soon(wire.links[0].closed())
        told = [(event.text, event.data.get("injected", False)) for event in wire.timeline]
    assert told == [
        ("client connected", False),
        ("GET / → 503", True),
        ("FIN to the client", False),
        ("link closed", False),
    ]


@pytest.mark.parametrize(("how", "told"), [("fin", "FIN to the client"), ("reset", "RST to the client")])
async def test_a_handshake_is_cut(how: Any, told: str) -> None:
    """When the request is whole, by FIN or by RST."""
    async with knocking() as (wire, knock):
        wire.cut_handshakes(how)
        client = await knock()
        await client.send(REQUEST)
        with contextlib.nullcontext() if how == "fin" else pytest.raises(ConnectionResetError):
            assert await client.read() == b""
        await soon(wire.links[0].closed())
        assert [event.text for event in wire.timeline] == ["client connected", told, "link closed"]


async def test_a_request_that_hangs_is_told_once() -> None:
    """What the client sends behind it goes nowhere; it may give up, and the link ends."""
    async with knocking() as (wire, knock):
        wire.hang_handshakes()
        client = await knock()
        await client.send(REQUEST)
        await soon(wire.timeline.until(lambda event: event.kind == "lost"))
        await client.send(HELLO)
        client.finish()
        await soon(wire.links[0].closed())
        assert [event.text for event in wire.timeline] == [
            "client connected",
            "request from the client withheld",
            "TEXT 'hello'",
            "FIN from the client",
            "link closed",
        ]
