"""Whole aiohttp applications: their middlewares, startup and cleanup run, and the handler of the path is watched."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadHandler
from labkit.events import CleanupClosed, HandlerLine, HandlerNote, HandlerStart, WireHandshake

ROOMS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("rooms", set)


def user_of(request: web.Request) -> str:
    return request.headers.get("Authorization", "") or request.cookies.get("user", "")


async def lobby(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(protocols=("chat",))
    await ws.prepare(request)
    request.config_dict[ROOMS].add(ws)
    try:
        async for message in ws:
            await ws.send_str(f"{user_of(request)}: {message.data}")
    finally:
        async with labkit.resource("seat"):
            request.config_dict[ROOMS].discard(ws)
            labkit.note(f"{len(request.config_dict[ROOMS])} left")
    return ws


class Lobby(web.View):
    async def get(self) -> web.WebSocketResponse:
        return await lobby(self.request)


class Rooms:
    async def lobby(self, request: web.Request) -> web.WebSocketResponse:
        return await lobby(request)


@web.middleware
async def authenticate(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if not user_of(request):
        raise web.HTTPUnauthorized
    assert request.match_info.handler in {lobby, Lobby} or request.match_info.handler.__name__ == "lobby"
    return await handler(request)


async def database(app: web.Application) -> AsyncIterator[None]:
    async with labkit.resource("pool", closing=0.01):
        ticker = asyncio.create_task(asyncio.Event().wait(), name="ticker")
        yield
        ticker.cancel()


async def goodbye(app: web.Application) -> None:
    for ws in set(app[ROOMS]):
        await ws.close(code=1001)


def make_app() -> web.Application:
    """An application with one inside it, as it grows in a project."""
    inner = web.Application(middlewares=[authenticate])
    inner.router.add_get("/{room}", lobby)
    app = web.Application()
    app[ROOMS] = set()
    app.cleanup_ctx.append(database)
    app.on_shutdown.append(goodbye)
    app.add_subapp("/ws", inner)
    app.router.add_view("/view", Lobby)
    app.router.add_get("/method", Rooms().lobby)
    routes = web.RouteTableDef()
    routes.get("/table")(lobby)
    app.add_routes(routes)
    app.middlewares.append(authenticate)
    return app


async def make_it_later() -> web.Application:
    """A factory that awaits."""
    await asyncio.sleep(0)
    return make_app()


ANN = {"headers": {"Authorization": "ann"}, "subprotocols": ("chat",)}


@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel"])
async def test_the_handler_of_the_path_is_watched(on: str) -> None:
    """Behind the middlewares; what the application itself opens is not the handler's to close, nor a leak of it."""
    run = await labkit.play(make_app, on=on, path="/ws/lobby", fault="reset", **ANN)
    [start] = run.timeline.all(HandlerStart)
    assert (run.handler, start.handler, start.stack) == ("lobby", "lobby", on)
    assert [event.text for event in run.timeline.select("client", "recv")] == ["'ann: hello'"]
    assert [note.text for note in run.timeline.all(HandlerNote)] == ["0 left"]
    assert run.timeline.all(HandlerLine)
    assert (run.verdict.cleanup, run.verdict.leaked, run.verdict.complaints) == ("complete", (), ())
    assert [event.text for event in run.timeline.all(CleanupClosed)] == ["seat", "pool"]
    [handshake] = run.timeline.all(WireHandshake)
    assert handshake.text == "GET /ws/lobby → 101"


def make_with_settings(**settings: Any) -> web.Application:
    """A factory that takes whatever settings there are."""
    return make_app()


@pytest.mark.parametrize(
    "target",
    [
        functools.partial(make_app),
        make_with_settings,
        functools.partial(make_with_settings, debug=True),
        functools.partial(lambda config, **more: make_app(), {}),
    ],
)
async def test_a_factory_that_a_handler_cannot_be(target: Any) -> None:
    """It can be called without arguments, and not with a request."""
    run = await labkit.play(target, path="/table", fault="close", **ANN)
    assert (run.handler, run.outcome) == ("lobby", "clean")


