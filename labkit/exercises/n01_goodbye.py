"""Notebook 01: tell who said goodbye from who was lost."""

from __future__ import annotations

from aiohttp import web

import labkit
from labkit.exercises.exercise import Exercise, Rule, Trial
from labkit.exercises.rules import answers, notes, stays
from labkit.exercises.staging import FAILED, POLITE, VANISHED, empty, wordless


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
    labkit.note("bye" if ws.close_code in (0, 1000, 1001) else "lost")
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


async def not_without_a_code(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    labkit.note("bye" if ws.close_code in (1000, 1001) else "lost")
    return ws


async def all_but_1006(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    labkit.note("lost" if ws.close_code == 1006 else "bye")
    return ws


async def gives_up_on_the_quiet(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(receive_timeout=0.5)
    await ws.prepare(request)
    try:
        async for message in ws:
            await ws.send_str(message.data)
    except TimeoutError:
        labkit.note("lost")
    else:
        labkit.note("bye" if ws.close_code in (0, 1000, 1001) else "lost")
    return ws


QUIET = (Trial(None, patience=1.0, trap=True),)
BYE = POLITE + wordless(Trial("close"))
LOST = VANISHED + FAILED + wordless(Trial("reset"))

EXERCISE = Exercise(
    name="goodbye",
    notebook="01",
    title="tell who said goodbye from who was lost",
    goal="Echo each message. When the client has gone, note `bye` if it closed normally (1000, 1001, or a Close "
    "without a code, as a browser's `ws.close()` sends it), else `lost`: it vanished, or closed with any other code. "
    "It goes when all its messages are answered; and one that is only quiet, here for a second, has not gone.",
    starter=starter,
    solution=solution,
    hints=(
        "The line after the loop is the right place: it runs however the client leaves. What does it not check?",
        "After the loop, `ws.close_code` is there to read. Note it for each end: `labkit.note(str(ws.close_code))`.",
        "`ws.close_code in (0, 1000, 1001)` is true for a normal end: 0 is how aiohttp reports a Close without a code.",
    ),
    stacks=("aiohttp",),
    rules=(
        Rule("echo", "Each message comes back to the client.", POLITE + empty(*POLITE[:1]), answers),
        Rule("keeps", "A client that is only quiet, here for 1 s, is kept.", QUIET, stays),
        Rule(
            "bye",
            'You note "bye", once, for a client that closes with 1000, with 1001, or without a code.',
            BYE,
            notes("bye", never=("lost",)),
        ),
        Rule(
            "lost",
            'You note "lost", once, for a client that goes without a Close frame, or closes with another code.',
            LOST,
            notes("lost", never=("bye",)),
        ),
    ),
    wrong={
        only_1000: "bye",
        not_without_a_code: "bye",
        anything_is_a_code: "lost",
        all_but_1006: "lost",
        inside_the_loop: "bye",
        gives_up_on_the_quiet: "keeps",
    },
)
