"""Notebook 06: a cleanup that holds, however often it is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

from aiohttp import web

import labkit
from labkit.events import HandlerCancelled
from labkit.exercises.exercise import Exercise, Rule, Ruling, Trial
from labkit.exercises.n06_one_cancel import solution as for_one_cancel
from labkit.exercises.rules import answers, closes, leaves_nothing, passes
from labkit.exercises.staging import CancelledClosings, wordless
from labkit.exercises.summary import Summary
from labkit.experiment.run import Run
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
                await asyncio.wait([closing])
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel from closing.exception()
        closing.result()
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


async def five_tries(request: web.Request) -> web.WebSocketResponse:
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
        for _ in range(5):
            try:
                await asyncio.shield(closing)
                break
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel
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
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
    raise asyncio.CancelledError


def holds(run: Run) -> Ruling:
    """All three are closed, though the fault has cancelled the handler again and again meanwhile."""
    summary, ruling = Summary(run), closes(3, in_one_go=True)(run)
    fault = summary.fault
    asked = 0 if fault is None or fault.fault != SecondCancel.name else int(fault.knobs.get("times", 0))
    struck = len([cancel for cancel in summary.after_the_fault.all(HandlerCancelled) if cancel.package == "labkit"])
    if ruling.state == "kept" and struck < asked:
        return Ruling("unknown", f"{ruling.evidence}; only {struck} of {asked} cancels came before that", late=True)
    return ruling


CANCELS = (Trial(SecondCancel(times=2)), Trial(SecondCancel(times=4)), Trial(SecondCancel(times=25)))
TALKS = (*CANCELS, Trial(CancelledClosings()), Trial("close"), Trial("reset"))
ALL = TALKS + wordless(Trial("reset"))

EXERCISE = Exercise(
    name="second-cancel",
    notebook="06",
    title="a cleanup that holds, however often it is cancelled",
    goal="Your solution for one cancel waits for its closing task a second time, and there the second cancel strikes. "
    "Open all three resources first of all, and close them, each in one go, however many cancels come, here up to 25; "
    "and still let the cancel pass; without one, return.",
    starter=for_one_cancel,
    solution=solution,
    hints=(
        "Which line of the starter waits without a shield? And if it had one, what would the third cancel do?",
        "You cannot know how many will come. To wait again as long as something is not done, you need a loop.",
        (
            "`while not closing.done():` around `try: await asyncio.wait([closing])`; keep the error in a "
            "variable, and raise it after the loop."
        ),
    ),
    stacks=("aiohttp", "aiohttp-cancel"),
    rules=(
        Rule("echo", "Each message comes back to the client.", TALKS, answers),
        Rule("release", "All three are closed, in full and in one go, before your handler ends.", ALL, holds),
        Rule("passes", "The cancel passes: your handler ends as cancelled in the end, and only then.", ALL, passes),
        Rule("no-rest", "Nothing is left behind.", ALL, leaves_nothing),
    ),
    wrong={
        shields_twice: "release",
        forgets_the_cancel: "passes",
        five_tries: "release",
        always_cancelled: "passes",
    },
)
