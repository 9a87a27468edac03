"""A handler that is busy when the client says goodbye, one that closes by itself, and one that raises."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.clients.own import OwnClient
from labkit.errors import BadValue
from labkit.events import Event, LibraryLost
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from tests import handlers
from tests.faults.expectations import by_stack

PATIENCE = 5.0


def ended(event: Event) -> bool:
    return (event.lane, event.kind) == ("handler", "end")


class Busy:
    """A handler that waits for something else while its client leaves, and then asks, says, and asks again."""

    def __init__(self, on: str) -> None:
        self.on = on
        self.go_on = asyncio.Event()
        self.given: Any = None
        self.learnt: list[str] = []
        self.close_code: int | None = None

    async def __call__(self, given: Any) -> None:
        self.given = given
        if self.on == "websockets":
            ws, receive, send = given, given.recv, given.send
        else:
            ws = web.WebSocketResponse()
            await ws.prepare(given)
            receive, send = ws.receive, ws.send_str
        await receive()
        labkit.note("busy")
        await self.go_on.wait()
        for attempt in (receive, lambda: send("are you there?")):
            try:
                self.learnt.append((await attempt()).type.name)
            except Exception as error:
                self.learnt.append(type(error).__name__)
        self.close_code = ws.close_code

    async def left_by(self, *steps: str) -> Timeline:
        """Let the client leave in these steps, and the handler go on when the library has heard of the last."""
        async with (
            labkit.host(self, on=self.on) as server,
            labkit.Wire(server.url, timeline=server.timeline) as wire,
            asyncio.timeout(scaled(PATIENCE)),
        ):
            timeline = server.timeline
            client = OwnClient(wire.url, timeline)
            await client.connect()
            client.send("hello")
            await timeline.until(lambda event: event.text == "busy")
            for step in steps:
                if step == "close":
                    client.close(1000)
                    await timeline.until(lambda event: (event.lane, event.text) == ("wire", "Close 1000"))
                elif step == "close_socket":
                    client.close_socket()
                else:
                    getattr(wire, step)()
            if steps != ("close",):
                await timeline.until(lambda event: isinstance(event, LibraryLost))
            self.go_on.set()
            await timeline.until(ended)
            await client.stop()
        return timeline


OK, LOST, GONE = "ConnectionClosedOK", "ConnectionClosedError", "ClientConnectionResetError"
CANCELLED: tuple[list[str], None] = ([], None)

# How the client leaves: what the handler's next receive and its next send tell it, and the close code after both.
CUT = {"aiohttp": (["CLOSED", GONE], 1006), "aiohttp-cancel": CANCELLED, "websockets": ([LOST, LOST], 1006)}
# A client that does not wait for the answer: aiohttp loses the 1000, though it has it in its queue.
RUDE = {"aiohttp": (["CLOSE", GONE], 1006), "aiohttp-cancel": CANCELLED, "websockets": ([OK, OK], 1000)}
BUSY: dict[tuple[str, ...], dict[str, tuple[list[str], int | None]]] = {
    # The server's own end of TCP stays open until somebody has read the Close, so nobody is cancelled.
    ("close",): {"aiohttp": (["CLOSE", GONE], 1000), "websockets": ([OK, OK], 1000)},
    ("close", "close_socket"): RUDE,
    ("close", "fin"): RUDE,
    ("close", "reset"): RUDE,
    ("fin",): CUT,
    ("half_close",): CUT,
    ("reset",): CUT,
}


@pytest.mark.parametrize(
    ("steps", "on", "learnt", "close_code"),
    [
        pytest.param(steps, on, *found, id=f"{'-then-'.join(steps)}-{on}")
        for steps, row in BUSY.items()
        for on, found in by_stack(row)
    ],
)
async def test_a_busy_handler(steps: tuple[str, ...], on: str, learnt: list[str], close_code: int | None) -> None:
    """It learns of the end at its next call, or is cancelled where it stands."""
    busy = Busy(on)
    timeline = await busy.left_by(*steps)
    assert (busy.learnt, busy.close_code) == (learnt, close_code)
    assert [event.data["package"] for event in timeline.select("handler", "cancelled")] == ["aiohttp"] * (not learnt)
    # What the handler learnt is what the lab says that it was told.
    assert len(timeline.select("handler", "notice")) == len(learnt)


async def websockets_closes(websocket: Any) -> None:
    await websocket.recv()
    await websocket.close(4000)


async def aiohttp_closes(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(timeout=0.2)
    await ws.prepare(request)
    await ws.receive()
    await ws.close(code=4000)
    return ws


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_handler_that_closes_waits_for_an_answer_that_never_comes(on: str) -> None:
    """`ignore-close`: the library gives up after its close timeout and reports 1006; the client did get the 4000."""
    handler, options = (websockets_closes, {"close_timeout": 0.2}) if on == "websockets" else (aiohttp_closes, {})
    async with (
        labkit.host(handler, on=on, **options) as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
        asyncio.timeout(scaled(PATIENCE)),
    ):
        client = OwnClient(wire.url, server.timeline)
        await client.connect()
        wire.hold_close("client")
        client.send("hello")
        end = await server.timeline.until(ended)
        await client.stop()
    assert end is not None
    assert end.data["close_code"] == 1006
    [close] = server.timeline.select("handler", "close")
    assert close.data == {"code": 4000}
    assert end.at - close.at > 0.15
    gave_up = server.timeline.select("library", "gave-up")
    assert [event.text for event in gave_up] == ["gives up: its Close was not answered"]
    assert server.timeline.select("client", "close-received")[0].data["code"] == 4000


async def answers_and_closes(given: Any) -> Any:
    """Answers once, as a request over a WebSocket is answered."""
    ws, send, receive = await _enter(given)
    await send(await receive())
    await ws.close(code=4001)
    return ws


async def is_full(given: Any) -> Any:
    """Says why it closes, and does not even read."""
    ws, send, _ = await _enter(given)
    await send("the room is full")
    await ws.close(code=4001)
    return ws


async def is_closed_by_another_task(given: Any) -> Any:
    """Another task closes while the handler reads."""
    ws, send, receive = await _enter(given)
    await send("you have a moment")

    async def kick() -> None:
        await asyncio.sleep(0.05)
        await ws.close(code=4001)

    kicking = asyncio.create_task(kick())
    with contextlib.suppress(Exception):  # the libraries tell it in their own ways that somebody closes
        while not kicking.done():
            await receive()
    await kicking
    return ws


async def _enter(given: Any) -> tuple[Any, Any, Any]:
    if not isinstance(given, web.Request):
        return given, given.send, given.recv
    ws = web.WebSocketResponse(timeout=0.2)
    await ws.prepare(given)

    async def receive() -> Any:
        return (await ws.receive()).data

    return ws, ws.send_str, receive


@pytest.mark.parametrize("handler", [answers_and_closes, is_full, is_closed_by_another_task])
@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_close_that_follows_the_last_message_is_ignored(on: str, handler: Any) -> None:
    """`ignore-close` strikes before it, each time: the library's whole close timeout goes by, and then 1006."""
    options = {"close_timeout": 0.2} if on == "websockets" else {}
    for _ in range(5):
        run = await labkit.play(handler, on, "ignore-close", messages=("hello",) * 2, **options)
        assert run.verdict.struck
        [close] = run.timeline.select("handler", "close")
        assert run.timeline.select("wire", "fault")[0].at <= close.at
        if handler is is_closed_by_another_task and on != "websockets":
            continue  # aiohttp does not wait for the answer where another task reads, and reports 1000
        assert (run.verdict.ending, run.verdict.close_code) == ("returned", 1006)
        [end] = run.timeline.select("handler", "end")
        assert end.at - close.at > 0.15


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_handler_that_closes_and_is_answered(on: str) -> None:
    """Without the fault the same handlers end at once, and their connection reports their own code."""
    handler = websockets_closes if on == "websockets" else aiohttp_closes
    run = await labkit.play(handler, on=on, fault=None)
    assert (run.verdict.ending, run.verdict.close_code) == ("returned", 4000)
    assert not run.timeline.select("handler", "notice")


