"""Servers as people have them, after threads of theirs: in the lab they do what they do on a plain server.

Applications of aiohttp: #3192 (sockets in a WeakSet, closed by ``on_shutdown``), #3550 (``on_shutdown`` goes through a
set that its handlers change), #3855 (a room that tells who comes and goes). Servers of websockets: a map of routes, a
token in the subprotocol, a page for the health check, and TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, web
from websockets.asyncio.client import connect
from websockets.asyncio.router import route
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, NegotiationError
from werkzeug.routing import Map, Rule

import labkit
from labkit.errors import BadHandler, BadValue
from labkit.events import HandlerStart
from labkit.support.clock import scaled

Log = list[str]


def terminal(log: Log) -> web.Application:
    """Sockets in a WeakSet, and methods as handlers."""

    class Terminal:
        def __init__(self) -> None:
            self.sockets: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()

        async def stop(self, app: web.Application) -> None:
            log.append("stops")
            for ws in set(self.sockets):
                await ws.close(code=WSCloseCode.GOING_AWAY, message=b"Server shutdown")

        async def serve(self, request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            self.sockets.add(ws)
            try:
                async for message in ws:
                    await ws.send_str(f"{message.data}/answer")
            finally:
                log.append(f"over, {ws.close_code}")
            return ws

    own, app = Terminal(), web.Application()
    app.on_shutdown.append(own.stop)
    app.router.add_get("/", own.serve)
    return app


def changing_set(log: Log) -> web.Application:
    """Whoever is closed takes itself out of the set that is gone through."""
    app, sockets = web.Application(), set[web.WebSocketResponse]()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        sockets.add(ws)
        try:
            async for message in ws:
                await ws.send_str(message.data)
        finally:
            sockets.discard(ws)
            log.append(f"over, {len(sockets)} left")
        return ws

    async def goodbye(app: web.Application) -> None:
        for ws in sockets:
            await ws.close(code=WSCloseCode.GOING_AWAY)

    app.on_shutdown.append(goodbye)
    app.router.add_get("/", handler)
    return app


def room(log: Log) -> web.Application:
    """A page or a socket at the same path; all are told who comes and who goes."""
    app, sockets = web.Application(), list[web.WebSocketResponse]()

    async def handler(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        if not ws.can_prepare(request):
            return web.Response(text="a page")
        await ws.prepare(request)
        sockets.append(ws)
        try:
            async for message in ws:
                for each in sockets:
                    await each.send_str(message.data)
        finally:
            sockets.remove(ws)
            log.append(f"gone, {len(sockets)} told")
            for each in sockets:
                await each.send_str("somebody has gone")
        return ws

    app.router.add_get("/", handler)
    return app


@asynccontextmanager
async def plain(app: web.Application) -> AsyncIterator[tuple[str, web.AppRunner]]:
    """The application as ``run_app`` runs it."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", runner
    finally:
        with contextlib.suppress(RuntimeError):  # of the set
            await runner.cleanup()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("make", [terminal, changing_set, room])
async def test_an_application_does_the_same_in_the_lab(make: Callable[[Log], web.Application], end: str) -> None:
    """What its own code notes of the first client, while the second stays."""
    on_plain: Log = []
    in_lab: Log = []
    async with plain(make(on_plain)) as (url, _), labkit.Wire(url) as wire, aiohttp.ClientSession() as session:
        first, second = await session.ws_connect(wire.url), await session.ws_connect(url)
        await first.send_str("hello")
        await first.receive()
        if end == "close":
            await first.close()
        else:
            wire.reset()
        while not on_plain:  # noqa: ASYNC110 - the application tells nobody
            await asyncio.sleep(0.005)
        noted = list(on_plain)
        await second.close()
    run = await labkit.play(lambda: make(in_lab), fault=end, clients=2)
    assert in_lab[: len(noted)] == noted
    assert (run.verdict.ending, run.verdict.leaked, run.verdict.complaints) == ("returned", (), ())
    assert run.connections[1].verdict.ending == "running"


async def test_what_fails_in_a_shutdown_is_a_complaint() -> None:
    """On a plain server it is a traceback, and the second socket is never closed."""
    async with plain(changing_set([])) as (url, runner), aiohttp.ClientSession() as session:
        sockets = [await session.ws_connect(url) for _ in range(2)]
        for ws in sockets:
            await ws.send_str("hello")
            await ws.receive()
        reading = [asyncio.create_task(ws.receive()) for ws in sockets]
        with pytest.raises(RuntimeError, match="Set changed size during iteration"):
            await runner.cleanup()
        for task in reading:
            task.cancel()
    run = await labkit.play(lambda: changing_set([]), fault="shutdown", clients=2, patience=0.3)
    assert run.verdict.complaints == ("the shutdown failed: RuntimeError: Set changed size during iteration",)


