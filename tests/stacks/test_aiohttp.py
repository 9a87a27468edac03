"""The stacks of aiohttp: its options, its paths, and the methods that a handler may use."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

import labkit
from labkit.stacks import find_stack
from tests import handlers


@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel"])
async def test_every_option_that_is_listed_is_taken(on: str) -> None:
    """Each name of the list, with the library's own default, starts a server."""
    names = set(find_stack(on).option_names())
    assert {"access_log", "keepalive_timeout", "shutdown_timeout", "handle_signals"} <= names
    assert not names & {"app", "loop", "manager", "self", "kwargs"}
    assert ("handler_cancellation" in names) is (on == "aiohttp")
    defaults = {
        name: parameter.default
        for owner in (RequestHandler, web.AppRunner, web.AppRunner.__mro__[1])
        for name, parameter in inspect.signature(owner).parameters.items()
        if name in names and parameter.default is not inspect.Parameter.empty
    }
    assert "lingering_time" in defaults
    async with labkit.host(handlers.aiohttp_echo, on=on, **defaults) as server:
        assert server.stack is labkit.STACKS[on]


async def test_an_option_reaches_the_library() -> None:
    """An access log of the user's own class logs the request."""

    class AccessLogger(aiohttp.abc.AbstractAccessLogger):
        """Says one word."""

        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            labkit.note("logged")

    run = await labkit.play(handlers.aiohttp_echo, on="aiohttp", fault="close", access_log_class=AccessLogger)
    assert [event.text for event in run.timeline.select("handler", "note")] == ["after the loop", "logged"]


async def test_every_path_leads_to_the_handler() -> None:
    """The request has the path and the query that the client asked for."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        asked.append(request.path_qs)
        return await handlers.aiohttp_echo(request)

    async with labkit.host(handler) as server, aiohttp.ClientSession() as session:
        for path in ("", "chat/room%201?token=x"):
            async with session.ws_connect(server.url + path):
                pass
    assert asked == ["/", "/chat/room%201?token=x"]


async def test_a_handler_that_refuses_the_client() -> None:
    """A plain HTTP answer in place of the handshake: the client is told, and nothing is left to break."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=403)

    run = await labkit.play(handler, fault="reset")
    assert [event.data["status"] for event in run.timeline.select("client", "refused")] == [403]
    assert run.verdict.ending == "returned"
    assert not run.timeline.select("wire", "fault")


async def test_whatever_it_receives_and_sends_is_told() -> None:
    """The methods for text, bytes and JSON lead through two that are watched; each message is told once."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_json({"got": await ws.receive_json()})
        await ws.send_bytes(await ws.receive_bytes())
        await ws.send_str(await ws.receive_str())
        await ws.receive_str()
        return ws

    run = await labkit.play(handler, fault="close", messages=("1", b"\x00", "text"))
    assert [(e.kind, e.text, e.data["opcode"]) for e in run.timeline.select("handler", "recv", "send")] == [
        ("recv", "'1'", "TEXT"),
        ("send", "'{\"got\": 1}'", "TEXT"),
        ("recv", "b'\\x00'", "BINARY"),
        ("send", "b'\\x00'", "BINARY"),
        ("recv", "'text'", "TEXT"),
        ("send", "'text'", "TEXT"),
    ]
    # receive_str() does not return a Close, it raises; the lab says what it was told.
    assert run.timeline.select("handler", "notice")[0].text == "receive() gave CLOSE"
    assert run.verdict.noticed == "yes"


async def test_a_broken_frame_is_an_error_message() -> None:
    """A message over the limit: receive() gives ERROR, with the library's exception."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=10)
        await ws.prepare(request)
        async for _ in ws:
            pass
        return ws

    run = await labkit.play(handler, fault=None, messages=("x" * 100,))
    error, closed = run.timeline.select("handler", "notice")
    assert error.data["exception"].endswith("WebSocketError: Message size 100 exceeds limit 10")
    assert (closed.text, closed.data["code"]) == ("receive() gave CLOSED", 1006)
    assert run.timeline.select("client", "close-received")[0].data["code"] == 1009


async def test_a_cancel_reaches_a_handler_that_waits_for_nothing() -> None:
    """It only yields to the loop, again and again; the library's cancel is heard and named all the same."""

    async def spins(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        while True:  # noqa: ASYNC110 - the bare yield is the point
            await asyncio.sleep(0)

    run = await labkit.play(spins, on="aiohttp-cancel", fault="reset", messages=(), patience=0.5)
    [cancelled] = run.timeline.select("handler", "cancelled")
    assert (cancelled.by, cancelled.package) == ("RequestHandler.connection_lost (aiohttp)", "aiohttp")
    assert (run.verdict.ending, run.verdict.noticed) == ("cancelled", "yes")


async def test_a_server_that_cannot_listen_is_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no port is free: what was set up is taken down, and the error passes."""
    told: list[str] = []

    async def refuses(*_: Any, **__: Any) -> None:
        told.append("start")
        raise OSError("no port is free")

    cleanup = web.AppRunner.cleanup

    async def cleans_up(runner: web.AppRunner) -> None:
        await cleanup(runner)
        told.append(f"cleanup, server {runner.server}")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", refuses)
    monkeypatch.setattr(web.AppRunner, "cleanup", cleans_up)
    with pytest.raises(OSError, match="no port is free"):
        await labkit.play(handlers.aiohttp_echo, on="aiohttp")
    assert told == ["start", "cleanup, server None"]


def test_a_stack_says_what_it_is() -> None:
    """Its name, and the first line of its description without markup."""
    assert repr(labkit.STACKS["aiohttp"]).startswith("<stack aiohttp: aiohttp as web.run_app runs it")
    assert "handler_cancellation=True" in repr(labkit.STACKS["aiohttp-cancel"])
    assert labkit.STACKS["aiohttp"].library == f"aiohttp {aiohttp.__version__}"


async def test_a_listener_that_cannot_start_leaves_no_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the application has begun is cleaned up, and the error passes."""
    cleaned: list[web.AppRunner] = []

    class Runner(web.AppRunner):
        """Remembers its end."""

        async def cleanup(self) -> None:
            """Clean up."""
            cleaned.append(self)
            await super().cleanup()

    async def refuses(*_: Any, **__: Any) -> None:
        raise OSError("no port is free")

    monkeypatch.setattr(web, "AppRunner", Runner)
    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", refuses)
    with pytest.raises(OSError, match="no port is free"):
        await labkit.play(handlers.aiohttp_echo, on="aiohttp")
    assert len(cleaned) == 1
