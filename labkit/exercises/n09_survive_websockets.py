"""Notebook 09: one handler for websockets, against every fault."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

import labkit
from labkit.exercises.exercise import Exercise
from labkit.exercises.survival import survival

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
                await asyncio.wait([closing])
            except asyncio.CancelledError as error:
                cancel = error
        if cancel is not None:
            raise cancel from closing.exception()
        closing.result()


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
    goal="Echo each message, with a database open. Whatever happens, the handler ends within 2 s of its connection's "
    "end, and so it does when a client no longer reads and a send waits; it closes its database in full before that; "
    "no exception escapes but a cancel, and nothing is left behind. A client that is only slow or quiet, or both, is "
    "kept.",
    starter=starter,
    solution=solution,
    hints=(
        "Take one broken rule at a time. Which notebook had its fault? Exceptions are 04, silence 05, cancels 06.",
        (
            "You need three things: a ping of your own when the client is quiet, with a limit for its pong; a limit "
            "around each send; and a closing that is waited for again, however often it is cancelled."
        ),
        (
            "Put `asyncio.timeout(0.7)` around `recv()`; in `except TimeoutError`, under another limit, "
            "`await (await websocket.ping())`. Put `except (TimeoutError, ConnectionClosed)` around the loop, and your "
            "solution for `second-cancel` into `finally`."
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
