"""Notebook 09: one handler for aiohttp, against every fault."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

import labkit
from labkit.exercises.exercise import Exercise
from labkit.exercises.survival import survival


async def starter(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database", closing=0.05):
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
    return ws


async def solution(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                async with asyncio.timeout(1):
                    await ws.send_str(message.data)
    except (TimeoutError, ConnectionError):
        labkit.note("lost")
        if request.transport is not None:
            request.transport.abort()
    finally:
        closing, cancel = asyncio.create_task(database.close()), None
        while not closing.done():
            try:
                await asyncio.wait([closing])
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel from closing.exception()
        closing.result()
    return ws


async def closes_in_a_hurry(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    async with labkit.resource("database", closing=0.05):
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    async with asyncio.timeout(1):
                        await ws.send_str(message.data)
        except (TimeoutError, ConnectionError):
            labkit.note("lost")
    return ws


async def keeps_the_socket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    async with labkit.resource("database"):
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    async with asyncio.timeout(1):
                        await ws.send_str(message.data)
        except (TimeoutError, ConnectionError):
            labkit.note("lost")
    return ws


async def sends_without_a_limit(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    async with labkit.resource("database"):
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await ws.send_str(message.data)
        except ConnectionError:
            labkit.note("lost")
    return ws


async def throws_out_the_quiet(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(receive_timeout=1)
    await ws.prepare(request)
    async with labkit.resource("database"):
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    async with asyncio.timeout(1):
                        await ws.send_str(message.data)
        except (TimeoutError, ConnectionError):
            labkit.note("lost")
    return ws


async def expects_no_failing_send(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                async with asyncio.timeout(1):
                    await ws.send_str(message.data)
    except TimeoutError:
        labkit.note("lost")
    finally:
        closing, cancel = asyncio.create_task(database.close()), None
        while not closing.done():
            try:
                await asyncio.wait([closing])
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel
    return ws


async def echoes_the_error(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for message in ws:
            async with asyncio.timeout(1):
                await ws.send_str(message.data)
    return ws


EXERCISE = Exercise(
    name="survive-aiohttp",
    notebook="09",
    title="one handler for aiohttp, against every fault",
    goal="Echo each message, with a database open. Whatever happens, on aiohttp's default and with "
    "`handler_cancellation=True`: the handler ends within 2 s of its connection's end, and so it does when a client no "
    "longer reads and a send waits; it closes its database in full before that; no exception escapes but a cancel, and "
    "nothing is left behind. A client that is only slow or quiet, or both, is kept.",
    starter=starter,
    solution=solution,
    hints=(
        "Take one broken rule at a time. Which notebook had its fault? Silence is 05, a cancel in the cleanup is 06.",
        (
            "You need four things: a heartbeat for the silence; a limit around each send, for a client that no longer "
            "reads; an end of its socket, which aiohttp keeps for what is unsent; and a closing that is waited for "
            "again, however often it is cancelled."
        ),
        (
            "`WebSocketResponse(heartbeat=0.5)`; `async with asyncio.timeout(1):` around `send_str`, with "
            "`except (TimeoutError, ConnectionError)` around the loop, and there `request.transport.abort()`, if there "
            "still is a transport; in `finally` the answer to `second-cancel`."
        ),
    ),
    stacks=("aiohttp", "aiohttp-cancel"),
    rules=survival(shutdown={"shutdown_timeout": 0.2}),
    wrong={
        closes_in_a_hurry: "release",
        keeps_the_socket: "no-rest",
        sends_without_a_limit: "ends",
        throws_out_the_quiet: "keeps",
        echoes_the_error: "nothing-escapes",
        expects_no_failing_send: "nothing-escapes",
    },
)
