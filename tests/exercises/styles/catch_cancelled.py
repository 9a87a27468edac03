"""See the cancel, and let it pass."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any

import anyio
from aiohttp import WSMsgType, web

import labkit
from tests.exercises.styles import opened, styles_of

of = styles_of("catch-cancelled")


async def echo(ws: web.WebSocketResponse) -> None:
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)


async def noted(ws: web.WebSocketResponse) -> None:
    try:
        await echo(ws)
    except asyncio.CancelledError:
        labkit.note("interrupted")
        raise


class Limited:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __call__(self, request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request)
        async with labkit.resource("database", closing=0.05):
            try:
                await asyncio.wait_for(noted(ws), self.seconds)
            except TimeoutError:
                labkit.note("time is up")
        return ws


of.right += [Limited(1)]
of.wrong[Limited(1.5)] = "limit"
of.wrong[Limited(1.3)] = "limit"
of.wrong[Limited(0.8)] = "limit"


async def limited_to(seconds: float, request: web.Request) -> web.WebSocketResponse:
    return await Limited(seconds)(request)


of.right += [functools.partial(limited_to, 1.0)]


def limited(handler: Callable[[web.WebSocketResponse], Any]) -> Callable[[web.Request], Any]:
    @functools.wraps(handler)
    async def run(request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request)
        async with labkit.resource("database", closing=0.05):
            try:
                async with asyncio.timeout(1):
                    await handler(ws)
            except TimeoutError:
                labkit.note("time is up")
        return ws

    return run


@of.keeps
@limited
async def decorated(ws: web.WebSocketResponse) -> None:
    await noted(ws)


@of.keeps
async def in_a_task_group(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.05):
        try:
            async with asyncio.timeout(1), asyncio.TaskGroup() as group:
                group.create_task(noted(ws))
        except TimeoutError:
            labkit.note("time is up")
    return ws


@of.keeps
async def on_an_exit_stack(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(labkit.resource("database", closing=0.05))
        try:
            async with asyncio.timeout(1):
                await noted(ws)
        except TimeoutError:
            labkit.note("time is up")
    return ws


@contextmanager
def seen() -> Any:
    try:
        yield
    except asyncio.CancelledError:
        labkit.note("interrupted")
        raise


@of.keeps
async def a_receive_loop(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + 1):
            with seen():
                while (message := await ws.receive()).type is WSMsgType.TEXT:
                    await ws.send_str(message.data)
    except TimeoutError:
        labkit.note("time is up")
    finally:
        await database.close()
    return ws


@of.keeps
async def in_anyio(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.05):
        with anyio.move_on_after(1) as limit:
            await noted(ws)
        if limit.cancelled_caught:
            labkit.note("time is up")
    return ws


@of.keeps
async def with_a_callback(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.05):
        reading = asyncio.create_task(noted(ws))
        timer = asyncio.get_running_loop().call_later(1, reading.cancel)
        try:
            await asyncio.wait({reading})
        except asyncio.CancelledError:
            reading.cancel()
            await asyncio.wait({reading})
            raise
        finally:
            timer.cancel()
        if reading.cancelled():
            labkit.note("time is up")
    return ws


@of.keeps
async def a_deadline_for_each_receive(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    loop = asyncio.get_running_loop()
    end = loop.time() + 1
    async with labkit.resource("database", closing=0.05):
        with suppress(TimeoutError):
            while True:
                try:
                    async with asyncio.timeout(end - loop.time()):
                        with seen():
                            message = await ws.receive()
                except TimeoutError:
                    labkit.note("time is up")
                    raise
                if message.type is not WSMsgType.TEXT:
                    break
                await ws.send_str(message.data)
    return ws


@of.breaks("limit")
async def each_message_restarts_it(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.05):
        try:
            with seen():
                while True:
                    try:
                        message = await asyncio.wait_for(ws.receive(), 1)
                    except TimeoutError:
                        labkit.note("interrupted")
                        raise
                    if message.type is not WSMsgType.TEXT:
                        break
                    await ws.send_str(message.data)
        except TimeoutError:
            labkit.note("time is up")
    return ws


@of.breaks("passes")
async def returns_after_the_cancel(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.05):
        try:
            async with asyncio.timeout(1) as limit:
                await noted(ws)
        except TimeoutError:
            labkit.note("time is up")
        except asyncio.CancelledError:
            if limit.expired():
                raise
    return ws


@of.breaks("goodbye")
async def notes_in_finally(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.05):
        try:
            await asyncio.wait_for(echo(ws), 1)
        except TimeoutError:
            labkit.note("interrupted")
            labkit.note("time is up")
            return ws
        finally:
            if ws.close_code is not None:
                labkit.note("interrupted")
    return ws


@of.breaks("release-too")
async def closes_only_after_a_cancel(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async with asyncio.timeout(1):
            await noted(ws)
    except TimeoutError:
        labkit.note("time is up")
        await database.close()
    except asyncio.CancelledError:
        await database.close()
        raise
    return ws


@of.breaks("release")
async def closes_inside_the_limit(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async with asyncio.timeout(1):
            await noted(ws)
            await database.close()
    except TimeoutError:
        labkit.note("time is up")
    return ws


@of.breaks("passes")
async def keeps_what_comes_during_the_cleanup(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async with asyncio.timeout(1):
            await noted(ws)
    except TimeoutError:
        labkit.note("time is up")
    finally:
        try:
            await database.close()
        except asyncio.CancelledError:
            labkit.note("closing was cut short")
    return ws


@of.breaks("limit")
async def its_second_begins_with_the_first_message(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with labkit.resource("database", closing=0.05):
        with seen():
            message = await ws.receive()
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
            try:
                async with asyncio.timeout(1):
                    await noted(ws)
            except TimeoutError:
                labkit.note("time is up")
    return ws


@of.breaks("release")
async def asks_for_a_name_first(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.05).open()
    await ws.send_str(await ws.receive_str())
    try:
        async with asyncio.timeout(1):
            await noted(ws)
    except TimeoutError:
        labkit.note("time is up")
    finally:
        await database.close()
    return ws


@of.breaks("release-too")
async def closes_in_each_branch_that_it_knows(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async with asyncio.timeout(1):
            try:
                async for message in ws:
                    await ws.send_str(message.data)
            except asyncio.CancelledError:
                labkit.note("interrupted")
                raise
    except TimeoutError:
        labkit.note("time is up")
        await database.close()
    except asyncio.CancelledError:
        await database.close()
        raise
    else:
        await database.close()
    return ws
