"""Give the database back when the client vanishes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
from aiohttp import WSMsgType, web

import labkit
from tests.exercises.styles import opened, styles_of

of = styles_of("unclean-exit")


async def echo(ws: web.WebSocketResponse) -> None:
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)


class Server:
    def __init__(self, name: str = "database") -> None:
        self.name = name

    async def __call__(self, request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request)
        async with labkit.resource(self.name, closing=0.02):
            await echo(ws)
        return ws


of.right += [Server()]


async def named(request: web.Request, *, name: str) -> web.WebSocketResponse:
    return await Server(name)(request)


of.right += [functools.partial(named, name="database")]


def with_database(handler: Callable[[web.Request, Any], Any]) -> Callable[[web.Request], Any]:
    @functools.wraps(handler)
    async def supply(request: web.Request) -> Any:
        async with labkit.resource("database", closing=0.02) as database:
            return await handler(request, database)

    return supply


@of.keeps
@with_database
async def decorated(request: web.Request, database: Any) -> web.WebSocketResponse:
    ws = await opened(request)
    await echo(ws)
    return ws


@asynccontextmanager
async def session() -> AsyncIterator[Any]:
    database = await labkit.resource("database", closing=0.02).open()
    try:
        yield database
    finally:
        await database.close()


@of.keeps
async def in_a_context_of_its_own(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with session():
        await echo(ws)
    return ws


@of.keeps
async def in_a_task_group(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.02), asyncio.TaskGroup() as group:
        group.create_task(echo(ws))
    return ws


@of.keeps
async def on_an_exit_stack(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with AsyncExitStack() as stack:
        database = await labkit.resource("database", closing=0.02).open()
        stack.push_async_callback(database.close)
        await echo(ws)
    return ws


@of.keeps
async def a_receive_loop(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.02).open()
    try:
        while (message := await ws.receive()).type is WSMsgType.TEXT:
            await ws.send_str(message.data)
    finally:
        await database.close()
    return ws


@of.keeps
async def in_anyio(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.02), anyio.create_task_group() as group:
        group.start_soon(echo, ws)
    return ws


@of.keeps
async def reading_in_a_task(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    ended = asyncio.Event()
    async with labkit.resource("database", closing=0.02):
        reading = asyncio.create_task(echo(ws))
        reading.add_done_callback(lambda _: ended.set())
        try:
            await ended.wait()
        finally:
            reading.cancel()
    return ws


@of.breaks("release")  # not after a send that fails
async def catches_and_raises(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.02).open()
    try:
        await echo(ws)
    except asyncio.CancelledError:
        await database.close()
        raise
    await database.close()
    return ws


SHARED = labkit.resource("database", closing=0.02)


@of.keeps
async def made_elsewhere(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with SHARED:
        await echo(ws)
    return ws


@of.breaks("release")
async def on_the_connection_error_alone(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.02).open()
    try:
        await echo(ws)
    except (ConnectionError, asyncio.CancelledError) as error:
        await database.close()
        raise error
    return ws


@of.breaks("release")
async def closes_in_a_task_that_nobody_awaits(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.1).open()
    try:
        await echo(ws)
    finally:
        asyncio.get_running_loop().call_soon(lambda: CLOSINGS.append(asyncio.create_task(database.close())))
    return ws


CLOSINGS: list[asyncio.Task[None]] = []


@of.breaks("passes")
async def suppresses_the_cancel(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.02):
        with suppress(asyncio.CancelledError):
            await echo(ws)
    return ws


@of.breaks("passes")
async def catches_everything(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.02).open()
    try:
        await echo(ws)
    except BaseException:
        labkit.note("gone")
    await database.close()
    return ws


@of.breaks("release")
async def asks_for_a_name_first(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.02).open()
    await ws.send_str(await ws.receive_str())
    try:
        await echo(ws)
    finally:
        await database.close()
    return ws


class Hushed:
    async def __aenter__(self) -> None:
        self.database = await labkit.resource("database", closing=0.05).open()

    async def __aexit__(self, *_: object) -> bool:
        await self.database.close()
        return True


@of.breaks("passes")
async def has_a_manager_that_swallows(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with Hushed():
        async for message in ws:
            await ws.send_str(message.data)
    return ws


@of.breaks("release")
async def leaves_its_generator_open(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)

    async def heard() -> AsyncIterator[str]:
        async with labkit.resource("database", closing=0.05):
            async for message in ws:
                yield message.data

    async for text in heard():  # a send that fails leaves it at its yield
        await ws.send_str(text)
    return ws
