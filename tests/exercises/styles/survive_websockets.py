"""One handler for websockets, against every fault."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import anyio
from websockets.exceptions import ConnectionClosed

import labkit
from tests.exercises.styles import styles_of
from tests.exercises.styles.one_cancel import finish
from tests.exercises.styles.survive_aiohttp import Database

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

of = styles_of("survive-websockets")
LIMIT = 0.7


async def converse(websocket: ServerConnection, limit: float = LIMIT) -> None:
    with suppress(TimeoutError, ConnectionClosed):
        while True:
            try:
                async with asyncio.timeout(limit):
                    message = await websocket.recv()
            except TimeoutError:
                async with asyncio.timeout(limit):
                    await (await websocket.ping())
            else:
                async with asyncio.timeout(limit):
                    await websocket.send(message)


class Server:
    async def __call__(self, websocket: ServerConnection) -> None:
        async with Database():
            await converse(websocket)


of.right += [Server()]


async def limited(limit: float, websocket: ServerConnection) -> None:
    async with Database():
        await converse(websocket, limit)


of.right += [functools.partial(limited, 0.6)]


def with_database(handler: Callable[[ServerConnection], Any]) -> Callable[[ServerConnection], Any]:
    @functools.wraps(handler)
    async def run(websocket: ServerConnection) -> None:
        async with Database():
            await handler(websocket)

    return run


@of.keeps
@with_database
async def decorated(websocket: ServerConnection) -> None:
    await converse(websocket)


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        async with asyncio.timeout(LIMIT):
            await websocket.send(message)


async def ping(websocket: ServerConnection) -> None:
    while True:
        await asyncio.sleep(0.4)
        async with asyncio.timeout(LIMIT):
            await (await websocket.ping())


@of.keeps
async def a_pinger_in_a_task_group(websocket: ServerConnection) -> None:
    async with Database():
        try:
            async with asyncio.TaskGroup() as group:
                pinging = group.create_task(ping(websocket))
                await echo(websocket)
                pinging.cancel()
        except* (TimeoutError, ConnectionClosed):
            pass


@of.keeps
async def both_in_a_task_group(websocket: ServerConnection) -> None:
    async with Database():
        try:
            async with asyncio.TaskGroup() as group:
                pinging = group.create_task(ping(websocket))
                group.create_task(echo(websocket)).add_done_callback(lambda _: pinging.cancel())
        except* (TimeoutError, ConnectionClosed):
            pass


@of.keeps
async def in_anyio(websocket: ServerConnection) -> None:
    async with Database():
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(ping, websocket)
                await echo(websocket)
                group.cancel_scope.cancel()
        except* (TimeoutError, ConnectionClosed):
            pass


@of.keeps
async def on_an_exit_stack(websocket: ServerConnection) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Database())
        stack.enter_context(suppress(TimeoutError, ConnectionClosed))
        await converse(websocket)


@of.keeps
async def the_first_that_ends(websocket: ServerConnection) -> None:
    async with Database():
        tasks = {asyncio.create_task(echo(websocket)), asyncio.create_task(ping(websocket))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@of.keeps
async def raises_what_it_cannot_mend(websocket: ServerConnection) -> None:
    async with Database():
        try:
            await converse(websocket)
        except RuntimeError as error:
            raise ValueError("the work is lost") from error


@of.breaks("ends")
async def nobody_pings(websocket: ServerConnection) -> None:
    async with Database():
        with suppress(TimeoutError, ConnectionClosed):
            await echo(websocket)


@of.breaks("nothing-escapes")
async def lets_the_time_out_escape(websocket: ServerConnection) -> None:
    async with Database():
        with suppress(ConnectionClosed):
            async with asyncio.TaskGroup() as group:
                pinging = group.create_task(ping(websocket))
                await echo(websocket)
                pinging.cancel()


@of.breaks("no-rest")
async def forgets_its_pinger(websocket: ServerConnection) -> None:
    async with Database():
        PINGERS.append(asyncio.create_task(asyncio.sleep(60)))
        await converse(websocket)


PINGERS: list[asyncio.Task[None]] = []


@of.breaks("release")
async def hurries_behind_wait_for(websocket: ServerConnection) -> None:
    async with labkit.resource("database", closing=0.05):
        with suppress(TimeoutError, ConnectionClosed):
            while True:
                try:
                    message = await asyncio.wait_for(websocket.recv(), LIMIT)
                except TimeoutError:
                    await asyncio.wait_for(await websocket.ping(), LIMIT)
                else:
                    await asyncio.wait_for(websocket.send(message), LIMIT)


@of.breaks("nothing-escapes")
async def asks_for_a_name_first(websocket: ServerConnection) -> None:
    async with Database():
        await websocket.send(await websocket.recv())
        await converse(websocket)


@of.breaks("echo")
async def takes_an_empty_message_for_the_end(websocket: ServerConnection) -> None:
    async with Database():
        with suppress(TimeoutError, ConnectionClosed):
            while True:
                try:
                    async with asyncio.timeout(LIMIT):
                        message = await websocket.recv()
                except TimeoutError:
                    async with asyncio.timeout(LIMIT):
                        await (await websocket.ping())
                    continue
                if not message:
                    break
                async with asyncio.timeout(LIMIT):
                    await websocket.send(message)


@of.breaks("keeps")
async def has_no_patience_for_a_pong(websocket: ServerConnection) -> None:
    async with Database():
        with suppress(TimeoutError, ConnectionClosed):
            while True:
                try:
                    async with asyncio.timeout(LIMIT):
                        message = await websocket.recv()
                except TimeoutError:
                    async with asyncio.timeout(0.01):
                        await (await websocket.ping())
                else:
                    async with asyncio.timeout(LIMIT):
                        await websocket.send(message)


@of.breaks("answers-late")
async def wants_a_quick_pong_after_each_answer(websocket: ServerConnection) -> None:
    async with Database():
        with suppress(TimeoutError, ConnectionClosed):
            while True:
                try:
                    async with asyncio.timeout(LIMIT):
                        message = await websocket.recv()
                except TimeoutError:
                    async with asyncio.timeout(LIMIT):
                        await (await websocket.ping())
                else:
                    await websocket.send(message)
                    async with asyncio.timeout(0.15):
                        await (await websocket.ping())


@of.breaks("release")
async def protects_the_closing_from_the_first_cancel_alone(websocket: ServerConnection) -> None:
    database = await labkit.resource("database", closing=0.05).open()
    try:
        await converse(websocket)
    except asyncio.CancelledError:
        await finish(database.close())
        raise
    await database.close()
