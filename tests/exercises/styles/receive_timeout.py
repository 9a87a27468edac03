"""A receive that gives up waiting, and not the connection."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import anyio
from websockets.exceptions import ConnectionClosed

from tests.exercises.styles import styles_of

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

of = styles_of("receive-timeout")
QUESTION = "still there?"


class Asks:
    def __init__(self, seconds: float = 0.1, most: float = float("inf")) -> None:
        self.seconds = seconds
        self.most = most

    async def __call__(self, websocket: ServerConnection) -> None:
        asked = 0
        with suppress(ConnectionClosed):
            while asked < self.most:
                try:
                    message = await asyncio.wait_for(websocket.recv(), self.seconds)
                except TimeoutError:
                    message = QUESTION
                    asked += 1
                await websocket.send(message)


of.right += [Asks()]
of.wrong |= {Asks(0.08): "asks", Asks(0.14): "asks", Asks(0.19): "asks", Asks(most=11): "keeps", Asks(most=25): "keeps"}


async def asking(seconds: float, websocket: ServerConnection) -> None:
    await Asks(seconds)(websocket)


of.right += [functools.partial(asking, 0.1)]


def forgives_the_loss(handler: Callable[[ServerConnection], Any]) -> Callable[[ServerConnection], Any]:
    @functools.wraps(handler)
    async def run(websocket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await handler(websocket)

    return run


@of.keeps
@forgives_the_loss
async def decorated(websocket: ServerConnection) -> None:
    while True:
        try:
            async with asyncio.timeout(0.1):
                message = await websocket.recv()
        except TimeoutError:
            await websocket.send(QUESTION)
            continue
        await websocket.send(message)


@of.keeps
async def in_a_task_group(websocket: ServerConnection) -> None:
    spoke = asyncio.Event()

    async def read(asking: asyncio.Task[None]) -> None:
        async for message in websocket:
            spoke.set()
            await websocket.send(message)
        asking.cancel()

    async def ask() -> None:
        while True:
            spoke.clear()
            try:
                async with asyncio.timeout(0.1):
                    await spoke.wait()
            except TimeoutError:
                await websocket.send(QUESTION)

    with suppress(ConnectionClosed):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read(group.create_task(ask())))
        except* ConnectionClosed:
            pass


@of.keeps
async def on_an_exit_stack(websocket: ServerConnection) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(suppress(ConnectionClosed))
        while True:
            try:
                async with asyncio.timeout(0.1):
                    message = await websocket.recv()
            except TimeoutError:
                await websocket.send(QUESTION)
            else:
                await websocket.send(message)


@of.keeps
async def one_task_that_stays(websocket: ServerConnection) -> None:
    receiving = asyncio.create_task(websocket.recv())
    try:
        while True:
            done, _ = await asyncio.wait({receiving}, timeout=0.1)
            if done:
                message = receiving.result()
                receiving = asyncio.create_task(websocket.recv())
                await websocket.send(message)
            else:
                await websocket.send(QUESTION)
    except ConnectionClosed:
        pass
    finally:
        receiving.cancel()
        with suppress(asyncio.CancelledError, ConnectionClosed):
            await receiving


@of.keeps
async def in_anyio(websocket: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            message: str | bytes = QUESTION
            with anyio.move_on_after(0.1):
                message = await websocket.recv()
            await websocket.send(message)


@of.keeps
async def with_a_callback(websocket: ServerConnection) -> None:
    loop = asyncio.get_running_loop()
    asking: set[asyncio.Task[None]] = set()

    async def send() -> None:
        with suppress(ConnectionClosed):
            await websocket.send(QUESTION)

    def ask() -> None:
        nonlocal timer
        asking.add(loop.create_task(send()))
        timer = loop.call_later(0.1, ask)

    timer = loop.call_later(0.1, ask)
    try:
        async for message in websocket:
            timer.cancel()
            await websocket.send(message)
            timer = loop.call_later(0.1, ask)
    except ConnectionClosed:
        pass
    finally:
        timer.cancel()
        await asyncio.gather(*asking)


@of.breaks("asks-the-quiet")
async def a_ticker(websocket: ServerConnection) -> None:
    async def ask() -> None:
        while True:
            await websocket.send(QUESTION)
            await asyncio.sleep(0.1)

    asking = asyncio.create_task(ask())
    with suppress(ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)
    asking.cancel()
    await asyncio.wait({asking})


@of.breaks("asks")
async def asks_once(websocket: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        try:
            async with asyncio.timeout(0.1):
                await websocket.send(await websocket.recv())
        except TimeoutError:
            pass
        await Asks(60)(websocket)


@of.breaks("late")
async def loses_the_message(websocket: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        receiving = asyncio.create_task(websocket.recv())
        while True:
            done, _ = await asyncio.wait({receiving}, timeout=0.1)
            if done:
                await websocket.send(receiving.result())
                receiving = asyncio.create_task(websocket.recv())
            else:
                await websocket.send(QUESTION)
                receiving.cancel()
                await asyncio.wait({receiving})
                return


@of.breaks("nothing-escapes")
async def expects_no_loss_while_it_asks(websocket: ServerConnection) -> None:
    while True:
        try:
            message = await asyncio.wait_for(websocket.recv(), 0.1)
        except TimeoutError:
            message = QUESTION
        await websocket.send(message)


@of.breaks("asks")
async def waits_for_the_first_message(websocket: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        await websocket.send(await websocket.recv())
        await Asks()(websocket)


@of.breaks("nothing-escapes")
async def asks_for_a_name_first(websocket: ServerConnection) -> None:
    await websocket.send(await websocket.recv())
    await Asks()(websocket)


@of.breaks("once")
async def takes_an_empty_message_for_silence(websocket: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            message: str | bytes = ""
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    message = await websocket.recv()
            await websocket.send(message or QUESTION)
