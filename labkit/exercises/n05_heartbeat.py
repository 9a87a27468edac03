"""Notebook 05: notice a client that can no longer say goodbye."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WSMsgType, web

import labkit
from labkit.exercises.exercise import Exercise, Rule, Trial
from labkit.exercises.rules import answers, cleans_up, quiet, stays, within
from labkit.exercises.staging import wordless


async def starter(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for message in ws:
            await ws.send_str(message.data)
    return ws


async def solution(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
    return ws


async def sends_the_error_back(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for message in ws:
            await ws.send_str(message.data)
    return ws


async def too_slow(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=30)
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
    return ws


async def receive_timeout(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(receive_timeout=0.5)
    await ws.prepare(request)
    async with labkit.resource("database"):
        try:
            async for message in ws:
                await ws.send_str(message.data)
        except TimeoutError:
            pass
    return ws


async def pings_once(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for message in ws:
            await ws.ping()
            await ws.send_str(message.data)
    return ws


async def heartbeat_and_a_limit(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.5)
    await ws.prepare(request)
    async with labkit.resource("database"):
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(3):
                    message = await ws.receive()
                if message.type is not WSMsgType.TEXT:
                    break
                await ws.send_str(message.data)
    return ws


SILENCE = (Trial("blackhole", patience=2.5),)
EVEN_AT_FIRST = SILENCE + wordless(*SILENCE)
# Longer than the 2 s of the rule "notices": a handler that only limits its waiting time would end a quiet client too.
QUIET = (Trial(None, patience=5.5, trap=True),)

EXERCISE = Exercise(
    name="heartbeat",
    notebook="05",
    title="notice a client that can no longer say goodbye",
    goal="The network swallows everything, and nobody says so. Make the handler end within 2 s, with its database "
    "closed, no exception, and nothing in the log; a client that is only quiet is kept, however long: here 5 s.",
    starter=starter,
    solution=solution,
    hints=(
        "Nothing will ever arrive. What could the server send that a live client has to answer by itself?",
        (
            "The client's library answers a Ping with a Pong. `web.WebSocketResponse` has an argument that makes it "
            "send a Ping every few seconds, and end the connection when no answer comes."
        ),
        (
            "`web.WebSocketResponse(heartbeat=0.5)`: aiohttp gives up after 1.5 times the heartbeat, and tells you by "
            "a message of type ERROR: echo only `WSMsgType.TEXT`."
        ),
    ),
    stacks=("aiohttp", "aiohttp-cancel"),
    rules=(
        Rule("echo", "Each message comes back to the client.", SILENCE, answers),
        Rule("notices", "Your handler ends within 2 s of the silence.", EVEN_AT_FIRST, within(2.0)),
        Rule("release", "The database is closed before your handler ends.", EVEN_AT_FIRST, cleans_up),
        Rule("nothing-escapes", "No exception leaves your handler, and nothing is logged.", EVEN_AT_FIRST, quiet),
        Rule("keeps", "A client that is only quiet, here for 5 s, is kept.", QUIET, stays),
    ),
    wrong={
        too_slow: "notices",
        sends_the_error_back: "nothing-escapes",
        receive_timeout: "keeps",
        heartbeat_and_a_limit: "keeps",
        pings_once: "notices",
    },
)
