"""Notebook 06: a cleanup that holds, however often it is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from aiohttp import web

import labkit
from labkit.exercises.exercise import Exercise, Rule, Trial
from labkit.exercises.n06_one_cancel import solution as for_one_cancel
from labkit.exercises.rules import answers, closes, ends, leaves_nothing
from labkit.faults import SecondCancel


async def solution(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    stack = AsyncExitStack()
    try:
        for name in ("database", "queue", "cache"):
            await stack.enter_async_context(labkit.resource(name, closing=0.05))
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        closing, cancel = asyncio.create_task(stack.aclose()), None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel
    return ws


async def shields_twice(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    stack = AsyncExitStack()
    try:
        for name in ("database", "queue", "cache"):
            await stack.enter_async_context(labkit.resource(name, closing=0.05))
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        closing = asyncio.create_task(stack.aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.shield(closing)
            raise
    return ws


async def forgets_the_cancel(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    stack = AsyncExitStack()
    try:
        for name in ("database", "queue", "cache"):
            await stack.enter_async_context(labkit.resource(name, closing=0.05))
        async for message in ws:
            await ws.send_str(message.data)
    except asyncio.CancelledError:
        pass
    closing = asyncio.create_task(stack.aclose())
    while not closing.done():
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            pass
    return ws


CANCELS = (Trial(SecondCancel(times=2)), Trial(SecondCancel(times=4)))
ALL = (*CANCELS, Trial("close"), Trial("reset"))

EXERCISE = Exercise(
    name="second-cancel",
    notebook="06",
    title="a cleanup that holds, however often it is cancelled",
    goal="Your answer to one cancel waits for its closing task a second time, and there the second cancel strikes. "
    "Close all three resources in spite of four cancels; and still let the cancel pass.",
    starter=for_one_cancel,
    solution=solution,
    hints=(
        "Which line of the starter waits without a shield? And if it had one, what would the third cancel do?",
        "You cannot know how many will come. Waiting once more, for as long as something is not done, is a loop.",
        (
            "`while not closing.done():` around `try: await asyncio.shield(closing)`; keep the error in a "
            "variable, and raise it behind the loop."
        ),
    ),
    stacks=("aiohttp", "aiohttp-cancel"),
    rules=(
        Rule("echo", "Each message comes back to the client.", ALL, answers),
        Rule("release", "All three are closed, in full, before your handler ends.", ALL, closes(3)),
        Rule("passes", "The cancel passes in the end: your handler ends cancelled.", CANCELS, ends("cancelled")),
        Rule("no-rest", "No task is left behind.", ALL, leaves_nothing),
    ),
    wrong={shields_twice: "release", forgets_the_cancel: "passes"},
)