@pytest.mark.parametrize("path", ["/view", "/method", "/table"])
async def test_handlers_of_every_kind(path: str) -> None:
    """A class-based view, a method, and one of a table of routes."""
    run = await labkit.play(make_it_later, path=path, fault="close", **ANN)
    assert run.verdict.ending == "returned"
    assert run.handler in {"Lobby", "Rooms.lobby", "lobby"}
    assert len(run.timeline.all(HandlerNote)) == 1


async def test_a_shutdown_is_the_applications_own() -> None:
    """``on_shutdown`` closes the sockets, so the handler notices at once; then ``cleanup_ctx`` closes the pool."""
    run = await labkit.play(make_app, path="/ws/lobby", fault="shutdown", **ANN)
    assert (run.verdict.ending, run.outcome) == ("returned", "clean")
    assert [event.data["code"] for event in run.timeline.select("client", "close-received")] == [1001]
    assert [event.text for event in run.timeline.all(CleanupClosed)] == ["seat", "pool"]


async def test_a_middleware_may_refuse() -> None:
    """Then the handler never starts, and the verdict says what the client was told."""
    run = await labkit.play(make_app, path="/ws/lobby", fault="reset")
    assert run.outcome == "unstarted"
    assert "HTTP 401" in run.verdict.sentence


async def test_an_application_itself_is_played_once() -> None:
    """It cannot run again, and the error says what can."""
    app = make_app()
    run = await labkit.play(app, path="/table", **ANN)
    assert run.outcome == "clean"
    with pytest.raises(BadHandler, match="has run already, and runs once: give the function that makes it"):
        await labkit.play(app, path="/table", **ANN)


async def test_an_application_whose_handler_blocks_is_played_once() -> None:
    """A factory could be played again, with the client in another thread."""

    async def blocks(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            time.sleep(0.3)  # noqa: ASYNC251 - the mistake
            await ws.send_str(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/", blocks)
    run = await labkit.play(app, fault="close")
    assert run.outcome == "blocks"


def makes_nothing() -> Any:
    return {}


def fails() -> web.Application:
    return make_app() if {}["configuration"] else web.Application()


def does_not_start() -> web.Application:
    async def connect(app: web.Application) -> None:
        raise ConnectionRefusedError("no database")

    app = web.Application()
    app.router.add_get("/", lobby)
    app.on_startup.append(connect)
    return app


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (makes_nothing, r"makes_nothing\(\) gave {}, .* write it as: async def makes_nothing\(request\)$"),
        (fails, r"fails\(\), which shall make the application, raised KeyError: 'configuration'$"),
        (does_not_start, r"the application does not start: ConnectionRefusedError: no database$"),
        (make_app, r"make_app\(\) has no handler for GET /: Not Found; its routes are \* /view, GET /method, "),
    ],
)
async def test_what_makes_no_application_is_a_sentence(target: Any, sentence: str) -> None:
    """And nothing is left of it."""
    with pytest.raises(BadHandler, match=sentence):
        await labkit.play(target)


async def test_a_name_will_do() -> None:
    """In play, in moments and in a matrix, as on the command line."""
    name = f"{__file__}:make_app"
    run = await labkit.play(name, path="/table", fault="close", **ANN)
    strip = await labkit.moments(name, path="/table", fault="close", **ANN)
    table = await labkit.matrix({"it": name}, on="aiohttp", faults=["close", "fin"], path="/table", **ANN)
    assert (run.outcome, strip.handler) == ("clean", "lobby")
    assert {row["outcome"] for row in table.rows()} == {"clean"}


async def test_several_clients_of_one_application() -> None:
    """The first is lost; the other stays, in the same room."""
    run = await labkit.play(make_app, path="/ws/lobby", fault="reset", clients=2, **ANN)
    assert [each.verdict.answered for each in run.connections] == [None, "yes"]
    assert [note.text for note in run.timeline.until_stop().all(HandlerNote)] == ["1 left"]
