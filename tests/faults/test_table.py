"""What each stack tells the echo handler, fault by fault: one row a fault, measured at every run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.timeline import Event, Timeline
from tests import handlers

LOST = "ConnectionClosedError"

# fault: for each stack, how the handler ends and which close code its connection reports.
TABLE = {
    #                           aiohttp             aiohttp-cancel        websockets
    "close": [("returned", 1000), ("returned", 1000), ("returned", 1000)],
    "close(code=1011)": [("returned", 1011), ("returned", 1011), (LOST, 1011)],
    "close(code=4000)": [("returned", 4000), ("returned", 4000), (LOST, 4000)],
    "going-away": [("returned", 1001), ("returned", 1001), ("returned", 1001)],
    "no-code": [("returned", 0), ("returned", 0), ("returned", 1005)],
    "close-then-reset": [("returned", 1000), ("returned", 1000), ("returned", 1000)],
    "ignore-close": [("running", None), ("running", None), ("running", None)],
    "fin": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "half-close": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "reset": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "truncated-frame": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "truncated-frame(then='reset')": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
}
KNOBS: dict[str, labkit.Fault] = {
    str(fault): fault
    for fault in (labkit.Close(code=1011), labkit.Close(code=4000), labkit.TruncatedFrame(then="reset"))
}
ROWS = [
    pytest.param(fault, on, *expected, id=f"{fault}-{on}")
    for fault, row in TABLE.items()
    for on, expected in zip(handlers.STACKS, row, strict=True)
]


def test_every_fault_has_its_row() -> None:
    """A fault that is added is measured on every stack, or this fails."""
    assert {fault.partition("(")[0] for fault in TABLE} == set(labkit.FAULTS)
    assert set(handlers.STACKS) == set(labkit.STACKS)


@pytest.mark.parametrize(("fault", "on", "ending", "close_code"), ROWS)
async def test_the_echo_handler(fault: str, on: str, ending: str, close_code: int | None) -> None:
    """The verdict says how the handler ended, what its connection reports, and whether it was told."""
    patience = 0.3 if ending == "running" else 10.0
    run = await labkit.play(handlers.echo(on), on=on, fault=KNOBS.get(fault, fault), patience=patience)
    verdict = run.verdict
    raised = (verdict.exception or "").rpartition(".")[2].partition(":")[0]
    told = raised if verdict.ending == "raised" else verdict.ending
    assert (told, verdict.close_code) == (ending, close_code), run
    assert verdict.noticed == ("no" if ending == "running" else "yes"), run
    assert (len(run.timeline.select("handler", "note")) == 1) is (ending == "returned"), run
    assert verdict.leaked == ()


@pytest.mark.parametrize("fault", ["fin", "half-close", "reset", "truncated-frame"])
async def test_the_library_that_cancels_is_named(fault: str) -> None:
    """With handler_cancellation it is aiohttp's connection_lost that cancels, and the timeline says so."""
    run = await labkit.play(handlers.aiohttp_echo, on="aiohttp-cancel", fault=fault)
    [cancelled] = run.timeline.select("handler", "cancelled")
    assert cancelled.data == {"by": "RequestHandler.connection_lost (aiohttp)", "package": "aiohttp"}


async def test_after_a_reset_websockets_keeps_the_cause() -> None:
    """A RST and a FIN raise the same error; its __cause__ tells them apart."""
    causes: dict[str, type | None] = {}

    async def handler(websocket: Any) -> None:
        try:
            await handlers.websockets_echo(websocket)
        except Exception as error:
            causes[fault] = type(error.__cause__)

    for fault in ("reset", "fin"):
        await labkit.play(handler, on="websockets", fault=fault)
    assert causes == {"reset": ConnectionResetError, "fin": EOFError}


# Cleanup of three slow steps, by style: how many finished before the handler ended, and how many after it.
STYLES = {
    # style:            aiohttp            aiohttp-cancel     websockets
    #                   close   reset      close   reset      close   reset
    "after_the_loop": [(3, 0), (3, 0), (0, 0), (0, 0), (3, 0), (0, 0)],
    "in_finally": [(3, 0), (3, 0), (0, 0), (3, 0), (3, 0), (3, 0)],
    "after_except": [(3, 0), (3, 0), (0, 0), (3, 0), (3, 0), (0, 0)],
    "shielded": [(3, 0), (3, 0), (0, 3), (3, 0), (3, 0), (3, 0)],
    "awaited_again": [(3, 0), (3, 0), (3, 0), (3, 0), (3, 0), (3, 0)],
}
CASES = [(on, fault) for on in handlers.STACKS for fault in ("close", "reset")]


@pytest.mark.parametrize(
    ("style", "on", "fault", "steps"),
    [
        pytest.param(style, on, fault, steps, id=f"{style}-{on}-{fault}")
        for style, row in STYLES.items()
        for (on, fault), steps in zip(CASES, row, strict=True)
    ],
)
async def test_the_cleanup_by_style(style: str, on: str, fault: str, steps: tuple[int, int]) -> None:
    """The same three steps, written in five ways."""
    run = await labkit.play(getattr(handlers, style), on=on, fault=fault, patience=10)
    [end] = run.timeline.select("handler", "end")
    closed = run.timeline.select("cleanup", "closed")
    before = sum(event.at <= end.at for event in closed)
    assert (before, len(closed) - before) == steps, run
    begun = bool(run.timeline.select("cleanup", "closing"))
    expected = {(3, 0): "complete", (0, 3): "outlived", (0, 0): "truncated" if begun else "none"}
    assert run.verdict.cleanup == expected[steps], run


