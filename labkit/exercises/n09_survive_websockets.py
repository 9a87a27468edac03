"""Notebook 09: one handler for websockets, against every fault."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

import labkit
from labkit.exercises.everything import survival
from labkit.exercises.exercise import Exercise

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


async def starter(websocket: ServerConnection) -> None:
    async with labkit.resource("database", closing=0.05):
        async for message in websocket:
            await websocket.send(message)


async def solution(websocket: ServerConnection) -> None:
    database = await labkit.resource("database", closing=0.05).open()
    try:
        while True:
            try:
                async with asyncio.timeout(0.7):
                    message = await websocket.recv()
            except TimeoutError:
                async with asyncio.timeout(0.7):
                    await (await websocket.ping())
            else:
                async with asyncio.timeout(0.7):
                    await websocket.send(message)
    except (TimeoutError, ConnectionClosed):
        labkit.note("lost")
    finally:
        closing, cancel = asyncio.create_task(database.close()), None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel


async def closes_in_a_hurry(websocket: ServerConnection) -> None:
    async with labkit.resource("database", closing=0.05):
        try:
            async for message in websocket:
                async with asyncio.timeout(0.7):
                    await websocket.send(message)
        except (TimeoutError, ConnectionClosed):
            labkit.note("lost")


async def sends_without_a_limit(websocket: ServerConnection) -> None:
    async with labkit.resource("database"):
        try:
            while True:
                try:
                    async with asyncio.timeout(0.7):
                        message = await websocket.recv()
                except TimeoutError:
                    async with asyncio.timeout(0.7):
                        await (await websocket.ping())
                else:
                    await websocket.send(message)
        except (TimeoutError, ConnectionClosed):
            labkit.note("lost")


async def throws_out_the_quiet(websocket: ServerConnection) -> None:
    async with labkit.resource("database"):
        try:
            while True:
                async with asyncio.timeout(1):
                    message = await websocket.recv()
                    await websocket.send(message)
        except (TimeoutError, ConnectionClosed):
            labkit.note("lost")


async def expects_only_accidents(websocket: ServerConnection) -> None:
    async with labkit.resource("database"):
        while True:
            try:
                async with asyncio.timeout(0.7):
                    message = await websocket.recv()
            except TimeoutError:
                async with asyncio.timeout(0.7):
                    await (await websocket.ping())
            else:
                async with asyncio.timeout(0.7):
                    await websocket.send(message)


EXERCISE = Exercise(
    name="survive-websockets",
    notebook="09",
    title="one handler for websockets, against every fault",
    goal="Echo, with a database that is open meanwhile. Whatever happens, the handler ends within 2 s of its "
    "connection's end, its database is closed in full before, nothing escapes and nothing is left. A client that is "
    "only slow or quiet is kept.",
    starter=starter,
    solution=solution,
    hints=(
        "Take one broken rule at a time. Which notebook had its fault? Exceptions are 04, silence 05, cancels 06.",
        (
            "You need three things: a ping of your own when the client is quiet, with a limit for its pong; a limit "
            "around each send; and a closing that is waited for again, however often it is cancelled."
        ),
        (
            "Around `recv()` `asyncio.timeout(0.7)`; in `except TimeoutError`, under another limit, "
            "`await (await websocket.ping())`. Around the loop `except (TimeoutError, ConnectionClosed)`; in `finally` "
            "the answer to `second-cancel`."
        ),
    ),
    stacks=("websockets",),
    rules=survival(over=("unmasked-frame",)),
    wrong={
        closes_in_a_hurry: "release",
        sends_without_a_limit: "ends",
        throws_out_the_quiet: "keeps",
        expects_only_accidents: "nothing-escapes",
    },
)
