"""Notebook 01: tell who said goodbye from who was lost."""

from __future__ import annotations

from aiohttp import web

import labkit
from labkit.exercises.exercise import Exercise, Rule, Trial
from labkit.exercises.rules import answers, notes


async def starter(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    labkit.note("bye")
    return ws


async def solution(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    labkit.note("bye" if ws.close_code in (1000, 1001) else "lost")
    return ws


async def only_1000(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    labkit.note("bye" if ws.close_code == 1000 else "lost")
    return ws


async def anything_is_a_code(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    labkit.note("bye" if ws.close_code else "lost")
    return ws


async def inside_the_loop(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
        labkit.note("bye")
    return ws


POLITE = (Trial("close"), Trial("going-away"))
LOST = (Trial("reset"), Trial("fin"), Trial("truncated-frame"))

EXERCISE = Exercise(
    name="goodbye",
    notebook="01",
    title="tell who said goodbye from who was lost",
    goal="Echo each message. When the client has gone, note `bye` if it left normally (1000 or 1001), else `lost`.",
    starter=starter,
    solution=solution,
    hints=(
        "The line after the loop is the right place: it runs whichever way the client leaves. What does it not ask?",
        "After the loop, `ws.close_code` is there to read. Print the four values, or look at the table of codes above.",
        "Compare: `ws.close_code in (1000, 1001)` is true for a normal end, and 1006 says that there was no Close.",
    ),
    stacks=("aiohttp",),
    rules=(
        Rule("echo", "Each message comes back to the client.", POLITE, answers),
        Rule(
            "bye",
            'You note "bye", once, for a client that closes with 1000 or 1001.',
            POLITE,
            notes("bye", never=("lost",)),
        ),
        Rule(
            "lost",
            'You note "lost", once, for a client that goes without a Close frame.',
            LOST,
            notes("lost", never=("bye",)),
        ),
    ),
    wrong={only_1000: "bye", anything_is_a_code: "lost", inside_the_loop: "bye"},
)
