"""Notebook 06: three resources, and a cancel in the middle of closing them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

from aiohttp import web

import labkit
from labkit.exercises.exercise import Exercise, Finding, Rule, Trial
from labkit.exercises.rules import answers, closes, ends, kept, leaves_nothing
from labkit.exercises.story import Story
from labkit.experiment import Run
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
        except asyncio.CancelledError:
            await closing
            raise
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


def passes(run: Run) -> Finding:
    """The cancel passes: the fault's, or the one with which aiohttp answers the end of the connection."""
    story = Story(run)
    cancels = [event for event in story.after_the_fault("handler", "cancelled") if event.data["package"] == "aiohttp"]
    if run.fault == "close" and story.end is not None and not any(event.at <= story.end.at for event in cancels):
        return kept(f"{story.struck}; no cancel came before your handler was through: {story.ended}")
    return ends("cancelled")(run)


CLOSE = (Trial("close"),)
CANCEL = (Trial("reset"), Trial(SecondCancel(times=1)))

EXERCISE = Exercise(
    name="one-cancel",
    notebook="06",
    title="three resources, and a cancel in the middle of closing them",
    goal="With `handler_cancellation=True` a polite client cancels your handler while it closes its three resources. "
    "All three are to be closed, before the handler ends; and the cancel is to pass.",
    starter=starter,
    solution=solution,
    hints=(
        "Look at the cleanup lane: one exit is cut short, the one that was in flight. Who waits for it, and is hit?",
        (
            "A task of its own is not cancelled when the one that waits for it is, if `asyncio.shield` stands between "
            "them. But somebody has to wait for it still."
        ),
        (
            "In `finally`: `closing = asyncio.create_task(stack.aclose())`, then `await asyncio.shield(closing)`; in "
            "`except asyncio.CancelledError:` `await closing`, and `raise`."
        ),
    ),
    stacks=("aiohttp-cancel",),
    rules=(
        Rule("echo", "Each message comes back to the client.", CLOSE, answers),
        Rule("release", "All three are closed, in full, before your handler ends.", CLOSE + CANCEL, closes(3)),
        Rule("passes", "A cancel passes: your handler ends cancelled.", CLOSE + CANCEL, passes),
        Rule("no-rest", "No task is left behind.", CLOSE + CANCEL, leaves_nothing),
    ),
    wrong={
        shield_alone: "release",
        one_after_the_other: "release",
        keeps_the_cancel: "passes",
        keeps_the_cancel_in_its_cleanup: "passes",
    },
)
