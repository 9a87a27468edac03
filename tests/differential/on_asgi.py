"""Endpoints for Starlette and FastAPI, as people write them; each is played in the lab and on a plain uvicorn.

Most are out of threads in which somebody asks why an endpoint does not hear of its client's end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tests.differential.people import LIMIT, TICK, People, membership
from tests.differential.story import Seen

__all__ = ["PEOPLE"]

PEOPLE = People()


@PEOPLE()
async def iterates(websocket: WebSocket, seen: Seen) -> None:
    """The echo that everybody starts from: it ends in silence, whatever has happened."""
    websocket = seen(websocket)
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)
    seen.note("after the loop")


@PEOPLE("one", "two")
async def catches_the_disconnect(websocket: WebSocket, seen: Seen) -> None:
    """FastAPI's own example: a manager with a list, and a word to the others."""
    websocket = seen(websocket)
    members: list[Any] = []
    await websocket.accept()
    members.append(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            for each in members:
                await each.send_text(f"a client says: {data}")
    except WebSocketDisconnect as gone:
        members.remove(websocket)
        seen.note(f"gone: {gone.code} {gone.reason}")


@PEOPLE()
async def waits_for_news(websocket: WebSocket, seen: Seen) -> None:
    """It waits for what others have to say, and for nothing else: nobody tells it that its client is gone."""
    websocket, news = seen(websocket), asyncio.Queue[str]()
    await websocket.accept()
    await websocket.receive_text()
    while True:
        await websocket.send_text(await news.get())


@PEOPLE()
async def looks_between_news(websocket: WebSocket, seen: Seen) -> None:
    """The same with a limit, and a word now and then that finds out."""
    websocket, news = seen(websocket), asyncio.Queue[str]()
    await websocket.accept()
    await websocket.receive_text()
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(news.get(), TICK)
        await websocket.send_text("still here")


@PEOPLE()
async def races_the_news(websocket: WebSocket, seen: Seen) -> None:
    """What the threads end with: it waits for the client and for the news at once."""
    websocket, news = seen(websocket), asyncio.Queue[str]()
    await websocket.accept()
    while True:
        waits = {asyncio.ensure_future(websocket.receive()), asyncio.ensure_future(news.get())}
        done, late = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in late:
            each.cancel()
        message = done.pop().result()
        if message["type"] == "websocket.disconnect":
            seen.note(f"gone: {message['code']}")
            return
        await websocket.send_text(message["text"])


@PEOPLE()
async def closes_whatever_happens(websocket: WebSocket, seen: Seen) -> None:
    """A close in `finally`, which fails where the client has closed before."""
    websocket = seen(websocket)
    await websocket.accept()
    try:
        while True:
            await websocket.send_json({"you": await websocket.receive_text()})
    finally:
        await websocket.close()
        seen.note("closed")


@PEOPLE(silent=True)
async def only_sends(websocket: WebSocket, seen: Seen) -> None:
    """A feed: it never reads, and learns from a send, if at all."""
    websocket = seen(websocket)
    await websocket.accept()
    while True:
        await websocket.send_text("tick")
        await asyncio.sleep(TICK)


@PEOPLE(silent=True)
async def asks_for_the_state(websocket: WebSocket, seen: Seen) -> None:
    """It asks for the client's state, which only a receive would change."""
    websocket = seen(websocket)
    await websocket.accept()
    while websocket.client_state is WebSocketState.CONNECTED:  # noqa: ASYNC110 - it is what people write
        await asyncio.sleep(TICK)


@PEOPLE("token", "hello")
async def asks_for_a_token(websocket: WebSocket, seen: Seen) -> None:
    """The first message within a limit, then the conversation; both have a cleanup."""
    websocket = seen(websocket)
    await websocket.accept()
    try:
        token = await asyncio.wait_for(websocket.receive_text(), LIMIT)
    except TimeoutError:
        await websocket.close(1008, "no token")
        return
    seen.note(token)
    async with membership(seen):
        while True:
            await websocket.send_bytes((await websocket.receive_text()).encode())


@PEOPLE()
async def reads_and_ticks(websocket: WebSocket, seen: Seen) -> None:
    """Two tasks in a group: the first that fails ends the other."""
    websocket = seen(websocket)
    await websocket.accept()

    async def ticks() -> None:
        while True:
            await asyncio.sleep(TICK)
            await websocket.send_text("tick")

    async with membership(seen):
        try:
            async with asyncio.TaskGroup() as group:
                ticking = group.create_task(ticks())
                async for message in websocket.iter_text():
                    await websocket.send_text(message)
                ticking.cancel()
        except* WebSocketDisconnect as gone:
            seen.note(f"gone: {[each.code for each in gone.exceptions]}")  # type: ignore[attr-defined]
