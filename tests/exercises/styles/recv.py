"""A loop around recv() that knows both ends."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

import labkit
from tests.exercises.styles import styles_of

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

of = styles_of("recv")


async def echo(websocket: ServerConnection) -> None:
    while True:
        await websocket.send(await websocket.recv())


class Echo:
    async def __call__(self, websocket: ServerConnection) -> None:
        try:
            await echo(websocket)
        except ConnectionClosedOK:
            labkit.note("left")
        except ConnectionClosed:
            labkit.note("lost")


of.right += [Echo()]


async def with_words(left: str, lost: str, websocket: ServerConnection) -> None:
    try:
        await echo(websocket)
    except ConnectionClosed as closed:
        labkit.note(left if isinstance(closed, ConnectionClosedOK) else lost)


of.right += [functools.partial(with_words, "left", "lost")]


def told(handler: Callable[[ServerConnection], Any]) -> Callable[[ServerConnection], Any]:
    @functools.wraps(handler)
    async def tell(websocket: ServerConnection) -> None:
        try:
            await handler(websocket)
        except ConnectionClosedOK:
            labkit.note("left")
        except ConnectionClosedError:
            labkit.note("lost")

    return tell


@of.keeps
@told
async def decorated(websocket: ServerConnection) -> None:
    await echo(websocket)


@of.keeps
async def in_a_task_group(websocket: ServerConnection) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(echo(websocket))
    except* ConnectionClosedOK:
        labkit.note("left")
    except* ConnectionClosedError:
        labkit.note("lost")


@of.keeps
async def on_an_exit_stack(websocket: ServerConnection) -> None:
    def tell(kind: Any, value: Any, traceback: Any) -> bool:
        if isinstance(value, ConnectionClosed):
            labkit.note("left" if isinstance(value, ConnectionClosedOK) else "lost")
        return isinstance(value, ConnectionClosed)

    async with AsyncExitStack() as stack:
        stack.push(tell)
        await echo(websocket)


@of.breaks("nothing-escapes")
async def async_for_and_the_code(websocket: ServerConnection) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosedError:
        labkit.note("lost")
    else:
        labkit.note("left")


@of.keeps
async def by_the_code(websocket: ServerConnection) -> None:
    try:
        await echo(websocket)
    except ConnectionClosed:
        labkit.note("left" if websocket.close_code in {1000, 1001, 1005} else "lost")


@of.keeps
async def in_anyio(websocket: ServerConnection) -> None:
    ends: list[Exception] = []

    async def read() -> None:
        try:
            await echo(websocket)
        except ConnectionClosed as closed:
            ends.append(closed)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
    labkit.note("left" if isinstance(ends[0], ConnectionClosedOK) else "lost")


@of.keeps
async def with_a_callback(websocket: ServerConnection) -> None:
    def tell(task: asyncio.Task[None]) -> None:
        labkit.note("left" if isinstance(task.exception(), ConnectionClosedOK) else "lost")

    reading = asyncio.create_task(echo(websocket))
    reading.add_done_callback(tell)
    await asyncio.wait({reading})


@of.breaks("lost")
async def codes_below_1002_or_above_3000(websocket: ServerConnection) -> None:
    try:
        await echo(websocket)
    except ConnectionClosed:
        code = websocket.close_code or 0
        labkit.note("left" if code < 1002 or code == 1005 or code >= 3000 else "lost")


@of.breaks("lost")
async def whoever_sent_a_close(websocket: ServerConnection) -> None:
    try:
        await echo(websocket)
    except ConnectionClosed as closed:
        labkit.note("left" if closed.rcvd is not None else "lost")


@of.breaks("left")
async def counts_the_ok_as_lost(websocket: ServerConnection) -> None:
    try:
        await echo(websocket)
    except ConnectionClosed:
        labkit.note("lost")


@of.breaks("nothing-escapes")
async def raises_it_again(websocket: ServerConnection) -> None:
    try:
        await echo(websocket)
    except ConnectionClosedOK:
        labkit.note("left")
    except ConnectionClosedError:
        labkit.note("lost")
        raise


@of.breaks("left")
async def notes_before_it_knows(websocket: ServerConnection) -> None:
    try:
        await echo(websocket)
    except ConnectionClosedOK:
        labkit.note("left")
    except ConnectionClosedError:
        pass
    finally:
        labkit.note("lost")


@of.breaks("lost")
async def restarts_are_fine(websocket: ServerConnection) -> None:
    try:
        await echo(websocket)
    except ConnectionClosed:
        labkit.note("left" if websocket.close_code in {1000, 1001, 1005, 1012} else "lost")


@of.breaks("nothing-escapes")
async def asks_for_a_name_first(websocket: ServerConnection) -> None:
    await websocket.send(await websocket.recv())
    await Echo()(websocket)


@of.breaks("echo")
async def takes_an_empty_message_for_the_end(websocket: ServerConnection) -> None:
    try:
        while message := await websocket.recv():
            await websocket.send(message)
    except ConnectionClosedOK:
        labkit.note("left")
    except ConnectionClosedError:
        labkit.note("lost")
