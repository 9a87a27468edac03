"""Notebook 03: see the cancel, and let it pass."""

from __future__ import annotations

import asyncio

from aiohttp import web

import labkit
from labkit.clock import scaled
from labkit.exercises.exercise import Exercise, Finding, Rule, Trial
from labkit.exercises.rules import broken, cleans_up, ends, notes
from labkit.exercises.story import Story, milliseconds
from labkit.experiment import Run


async def starter(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database").open()
    try:
        async with asyncio.timeout(1):
            try:
                async for message in ws:
                    await ws.send_str(message.data)
            except asyncio.CancelledError:
                labkit.note("interrupted")
            await database.close()
    except TimeoutError:
        labkit.note("time is up")
    return ws


async def solution(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database"):
        try:
            async with asyncio.timeout(1):
                try:
                    async for message in ws:
                        await ws.send_str(message.data)
                except asyncio.CancelledError:
                    labkit.note("interrupted")
                    raise
        except TimeoutError:
            labkit.note("time is up")
    return ws


async def returns_instead(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database"):
        try:
            async with asyncio.timeout(1):
                async for message in ws:
                    await ws.send_str(message.data)
        except asyncio.CancelledError:
            labkit.note("interrupted")
        except TimeoutError:
            labkit.note("interrupted")
            labkit.note("time is up")
    return ws


async def raises_before_it_closes(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database").open()
    try:
        async with asyncio.timeout(1):
            try:
                async for message in ws:
                    await ws.send_str(message.data)
            except asyncio.CancelledError:
                labkit.note("interrupted")
                raise
    except TimeoutError:
        labkit.note("time is up")
    await database.close()
    return ws


async def raises_something_else(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database"):
        try:
            async with asyncio.timeout(1):
                try:
                    async for message in ws:
                        await ws.send_str(message.data)
                except asyncio.CancelledError:
                    labkit.note("interrupted")
                    raise ConnectionError("the client is gone") from None
        except TimeoutError:
            labkit.note("time is up")
    return ws


def limited(run: Run) -> Finding:
    """The limit is seen and told, when it is due."""
    story, finding = Story(run), notes("interrupted", "time is up")(run)
    if finding.state != "kept" or story.start is None:
        return finding
    due = next(event for event in story.all("handler", "note") if event.text == "interrupted")
    took = due.at - story.start.at
    if not _EARLIEST <= took <= 1 + scaled(_LATER):
        return broken(f"{finding.evidence}: {milliseconds(took)} after its start, not one second")
    return finding


#: Seconds, and how much later than one second a busy machine may be; less than the trial's patience.
_EARLIEST, _LATER = 0.95, 0.5

VANISHES = (Trial("reset"), Trial("fin"))
STAYS = (Trial(None, patience=2.5, trap=True),)

EXERCISE = Exercise(
    name="catch-cancelled",
    notebook="03",
    title="see the cancel, and let it pass",
    goal='The handler gives each client one second, notes "interrupted" when it is cancelled and "time is up" when '
    "the limit ends it. Mend it: every cancel passes, the limit holds, and the database is closed whatever happens.",
    starter=starter,
    solution=solution,
    hints=(
        "`asyncio.timeout` has one means to stop you: a cancel. Who receives it in the starter, and who never does?",
        (
            "You may look at a `CancelledError`, but it is not yours to keep. And what must happen anyway does not "
            "belong behind the line that may raise."
        ),
        (
            "In `except asyncio.CancelledError:`, note it, then `raise`. Open the database with "
            '`async with labkit.resource("database"):` around both `try` statements.'
        ),
    ),
    stacks=("aiohttp-cancel",),
    rules=(
        Rule(
            "limit",
            'A client that stays is interrupted after one second, and you note "interrupted", then "time is up".',
            STAYS,
            limited,
        ),
        Rule("passes", "A client that vanishes leaves your handler cancelled.", VANISHES, ends("cancelled")),
        Rule(
            "seen",
            'You note "interrupted", once, when the client vanishes.',
            VANISHES,
            notes("interrupted", never=("time is up",)),
        ),
        Rule("release", "The database is closed before your handler ends.", VANISHES + STAYS, cleans_up),
    ),
    wrong={returns_instead: "passes", raises_before_it_closes: "release", raises_something_else: "passes"},
)