# A handler that is busy when the client goes: it waits for something else, and is let go once the link is down.


class Busy:
    """A handler that does not look at its connection while the client leaves."""

    def __init__(self, on: str) -> None:
        self.on = on
        self.go_on = asyncio.Event()
        self.got: list[str] = []

    async def handler(self, given: Any) -> None:
        """Get one message, be busy, and then ask for another and send one."""
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
                self.got.append((await attempt()).type.name)
            except Exception as error:
                self.got.append(type(error).__name__)

    async def when_the_client_left_by(self, leave: str) -> Timeline:
        """Play it, and let it go on once the server's socket has heard."""
        async with (
            labkit.host(self.handler, on=self.on) as server,
            labkit.Wire(server.url, timeline=server.timeline) as wire,
        ):
            from labkit.client import Client

            client = Client(wire.url, server.timeline)
            await client.connect()
            client.send("hello")
            await server.timeline.until(lambda event: event.text == "busy")
            if leave == "close":
                client.close(1000)
                await server.timeline.until(lambda event: event.text == "Close 1000" and event.lane == "wire")
            else:
                wire.reset()
                await client.ended()
            # The server's own socket has to hear of it too: it is in this loop.
            for _ in range(10):
                await asyncio.sleep(0)
            before = self.go_on.is_set()
            self.go_on.set()
            await server.timeline.until(_ended)
            await client.stop()
            assert not before
            return server.timeline


def _ended(event: Event) -> bool:
    return (event.lane, event.kind) == ("handler", "end")


async def test_a_busy_handler_of_aiohttp_learns_at_its_next_receive() -> None:
    """On the default nothing interrupts it; what it asks next tells it."""
    busy = Busy("aiohttp")
    timeline = await busy.when_the_client_left_by("reset")
    assert busy.got == ["CLOSED", "ClientConnectionResetError"]
    assert not timeline.select("handler", "cancelled")


async def test_a_busy_handler_that_may_be_cancelled_is_cancelled_at_once() -> None:
    """With handler_cancellation the handler ends where it stands, busy or not."""
    busy = Busy("aiohttp-cancel")
    timeline = await busy.when_the_client_left_by("reset")
    assert busy.got == []
    assert timeline.select("handler", "end")[0].data["ending"] == "cancelled"


@pytest.mark.parametrize(("leave", "raised"), [("reset", LOST), ("close", "ConnectionClosedOK")])
async def test_a_busy_handler_of_websockets_learns_at_its_next_call(leave: str, raised: str) -> None:
    """The library keeps what happened: a clean close stays one."""
    busy = Busy("websockets")
    await busy.when_the_client_left_by(leave)
    assert busy.got == [raised, raised]


# The handler's own doing.


async def test_a_handler_that_closes_gives_up_on_a_peer_that_never_answers() -> None:
    """`ignore-close`: both libraries wait for their close timeout and then report 1006."""

    async def websockets_closes(websocket: Any) -> None:
        await websocket.recv()
        await websocket.close(4000)

    async def aiohttp_closes(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=0.2)
        await ws.prepare(request)
        await ws.receive()
        await ws.close(code=4000)
        return ws

    for on, handler, options in (
        ("websockets", websockets_closes, {"close_timeout": 0.2}),
        ("aiohttp", aiohttp_closes, {}),
    ):
        async with (
            labkit.host(handler, on=on, **options) as server,
            labkit.Wire(server.url, timeline=server.timeline) as wire,
        ):
            from labkit.client import Client

            client = Client(wire.url, server.timeline)
            await client.connect()
            wire.hold_close("client")
            client.send("hello")
            end = await server.timeline.until(_ended)
            assert end is not None
            assert end.data["close_code"] == 1006, on
            assert server.timeline.select("handler", "notice"), on
            assert any("withheld" in event.text for event in server.timeline.select("wire", "lost")), on
            await client.stop()


@pytest.mark.parametrize(("on", "close"), [("aiohttp", None), ("websockets", 1011)])
async def test_a_handler_that_raises(on: str, close: int | None) -> None:
    """The client of websockets is told 1011; aiohttp drops the connection without a Close."""

    async def handler(given: Any) -> None:
        if on == "websockets":
            await given.recv()
        else:
            ws = web.WebSocketResponse()
            await ws.prepare(given)
            await ws.receive()
        raise ValueError("a bug of the handler's own")

    run = await labkit.play(handler, on=on, fault="reset")
    assert run.verdict.exception == "ValueError: a bug of the handler's own"
    told = run.timeline.select("client", "close-received")
    assert [event.data["code"] for event in told] == ([] if close is None else [close])
    assert run.verdict.complaints
    assert run.verdict.noticed == "unknown"
