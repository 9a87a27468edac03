"""The handlers that the matrix benchmarks play: one cleanup of three steps of 20 ms each, in five styles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from aiohttp import web

import labkit


async def listen(given: Any) -> Any:
    """Echo until the connection is over; the same for both libraries."""
    if not isinstance(given, web.Request):
        async for message in given:
            await given.send(message)
        return None
    ws = web.WebSocketResponse()
    await ws.prepare(given)
    async for message in ws:
        await ws.send_str(message.data)
    return ws


async def held() -> list[Any]:
    return [await labkit.resource(step, closing=0.02).open() for step in ("unsubscribe", "flush", "disconnect")]


async def release(resources: list[Any]) -> None:
    for resource in resources:
        await resource.close()


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


async def naive(given: Any) -> Any:
    resources = await held()
    response = await listen(given)
    await release(resources)
    return response


async def catching(given: Any) -> Any:
    resources, response = await held(), None
    try:  # noqa: SIM105 - as people write it
        response = await listen(given)
    except asyncio.CancelledError:
        pass
    await release(resources)
    return response


async def in_finally(given: Any) -> Any:
    resources = await held()
    try:
        return await listen(given)
    finally:
        await release(resources)


async def shielded(given: Any) -> Any:
    resources = await held()
    try:
        return await listen(given)
    finally:
        await asyncio.shield(release(resources))


async def awaited_again(given: Any) -> Any:
    resources = await held()
    try:
        return await listen(given)
    finally:
        await until_done(release(resources))


HANDLERS = (naive, catching, in_finally, shielded, awaited_again)
