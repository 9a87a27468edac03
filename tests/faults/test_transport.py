"""TCP ends without a Close: what each end is told, and what it never gets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import labkit
from labkit.clients.own import OwnClient
from labkit.support.clock import scaled
from tests import handlers
from tests.faults.expectations import by_stack

LOST = "websockets.exceptions.ConnectionClosedError: no close frame received or sent"


@pytest.mark.parametrize("fault", ["fin", "half-close", "reset", "truncated-frame"])
async def test_websockets_tells_all_of_them_in_the_same_words(fault: str) -> None:
    """The exception is the one that people search the web for, and it is what the handler was told."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault)
    assert run.verdict.exception == LOST
    [notice] = run.timeline.select("handler", "notice")
    assert (notice.data["exception"], notice.data["code"]) == (LOST, 1006)
    # The library logs a handler that raises; that is one complaint.
    assert len(run.verdict.complaints) == 1


@pytest.mark.parametrize("on", handlers.STACKS)
@pytest.mark.parametrize(
    "fault", [labkit.TruncatedFrame(sent=0), labkit.TruncatedFrame(sent=99, then="reset")], ids=str
)
async def test_the_part_of_a_frame_is_never_given_to_the_handler(fault: labkit.Fault, on: str) -> None:
    """Not a byte of it, however much has arrived."""
    run = await labkit.play(handlers.echo(on), on=on, fault=fault)
    assert [event.text for event in run.timeline.select("handler", "recv")] == ["'hello'"]
    assert run.verdict.noticed == "yes"


# What the client sees of its own end.
CLIENT = {"fin": "fin", "half-close": "fin", "reset": "reset", "truncated-frame": "fin"}


@pytest.mark.parametrize(("fault", "how"), CLIENT.items())
async def test_the_client_is_told_too(fault: str, how: str) -> None:
    """A wire that breaks breaks at both ends; after a half-close it is the server that ends the other half."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault)
    assert [event.data["how"] for event in run.timeline.select("client", "ended")] == [how]


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_after_a_half_close_it_is_the_server_that_ends_the_rest(on: str) -> None:
    """TCP would let it go on sending; both libraries end their half without another frame."""
    run = await labkit.play(handlers.echo(on), on=on, fault="half-close")
    told = [event.text for event in run.timeline.select("wire", "fin", "reset", "closed")]
    assert told == ["FIN to the server", "FIN from the server", "link closed"]
    assert not run.timeline.select("client", "close-received")


@pytest.mark.parametrize(
    ("on", "raised"),
    by_stack(
        {
            "aiohttp": "ClientConnectionResetError",
            "aiohttp-cancel": "CancelledError",
            "websockets": "ConnectionClosedError",
        }
    ),
)
async def test_a_send_after_the_loss(on: str, raised: str) -> None:
    """A handler that only ever sends learns of the end by an exception; aiohttp's does not say that it was closed."""
    told: list[str] = []

    async def ticker(given: Any) -> None:
        if on == "websockets":
            send = given.send
        else:
            from aiohttp import web

            ws = web.WebSocketResponse()
            await ws.prepare(given)
            send = ws.send_str
        try:
            while True:
                await send("tick")
                await asyncio.sleep(0.001)
        except BaseException as error:
            told.append(type(error).__name__)
            raise

    async with (
        labkit.host(ticker, on=on) as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
        asyncio.timeout(scaled(5)),
    ):
        client = OwnClient(wire.url, server.timeline)
        await client.connect()
        await server.timeline.until(lambda event: (event.lane, event.kind) == ("client", "recv"))
        wire.reset()
        await server.timeline.until(lambda event: (event.lane, event.kind) == ("handler", "end"))
        await client.stop()
    assert told == [raised]


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_the_notice_comes_after_the_fault(on: str) -> None:
    """The verdict measures from the fault, and the handler ends after it has been told."""
    run = await labkit.play(handlers.echo(on), on=on, fault="reset")
    assert run.verdict.noticed_after is not None
    [fault], [end] = run.timeline.select("wire", "fault"), run.timeline.select("handler", "end")
    assert 0 <= run.verdict.noticed_after <= end.at - fault.at
