"""One handler for aiohttp, against every fault."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any

import anyio
from aiohttp import WSMsgType, web

import labkit
from tests.exercises.styles import opened, styles_of
from tests.exercises.styles.one_cancel import finish

of = styles_of("survive-aiohttp")


@contextmanager
def loses(request: web.Request) -> Iterator[None]:
    """A client that does not read keeps its socket, unless somebody aborts it."""
    try:
        yield
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()


async def echo(request: web.Request, ws: web.WebSocketResponse) -> None:
    with loses(request):
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                async with asyncio.timeout(1):
                    await ws.send_str(message.data)


class Database:
    async def __aenter__(self) -> None:
        self.resource = await labkit.resource("database", closing=0.05).open()

    async def __aexit__(self, *_: object) -> None:
        await finish(self.resource.close())


class Server:
    async def __call__(self, request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request, heartbeat=0.5)
        async with Database():
            await echo(request, ws)
        return ws


of.right += [Server()]


async def beating(heartbeat: float, request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=heartbeat)
    async with Database():
        await echo(request, ws)
    return ws


of.right += [functools.partial(beating, 0.4)]


def with_database(handler: Callable[[web.Request, web.WebSocketResponse], Any]) -> Callable[[web.Request], Any]:
    @functools.wraps(handler)
    async def run(request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request, heartbeat=0.5)
        async with Database():
            await handler(request, ws)
        return ws

    return run


@of.keeps
@with_database
async def decorated(request: web.Request, ws: web.WebSocketResponse) -> None:
    await echo(request, ws)


async def ping(ws: web.WebSocketResponse) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(0.5)
            await ws.ping()


@of.keeps
async def in_a_task_group(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database(), asyncio.TaskGroup() as group:
        pinging = group.create_task(ping(ws))
        await echo(request, ws)
        pinging.cancel()
    return ws


@of.keeps
async def all_in_a_task_group(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database(), asyncio.TaskGroup() as group:
        pinging = group.create_task(ping(ws))
        reading = group.create_task(echo(request, ws))
        reading.add_done_callback(lambda _: pinging.cancel())
    return ws


@of.keeps
async def on_an_exit_stack(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Database())
        await echo(request, ws)
    return ws


@of.keeps
async def in_anyio(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database(), anyio.create_task_group() as group:
        group.start_soon(ping, ws)
        await echo(request, ws)
        group.cancel_scope.cancel()
    return ws


@of.keeps
async def raises_what_it_cannot_mend(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database():
        try:
            await echo(request, ws)
        except RuntimeError as error:
            raise ValueError("the work is lost") from error
    return ws


@of.keeps
async def a_receive_loop(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database():
        with loses(request):
            while (message := await ws.receive()).type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                await asyncio.wait_for(ws.send_str(message.data), 1)
    return ws


@of.breaks("nothing-escapes")
async def expects_no_failing_send(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database():
        with suppress(TimeoutError):
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    async with asyncio.timeout(1):
                        await ws.send_str(message.data)
    return ws


@of.breaks("no-rest")
async def keeps_the_socket(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database():
        with suppress(TimeoutError, ConnectionError):
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    async with asyncio.timeout(1):
                        await ws.send_str(message.data)
    return ws


@of.breaks("ends")
async def no_heartbeat(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with Database():
        await echo(request, ws)
    return ws


@of.breaks("no-rest")
async def forgets_its_pinger(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database():
        PINGERS.append(asyncio.create_task(asyncio.sleep(60)))
        await echo(request, ws)
    return ws


PINGERS: list[asyncio.Task[None]] = []


@of.breaks("nothing-escapes")
async def asks_for_a_name_first(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database():
        await ws.send_str(await ws.receive_str())
        await echo(request, ws)
    return ws


@of.breaks("echo")
async def takes_an_empty_message_for_the_end(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.5)
    async with Database():
        with loses(request):
            async for message in ws:
                if message.type is not WSMsgType.TEXT or not message.data:
                    break
                async with asyncio.timeout(1):
                    await ws.send_str(message.data)
    return ws


@of.breaks("keeps")
async def has_no_patience_for_a_pong(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request, heartbeat=0.05)
    async with Database():
        await echo(request, ws)
    return ws
