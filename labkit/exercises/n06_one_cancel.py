"""Notebook 06: three resources, and a cancel in the middle of closing them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

from aiohttp import web

import labkit
from labkit.exercises.exercise import Exercise, Rule, Trial
from labkit.exercises.rules import answers, closes, leaves_nothing, passes
from labkit.exercises.staging import LateCancel, wordless
from labkit.faults import SecondCancel


async def starter(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with AsyncExitStack() as stack:
        for name in ("database", "queue", "cache"):
            await stack.enter_async_context(labkit.resource(name, closing=0.05))
        async for message in ws:
            await ws.send_str(message.data)
    return ws


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
        closing = asyncio.create_task(stack.aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError as cancel:
            await asyncio.wait([closing])
            raise cancel from closing.exception()
    return ws


async def shield_alone(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    stack = AsyncExitStack()
    try:
        for name in ("database", "queue", "cache"):
            await stack.enter_async_context(labkit.resource(name, closing=0.05))
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        await asyncio.shield(stack.aclose())
    return ws


async def one_after_the_other(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    resources = [await labkit.resource(name, closing=0.05).open() for name in ("database", "queue", "cache")]
    try:
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        for resource in resources:
            await resource.close()
    return ws


async def keeps_the_cancel(request: web.Request) -> web.WebSocketResponse:
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
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
    return ws


async def keeps_the_cancel_in_its_cleanup(request: web.Request) -> web.WebSocketResponse:
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
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
    return ws


async def always_cancelled(request: web.Request) -> web.WebSocketResponse:
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
            await closing
    raise asyncio.CancelledError


_closes = closes(3, in_one_go=True)

CLOSE = (Trial("close"), Trial(LateCancel(resources=3)))
CANCEL = (Trial("reset"), Trial(SecondCancel(times=1)), *wordless(Trial("reset")))

EXERCISE = Exercise(
    name="one-cancel",
    notebook="06",
    title="three resources, and a cancel in the middle of closing them",
    goal="With `handler_cancellation=True` a polite client cancels your handler while it closes its three resources. "
    "Open them first of all; close all three, each in one go, before the handler ends, and let the cancel pass; "
    "without one, on aiohttp's default, return.",
    starter=starter,
    solution=solution,
    hints=(
        "Look at the cleanup lane: the exit in progress is cut short. Which task waits for it, and gets the cancel?",
        (
            "A cancel of one task does not reach a second task that it waits for, if `asyncio.shield` is between "
            "them. But somebody still has to wait for the second task."
        ),
        (
            "In `finally`: `closing = asyncio.create_task(stack.aclose())`, then `await asyncio.shield(closing)`; in "
            "`except asyncio.CancelledError:` `await asyncio.wait([closing])`, and `raise`."
        ),
    ),
    stacks=("aiohttp", "aiohttp-cancel"),
    rules=(
        Rule("echo", "Each message comes back to the client.", CLOSE, answers),
        Rule(
            "release", "All three are closed, in full and in one go, before your handler ends.", CLOSE + CANCEL, _closes
        ),
        Rule("passes", "A cancel passes: your handler ends as cancelled, and only then.", CLOSE + CANCEL, passes),
        Rule("no-rest", "Nothing is left behind.", CLOSE + CANCEL, leaves_nothing),
    ),
    wrong={
        shield_alone: "release",
        one_after_the_other: "release",
        keeps_the_cancel: "passes",
        keeps_the_cancel_in_its_cleanup: "passes",
        always_cancelled: "passes",
    },
)
