"""Notice a client that can no longer say goodbye."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
from aiohttp import WSMsgType, web

import labkit
from tests.exercises.styles import opened, styles_of

of = styles_of("heartbeat")


async def echo(ws: web.WebSocketResponse) -> None:
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)


class Server:
    def __init__(self, **options: Any) -> None:
        self.options = options

    async def __call__(self, request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request, **self.options)
        async with labkit.resource("database"):
            await echo(ws)
        return ws


of.right += [Server(heartbeat=0.5), Server(heartbeat=1.0), Server(heartbeat=0.5, receive_timeout=3)]
of.wrong |= {Server(heartbeat=2.0): "notices", Server(autoping=False): "notices"}


async def beating(heartbeat: float, request: web.Request) -> web.WebSocketResponse:
    return await Server(heartbeat=heartbeat)(request)


of.right += [functools.partial(beating, 0.4)]


def with_heartbeat(handler: Callable[[web.WebSocketResponse], Any]) -> Callable[[web.Request], Any]:
    @functools.wraps(handler)
    async def accept(request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request, heartbeat=0.5)
        async with labkit.resource("database"):
            await handler(ws)
        return ws

    return accept


@of.keeps
@with_heartbeat
async def decorated(ws: web.WebSocketResponse) -> None:
    await echo(ws)


@of.keeps
async def in_a_task_group(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with labkit.resource("database"), asyncio.TaskGroup() as group:
        group.create_task(echo(ws))
    return ws


@of.keeps
async def on_an_exit_stack(request: web.Request) -> web.WebSocketResponse:
    async with AsyncExitStack() as stack:
        ws = await opened(request, heartbeat=0.5)
        await stack.enter_async_context(labkit.resource("database"))
        await echo(ws)
    return ws


@of.keeps
async def a_receive_loop(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    database = await labkit.resource("database").open()
    try:
        while (message := await ws.receive()).type is WSMsgType.TEXT:
            await ws.send_str(message.data)
    finally:
        await database.close()
    return ws


@of.keeps
async def in_anyio(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with labkit.resource("database"), anyio.create_task_group() as group:
        group.start_soon(echo, ws)
    return ws


@of.keeps
async def reading_in_a_task(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    ended = asyncio.Event()
    async with labkit.resource("database"):
        reading = asyncio.create_task(echo(ws))
        reading.add_done_callback(lambda _: ended.set())
        try:
            await ended.wait()
        finally:
            reading.cancel()
    return ws


@of.breaks("keeps")
async def a_limit_beside_the_heartbeat(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with labkit.resource("database"):
        with suppress(TimeoutError):
            while True:
                message = await asyncio.wait_for(ws.receive(), 4)
                if message.type is not WSMsgType.TEXT:
                    break
                await ws.send_str(message.data)
    return ws


@of.breaks("keeps")
async def a_session_of_four_seconds(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with labkit.resource("database"):
        with suppress(TimeoutError):
            async with asyncio.timeout(4):
                await echo(ws)
    return ws


@of.breaks("keeps")
async def asks_for_words(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database"):
        while True:
            try:
                message = await ws.receive(timeout=0.5)
            except TimeoutError:
                with suppress(TimeoutError, ConnectionError):
                    await ws.send_str("still there?")
                    await ws.receive(timeout=0.5)
                    continue
                break
            if message.type is not WSMsgType.TEXT:
                break
            await ws.send_str(message.data)
    return ws


@of.breaks("release")
async def closes_when_all_goes_well(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    database = await labkit.resource("database").open()
    async for message in ws:
        if message.type is WSMsgType.ERROR:
            return ws
        await ws.send_str(message.data)
    await database.close()
    return ws


@of.breaks("nothing-escapes")
async def raises_the_error(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with labkit.resource("database"):
        async for message in ws:
            if message.type is WSMsgType.ERROR:
                raise message.data
            await ws.send_str(message.data)
    return ws


@of.breaks("nothing-escapes")
async def asks_for_a_name_first(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with labkit.resource("database"):
        await ws.send_str(await ws.receive_str())
        await echo(ws)
    return ws


@of.keeps
async def has_a_limit_that_each_pong_restarts(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5, receive_timeout=4)
    async with labkit.resource("database"):
        with suppress(TimeoutError):
            await echo(ws)
    return ws


@of.keeps
async def closes_from_a_watchdog(request: web.Request) -> web.WebSocketResponse:
    ws, heard = await opened(request, autoping=False), asyncio.Event()

    async def watch() -> None:
        while not ws.closed:
            heard.clear()
            await ws.ping()
            await asyncio.sleep(0.8)
            if not heard.is_set():
                await ws.close(code=1011)  # at once: the loop's receive() ends first

    async with labkit.resource("database"):
        watching = asyncio.create_task(watch())
        try:
            async for message in ws:
                heard.set()
                if message.type is WSMsgType.TEXT:
                    await ws.send_str(message.data)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    return ws


@of.breaks("nothing-escapes")
async def cancels_itself(request: web.Request) -> web.WebSocketResponse:
    ws, me, heard = await opened(request, autoping=False), asyncio.current_task(), asyncio.Event()

    async def watch() -> None:
        while True:
            heard.clear()
            await ws.ping()
            await asyncio.sleep(0.7)
            if not heard.is_set() and me is not None:
                me.cancel()
                return

    watching = asyncio.create_task(watch())
    try:
        async with labkit.resource("database"):
            async for message in ws:
                heard.set()
                if message.type is WSMsgType.TEXT:
                    await ws.send_str(message.data)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    return ws
