"""Three resources, and a cancel in the middle of closing them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
from aiohttp import WSMsgType, web

import labkit
from tests.exercises.styles import opened, styles_of

of = styles_of("one-cancel")
NAMES = ("database", "queue", "cache")


async def echo(ws: web.WebSocketResponse) -> None:
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)


async def open_all() -> list[Any]:
    return [await labkit.resource(name, closing=0.05).open() for name in NAMES]


async def close_all(resources: list[Any]) -> None:
    for resource in reversed(resources):
        await resource.close()


async def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    task, cancelled = asyncio.ensure_future(coroutine), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


class Closing:
    async def __aenter__(self) -> None:
        self.resources = await open_all()

    async def __aexit__(self, *_: object) -> None:
        await finish(close_all(self.resources))


class Server:
    async def __call__(self, request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request)
        async with Closing():
            await echo(ws)
        return ws


async def with_resources(closing: Callable[[], Any], request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with closing():
        await echo(ws)
    return ws


def closed(handler: Callable[[web.WebSocketResponse], Any]) -> Callable[[web.Request], Any]:
    @functools.wraps(handler)
    async def run(request: web.Request) -> web.WebSocketResponse:
        ws = await opened(request)
        resources = await open_all()
        try:
            await handler(ws)
        finally:
            await finish(close_all(resources))
        return ws

    return run


@closed
async def decorated(ws: web.WebSocketResponse) -> None:
    await echo(ws)


async def in_a_task_group(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(echo(ws))
    finally:
        await finish(close_all(resources))
    return ws


async def on_an_exit_stack(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async with AsyncExitStack() as stack:
        for name in NAMES:
            resource = await labkit.resource(name, closing=0.05).open()
            stack.push_async_callback(lambda resource=resource: finish(resource.close()))
        await echo(ws)
    return ws


async def in_anyio(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(echo, ws)
    finally:
        await finish(close_all(resources))
    return ws


async def a_receive_loop(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        while (message := await ws.receive()).type is WSMsgType.TEXT:
            await ws.send_str(message.data)
    finally:
        await finish(close_all(resources))
    return ws


async def with_a_callback(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    closed = asyncio.Event()
    cancel = None
    try:
        await echo(ws)
    finally:
        closing = asyncio.create_task(close_all(resources))
        closing.add_done_callback(lambda _: closed.set())
        while not closed.is_set():
            try:
                await closed.wait()
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel
    return ws


#: Those that hold however many cancels come: they are right for both exercises.
HOLD = (
    Server(),
    functools.partial(with_resources, Closing),
    decorated,
    in_a_task_group,
    on_an_exit_stack,
    in_anyio,
    a_receive_loop,
    with_a_callback,
)
of.right += HOLD


@of.keeps
async def waits_once_more(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    finally:
        closing = asyncio.create_task(close_all(resources))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise
    return ws


@of.breaks("passes")
async def raises_without_a_cancel(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    finally:
        with suppress(asyncio.CancelledError):
            await finish(close_all(resources))
        raise asyncio.CancelledError


@of.breaks("passes")
async def returns_in_finally(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    except asyncio.CancelledError:
        labkit.note("cancelled")
    with suppress(asyncio.CancelledError):
        await finish(close_all(resources))
    return ws


@of.breaks("release")
async def anyio_shields_nothing_here(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    finally:
        with anyio.CancelScope(shield=True):
            await close_all(resources)
    return ws


@of.breaks("release")
async def nobody_waits(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    finally:
        CLOSINGS.append(asyncio.create_task(close_all(resources)))
    return ws


CLOSINGS: list[asyncio.Task[None]] = []


@of.breaks("release")
async def two_are_enough(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    finally:
        await finish(close_all(resources[1:]))
    return ws


@of.breaks("release")
async def closes_again_in_the_middle(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    cancel = None
    try:
        await echo(ws)
    finally:
        while True:
            try:
                await asyncio.shield(close_all(resources))
                break
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel
    return ws


@of.breaks("release")
async def asks_for_a_name_first(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    await ws.send_str(await ws.receive_str())
    try:
        await echo(ws)
    finally:
        await finish(close_all(resources))
    return ws


@of.breaks("release")
async def shields_each_and_waits_for_none(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources, cancel = await open_all(), None
    try:
        await echo(ws)
    finally:
        for resource in resources:
            try:
                await asyncio.shield(resource.close())
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel
    return ws
