"""Notebook 02: give the database back when the client vanishes."""

from __future__ import annotations

import asyncio

from aiohttp import web

import labkit
from labkit.exercises.exercise import Exercise, Rule, Trial
from labkit.exercises.rules import answers, cleans_up, passes
from labkit.exercises.staging import Burst, wordless


async def starter(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
    async for message in ws:
        await ws.send_str(message.data)
    await database.close()
    return ws


async def solution(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database", closing=0.05):
        async for message in ws:
            await ws.send_str(message.data)
    return ws


async def except_exception(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async for message in ws:
            await ws.send_str(message.data)
    except Exception:
        pass
    await database.close()
    return ws


async def keeps_the_cancel(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async for message in ws:
            await ws.send_str(message.data)
    except asyncio.CancelledError:
        pass
    await database.close()
    return ws


async def knows_the_cancel_alone(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async for message in ws:
            await ws.send_str(message.data)
    except asyncio.CancelledError:
        await database.close()
        raise
    else:
        await database.close()
    return ws


async def one_message(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database", closing=0.05):
        await ws.send_str(await ws.receive_str())
    return ws


async def without_database(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws


VANISHES = (Trial("reset"), Trial("fin"), Trial("half-close"), Trial("truncated-frame"))
WORDLESS = wordless(Trial("reset"))
# With `handler_cancellation=True`, a cancel follows at once and cuts the closing short, whoever wrote it.
ANSWERING = (Trial(Burst(), stacks=("aiohttp",)),)

EXERCISE = Exercise(
    name="unclean-exit",
    notebook="02",
    title="give the database back when the client vanishes",
    goal="The client vanishes, and your handler still closes its database: on today's aiohttp, also where an answer "
    "can no longer be sent, and with `handler_cancellation=True`. You need not catch anything: a cancel that comes "
    "passes.",
    starter=starter,
    solution=solution,
    hints=(
        "Which line of the starter is the last one to run on `aiohttp-cancel`? `run.source()` shows it.",
        (
            "Python has a statement whose last block runs however the first one ends, and a shorter one for "
            "things that are opened and closed."
        ),
        (
            "`labkit.resource` is an asynchronous context manager: put the loop into "
            '`async with labkit.resource("database", closing=0.05):`, and drop the last `close()`.'
        ),
    ),
    stacks=("aiohttp", "aiohttp-cancel"),
    rules=(
        Rule("echo", "Each message comes back to the client.", VANISHES, answers),
        Rule(
            "release",
            "The database is closed, in full, before your handler ends.",
            VANISHES + WORDLESS + ANSWERING,
            cleans_up,
        ),
        Rule("passes", "A cancel passes: a handler that is cancelled ends as cancelled.", VANISHES + WORDLESS, passes),
    ),
    wrong={
        except_exception: "release",
        knows_the_cancel_alone: "release",
        without_database: "release",
        one_message: "echo",
        keeps_the_cancel: "passes",
    },
)
