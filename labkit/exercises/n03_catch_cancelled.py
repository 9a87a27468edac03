"""Notebook 03: see the cancel, and let it pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import WSMsgType, web

import labkit
from labkit.events import CleanupOpen, HandlerCancelled, HandlerLine, HandlerNote, HandlerRecv, HandlerStart
from labkit.exercises.exercise import Exercise, Rule, Ruling, Trial
from labkit.exercises.punctual import excess, stood_still, turn_at
from labkit.exercises.rules import broken, cleans_up, kept, notes, passes_in_cleanup
from labkit.exercises.staging import Burst, CancelledCleanup, TalksOn, wordless
from labkit.exercises.summary import Summary, milliseconds
from labkit.experiment.run import Run
from labkit.faults import SecondCancel


async def starter(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
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
    async with labkit.resource("database", closing=0.05):
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
    async with labkit.resource("database", closing=0.05):
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
    database = await labkit.resource("database", closing=0.05).open()
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
    async with labkit.resource("database", closing=0.05):
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


async def starts_again_with_each_message(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database", closing=0.05):
        try:
            while True:
                async with asyncio.timeout(1):
                    try:
                        message = await ws.receive()
                    except asyncio.CancelledError:
                        labkit.note("interrupted")
                        raise
                if message.type is not WSMsgType.TEXT:
                    break
                await ws.send_str(message.data)
        except TimeoutError:
            labkit.note("time is up")
    return ws


async def closes_when_it_is_interrupted(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
    try:
        async with asyncio.timeout(1):
            try:
                async for message in ws:
                    await ws.send_str(message.data)
            except asyncio.CancelledError:
                labkit.note("interrupted")
                await database.close()
                raise
    except TimeoutError:
        labkit.note("time is up")
    return ws


async def notes_at_every_end(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database", closing=0.05):
        try:
            async with asyncio.timeout(1):
                try:
                    async for message in ws:
                        await ws.send_str(message.data)
                finally:
                    labkit.note("interrupted")
        except TimeoutError:
            labkit.note("time is up")
    return ws


async def keeps_a_cancel_of_its_cleanup(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
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
    finally:
        with suppress(asyncio.CancelledError):
            await database.close()
    return ws


async def drops_a_cancel_of_its_cleanup(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.05).open()
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
    finally:
        closing = asyncio.create_task(database.close())
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
    return ws


def limited(run: Run) -> Ruling:
    """The handler notes both texts, and the first one a second after its start."""
    summary, ruling = Summary(run), notes("interrupted", "time is up")(run)
    if ruling.state == "unknown" and summary.start is not None:  # it has noted both, and does not end
        ruling = broken(ruling.evidence)
    if ruling.state != "kept" or summary.start is None:
        return ruling
    interrupted = next(event for event in summary.events.all(HandlerNote) if event.text == "interrupted")
    took = interrupted.at - summary.start.at
    evidence = f"{ruling.evidence}: {milliseconds(took)} after its start"
    # The limit may begin when all is ready for the first message. A busy machine is late, for a timer of the lab too.
    first = summary.events.first(HandlerRecv)
    latest_begin = interrupted.at - _EARLIEST if first is None else first.at
    begun = summary.events.all(HandlerStart, CleanupOpen, HandlerLine)
    ready = max((event.at for event in begun if event.at <= latest_begin), default=summary.start.at)
    due = 1 + ready
    latest = turn_at(run, due) + _LATER + _TURNS * excess(run, summary.start.at, interrupted.at)
    if took < _EARLIEST or interrupted.at > latest:
        return broken(f"{evidence}, not one second")
    slow = stood_still(run, summary.start.at, ready) + excess(run, summary.start.at, ready) > _SLOW
    if slow and took > 1 + _LATER:
        return Ruling("unknown", f"{evidence}, when it was slow to begin on a busy machine", late=True)
    heard = max((event.at for event in summary.events.all(HandlerRecv) if event.at < interrupted.at), default=0.0)
    if summary.fault_class is TalksOn and interrupted.at - heard > _SILENT:
        return Ruling("unknown", f"{evidence}, when the client was too slow to talk on a busy machine", late=True)
    if interrupted.at > due + _LATER:
        return Ruling("unknown", f"{evidence}, when the loop was late by itself", late=True)
    return ruling


#: The shortest time in seconds, and how much later than a timer of one second that began with the handler.
#: And how many turns of the loop it takes from a timer to a note.
_EARLIEST, _LATER, _TURNS = 0.95, 0.1, 6

#: A client that talks on is quiet for less than this, in seconds. A limit that begins again with each message takes
#: longer.
_SILENT = 0.8

#: How many seconds late a loop is that is busy with others.
_SLOW = 0.005


def in_time(test: Callable[[Run], Ruling]) -> Callable[[Run], Ruling]:
    """Judge nothing if the client was so late on a busy machine that its second may have been over before."""

    def judge(run: Run) -> Ruling:
        summary = Summary(run)
        until = summary.fault or summary.end or summary.stop
        staged = run.fault != "none" and summary.fault_class is not TalksOn
        if staged and summary.start is not None and until is not None and until.at - summary.start.at > _SOON:
            return Ruling("unknown", f"{summary.struck}: so late that the limit may have come first", late=True)
        return test(run)

    return judge


#: The longest time in seconds from a handler's start until the client goes; a second is what it has.
_SOON = 0.8


def no_interruption(run: Run) -> Ruling:
    """The handler notes nothing of a client that says goodbye; unless it has been cancelled, which it may note."""
    summary = Summary(run)
    cancel = summary.after_the_fault.first(HandlerCancelled)
    for note in summary.events.all(HandlerNote):
        if note.text == "time is up" or (note.text == "interrupted" and (cancel is None or note.at < cancel.at)):
            return broken(f'{summary.struck}; your handler noted "{note.text}" at {summary.at(note)}; {summary.ended}')
    if summary.end is None:
        return Ruling("unknown", f"{summary.struck}; {summary.ended}")
    return kept(f"{summary.struck}; your handler noted no interruption, and {summary.ended}")


VANISHES = (Trial("reset"), Trial("fin"))
GOODBYE = (Trial("close"),)
QUIET = Trial(None, patience=2.5, trap=True)
STAYS = (QUIET, Trial(TalksOn(every=0.3), patience=2.5), *wordless(QUIET))
WORDLESS = wordless(Trial("reset"))
ANSWERING = (Trial(Burst()),)
CANCELLED = (Trial(SecondCancel(times=1)), Trial(SecondCancel(times=2)), Trial(CancelledCleanup()))

CANCEL = ("aiohttp-cancel",)

EXERCISE = Exercise(
    name="catch-cancelled",
    notebook="03",
    title="see the cancel, and let it pass",
    goal='The handler gives each client one second, whether it talks or not, notes "interrupted" when it is cancelled, '
    'and then "time is up" if the limit did it; it notes neither for a client that says goodbye, unless a cancel comes '
    "after that. Mend it: every cancel passes, in the cleanup too; the limit holds, within 100 ms; and the database is "
    "closed in full when the client vanishes, when its time is up, and, on aiohttp's default, after a goodbye and "
    "where an answer can no longer be sent.",
    starter=starter,
    solution=solution,
    hints=(
        "`asyncio.timeout` has one means to stop you: a cancel. Who receives it in the starter, and who never does?",
        (
            "You may look at a `CancelledError`, but you must not keep it. And code that must always run does not "
            "belong after a line that may raise."
        ),
        (
            "In `except asyncio.CancelledError:`, note it, then `raise`. Open the database with "
            '`async with labkit.resource("database", closing=0.05):` around both `try` statements.'
        ),
    ),
    stacks=("aiohttp", "aiohttp-cancel"),
    rules=(
        Rule(
            "limit",
            'A client that stays is interrupted after one second, quiet or not: you note "interrupted", "time is up".',
            STAYS,
            limited,
            CANCEL,
        ),
        Rule(
            "passes",
            "A cancel passes, wherever it strikes: your handler ends as cancelled.",
            VANISHES + WORDLESS + GOODBYE + CANCELLED,
            in_time(passes_in_cleanup),
            CANCEL,
        ),
        Rule(
            "seen",
            'You note "interrupted", once, when the client vanishes.',
            VANISHES + WORDLESS,
            in_time(notes("interrupted", never=("time is up",))),
            CANCEL,
        ),
        Rule(
            "goodbye",
            "A client that says goodbye is no interruption: you note nothing, unless you are cancelled after that.",
            GOODBYE,
            in_time(no_interruption),
        ),
        Rule(
            "release",
            "The database is closed, in full, before your handler ends.",
            VANISHES + WORDLESS + STAYS,
            in_time(cleans_up),
            CANCEL,
        ),
        Rule(
            "release-too",
            "So it is on aiohttp's default, where nobody cancels: after a goodbye, or when the client vanishes, also "
            "where an answer can no longer be sent.",
            GOODBYE + VANISHES + ANSWERING,
            in_time(cleans_up),
            ("aiohttp",),
        ),
    ),
    wrong={
        returns_instead: "passes",
        raises_before_it_closes: "release",
        raises_something_else: "passes",
        starts_again_with_each_message: "limit",
        closes_when_it_is_interrupted: "release-too",
        notes_at_every_end: "goodbye",
        keeps_a_cancel_of_its_cleanup: "passes",
        drops_a_cancel_of_its_cleanup: "passes",
    },
)
