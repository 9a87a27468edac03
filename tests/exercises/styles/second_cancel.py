"""A cleanup that holds, however often it is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.exercises.styles import one_cancel, opened, styles_of
from tests.exercises.styles.one_cancel import close_all, echo, finish, open_all

if TYPE_CHECKING:
    from aiohttp import web

of = styles_of("second-cancel")
of.right += one_cancel.HOLD
of.wrong |= dict.fromkeys((one_cancel.waits_once_more, one_cancel.closes_again_in_the_middle), "release")


@of.breaks("release")
async def eight_tries(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    cancel = None
    try:
        await echo(ws)
    finally:
        closing = asyncio.create_task(close_all(resources))
        for _ in range(8):
            try:
                await asyncio.shield(closing)
                break
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel
    return ws


@of.breaks("passes")
async def raises_whatever_came(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    finally:
        with suppress(asyncio.CancelledError):
            await finish(close_all(resources))
    raise asyncio.CancelledError


@of.breaks("passes")
async def keeps_them_all(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    with suppress(asyncio.CancelledError):
        await echo(ws)
    with suppress(asyncio.CancelledError):
        await finish(close_all(resources))
    return ws


@of.breaks("release")
async def cancels_the_closing(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    finally:
        closing = asyncio.create_task(close_all(resources))
        while not closing.done():
            await closing
    return ws


@of.breaks("release")
async def begins_again_after_each_cancel(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    cancel = None
    try:
        await echo(ws)
    finally:
        while resources:
            try:
                await resources[-1].close()
            except asyncio.CancelledError as error:
                cancel = error
            else:
                resources.pop()
        if cancel is not None:
            raise cancel
    return ws


@of.keeps
async def closes_all_at_the_same_time(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    try:
        await echo(ws)
    finally:
        await finish(at_the_same_time(resources))
    return ws


async def at_the_same_time(resources: list[Any]) -> None:
    await asyncio.gather(*(resource.close() for resource in resources))


@of.breaks("release")
async def twenty_tries(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    resources = await open_all()
    cancel = None
    try:
        await echo(ws)
    finally:
        closing = asyncio.create_task(at_the_same_time(resources))
        for _ in range(20):
            try:
                await asyncio.wait({closing})
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel
    return ws


@of.breaks("release")
async def protects_all_but_the_last(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    database, queue, cache = await open_all()
    try:
        await echo(ws)
    finally:
        try:
            await finish(database.close())
        finally:
            try:
                await finish(queue.close())
            finally:
                await cache.close()
    return ws
