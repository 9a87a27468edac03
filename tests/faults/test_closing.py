"""A handler that is busy when the client says goodbye, one that closes by itself, and one that raises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.client import Client
from labkit.clock import scaled
from labkit.timeline import Event, Timeline
from tests import handlers

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

    def is_cut_off(self) -> bool:
        """Whether the library has heard that TCP is over; the handler has not asked yet."""
        if self.on == "websockets":
            return self.given.close_code is not None
        return self.given.transport is None

    async def left_by(self, *steps: str) -> Timeline:
        """Let the client leave in these steps, and the handler go on when the library has heard of the last."""
        async with (
            labkit.host(self, on=self.on) as server,
            labkit.Wire(server.url, timeline=server.timeline) as wire,
            asyncio.timeout(scaled(PATIENCE)),
        ):
            timeline = server.timeline
            client = Client(wire.url, timeline)
            await client.connect()
            client.send("hello")
            await timeline.until(lambda event: event.text == "busy")
            for step in steps:
                if step == "close":
                    client.close(1000)
                    await timeline.until(lambda event: (event.lane, event.text) == ("wire", "Close 1000"))
                else:
                    getattr(wire, step)()
            while steps != ("close",) and not self.is_cut_off():  # noqa: ASYNC110 - the libraries tell nobody
                await asyncio.sleep(0.001)
            self.go_on.set()
            await timeline.until(ended)
            await client.stop()
        return timeline


OK, LOST, GONE = "ConnectionClosedOK", "ConnectionClosedError", "ClientConnectionResetError"
CANCELLED: tuple[list[str], None] = ([], None)

# How the client leaves: what the handler's next receive and its next send tell it, and the close code after both.
BUSY = {
    #                      aiohttp                     aiohttp-cancel            websockets
    # The server's own end of TCP stays open until somebody has read the Close, so nobody is cancelled.
    ("close",): [(["CLOSE", GONE], 1000), (["CLOSE", GONE], 1000), ([OK, OK], 1000)],
    # A client that does not wait for the answer: aiohttp loses the 1000, though it has it in its queue.
    ("close", "fin"): [(["CLOSE", GONE], 1006), CANCELLED, ([OK, OK], 1000)],
    ("close", "reset"): [(["CLOSE", GONE], 1006), CANCELLED, ([OK, OK], 1000)],
    ("fin",): [(["CLOSED", GONE], 1006), CANCELLED, ([LOST, LOST], 1006)],
    ("half_close",): [(["CLOSED", GONE], 1006), CANCELLED, ([LOST, LOST], 1006)],
    ("reset",): [(["CLOSED", GONE], 1006), CANCELLED, ([LOST, LOST], 1006)],
}


@pytest.mark.parametrize(
    ("steps", "on", "learnt", "close_code"),
    [
        pytest.param(steps, on, *expected, id=f"{'-then-'.join(steps)}-{on}")
        for steps, row in BUSY.items()
        for on, expected in zip(handlers.STACKS, row, strict=True)
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
        client = Client(wire.url, server.timeline)
        await client.connect()
        wire.hold_close("client")
        client.send("hello")
        end = await server.timeline.until(ended)
        await client.stop()
    assert end is not None
    assert end.data["close_code"] == 1006
    [close], [notice] = (server.timeline.select("handler", kind) for kind in ("close", "notice"))
    assert close.data == {"code": 4000}
    assert notice.text == "close() ended without the peer's Close"
    assert notice.at - close.at > 0.15
    assert server.timeline.select("client", "close-received")[0].data["code"] == 4000


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_handler_that_closes_and_is_answered(on: str) -> None:
    """Without the fault the same handlers end at once, and their connection reports their own code."""
    handler = websockets_closes if on == "websockets" else aiohttp_closes
    run = await labkit.play(handler, on=on, fault=None)
    assert (run.verdict.ending, run.verdict.close_code) == ("returned", 4000)
    assert not run.timeline.select("handler", "notice")


@pytest.mark.parametrize(("on", "code"), [("aiohttp", None), ("aiohttp-cancel", None), ("websockets", 1011)])
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
