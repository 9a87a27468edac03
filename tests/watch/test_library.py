"""The lane ``library``: what the server's library does by itself, at the moment when it does it."""

from __future__ import annotations

import asyncio
import contextlib
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import labkit
from labkit.events import Event, LibraryGaveUp, LibraryLost, LibraryPaused, LibraryTcpClosed
from labkit.watch.library import Tap
from tests import handlers


def story(run: labkit.Run, *lanes: str) -> list[str]:
    """What happened after the fault on some lanes, in order."""
    events: list[Event] = [event for event in run.timeline.until_stop().since_fault() if event.lane in lanes]
    return [f"{event.lane} {event.kind}" for event in events]


def by_the_library(run: labkit.Run) -> list[str]:
    """All that the library did by itself; on a slow machine, a ping may also come before the fault."""
    return [event.kind for event in run.timeline.until_stop() if event.lane == "library"]


@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel"])
async def test_aiohttp_answers_a_close_and_closes_tcp_before_anything_else_happens(on: str) -> None:
    """Within one call; only then the handler's loop ends, and connection_lost follows."""
    run = await labkit.play(handlers.aiohttp_echo, on=on, fault="close")
    assert story(run, "library")[:4] == [
        "library close-received",
        "library close-sent",
        "library tcp-closed",
        "library lost",
    ]
    assert story(run, "library", "handler").index("handler notice") > 2


async def test_the_cancel_stands_below_the_close_of_tcp_that_caused_it() -> None:
    """With handler_cancellation, connection_lost cancels the handler; the wire sees Close and FIN at its own time."""
    cleans_up = labkit.EXERCISES["unclean-exit"].solution
    for fault in ("close", "reset", "fin"):
        run = await labkit.play(cleans_up, on="aiohttp-cancel", fault=fault)
        told = story(run, "library", "handler", "cleanup")
        assert told.index("library lost") < told.index("library cancel") < told.index("handler cancelled"), fault
        if fault == "close":
            order = [told.index(f"library {kind}") for kind in ("close-received", "close-sent", "tcp-closed", "lost")]
            assert order == sorted(order)
            assert told.index("cleanup closing") < told.index("cleanup truncated")


