"""Notebook 04: a loop around recv() that knows both ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

import labkit
from labkit.exercises.exercise import Exercise, Rule, Trial
from labkit.exercises.rules import answers, notes, quiet, stays
from labkit.exercises.staging import FAILED, POLITE, VANISHED, empty, wordless

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


async def starter(websocket: ServerConnection) -> None:
    try:
        while True:
            message = await websocket.recv()
            await websocket.send(message)
    except ConnectionClosedError:
        labkit.note("lost")


async def solution(websocket: ServerConnection) -> None:
    try:
        while True:
            message = await websocket.recv()
            await websocket.send(message)
    except ConnectionClosedOK:
        labkit.note("left")
    except ConnectionClosedError:
        labkit.note("lost")


async def one_for_both(websocket: ServerConnection) -> None:
    try:
        while True:
            message = await websocket.recv()
            await websocket.send(message)
    except ConnectionClosed:
        labkit.note("left")


async def only_ok(websocket: ServerConnection) -> None:
    try:
        while True:
            message = await websocket.recv()
            await websocket.send(message)
    except ConnectionClosedOK:
        labkit.note("left")


async def by_1006_alone(websocket: ServerConnection) -> None:
    try:
        while True:
            message = await websocket.recv()
            await websocket.send(message)
    except ConnectionClosed:
        labkit.note("lost" if websocket.close_code == 1006 else "left")


async def not_without_a_code(websocket: ServerConnection) -> None:
    try:
        while True:
            message = await websocket.recv()
            await websocket.send(message)
    except ConnectionClosed:
        labkit.note("left" if websocket.close_code in (1000, 1001) else "lost")


async def around_async_for(websocket: ServerConnection) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosedOK:
        labkit.note("left")
    except ConnectionClosedError:
        labkit.note("lost")


async def gives_up_on_the_quiet(websocket: ServerConnection) -> None:
    try:
        while True:
            message = await asyncio.wait_for(websocket.recv(), 0.5)
            await websocket.send(message)
    except ConnectionClosedOK:
        labkit.note("left")
    except (ConnectionClosedError, TimeoutError):
        labkit.note("lost")


async def guards_recv_alone(websocket: ServerConnection) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
        labkit.note("left")
    except ConnectionClosedError:
        labkit.note("lost")


QUIET = (Trial(None, patience=1.0, trap=True),)
LEFT = (*POLITE, Trial("close-at-once"), *wordless(Trial("close")))
LOST = VANISHED + FAILED + wordless(Trial("reset"))

EXERCISE = Exercise(
    name="recv",
    notebook="04",
    title="a loop around recv() that knows both ends",
    goal='Echo each message. Note "left" when the client closed normally (1000, 1001, or no code) and "lost" when it '
    "vanished or closed with any other code, also where its Close comes together with its last message; no exception "
    "leaves your handler, and nothing is logged. A client that is only quiet, here for a second, is kept.",
    starter=starter,
    solution=solution,
    hints=(
        "`recv()` has no quiet end: it raises after a clean close too. Which exception comes then?",
        (
            "`ConnectionClosedOK` and `ConnectionClosedError` are siblings; `ConnectionClosed` is above both. Two "
            "ends, two branches."
        ),
        'Before the existing branch, add `except ConnectionClosedOK:` with `labkit.note("left")`.',
    ),
    stacks=("websockets",),
    rules=(
        Rule("echo", "Each message comes back to the client.", POLITE + empty(*POLITE[:1]), answers),
        Rule("keeps", "A client that is only quiet, here for 1 s, is kept.", QUIET, stays),
        Rule("left", 'You note "left", once, for a client that closes normally.', LEFT, notes("left", never=("lost",))),
        Rule("lost", 'You note "lost", once, for any other end.', LOST, notes("lost", never=("left",))),
        Rule("nothing-escapes", "No exception leaves your handler, and nothing is logged.", LEFT + LOST, quiet),
    ),
    wrong={
        one_for_both: "lost",
        only_ok: "nothing-escapes",
        around_async_for: "left",
        by_1006_alone: "lost",
        not_without_a_code: "left",
        gives_up_on_the_quiet: "keeps",
        guards_recv_alone: "nothing-escapes",
    },
)
