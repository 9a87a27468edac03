"""A part of a wire: the links of one client are broken, and those of the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from labkit.support.clock import scaled
from labkit.wire import Relay, SomeLinks


@asynccontextmanager
async def relayed() -> AsyncIterator[tuple[Relay, list[str]]]:
    """An echo server behind a wire, and the paths for which it was asked."""
    asked: list[str] = []

    async def echo(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        asked.append(websocket.request.path)
        async for message in websocket:
            await websocket.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with Relay(f"ws://127.0.0.1:{port}/") as wire:
            yield wire, asked


async def answers(client: ClientConnection) -> bool:
    """Whether the client still gets an answer."""
    try:
        async with asyncio.timeout(scaled(0.3)):
            await client.send("hello")
            return await client.recv() == "hello"
    except (ConnectionClosed, TimeoutError):
        return False


@pytest.mark.parametrize("strike", ["reset", "fin", "half_close", "blackhole", "stall"])
async def test_one_link_alone_is_broken(strike: str) -> None:
    """The first of two; what belongs to the part is asked at the moment of the strike."""
    async with relayed() as (wire, _), AsyncExitStack() as stack:
        chosen: list[int] = []
        part = SomeLinks(wire, lambda link: link.number in chosen)
        first, second = [
            await stack.enter_async_context(connect(wire.url, close_timeout=0.1, proxy=None)) for _ in range(2)
        ]
        assert part.links == []
        getattr(part, strike)()
        assert await answers(first)
        chosen.append(0)
        getattr(part, strike)()
        assert [link.number for link in part.links] == [0]
        assert not await answers(first)
        assert await answers(second)
        wire.reset()  # the whole still breaks all
        assert not await answers(second)


REQUESTS: list[tuple[str, Callable[[Any], None], type[Exception]]] = [
    ("cut", lambda part: part.cut_handshakes(), Exception),
    ("reset", lambda part: part.cut_handshakes("reset"), Exception),
    ("refuse", lambda part: part.refuse_handshakes(503), InvalidStatus),
    ("hang", lambda part: part.hang_handshakes(), TimeoutError),
]


@pytest.mark.parametrize(("name", "treat", "failure"), REQUESTS, ids=[name for name, _, _ in REQUESTS])
async def test_one_request_alone_is_taken(name: str, treat: Any, failure: type[Exception]) -> None:
    """Whose it is is asked when the whole request has come; another's goes to the server, every byte of it."""
    async with relayed() as (wire, asked):
        part = SomeLinks(wire, lambda link: link.number == 1)
        treat(part)
        async with connect(wire.url + "before", proxy=None) as before:
            assert await answers(before)
            with pytest.raises(failure):
                await connect(wire.url + "taken", proxy=None, open_timeout=0.3)
            async with connect(wire.url + "after", proxy=None) as after:
                assert await answers(after)
            assert await answers(before)
        assert asked == ["/before", "/after"]
        frames = [event.data["link"] for event in wire.timeline.select("wire", "frame")]
        assert set(frames) == {0, 2}
        requests = [event.data["request"] for event in wire.timeline.select("wire", "handshake")]
        assert requests[:1] + requests[-1:] == ["GET /before", "GET /after"]


async def test_a_request_that_comes_in_pieces_is_passed_on_whole() -> None:
    """And what the client sends right behind it."""
    got = bytearray()

    async def serve_raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(1000):
            got.extend(part)
        writer.close()
        served.set()

    served = asyncio.Event()
    server = await asyncio.start_server(serve_raw, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Relay(f"ws://127.0.0.1:{port}/") as wire:
        SomeLinks(wire, lambda _: False).cut_handshakes()
        _, writer = await asyncio.open_connection("127.0.0.1", int(wire.url.rpartition(":")[2].strip("/")))
        pieces = [b"GET / HT", b"TP/1.1\r\nHost: x\r", b"\n\r", b"\nand more", b" and more"]
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        writer.write_eof()
        await wire.timeline.until(lambda event: event.kind == "closed", scaled(5))
        await served.wait()
        writer.close()
        await writer.wait_closed()
    assert bytes(got) == b"".join(pieces)


async def test_a_client_that_leaves_before_its_request_is_whole_is_not_passed_on() -> None:
    """The server never hears of it."""
    async with relayed() as (wire, asked):
        SomeLinks(wire, lambda _: False).cut_handshakes()
        _, writer = await asyncio.open_connection("127.0.0.1", int(wire.url.rpartition(":")[2].strip("/")))
        writer.write(b"GET / HTTP/1.1\r\n")
        writer.close()
        assert await wire.timeline.until(lambda event: event.kind == "closed", scaled(5))
        assert asked == []
        assert not wire.timeline.select("wire", "tcp")