async def test_what_fails_in_a_cleanup_does_not_fail_the_lab() -> None:
    """The run is there, and tells it among what the lab has caused."""

    def make() -> web.Application:
        async def fails(app: web.Application) -> None:
            raise ConnectionError("no database")

        app = room([])
        app.on_cleanup.append(fails)
        return app

    run = await labkit.play(make, fault="close")
    assert run.verdict.ending == "returned"
    assert "the cleanup failed: ConnectionError: no database" in [event.text for event in run.timeline]


async def channel(websocket: Any, name: str) -> None:
    async for message in websocket:
        await websocket.send(f"{name}: {message}")


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


URLS = Map([Rule("/channel/<name>", endpoint=channel), Rule("/echo", endpoint=echo)])


@pytest.mark.parametrize(("path", "answer"), [("/channel/news?since=1", "news: hello"), ("/echo", "hello")])
async def test_a_map_of_routes(path: str, answer: str) -> None:
    """The handler of the path is watched, with what the path gives it."""
    async with route(URLS, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
        async with connect(url, proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == answer
    run = await labkit.play(URLS, on="websockets", path=path, fault="reset")
    [start] = run.timeline.all(HandlerStart)
    assert start.handler == ("channel" if "channel" in path else "echo")
    assert [event.text for event in run.timeline.select("client", "recv")] == [repr(answer)]
    assert run.verdict.exception is not None
    with pytest.raises(BadHandler, match=r"no handler for /: Not Found; its rules are /channel/<name>, /echo"):
        await labkit.play(URLS, on="websockets")


def health(connection: Any, request: Any) -> Any:
    """Answer the health check of a load balancer."""
    return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None


async def test_a_page_for_the_health_check_and_a_map() -> None:
    """``process_request`` comes before the map, as in ``route``."""
    options: dict[str, Any] = {"on": "websockets", "process_request": health}
    run = await labkit.play(URLS, path="/echo", **options)
    page = await labkit.play(echo, path="/healthz", **options)
    assert (run.verdict.ending, page.outcome) == ("raised", "unstarted")
    assert "HTTP 200" in page.verdict.sentence


def by_token(connection: Any, offered: Any) -> Any:
    """Take the token that is offered beside the subprotocol."""
    if "token.abc" not in offered:
        raise NegotiationError("no token")
    return "chat"


async def test_a_token_in_the_subprotocol() -> None:
    """The server answers with the subprotocol alone; without the token it refuses the handshake."""
    seen: Log = []

    async def handler(websocket: Any) -> None:
        seen.append(websocket.subprotocol)
        await echo(websocket)

    options: dict[str, Any] = {"subprotocols": ["chat"], "select_subprotocol": by_token}
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connect(url, subprotocols=["chat", "token.abc"], proxy=None):  # type: ignore[list-item]
            pass
    run = await labkit.play(
        handler, on="websockets", fault="close", **{**options, "subprotocols": ["chat", "token.abc"]}
    )
    refused = await labkit.play(handler, on="websockets", fault="close", **options)
    assert seen == ["chat", "chat"]
    assert run.outcome == "clean"
    assert refused.outcome in {"unstarted", "noisy"}  # older versions of websockets log the refusal as an error
    assert "HTTP 400" in refused.verdict.sentence


async def test_a_connection_with_tls_may_be_closed_twice(tls: ssl.SSLContext) -> None:
    """Asyncio's transport then cannot tell what it has to send; the run comes to its end all the same."""

    async def handler(websocket: Any) -> None:
        await websocket.recv()
        labkit.note("here")
        websocket.transport.close()
        websocket.transport.close()

    run = await labkit.play(handler, on="websockets", fault="blackhole", when="note: here", ssl=tls, patience=0.3)
    assert run.verdict.ending == "returned"


@pytest.mark.parametrize(("fault", "code"), [("close", 1000), ("closed-tab", 1001), ("reset", 1006), ("fin", 1006)])
async def test_a_server_with_tls(tls: ssl.SSLContext, fault: str, code: int) -> None:
    """The lab's own client speaks it; the wire relays the bytes, and says that it cannot read them."""
    run = await labkit.play(echo, on="websockets", fault=fault, ssl=tls)
    assert run.verdict.close_code == code
    assert [event.text for event in run.timeline.select("client", "recv")] == ["'hello'"]
    assert run.timeline.select("wire", "opaque")
    assert not run.timeline.select("wire", "frame")


async def test_a_fault_on_frames_is_refused_with_tls(tls: ssl.SSLContext) -> None:
    """It would break TLS, and not the rule that it names."""
    on_frames = [name for name, fault in labkit.FAULTS.items() if fault.on_frames]
    assert "bad-utf8" in on_frames
    for name in ("bad-utf8", "ignore-close"):
        with pytest.raises(BadValue, match=f"^{name} acts on frames, which TLS hides from the wire"):
            await labkit.play(echo, on="websockets", fault=name, ssl=tls)
    async with (
        labkit.host(echo, on="websockets", ssl=tls) as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
    ):
        with pytest.raises(BadValue, match="TLS hides"):
            await wire.strike("truncated-frame")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with connect(wire.url, ssl=context, proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            await wire.strike("reset")
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(client.recv(), scaled(10))