@pytest.mark.parametrize(("on", "code"), by_stack({"aiohttp": None, "websockets": 1011}))
async def test_a_handler_that_raises(on: str, code: int | None) -> None:
    """The client of websockets is told 1011; aiohttp says nothing and ends TCP. Both log what was raised."""

    async def handler(given: Any) -> None:
        if on == "websockets":
            await given.recv()
        else:
            ws = web.WebSocketResponse()
            await ws.prepare(given)
            await ws.receive()
        raise ValueError("a bug of the handler's own")

    run = await labkit.play(handler, on=on, fault="reset")
    assert (run.verdict.ending, run.verdict.exception) == ("raised", "ValueError: a bug of the handler's own")
    assert [event.data["code"] for event in run.timeline.select("client", "close-received")] == [code] * bool(code)
    [end] = run.timeline.select("client", "ended")
    assert (end.data["how"], end.data["code"]) == ("fin", code or 1006)
    assert [event.data["exception"] for event in run.timeline.select("handler", "log") if event.data["levelno"] >= 40]


@pytest.mark.parametrize("client", ["aiohttp", "websockets"])
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("no-code", "always sends a code"),
        ("close-at-once", "writes each frame by itself"),
        ("closed-tab", "waits for the answer to its Close"),
    ],
)
async def test_what_no_librarys_client_does(fault: str, why: str, client: str) -> None:
    """It is left to the lab's own, and the sentence says what the library's does in its place."""
    with pytest.raises(BadValue, match=f"{fault} cannot be staged: the client of {client} {why}; leave it to the lab"):
        await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, client=client)
