"""A crowd under ``labkit.host``: some connections are watched closely, and of each other one the outline alone."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import struct
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets
from fastapi import FastAPI, WebSocket, WebSocketException

import labkit
from labkit.errors import BadOption, BadValue
from labkit.events import HandlerEnd, HandlerLine, HandlerStart, LoopCrowd
from labkit.support.clock import scaled
from labkit.views.alt import alt_text
from tests import handlers

CROWD, CLOSELY = 300, 50
RAISES, STAYS = 120, 200


async def join(url: str, says: str = "hello") -> Any:
    """A client that has had an answer."""
    client = await websockets.connect(url, proxy=None)
    await client.send(says)
    assert await client.recv() == says
    return client


def reset(*clients: Any) -> None:
    """Reset connections, all in one step."""
    for client in clients:
        sock = client.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()


async def ended(server: Any, count: int) -> None:
    """Wait until so many handlers have ended."""
    ends = itertools.count(1)
    assert await server.timeline.until(lambda event: isinstance(event, HandlerEnd) and next(ends) == count, scaled(30))


async def on_websockets(websocket: Any) -> None:
    said = await websocket.recv()
    await websocket.send(said)
    await websocket.wait_closed()
    if said == "raise":
        raise LookupError("mine")
    if said == "stay":
        await asyncio.Event().wait()


async def test_the_first_are_watched_closely_and_the_others_in_outline(tmp_path: Path) -> None:
    """Each of the first has its whole verdict; of each other one it is known how its handler ended, and no more."""
    said = {RAISES: "raise", STAYS: "stay"}
    async with labkit.host(on_websockets, on="websockets", closely=CLOSELY, patience=0.2) as server:
        crowd = [await join(server.url, said.get(number, "hello")) for number in range(1, CROWD + 1)]
        reset(*crowd)
        await ended(server, CROWD - 1)
    run = server.run()
    verdicts = {connection.number: connection.verdict for connection in run.connections}
    assert [*verdicts] == [*range(1, CROWD + 1)]
    last = on_websockets.__code__.co_firstlineno + 7
    for number in range(1, CLOSELY + 1):
        verdict = verdicts.pop(number)
        assert (verdict.ending, verdict.close_code, verdict.outline) == ("returned", 1006, False)
        assert (verdict.lines_never_ran, verdict.swallowed) == ((last - 2, last), ())
    assert (verdicts[RAISES].ending, verdicts[RAISES].exception) == ("raised", "LookupError: mine")
    assert verdicts.pop(RAISES).complaints  # websockets logs it
    assert (verdicts[STAYS].ending, verdicts[STAYS].exception) == ("running", None)
    for verdict in verdicts.values():
        assert verdict.outline
        assert (verdict.noticed, verdict.close_code, verdict.lines_never_ran) == ("unknown", None, None)
        assert (verdict.swallowed, verdict.timed_out) == (None, None)
        assert (verdict.cleanup, verdict.leaked, verdict.complaints) == ("none", (), ())
    del verdicts[STAYS]
    assert {verdict.ending for verdict in verdicts.values()} == {"returned"}

    [crowd_event] = run.timeline.all(LoopCrowd)
    assert crowd_event.closely == CLOSELY
    sentence = f"{CLOSELY} connections were watched closely, and {CROWD - CLOSELY} in outline."
    assert run.verdict.sentence.endswith(f"Connection {STAYS} stayed. {sentence}")
    others = f"Connections 2-{RAISES - 1}, {RAISES + 1}-{STAYS - 1}, {STAYS + 1}-{CROWD}: their handlers returned."
    assert others in run.verdict.sentence
    shown = " ".join(run.text().split())
    assert sentence in shown
    rows = [line for line in run.text().splitlines() if line.startswith("connection")]
    assert len(rows) == 4  # the others that were watched closely; those in outline; the one that raised; that stays
    assert sentence in alt_text(run.timeline, run.verdict)
    [outlined] = {verdict.sentence for verdict in verdicts.values()}
    told = "returned; it was watched in outline, so what it was told and which lines ran is unknown."
    assert outlined == f"No fault struck: on_websockets on websockets {told}"

    run.save(tmp_path / "run.json")
    assert labkit.load(tmp_path / "run.json").verdict == run.verdict


@pytest.mark.parametrize("on", handlers.STACKS)
@pytest.mark.parametrize("closely", [3, None])
async def test_nothing_changes_up_to_the_bound(on: str, closely: int | None) -> None:
    """As many as are watched closely: nothing says that there could be more."""
    async with labkit.host(handlers.echo(on), on=on, closely=closely) as server:
        crowd = [await join(server.url) for _ in range(3)]
        reset(*crowd)
        await ended(server, 3)
    run = server.run()
    assert not run.timeline.all(LoopCrowd)
    assert "outline" not in run.text()
    assert [connection.verdict.outline for connection in run.connections] == [False] * 3
    assert all(connection.verdict.lines_never_ran is not None for connection in run.connections)


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_the_bound_is_on_those_at_once(on: str) -> None:
    """When one that was watched closely has ended, the next one is; and on a connection, nothing changes."""
    async with labkit.host(handlers.echo(on), on=on, closely=1) as server:
        for first in (1, 3):
            crowd = [await join(server.url), await join(server.url)]
            reset(*crowd)
            await ended(server, first + 1)
    outlined = [bool(start.outline) for start in server.run().timeline.all(HandlerStart)]
    assert outlined == [False, True, False, True]
    assert {line.served for line in server.run().timeline.all(HandlerLine)} == {1, 3}


async def test_neither_lines_nor_the_library_are_watched_in_outline() -> None:
    """Nor where an option of the server's is code of the user's, which is watched on Python 3.11."""
    async with labkit.host(
        handlers.websockets_echo, on="websockets", closely=1, process_request=lambda *_: None
    ) as server:
        crowd = [await join(server.url), await join(server.url)]
        reset(*crowd)
        await ended(server, 2)
    timeline = server.run().timeline
    assert {line.served for line in timeline.all(HandlerLine)} == {1}
    assert {event.served for event in timeline.select("library") if event.kind != "tcp"} == {1}


async def test_what_comes_through_a_wire_is_watched_closely() -> None:
    """A fault may strike it, and its verdict is whole."""
    async with (
        labkit.host(handlers.websockets_echo, on="websockets", closely=1) as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
    ):
        direct = [await join(server.url), await join(server.url)]
        through = [await join(wire.url), await join(wire.url)]
        await wire.strike("reset")
        await ended(server, 2)
        reset(*direct)
        await ended(server, 4)
        for client in through:
            await client.wait_closed()
    run = server.run()
    assert [connection.verdict.outline for connection in run.connections] == [False, True, False, False]
    assert [connection.verdict.noticed for connection in run.connections if connection.verdict.struck] == ["yes"] * 2
    assert run.verdict.struck


async def test_what_one_in_outline_notes_logs_and_leaves_is_told() -> None:
    """All of it says by itself to which connection it belongs."""
    stays = asyncio.Event()

    async def handler(websocket: Any) -> None:
        async with labkit.resource("database"):
            labkit.note("opened")
            logging.getLogger("mine").warning("careful")
            await websocket.send(await websocket.recv())
            kept.append(asyncio.create_task(stays.wait(), name="left"))
            asyncio.get_running_loop().call_later(1000, stays.set)
            await websocket.wait_closed()

    kept: list[Any] = []
    async with labkit.host(handler, on="websockets", closely=0, patience=0.2) as server:
        crowd = [await join(server.url), await join(server.url)]
        reset(*crowd)
        await ended(server, 2)
    line = handler.__code__.co_firstlineno + 5
    for connection in server.run().connections:
        assert connection.verdict.leaked == (
            f"task left (Event.wait), started in line {line}",
            f"timer that calls Event.set, set in line {line + 1}",
        )
        assert connection.verdict.cleanup == "complete"
        assert connection.verdict.complaints == ("WARNING mine: careful",)
        assert connection.timeline.select("handler", "note")
        assert "cleanup complete" in connection.verdict.sentence
    assert "0 connections were watched closely, and 2 in outline." in server.run().verdict.sentence
    shown = server.run().text()
    assert "close code  unknown" in shown
    assert "never ran   unknown" in shown
    assert "the connection was watched in outline" in server.run().source().reason


async def test_one_in_outline_that_swallows_every_cancel_is_ended() -> None:
    """As one that is watched closely is: it is told, and the block ends."""

    async def stubborn(websocket: Any) -> None:
        await websocket.send(await websocket.recv())
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                tries.append(None)

    tries: list[None] = []
    async with labkit.host(stubborn, on="websockets", closely=0, patience=0.1) as server, AsyncExitStack() as clients:
        client = await join(server.url)
        clients.push_async_callback(client.wait_closed)
        reset(client)
    run = server.run()
    assert run.verdict.ending == "running"
    assert run.verdict.leaked == ("handler 'stubborn', which swallowed 2 cancels",)
    assert len(tries) == 2
    assert [end.ending for end in run.timeline.all(HandlerEnd)] == ["cancelled"]


async def test_the_block_waits_for_one_in_outline_whose_connection_is_over() -> None:
    """While the patience lasts, as for the others."""
    over = asyncio.Event()

    async def slow(websocket: Any) -> None:
        await websocket.send(await websocket.recv())
        await websocket.wait_closed()
        over.set()
        for _ in range(100):
            await asyncio.sleep(0)

    async with labkit.host(slow, on="websockets", closely=0) as server:
        stays = await join(server.url)
        reset(await join(server.url))
        await over.wait()
    endings = [connection.verdict.ending for connection in server.run().connections]
    assert endings == ["running", "returned"]
    await stays.wait_closed()


@pytest.mark.parametrize("closely", [0, None])
async def test_an_exception_of_which_the_framework_makes_an_answer_is_told(closely: int | None) -> None:
    """Starlette closes the connection by itself, and nothing comes out of the endpoint's task."""
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        raise WebSocketException(4000, "mine")

    async with labkit.host(app, on="asgi", closely=closely) as server:
        client = await join(server.url)
        await client.wait_closed()
        assert client.close_code == 4000
    verdict = server.run().verdict
    assert (verdict.ending, verdict.outline) == ("raised", closely == 0)
    assert verdict.exception == "fastapi.exceptions.WebSocketException: 4000: mine"


@pytest.mark.parametrize("closely", [-1, 1.5, "many", True])
async def test_a_wrong_bound_is_refused(closely: Any) -> None:
    """Before anything opens; and ``play`` has none, since its connections are few."""
    with pytest.raises(BadValue, match="closely"):
        async with labkit.host(handlers.websockets_echo, on="websockets", closely=closely):
            pass
    with pytest.raises(BadOption, match="closely"):
        await labkit.play(handlers.websockets_echo, on="websockets", closely=1)