async def test_websockets_answers_a_close_and_waits_for_the_clients_fin() -> None:
    """It closes only its own direction of TCP; recv() tells when TCP is gone."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="close")
    assert story(run, "library") == [
        "library close-received",
        "library close-sent",
        "library tcp-closed",
        "library fin-received",
        "library lost",
    ]
    closed = run.timeline.first(LibraryTcpClosed)
    assert closed is not None
    assert closed.how == "write_eof"


async def test_a_ping_without_a_pong_is_given_up() -> None:
    """By aiohttp's heartbeat it closes TCP; by the keepalive of websockets it sends Close 1011 first."""

    async def with_heartbeat(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(heartbeat=0.1)
        await ws.prepare(request)
        await ws.receive()
        await ws.receive()
        return ws

    run = await labkit.play(with_heartbeat, on="aiohttp", fault="blackhole", patience=20)
    assert by_the_library(run)[-4:] == ["ping-sent", "gave-up", "tcp-closed", "lost"]
    run = await labkit.play(
        handlers.websockets_echo,
        on="websockets",
        fault="blackhole",
        patience=20,
        ping_interval=0.1,
        ping_timeout=0.1,
        close_timeout=0.1,
    )
    expected = ["ping-sent", "gave-up", "close-sent", "tcp-closed", "gave-up", "tcp-closed", "lost"]
    assert by_the_library(run)[-7:] == expected
    assert [event.why for event in run.timeline.all(LibraryGaveUp)] == [
        "its ping was not answered",
        "its Close was not answered",
    ]


async def test_a_close_that_is_not_waited_for_is_not_given_up() -> None:
    """Aiohttp's ``close()`` waits for the client's Close, unless another task of the handler is in ``receive()``."""

    async def closes(ws: web.WebSocketResponse) -> None:
        await asyncio.sleep(0.1)
        await ws.close(code=4001)

    async def alone(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=0.1)
        await ws.prepare(request)
        await closes(ws)
        return ws

    async def while_another_receives(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=0.1)
        await ws.prepare(request)
        closing = asyncio.create_task(closes(ws))
        async for _ in ws:
            pass
        await closing
        return ws

    told = {}
    for handler in (alone, while_another_receives):
        run = await labkit.play(handler, on="aiohttp", fault="ignore-close", messages=(), when=0.02, patience=1)
        told[handler] = [event.text for event in run.timeline.until_stop() if event.lane == "library"]
    assert told[alone][1:3] == ["gives up: its Close was not answered", "closes TCP"]
    assert told[while_another_receives][1] == "closes TCP without waiting for an answer to its Close"


async def test_an_answered_ping_is_no_reason_to_give_up() -> None:
    """The client answers until it leaves; then nobody waits for a pong any more."""
    run = await labkit.play(
        handlers.websockets_echo, on="websockets", fault=labkit.IdleTimeout(0.3), patience=1, ping_interval=0.1
    )
    kinds = by_the_library(run)
    assert kinds.count("ping-sent") >= 3
    assert kinds.count("ping-sent") - kinds.count("pong-received") in {0, 1}
    assert "gave-up" not in kinds


async def test_pings_and_closes_of_the_handlers_own_are_not_the_librarys() -> None:
    """They stand on the handler's lane, or nowhere; the pongs of the client still come to the library."""

    async def pings_and_closes(websocket: Any) -> None:
        await (await websocket.ping())
        await websocket.close(4001)

    run = await labkit.play(pings_and_closes, on="websockets", fault=None, messages=())
    kinds = [event.kind for event in run.timeline if event.lane == "library"]
    assert "pong-received" in kinds
    assert not {"ping-sent", "close-sent"} & set(kinds)
    assert [event.text for event in run.timeline.select("handler", "close")] == ["close(4001)"]


async def test_the_close_at_a_shutdown_is_the_librarys() -> None:
    """``Server.close()`` of websockets calls ``close(1001)`` of each connection; the handler has called nothing."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="shutdown")
    assert run.timeline.select("handler", "close") == []
    assert [event.text for event in run.timeline.select("library", "close-sent")] == ["Close 1001"]


async def test_pings_of_the_client_are_answered_by_the_library() -> None:
    """Aiohttp does it inside ``receive()``, so a busy handler's client waits for its pong."""

    async def busy(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await asyncio.sleep(0.3)
        labkit.note("done")
        await ws.receive()
        return ws

    options = {"ping_interval": 0.1, "ping_timeout": 20}
    run = await labkit.play(
        busy, on="aiohttp", fault=None, messages=(), patience=1, client="websockets", client_options=options
    )
    told = [f"{event.lane} {event.kind}" for event in run.timeline if event.lane in {"library", "handler"}]
    assert told.index("library ping-received") < told.index("handler note") < told.index("library pong-sent")


async def test_a_full_write_buffer_is_told() -> None:
    """From then on send() waits; what was unsent is dropped when the lab ends the connection."""
    run = await labkit.play(
        handlers.websockets_echo, on="websockets", fault="stalled-reader", messages=("x" * 100_000,), patience=0.2
    )
    [*_, last] = [event.kind for event in run.timeline.until_stop() if event.lane == "library"]
    assert last == "paused"


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("on", handlers.STACKS)
async def test_what_is_unsent_when_tcp_breaks_is_dropped(on: str, stalls: bool) -> None:
    """It is told if the library's buffer was full."""
    async with (
        labkit.host(handlers.echo(on), on=on) as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
        connect(wire.url, proxy=None, compression=None) as client,
    ):
        await client.send("hello")
        await client.recv()
        if stalls:
            server.narrow()
            wire.stall("server")
            sending = asyncio.create_task(_send_until_closed(client))
            await server.timeline.until(lambda event: isinstance(event, LibraryPaused))
        wire.reset()
        await server.timeline.until(lambda event: isinstance(event, LibraryLost))
        if stalls:
            await sending
    [lost] = server.timeline.all(LibraryLost)
    assert ("what is unsent is dropped" in lost.text) is stalls


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_connection_is_narrowed_at_its_own_socket(on: str) -> None:
    """Few unsent bytes then fill the system's buffer; another connection of the server keeps its own."""

    def room(server: Any) -> list[int]:
        taps = sorted(server._host.taps._taps.values(), key=lambda tap: tap.number)
        return [tap.transport.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_SNDBUF) for tap in taps]

    async with (
        labkit.host(handlers.echo(on), on=on) as server,
        connect(server.url, proxy=None),
        connect(server.url, proxy=None),
    ):
        usual = room(server)
        server.narrow({1})
        await asyncio.sleep(0)
        narrowed = room(server)
        assert narrowed[0] < usual[0]
        assert narrowed[1] == usual[1]


async def _send_until_closed(client: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.send("x" * 20_000)


async def test_the_library_keeps_its_protocol_and_what_it_asks_of_its_transport() -> None:
    """Only the transport's type is the lab's; it names the same socket and the library's own protocol."""
    seen: dict[str, Any] = {}

    async def looks(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        assert request.transport is not None
        seen["protocol"] = request.transport.get_protocol() is request.protocol
        seen["peer"] = request.transport.get_extra_info("peername")[0]
        seen["transport"] = isinstance(request.transport, asyncio.Transport)
        await ws.receive()
        return ws

    await labkit.play(looks, on="aiohttp", fault="close")
    assert seen == {"protocol": True, "peer": "127.0.0.1", "transport": True}


async def test_a_connection_that_has_ended_after_its_last_bytes_can_be_dropped() -> None:
    """Its transport was closed while bytes were unsent; asyncio's own ``abort()`` would raise."""
    lost = asyncio.Event()

    class Server(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(bytes(10_000_000))
            transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    tap = Tap(Server(), labkit.Timeline(), 1)
    server = await asyncio.get_running_loop().create_server(lambda: tap, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        await lost.wait()
        await asyncio.sleep(0)  # the transport has let go of its loop
        tap.abort()
        writer.close()
        await writer.wait_closed()
