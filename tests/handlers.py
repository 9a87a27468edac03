"""Handlers that the tests play: the ones that people write, and some that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web
from starlette.websockets import WebSocket

import labkit

#: The stacks that a matrix plays if none is named. Those of ASGI have tests of their own.
STACKS = tuple(name for name, stack in labkit.STACKS.items() if stack.usual)


async def aiohttp_echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    labkit.note("after the loop")
    return ws


async def websockets_echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)
    labkit.note("after the loop")


async def asgi_echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)
    labkit.note("after the loop")


def echo(on: str) -> Any:
    """The echo handler, as a stack wants it."""
    if labkit.STACKS[on].interface == "asgi":
        return asgi_echo
    return websockets_echo if on == "websockets" else aiohttp_echo


async def listen(given: Any) -> None:
    """Echo until the connection is over; the same for all libraries."""
    if isinstance(given, web.Request):
        ws = web.WebSocketResponse()
        await ws.prepare(given)
        async for message in ws:
            await ws.send_str(message.data)
    elif isinstance(given, WebSocket):
        await given.accept()
        async for message in given.iter_text():
            await given.send_text(message)
    else:
        async for message in given:
            await given.send(message)


async def release() -> None:
    """A cleanup of three steps that each take a while."""
    for step in ("unsubscribe", "flush", "disconnect"):
        await labkit.resource(step, closing=0.02).close()


async def until_done(cleanup: Awaitable[None]) -> None:
    """Await a cleanup to its end, whatever cancels; then raise the cancel that is owed."""
    task, cancel = asyncio.ensure_future(cleanup), None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancel = error
    if cancel is not None:
        raise cancel


# The cleanup, by style. A handler of aiohttp should return its response; that it does not makes aiohttp complain
# only after the handler has ended, which no test here asks about.


async def after_the_loop(given: Any) -> None:
    await listen(given)
    await release()


async def in_finally(given: Any) -> None:
    try:
        await listen(given)
    finally:
        await release()


async def after_except(given: Any) -> None:
    try:  # noqa: SIM105 - as people write it
        await listen(given)
    except asyncio.CancelledError:
        pass
    await release()


async def shielded(given: Any) -> None:
    try:
        await listen(given)
    finally:
        await asyncio.shield(release())


async def awaited_again(given: Any) -> None:
    try:
        await listen(given)
    finally:
        await until_done(release())


async def three_resources(given: Any) -> None:
    """Three resources in a stack; the one that was opened last closes first."""
    async with AsyncExitStack() as stack:
        for name in ("database", "queue", "cache"):
            await stack.enter_async_context(labkit.resource(name, closing=0.02))
        await listen(given)
