"""The stacks of ASGI: what they take, what belongs to the handler, and what they leave as it is."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
import websockets
from fastapi import APIRouter, Depends, FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.routing import Mount, WebSocketRoute

import labkit
from labkit.errors import BadHandler, BadOption, NotInstalled
from labkit.events import ClientRecv, HandlerClose, HandlerEnd, HandlerNotice, HandlerPrint, LibraryEvent
from labkit.stacks import find_stack
from tests import handlers
from tests.versions import older

#: A stack of each server.
SERVERS = ("asgi", "asgi-hypercorn")


def notices(run: labkit.Run) -> list[str]:
    # Older versions of Starlette raise a plain RuntimeError.
    return [event.text.replace("WebSocketDisconnected", "RuntimeError") for event in run.timeline.all(HandlerNotice)]


def notes(run: labkit.Run) -> list[str]:
    return [event.text for event in run.timeline.select("handler", "note")]


async def side_by_side(*plays: Any) -> list[labkit.Run]:
    return list(await asyncio.gather(*plays))


# --- what is played


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """An application without any framework."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})
    labkit.note(f"told {message['code']}")


class Shout(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: str) -> None:
        await websocket.send_text(data)

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        labkit.note(f"told {close_code}")


class Stamp:
    """A middleware that no framework knows."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["stamp"] = "stamped"
        await self.app(scope, receive, send)


async def session(websocket: WebSocket) -> AsyncIterator[str]:
    """A dependency that has to be closed."""
    async with labkit.resource("session", closing=0.01):
        yield websocket.query_params.get("token", "")


router = APIRouter(prefix="/rooms")


@router.websocket("/{room}")
async def talk(websocket: WebSocket, room: str, token: str = Depends(session)) -> None:
    if not token:
        raise WebSocketException(code=1008, reason="no token")
    await websocket.accept()
    labkit.note(f"{room} {websocket.state.pool} {websocket.state.stamp}")
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as gone:
        labkit.note(f"told {gone.code}")


def make_app() -> Any:
    """A whole application: lifespan, a middleware, a router, a dependency, state, and something mounted."""

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        sys.stdout.write("opens the pool\n")
        yield {"pool": "pool"}
        sys.stdout.write("closes the pool\n")

    app = FastAPI(lifespan=live)
    app.include_router(router)
    app.mount("/inner", Starlette(routes=[WebSocketRoute("/shout", Shout), Mount("/bare", bare)]))
    return Stamp(app)


async def test_the_lines_of_a_class_are_watched() -> None:
    """Those of its methods, which are called one after the other."""
    run = await labkit.play(Shout, on="asgi", fault="reset")
    assert run.verdict.lines_never_ran == ()
    shown = str(run.source())
    assert all(line in shown for line in ("await websocket.send_text(data)", 'labkit.note(f"told {close_code}")'))
    assert "not at hand" not in shown


async def test_what_an_endpoint_is_told_depends_on_its_server() -> None:
    """As the README says; the codes were seen on plain servers too."""
    pairs = [("asgi", "close"), ("asgi-hypercorn", "close"), ("asgi", "reset"), ("asgi-hypercorn", "reset")]
    runs = await side_by_side(*(labkit.play(handlers.asgi_echo, on=on, fault=fault) for on, fault in pairs))
    assert [run.verdict.close_code for run in runs] == [1000, 1006, 1005, 1006]


async def test_every_kind_of_target_tells_its_endpoint() -> None:
    """A function, a class, an application without a framework, one that is mounted, and a factory: told once each."""
    targets: list[tuple[Any, str, str]] = [
        (handlers.asgi_echo, "/any/path?at=all", "asgi_echo"),
        (bare, "/", "bare"),
        (Shout, "/", "Shout"),
        (Starlette(routes=[WebSocketRoute("/shout", Shout)]), "/shout", "Shout"),
        (make_app, "/inner/shout", "Shout"),
        (make_app, "/inner/bare/x", "bare"),
        (make_app, "/rooms/red?token=t", "talk"),
        (make_app(), "/rooms/red?token=t", "talk"),
        (Starlette(middleware=[Middleware(Stamp)], routes=[WebSocketRoute("/", handlers.asgi_echo)]), "/", "asgi_echo"),
    ]
    runs = await side_by_side(
        *(labkit.play(target, on=on, path=path, fault="reset") for target, path, _ in targets for on in SERVERS)
    )
    for (_, _, name), run in zip([each for each in targets for _ in SERVERS], runs, strict=True):
        assert run.handler == name, run
        assert (run.verdict.ending, run.verdict.noticed, run.verdict.leaked) == ("returned", "yes", ()), run
        assert len(notices(run)) == 1
        assert run.timeline.all(ClientRecv)


async def test_an_application_lives_as_in_production() -> None:
    """Its lifespan, middleware and state serve the endpoint; its dependency is closed before the handler has ended."""
    for run in await side_by_side(
        *(labkit.play(make_app, on=on, path="/rooms/red?token=t", fault="reset") for on in SERVERS)
    ):
        code = run.verdict.close_code
        assert notes(run) == ["red pool stamped", f"told {code}"]
        assert run.verdict.cleanup == "complete"
        assert [event.text for event in run.timeline.all(HandlerPrint)] == ["opens the pool", "closes the pool"]
        assert run.verdict.lines_never_ran is not None
        source = inspect.getsource(talk).splitlines()
        first = inspect.getsourcelines(talk)[1]
        assert [source[line - first].strip()[:5] for line in run.verdict.lines_never_ran] == ["raise"]


async def test_an_exception_that_the_application_answers_is_still_the_handlers() -> None:
    """FastAPI makes a Close of a WebSocketException: the verdict says what was raised."""
    run = await labkit.play(make_app, on="asgi", path="/rooms/red", fault="reset")
    assert (run.verdict.ending, run.verdict.exception) == (
        "raised",
        "fastapi.exceptions.WebSocketException: 1008: no token",
    )
    assert [event.code for event in run.timeline.all(HandlerClose)] == [1008]


async def test_what_cannot_be_played_is_refused_in_one_sentence() -> None:
    """A path without an endpoint, what makes no application, one that does not start, and other mistakes."""

    def makes_nothing() -> Any:
        return 5

    def fails() -> Any:
        return {}["settings"]

    @asynccontextmanager
    async def breaks(app: Any) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    async def two(websocket: Any, room: str) -> None:
        """Only FastAPI could tell the room."""

    broken = Starlette(routes=[WebSocketRoute("/", handlers.asgi_echo)], lifespan=breaks)
    refused: list[tuple[Any, str, str]] = [
        (make_app, "/nowhere", "make_app() has no WebSocket at /nowhere; its routes are /inner/shout, /rooms/{room}; "),
        (makes_nothing, "/", "makes_nothing() gave 5; an endpoint takes one argument, the websocket, and"),
        (fails, "/", "fails(), which shall make the application, raised KeyError: 'settings'"),
        (broken, "/", "the application does not start: ValueError: no database"),
        (two, "/", "the handler 'two' takes (websocket: Any, room: str), but is called with one argument"),
    ]
    for target, path, sentence in refused:
        for on in SERVERS:
            with pytest.raises(BadHandler) as error:
                await labkit.play(target, on=on, path=path)
            assert str(error.value).replace("'Any'", "Any").replace("'str'", "str").startswith(sentence)
    with pytest.raises(BadOption, match=r"there is no uvicorn.Config option 'log_level'"):
        await labkit.play(bare, on="asgi", log_level="debug")


# --- what the endpoint is told


async def test_what_the_framework_and_the_server_raise_after_the_end() -> None:
    """A send too late, a second receive, and a send after one's own close: each is an event, with its words."""

    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        asks: list[Callable[[], Any]] = [
            websocket.receive_text,  # the message
            websocket.receive_text,
            websocket.receive_text,
            lambda: websocket.send_text("late"),
            lambda: websocket.send_text("later"),
        ]
        for ask in asks:
            try:
                await ask()
            except Exception as error:
                labkit.note(type(error).__name__.replace("WebSocketDisconnected", "RuntimeError"))

    async def closes(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        await websocket.close(4001)
        await websocket.send_text("late")

    async def closes_bare(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4001})
        await send({"type": "websocket.send", "text": "late"})

    told, own, raw = await side_by_side(
        labkit.play(late, on="asgi", fault="close"),
        labkit.play(closes, on="asgi", fault="close"),
        labkit.play(closes_bare, on="asgi", fault="close"),
    )
    assert notices(told)[0].startswith("receive_text(): WebSocketDisconnect: (1000")
    assert notices(told)[1:] == [
        'receive_text(): RuntimeError: Cannot call "receive" once a disconnect message has been received.',
        "send_text(): WebSocketDisconnect: ",
        'send_text(): RuntimeError: Cannot call "send" once a close message has been sent.',
    ]
    assert notes(told) == ["WebSocketDisconnect", "RuntimeError"] * 2
    assert notices(own) == ['send_text(): RuntimeError: Cannot call "send" once a close message has been sent.']
    assert [event.code for event in own.timeline.all(HandlerClose)] == [4001]
    assert notices(raw) == [
        "send(): RuntimeError: Unexpected ASGI message 'websocket.send', after sending 'websocket.close'."
    ]


