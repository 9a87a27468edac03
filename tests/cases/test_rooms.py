"""Handlers of several clients that close each other's connections, as servers do where a client comes back."""

from __future__ import annotations

import asyncio

from aiohttp import web

import labkit
from labkit.events import WireSpared


async def test_a_connection_that_a_newer_one_has_replaced_is_struck_by_no_fault() -> None:
    """The same user has connected again; it was not its own handler that closed it."""
    by_user: dict[str, web.WebSocketResponse] = {}

    async def one_each(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        before, by_user["ann"] = by_user.get("ann"), ws
        if before is not None:
            await before.close(code=4009, message=b"you are elsewhere")
        async for message in ws:
            await ws.send_str(message.data)
        if by_user["ann"] is ws:
            del by_user["ann"]
        return ws

    run = await labkit.play(one_each, on="aiohttp", fault="reset", clients=2)
    [spared] = run.timeline.all(WireSpared)
    assert spared.why == "another connection's handler had called close(4009)"
    assert (run.verdict.struck, run.connections[1].verdict.ending) == (False, "running")


async def test_a_handler_whose_connection_another_one_closes_has_noticed_that() -> None:
    """It hears nothing of the silence, until the other member of the room throws its client out."""
    room: list[web.WebSocketResponse] = []

    async def member(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=0.2)
        await ws.prepare(request)
        room.append(ws)
        words = 0
        async for message in ws:
            words += 1
            await ws.send_str(message.data)
            if words == 2:  # the first has said nothing for too long
                await asyncio.wait_for(room[0].close(code=4008), 5)
        return ws

    run = await labkit.play(member, on="aiohttp", fault="blackhole", clients=2)
    assert (run.verdict.noticed, run.verdict.ending) == ("yes", "returned"), str(run)
