"""Links: which end a fault strikes, and in which direction; the other one is as it was."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from labkit.support.clock import scaled
from labkit.wire import Link, Relay
from labkit.wire.end import HIGH_WATER
from tests.wire.test_relay import BIG, CLOSE, HELLO, Pair, pair, soon

#: A fault strikes one link, or by the wire all of them.
Whole = Callable[[Pair], Relay | Link]
WHOLE = [pytest.param(lambda p: p.wire, id="wire"), pytest.param(lambda p: p.link, id="link")]


@pytest.mark.parametrize(
    ("strike", "told"),
    [
        (lambda wire: wire.reset("client"), "RST to the client"),
        (lambda wire: wire.fin("client"), "FIN to the client"),
        (lambda wire: wire.half_close("client"), "FIN to the client"),
        (lambda wire: wire.inject(b"\x81\x02hi", "client"), "TEXT 'hi'"),
    ],
)
async def test_a_fault_of_the_wire_strikes_the_end_that_is_named(strike: Any, told: str) -> None:
    """The client hears of it, and the server does not."""
    async with pair() as p:
        await p.greet()
        strike(p.wire)
        assert p.texts()[1:] == [told]
        [event] = [event for event in p.wire.timeline if event.text == told]
        assert event.data.get("to", "client") == "client"
        assert event.data["source"] == ("server" if "TEXT" in told else "wire")
        with contextlib.suppress(ConnectionResetError):
            assert await p.client.read() in {b"", b"\x81\x02hi"}
        assert await p.server.is_silent()


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("source", ["client", "server", "both"])
async def test_a_blackhole_swallows_the_direction_that_is_named(source: Any, whole: Whole) -> None:
    """Both, if none is named."""
    async with pair() as p:
        await p.greet()
        whole(p).blackhole(*([] if source == "both" else [source]))
        await p.client.send(HELLO)
        await p.server.send(b"\x81\x02hi")
        for text in ("TEXT 'hello'", "TEXT 'hi'"):  # lost or not, they were sent
            await soon(p.wire.timeline.until(lambda event, text=text: event.text == text))
        if source != "server":
            await soon(p.wire.timeline.until(lambda event: event.text == f"{len(HELLO)} bytes from the client lost"))
            assert await p.server.is_silent()
        else:
            assert await p.server.read_exactly(len(HELLO)) == HELLO
        if source != "client":
            await soon(p.wire.timeline.until(lambda event: event.text == "4 bytes from the server lost"))
            assert await p.client.is_silent()
        else:
            assert await p.client.read_exactly(4) == b"\x81\x02hi"


@pytest.mark.parametrize("whole", WHOLE)
async def test_it_is_the_clients_goodbye_if_none_is_named(whole: Whole) -> None:
    """Of what is withheld, and of what is ended: the server is told of a FIN, or not told."""
    async with pair() as p:
        await p.greet()
        whole(p).hold_close()
        await p.client.send(CLOSE)
        assert (await p.told("lost"))["source"] == "client"
        assert await p.server.is_silent()
        whole(p).half_close()
        assert await p.server.read() == b""
        assert await p.client.is_silent()


async def test_the_close_of_a_server_may_be_withheld() -> None:
    """What the client sends, its Close too, passes."""
    async with pair() as p:
        await p.greet()
        p.wire.hold_close("server")
        await p.server.send(b"\x88\x00")
        assert (await p.told("lost"))["source"] == "server"
        await p.client.send(CLOSE)
        assert await p.server.read_exactly(len(CLOSE)) == CLOSE
        assert await p.client.is_silent()


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize(("stalled", "free"), [("server", "client"), ("client", "server")])
async def test_what_is_stalled_is_not_read(stalled: str, free: str, whole: Whole) -> None:
    """That end cannot send any more, once the small buffers of the systems are full; the other one is heard."""
    async with pair() as p:
        await p.greet()
        whole(p).stall(*([] if stalled == "server" else [stalled]))
        writer, reader = getattr(p, stalled), getattr(p, free)
        writer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sent, silent = 0, 0
        while silent < 50 and sent < HIGH_WATER:  # turns of the loop in which the system takes nothing more
            try:
                sent, silent = sent + writer.sock.send(bytes(4096)), 0
            except BlockingIOError:
                silent += 1
            await asyncio.sleep(0)
        assert 0 < sent < HIGH_WATER
        await reader.send(b"heard")
        assert await writer.read_exactly(5) == b"heard"
        assert await reader.is_silent()


async def test_what_is_stalled_stays_stalled() -> None:
    """Also where it was stopped for another reason too, and that one is gone."""
    async with pair() as p:
        await p.greet()
        p.link.stall("server")
        p.link.inject(BIG, to="client")
        assert await p.told("full") == {"link": 0, "side": "client"}
        await p.client.read_exactly(len(BIG))
        assert p.link.client.transport.get_write_buffer_size() == 0
        await p.server.send(b"never read")
        await p.client.send(HELLO)
        assert await p.server.read_exactly(len(HELLO)) == HELLO
        assert await p.client.is_silent()


async def test_what_the_wire_sends_to_an_end_that_has_its_fin_is_lost() -> None:
    """It counts as the other end's, whose direction it would have joined."""
    async with pair() as p:
        await p.greet()
        p.link.half_close("server")
        p.link.inject(HELLO, to="server")
        assert await p.told("lost") == {"link": 0, "source": "client", "length": len(HELLO)}


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("source", ["client", "server", "both"])
async def test_the_direction_that_is_named_is_slow(source: Any, whole: Whole) -> None:
    """Both, if none is named."""
    async with pair() as p:
        await p.greet()
        whole(p).slow(60, None, *([] if source == "both" else [source]))
        before = p.link.moved
        for one, other, end in ((p.client, p.server, "client"), (p.server, p.client, "server")):
            await one.send(b"hello")
            if source not in {end, "both"}:
                assert await other.read_exactly(5) == b"hello"
                continue
            async with asyncio.timeout(scaled(5)):
                while getattr(p.link, end).gate.idle:  # noqa: ASYNC110 - nothing tells of bytes that wait
                    await asyncio.sleep(0)
            assert await other.is_silent()
        assert p.link.moved > before


async def test_a_reset_breaks_what_still_drains() -> None:
    """After ``fin`` the wire has bytes for a server that does not read: ``reset`` drops them."""
    async with pair() as p:
        await p.greet()
        p.wire.inject(BIG)
        p.wire.fin()
        p.wire.reset()
        await soon(p.link.closed())
        ends = [text for text in p.texts() if text[:3] in {"FIN", "RST"}]
        assert ends == ["FIN to the server", "FIN to the client", "RST to the server"]
        assert (await p.told("lost"))["source"] == "client"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loopback answers later than the call returns")
async def test_the_socket_of_an_end_that_has_reset_is_closed_at_once() -> None:
    """Also where its goodbye is withheld, and the link stays up for the server."""
    async with pair() as p:
        await p.greet()
        p.link.hold_close()
        p.client.sock.close()
        await p.told("fin")
        await p.server.send(b"anyone?")
        await p.told("reset")
        assert not p.link.client.open
        assert p.link.live