async def test_what_an_endpoint_is_never_told() -> None:
    """One that is busy elsewhere, and one that only sends and leaves a message unread, do not hear of a Close."""
    never = asyncio.Event()

    async def busy(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        await never.wait()

    async def pushes(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("tick")
        await never.wait()

    for run in await side_by_side(
        *(labkit.play(each, on=on, fault="close", patience=0.3) for each in (busy, pushes) for on in SERVERS)
    ):
        assert (run.verdict.ending, run.verdict.noticed) == ("running", "no"), run
        assert notices(run) == []
    # With an unread message uvicorn does not even read the Close.
    run = await labkit.play(pushes, on="asgi", fault="close", patience=0.3)
    assert run.timeline.select("library", "close-received") == []


async def test_a_state_that_is_asked_for_tells_nothing() -> None:
    """`client_state` is what the endpoint has received, not what has happened."""

    async def asks(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        labkit.note("busy")
        labkit.note(websocket.client_state.name)

    run = await labkit.play(asks, on="asgi", fault="reset", when=labkit.Await(3))
    run = await labkit.play(asks, on="asgi", fault="reset", when="note: busy") if not notes(run) else run
    assert "CONNECTED" in notes(run)
    assert run.verdict.noticed != "yes"


async def test_how_long_silence_is_not_told() -> None:
    """The server's own pings tell; hypercorn sends none unless it is asked to."""
    told = {}
    for on in ("asgi", "asgi-websockets", "asgi-hypercorn"):
        run = await labkit.play(handlers.asgi_echo, on=on, fault="blackhole", clock="autojump", patience=300)
        told[on] = run.verdict.noticed_after and round(run.verdict.noticed_after)
    assert told == {"asgi": 40, "asgi-websockets": 50, "asgi-hypercorn": None}


async def test_a_send_to_nobody() -> None:
    """Raises on uvicorn, once it knows; on hypercorn, and on uvicorn before 0.53, the endpoint is not told."""

    async def sends(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        labkit.note("gone")
        await asyncio.sleep(0)  # goes on when the client is gone
        try:
            await websocket.send_text("lost")
        except WebSocketDisconnect:
            labkit.note("told")

    for on in ("asgi", "asgi-hypercorn"):
        run = await labkit.play(sends, on=on, fault="reset", when="note: gone")
        raises = on == "asgi" and not older("uvicorn", "0.53")
        assert notes(run) == (["gone", "told"] if raises else ["gone"]), run
        assert "lost" not in str([event.text for event in run.timeline.select("client", "recv")])


async def test_the_shutdown_is_uvicorns() -> None:
    """It sends 1012, tells the endpoint, waits for it, and then ends the lifespan."""
    run = await labkit.play(make_app, on="asgi", path="/rooms/red?token=t", fault="shutdown")
    kinds = [event.kind for event in run.timeline if isinstance(event, LibraryEvent)]
    assert kinds[-3:] == ["close-sent", "tcp-closed", "lost"]
    assert notes(run)[-1] == "told 1012"
    texts = [event.text for event in run.timeline]
    assert texts.index("closes the pool") < texts.index("the shutdown is complete")


async def test_a_limit_of_uvicorns_own_cancels_an_endpoint() -> None:
    """With timeout_graceful_shutdown a busy endpoint is cancelled at last, and that is how it notices."""

    async def busy(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        await asyncio.Event().wait()

    run = await labkit.play(busy, on="asgi", fault="shutdown", timeout_graceful_shutdown=0, patience=10)
    assert (run.verdict.ending, run.verdict.noticed) == ("cancelled", "yes"), run
    [cancelled] = run.timeline.select("handler", "cancelled")
    assert cancelled.data["package"] == "uvicorn"


async def test_hypercorn_cancels_an_endpoint_that_it_does_not_tell() -> None:
    """At a shutdown no endpoint is told; when hypercorn's own limit is over, its group of tasks is cancelled.

    Since Python 3.12 ``Server.wait_closed`` waits for the connections, and hypercorn with it, before any limit.
    """
    waits = sys.version_info >= (3, 12)
    patience = 0.5 if waits else 10
    shutdown = labkit.play(
        handlers.asgi_echo, on="asgi-hypercorn", fault="shutdown", graceful_timeout=0.05, patience=patience
    )
    run = await shutdown
    assert (run.verdict.ending, run.verdict.noticed) == (("running", "no") if waits else ("cancelled", "yes")), run
    packages = [event.data["package"] for event in run.timeline.until_stop().select("handler", "cancelled")]
    assert packages == ([] if waits else ["hypercorn"])


async def test_each_connection_has_its_own_events() -> None:
    """What one endpoint sends on another's websocket is told as such."""
    room: set[WebSocket] = set()

    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        room.add(websocket)
        try:
            while True:
                message = await websocket.receive_text()
                for each in list(room):
                    await each.send_text(message)
        finally:
            room.discard(websocket)

    run = await labkit.play(chat, on="asgi", fault="reset", clients=2)
    assert [verdict.answered for verdict in run.verdict.others] == ["yes"], run
    assert [event.by for event in run.timeline.all(HandlerEnd, ClientRecv) if getattr(event, "by", None)] == []
    assert {event.data.get("by") for event in run.timeline.select("handler", "send")} > {None}


async def test_moments_are_found_in_an_endpoint() -> None:
    """The fault strikes at each await of the endpoint."""

    async def order(websocket: WebSocket) -> None:
        await websocket.accept()
        while await websocket.receive_text():
            labkit.note("charged")
            await websocket.send_text("charged")
            labkit.note("written")

    def whole(run: labkit.Run) -> bool:
        return ("charged" in notes(run)) == ("written" in notes(run))

    strip = await labkit.moments(order, on="asgi", fault="reset", holds=whole)
    assert len(strip.strikes) >= 2
    assert all(strike.holds for strike in strip.strikes)


# --- how it is hosted


@pytest.mark.parametrize("on", SERVERS)
async def test_every_option_that_is_listed_is_taken(on: str) -> None:
    """Each name of the list, with the library's own default, starts a server."""
    names = set(find_stack(on).option_names())
    if on == "asgi":
        assert {"ws", "ws_ping_interval", "ws_max_size", "lifespan", "timeout_graceful_shutdown", "root_path"} <= names
        parameters = inspect.signature(uvicorn.Config).parameters
        defaults = {name: parameters[name].default for name in names}
    else:
        from hypercorn.config import Config

        assert {"websocket_ping_interval", "graceful_timeout", "read_timeout"} <= names
        defaults = {"websocket_ping_interval": None, "graceful_timeout": Config.graceful_timeout}
    async with labkit.host(handlers.asgi_echo, on=on, **defaults) as server:
        assert server.stack is labkit.STACKS[on]


#: Plays an application of no framework, first thing in a process, and prints what is imported once its server starts.
STARTS = """
import asyncio, sys
import labkit
from labkit.stacks import find_stack

async def app(scope, receive, send):
    await receive()

async def start(on):
    stack = find_stack(on)
    await stack.load(app, "/")
    before = set(sys.modules)
    async with labkit.host(app, on=on):
        print(*(name for name in sys.modules.keys() - before if name.startswith(stack.distribution)))

asyncio.run(start(sys.argv[1]))
"""


@pytest.mark.parametrize("on", [*SERVERS, "asgi-websockets", "asgi-wsproto"])
def test_what_a_server_imports_is_no_block_of_the_handlers(on: str) -> None:
    """It is imported before the handler's loop is watched: that takes longer than a block has to."""
    command = [sys.executable, "-c", STARTS, on]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == []


@pytest.mark.parametrize("on", [*SERVERS, "asgi-websockets", "asgi-wsproto"])
async def test_it_speaks_tls_on_either_clock(on: str, certificate: tuple[str, str]) -> None:
    """With the server's own options; what an endpoint is told is the same as without, and so it is on both clocks."""
    names = ("certfile", "keyfile") if on == "asgi-hypercorn" else ("ssl_certfile", "ssl_keyfile")
    encrypted = dict(zip(names, certificate, strict=True))
    for fault in ("close", "fin"):
        plain, *runs = await side_by_side(
            labkit.play(handlers.asgi_echo, on=on, fault=fault),
            labkit.play(handlers.asgi_echo, on=on, fault=fault, **encrypted),
            labkit.play(handlers.asgi_echo, on=on, fault=fault, clock="autojump", **encrypted),
        )
        for run in runs:
            assert notices(run) == notices(plain)
            assert run.verdict.ending == "returned", run
            assert run.timeline.select("wire", "opaque")
        assert "nothing was jumped" in runs[1].clock_words


@pytest.mark.parametrize("on", SERVERS)
async def test_nothing_of_the_process_is_changed(on: str) -> None:
    """No signal handler, no setting of logging, no task, no socket, no patched method is left, nor set meanwhile."""

    def process() -> Any:
        loggers = {
            name: (list(logger.handlers), logger.level, logger.propagate)
            for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "hypercorn.error", "hypercorn.access")
            for logger in [logging.getLogger(name)]
        }
        return [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)], loggers

    def patched() -> Any:
        return WebSocketRoute.handle, Mount.handle, WebSocket.__init__, type(asyncio.get_running_loop()).create_server

    before, methods, tasks = process(), patched(), asyncio.all_tasks()
    async with labkit.host(handlers.asgi_echo, on=on) as server:
        assert process()[1] == before[1]
        assert process()[0][1] == before[0][1]
        async with websockets.connect(server.url, proxy=None) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
    assert process() == before
    assert patched() == methods
    assert asyncio.all_tasks() == tasks
    gc.collect()  # an unclosed socket would warn, and a warning is an error here


async def test_a_host_serves_any_client_at_any_path() -> None:
    """The path says which endpoint is watched; the others serve too."""
    async with labkit.host(make_app, on="asgi", path="/rooms/red") as server:
        for path in ("rooms/blue?token=t", "inner/shout"):
            async with websockets.connect(f"{server.url}{path}", proxy=None) as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
    assert [event.data["handler"] for event in server.timeline.select("handler", "start")] == ["talk"]


async def test_an_interrupt_at_any_moment_leaves_nothing() -> None:
    """A cancelled play takes its server and its lifespan with it."""
    tasks = asyncio.all_tasks()
    for on in SERVERS:
        for steps in (1, 3, 10, 30, 60):
            task = asyncio.create_task(labkit.play(make_app, on=on, path="/rooms/red?token=t", fault="blackhole"))
            for _ in range(steps):
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
    assert asyncio.all_tasks() == tasks


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, with what to install; the stack is listed all the same."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "hypercorn" else find(name))
    with pytest.raises(NotInstalled, match=r"^the stack asgi-hypercorn needs hypercorn: pip install 'labkit\[asgi\]'$"):
        await labkit.play(bare, on="asgi-hypercorn")
    assert "asgi-hypercorn" in labkit.STACKS


async def test_a_matrix_plays_them_where_they_are_named() -> None:
    """By `on`, or by the name in a mapping; otherwise a handler is played on the usual stacks alone."""
    both = {"echo": {"aiohttp": handlers.aiohttp_echo, "asgi": handlers.asgi_echo}}
    table = await labkit.matrix(both, faults="close", progress=False)
    assert [cell.stack for cell in table.cells] == ["aiohttp", "aiohttp-cancel", "asgi"]
    table = await labkit.matrix(both, on=["asgi", "asgi-wsproto"], faults="close", progress=False)
    assert [(cell.stack, cell.outcome) for cell in table.cells] == [("asgi", "clean"), ("asgi-wsproto", "clean")]


def test_it_says_what_it_is() -> None:
    """Its name, the first line of its description, and its library's version."""
    assert repr(labkit.STACKS["asgi"]).startswith("<stack asgi: uvicorn as uvicorn.run runs it")
    assert labkit.STACKS["asgi"].library == f"uvicorn {uvicorn.__version__}"
