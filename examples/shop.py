"""The handlers that README plays: an echo and a shop, as people write them.

To try what README says line by line, in the root of a clone::

    cp examples/shop.py server.py
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

import labkit

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


async def echo(request: web.Request) -> web.WebSocketResponse:
    """For aiohttp: a database that is closed at the end, if the handler comes so far."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.02).open()
    async for message in ws:
        await ws.send_str(message.data)
    await database.close()
    return ws


async def echo_ws(websocket: ServerConnection) -> None:
    """The same for websockets, without a database."""
    async for message in websocket:
        await websocket.send(message)


async def shop(request: web.Request) -> web.WebSocketResponse:
    """For aiohttp: charge the card, write the order, say so."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for _ in ws:
            await asyncio.sleep(0.01)  # the card is charged
            labkit.note("charged")
            await asyncio.sleep(0.01)  # the order is written
            labkit.note("written")
            await ws.send_str("accepted")
    return ws


async def mended(request: web.Request) -> web.WebSocketResponse:
    """The shop once more: what is charged has been written before."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for _ in ws:
            await asyncio.sleep(0.01)  # the order is written
            labkit.note("written")
            await asyncio.sleep(0.01)  # the card is charged
            labkit.note("charged")
            await ws.send_str("accepted")
    return ws


async def talk(client: Any) -> None:
    """A client of the shop."""
    await client.send('{"order": 1}')
    assert "accepted" in await client.recv()
