"""The stack of websockets: its options, and the methods that a handler may use."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve

import labkit
from labkit.events import ClientRecv, HandlerClose, HandlerSend
from labkit.stacks import find_stack
from tests import handlers


async def test_every_option_that_is_listed_is_taken() -> None:
    """Each name of the list, with the library's own default, starts a server."""
    names = set(find_stack("websockets").option_names())
    assert {"ping_interval", "close_timeout", "max_size", "process_request", "ssl", "backlog"} <= names
    assert not names & {"handler", "host", "port", "kwargs", "self"}
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(serve).parameters.items()
        if name in names and parameter.default is not inspect.Parameter.empty
    }
    async with labkit.host(handlers.websockets_echo, on="websockets", backlog=5, ssl=None, **defaults) as server:
        assert server.stack is labkit.STACKS["websockets"]


async def test_it_runs_with_the_librarys_defaults() -> None:
    """The lab adds no setting of its own."""
    found: dict[str, Any] = {}

    async def handler(websocket: Any) -> None:
        found.update(ping=websocket.ping_interval, timeout=websocket.ping_timeout, close=websocket.close_timeout)
        await handlers.websockets_echo(websocket)

    await labkit.play(handler, on="websockets", fault="close")
    defaults = inspect.signature(serve).parameters
    assert found == {
        "ping": defaults["ping_interval"].default,
        "timeout": defaults["ping_timeout"].default,
        "close": defaults["close_timeout"].default,
    }


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("close", "ConnectionClosedOK: received 1000 (OK); then sent 1000 (OK)"),
        ("going-away", "ConnectionClosedOK: received 1001 (going away); then sent 1001 (going away)"),
        ("no-code", "ConnectionClosedOK: received 1005 (no status received [internal]); then sent 1005 (no status"),
        ("close-then-reset", "ConnectionClosedOK: received 1000 (OK)"),
        ("fin", "ConnectionClosedError: no close frame received or sent"),
    ],
)
async def test_recv_raises_where_the_loop_would_end(fault: str, raised: str) -> None:
    """`async for` hides a goodbye; recv() raises it, and it escapes who only knows ConnectionClosedError."""

    async def handler(websocket: Any) -> None:
        while True:
            await websocket.send(await websocket.recv())

    run = await labkit.play(handler, on="websockets", fault=fault)
    assert run.verdict.exception is not None
    assert run.verdict.exception.startswith(f"websockets.exceptions.{raised}")
    assert run.verdict.noticed == "yes"
    assert [message for message in run.verdict.complaints if "connection handler failed" in message]


async def test_a_handler_may_wait_for_the_end_alone() -> None:
    """wait_closed() returns when the connection is over, and that is a notice."""

    async def handler(websocket: Any) -> None:
        await websocket.recv()
        await websocket.wait_closed()

    run = await labkit.play(handler, on="websockets", fault="reset")
    assert [event.text for event in run.timeline.select("handler", "notice")] == ["wait_closed() returned"]
    assert (run.verdict.ending, run.verdict.close_code) == ("returned", 1006)


async def test_a_timeout_around_recv_is_the_handlers_own_affair() -> None:
    """wait_for works as it does anywhere, its cancel is asyncio's, and no notice of the connection's end."""

    async def handler(websocket: Any) -> None:
        import asyncio

        try:
            await asyncio.wait_for(websocket.recv(), 0.01)
        except TimeoutError:
            labkit.note("timed out")
        assert await websocket.recv() == "hello"

    run = await labkit.play(handler, on="websockets", fault=None, messages=())
    assert run.verdict.noticed == "unknown"
    assert [event.text for event in run.timeline.select("handler", "note")] == ["timed out"]
    assert not run.timeline.select("handler", "notice")


async def test_any_client_may_come_by_the_librarys_own_url() -> None:
    """The path of the URL is the client's choice."""
    paths: list[str] = []

    async def handler(websocket: Any) -> None:
        paths.append(websocket.request.path)
        await handlers.websockets_echo(websocket)

    async with (
        labkit.host(handler, on="websockets") as server,
        websockets.connect(f"{server.url}chat?x=1", proxy=None) as ws,
    ):
        await ws.send("hello")
        assert await ws.recv() == "hello"
    assert paths == ["/chat?x=1"]


def test_it_says_what_it_is() -> None:
    """Its name, and the first line of its description."""
    assert repr(labkit.STACKS["websockets"]).startswith("<stack websockets: websockets as serve runs it")
    assert labkit.STACKS["websockets"].library == f"websockets {websockets.__version__}"


class OwnConnection(ServerConnection):
    """A user's own class, whose parameters have other names and other defaults."""

    async def send(self, obj: Any) -> None:  # type: ignore[override]
        await super().send(obj if isinstance(obj, str) else json.dumps(obj))

    async def close(self, status: int = 3000, why: str = "") -> None:  # type: ignore[override]
        await super().close(status, why)


@pytest.mark.parametrize(("given", "code"), [((4001,), 4001), ((), 3000)])
async def test_a_connection_class_of_the_users_own(given: tuple[int, ...], code: int) -> None:
    """It works as without the lab, and what it closes with is what is recorded."""

    async def handler(websocket: Any) -> None:
        await websocket.send(await websocket.recv())
        await websocket.send({"bye": True})
        await websocket.close(*given)

    run = await labkit.play(handler, on="websockets", fault=None, create_connection=OwnConnection)
    assert run.verdict.ending == "returned", run
    closes = run.timeline.all(HandlerClose)
    assert [event.code for event in closes] == [code]
    assert [event.text for event in run.timeline.all(HandlerSend)] == ["'hello'", "a message, as dict"]
    assert [event.text for event in run.timeline.all(ClientRecv)] == ["'hello'", "'{\"bye\": true}'"]
    assert run.verdict.close_code == code
