"""Tell who said goodbye from who was lost."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
from aiohttp import WSMsgType, web

import labkit
from tests.exercises.styles import opened, styles_of

of = styles_of("goodbye")
NORMAL = {0, 1000, 1001}


def tell(ws: web.WebSocketResponse) -> None:
    labkit.note("bye" if ws.close_code in NORMAL else "lost")


async def echo(ws: web.WebSocketResponse) -> None:
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)


class Goodbye:
    async def __call__(self, request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request)
        await echo(ws)
        tell(ws)
        return ws

    async def method(self, request: web.Request) -> web.WebSocketResponse:
        return await self(request)


of.right += [Goodbye(), Goodbye().method]


async def with_words(words: tuple[str, str], request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    await echo(ws)
    labkit.note(words[0] if ws.close_code in NORMAL else words[1])
    return ws


of.right += [functools.partial(with_words, ("bye", "lost"))]


def with_socket(handler: Callable[[web.Request, web.WebSocketResponse], Any]) -> Callable[[web.Request], Any]:
    @functools.wraps(handler)
    async def accept(request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request)
        await handler(request, ws)
        return ws

    return accept


@of.keeps
@with_socket
async def decorated(request: web.Request, ws: web.WebSocketResponse) -> None:
    await echo(ws)
    tell(ws)


@of.keeps
async def in_a_task_group(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with asyncio.TaskGroup() as group:
        group.create_task(echo(ws))
    tell(ws)
    return ws


@of.keeps
async def on_an_exit_stack(request: web.Request) -> web.WebSocketResponse:
    async with AsyncExitStack() as stack:
        ws = await opened(request)
        stack.callback(tell, ws)
        await echo(ws)
    return ws


@of.keeps
async def a_receive_loop(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    while True:
        message = await ws.receive()
        match message.type:
            case WSMsgType.TEXT:
                await ws.send_str(message.data)
            case WSMsgType.CLOSE:
                labkit.note("bye" if message.data in NORMAL else "lost")
                return ws
            case _:
                labkit.note("lost")
                return ws


@of.keeps
async def in_anyio(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with anyio.create_task_group() as group:
        group.start_soon(echo, ws)
    tell(ws)
    return ws


@of.keeps
async def with_a_callback(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    reading = asyncio.create_task(echo(ws))
    reading.add_done_callback(lambda _: tell(ws))
    await asyncio.wait({reading})
    return ws


@of.keeps
def not_async_itself(request: web.Request) -> Any:
    return a_receive_loop(request)


@of.breaks("lost")
async def any_library_code(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    await echo(ws)
    labkit.note("bye" if (ws.close_code or 0) < 1003 else "lost")
    return ws


@of.breaks("lost")
async def own_codes_are_fine(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    await echo(ws)
    labkit.note("bye" if ws.close_code in NORMAL or (ws.close_code or 0) >= 3000 else "lost")
    return ws


@of.breaks("bye")
async def twice(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    try:
        await echo(ws)
        tell(ws)
    finally:
        tell(ws)
    return ws


@of.breaks("lost")
async def by_the_exception(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    try:
        await echo(ws)
    except ConnectionError:
        labkit.note("lost")
    else:
        labkit.note("bye")
    return ws


@of.breaks("bye")
async def the_wrong_way_round(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    await echo(ws)
    labkit.note("lost" if ws.close_code in NORMAL else "bye")
    return ws


@of.breaks("lost")
async def restarts_are_fine(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    await echo(ws)
    labkit.note("bye" if ws.close_code in NORMAL | {1012} else "lost")
    return ws


@of.breaks("bye")
async def asks_for_a_name_first(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    await ws.send_str(await ws.receive_str())
    await echo(ws)
    tell(ws)
    return ws


@of.breaks("lost")
async def only_of_those_who_spoke(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    spoke = False
    async for message in ws:
        spoke = True
        await ws.send_str(message.data)
    if spoke:
        tell(ws)
    return ws


@of.breaks("echo")
async def takes_an_empty_message_for_the_end(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async for message in ws:
        if not message.data:
            break
        await ws.send_str(message.data)
    tell(ws)
    return ws
