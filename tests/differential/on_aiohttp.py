"""Handlers for aiohttp, as people write them. Each takes the request, and what writes down what it sees."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import WSMsgType, web

from tests.differential.people import CLEANUP, LIMIT, TICK, People, logged, membership
from tests.differential.story import Seen, describe, seconds

__all__ = ["PEOPLE"]

PEOPLE = person = People()


async def opened(request: web.Request, seen: Seen, **options: Any) -> Any:
    ws = seen(web.WebSocketResponse(**options))
    await ws.prepare(request)
    return ws


@person()
async def naive_echo(request: web.Request, seen: Seen) -> Any:
    """The handler that everyone starts from."""
    ws = await opened(request, seen)
    async for message in ws:
        await ws.send_str(message.data)
    seen.note("after the loop")
    return ws


@person("one", "two", "three")
async def documented_echo(request: web.Request, seen: Seen) -> Any:
    """The example of aiohttp's documentation."""
    ws = await opened(request, seen)
    async for message in ws:
        if message.type == WSMsgType.TEXT:
            if message.data == "close":
                await ws.close()
            else:
                await ws.send_str(message.data + "/answer")
        elif message.type == WSMsgType.ERROR:
            seen.note(f"connection closed with {describe(ws.exception())}")
    seen.note("connection closed")
    return ws


@person("hello", "close")
async def told_to_close(request: web.Request, seen: Seen) -> Any:
    """The same, and the client says `close`."""
    return await documented_echo(request, seen)


@person()
async def receive_loop(request: web.Request, seen: Seen) -> Any:
    """`receive()` in a loop, and every type that ends it."""
    ws = await opened(request, seen)
    while not ws.closed:
        message = await ws.receive()
        if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}:
            seen.note(f"{message.type.name}, and close_code is {ws.close_code}")
            break
        await ws.send_str(message.data)
    return ws


@person()
async def receive_with_timeout(request: web.Request, seen: Seen) -> Any:
    """`receive(timeout)`, and a question to who says nothing."""
    ws = await opened(request, seen)
    asked = 0
    while asked < 2:
        try:
            message = await ws.receive(timeout=LIMIT / 2)
        except TimeoutError:
            asked += 1
            await ws.send_str("still there?")
            continue
        if message.type is not WSMsgType.TEXT:
            break
        await ws.send_str(message.data)
    return ws


@person()
async def receive_str_loop(request: web.Request, seen: Seen) -> Any:
    """`receive_str()` raises a TypeError when the connection is over."""
    ws = await opened(request, seen)
    while True:
        await ws.send_str(await ws.receive_str())


@person('{"id": 1}')
async def json_rpc(request: web.Request, seen: Seen) -> Any:
    """`receive_json()`, and an `except` for everything."""
    ws = await opened(request, seen)
    while True:
        try:
            call = await ws.receive_json()
            await ws.send_json({"id": call["id"], "result": "done"})
        except Exception as error:
            seen.note(f"error: {describe(error)}")
            break
    return ws


@person()
async def says_goodbye(request: web.Request, seen: Seen) -> Any:
    """A `send_str()` after the loop, when nobody is there any more."""
    ws = await opened(request, seen)
    async for message in ws:
        await ws.send_str(message.data)
    try:
        await ws.send_str("goodbye")
    finally:
        seen.note("said")
    return ws


@person()
async def keeps_on_sending(request: web.Request, seen: Seen) -> Any:
    """A feed that never listens."""
    ws = await opened(request, seen)
    while True:
        await ws.send_str("tick")
        await asyncio.sleep(TICK)


@person()
async def gathers(request: web.Request, seen: Seen) -> Any:
    """A reader and a writer under `gather`."""
    ws = await opened(request, seen)

    async def reader() -> None:
        async for message in ws:
            await ws.send_str(message.data)
        seen.note("the reader ends")

    async def writer() -> None:
        while not ws.closed:
            await ws.send_str("tick")
            await asyncio.sleep(TICK)
        seen.note("the writer ends")

    await asyncio.gather(reader(), writer())
    return ws


@person()
async def groups(request: web.Request, seen: Seen) -> Any:
    """A reader in a TaskGroup; when it ends, it cancels the other."""
    ws = await opened(request, seen)

    async def ticker() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.note("the ticker ends")

    async with asyncio.TaskGroup() as group:
        other = group.create_task(ticker())
        async for message in ws:
            await ws.send_str(message.data)
        other.cancel()
    return ws


@person()
async def first_completed(request: web.Request, seen: Seen) -> Any:
    """Two tasks, `wait(FIRST_COMPLETED)`, and a cancel for the other."""
    ws = await opened(request, seen)
    stop = asyncio.Event()

    async def reader() -> None:
        async for message in ws:
            await ws.send_str(message.data)

    tasks = [asyncio.create_task(reader()), asyncio.create_task(stop.wait())]
    try:
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        seen.note(f"{len(done)} done, {len(pending)} pending")
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        seen.note(f"the tasks: {', '.join(map(describe, results))}")
    return ws


@person()
async def slow_finally(request: web.Request, seen: Seen) -> Any:
    """A cleanup in `finally` that takes a while."""
    ws = await opened(request, seen)
    try:
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        seen.note("cleanup begins")
        await asyncio.sleep(CLEANUP)
        seen.note("cleanup is complete")
    return ws


@person()
async def shields(request: web.Request, seen: Seen) -> Any:
    """A shielded cleanup."""
    ws = await opened(request, seen)

    async def cleanup() -> None:
        seen.note("cleanup begins")
        await asyncio.sleep(CLEANUP)
        seen.note("cleanup is complete")

    try:
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        await asyncio.shield(cleanup())
    return ws


@person()
async def catches_cancel(request: web.Request, seen: Seen) -> Any:
    """The fix that everyone posts."""
    ws = await opened(request, seen)
    try:
        async for message in ws:
            await ws.send_str(message.data)
    except asyncio.CancelledError:
        seen.note("disconnected")
    await asyncio.sleep(CLEANUP)
    seen.note("cleaned up")
    return ws


@person()
async def chat_room(request: web.Request, seen: Seen) -> Any:
    """A member that sends to all members, itself among them."""
    ws = await opened(request, seen)
    members: set[Any] = {ws}
    try:
        async for message in ws:
            for member in tuple(members):
                await member.send_str(message.data)
    finally:
        members.discard(ws)
        seen.note("left")
    return ws


@person()
async def with_heartbeat(request: web.Request, seen: Seen) -> Any:
    """The library's own heartbeat."""
    ws = await opened(request, seen, heartbeat=seconds(0.5))
    async for message in ws:
        seen.note(message.type.name)
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
    seen.note(f"close_code is {ws.close_code}")
    return ws


@person()
async def own_pinger(request: web.Request, seen: Seen) -> Any:
    """A task that pings by itself."""
    ws = await opened(request, seen)

    async def pinger() -> None:
        while not ws.closed:
            await ws.ping()
            await asyncio.sleep(TICK)

    task = asyncio.create_task(pinger())
    try:
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await task
    return ws


@person()
async def closes_first(request: web.Request, seen: Seen) -> Any:
    """One answer, a close of its own, and a look at what comes after."""
    ws = await opened(request, seen, timeout=seconds(0.3))
    message = await ws.receive()
    await ws.send_str(message.data)
    await ws.close(code=4001, message=b"enough")
    message = await ws.receive()
    seen.note(f"then {message.type.name}, and close_code is {ws.close_code}")
    return ws


@person()
async def kicked_after_a_while(request: web.Request, seen: Seen) -> Any:
    """Another task closes the connection while the handler waits for a message."""
    ws = await opened(request, seen, timeout=seconds(0.3))

    async def kick() -> None:
        await asyncio.sleep(LIMIT)
        await ws.close(code=4002)

    seen.tasks.add(task := asyncio.create_task(kick()))
    async for message in ws:
        await ws.send_str(message.data)
    seen.note(f"close_code is {ws.close_code}")
    task.cancel()
    return ws


@person()
async def queue_and_writer(request: web.Request, seen: Seen) -> Any:
    """A queue, and a task that sends what is in it."""
    ws = await opened(request, seen)
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def writer() -> None:
        while True:
            await ws.send_str(await queue.get())

    seen.tasks.add(task := asyncio.create_task(writer()))
    async for message in ws:
        queue.put_nowait(message.data)
    task.cancel()
    seen.note(f"the writer: {describe((await asyncio.gather(task, return_exceptions=True))[0])}")
    return ws


@person()
async def limited(request: web.Request, seen: Seen) -> Any:
    """A limit for the whole connection, and a polite word."""
    ws = await opened(request, seen, timeout=seconds(0.3))
    try:
        async with asyncio.timeout(LIMIT):
            async for message in ws:
                await ws.send_str(message.data)
    except TimeoutError:
        await ws.close(code=1000, message=b"time is up")
    return ws


@person()
async def asks_the_transport(request: web.Request, seen: Seen) -> Any:
    """A handler that looks at the transport now and then."""
    ws = await opened(request, seen)
    transport = request.transport
    while transport is not None and not transport.is_closing():  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(TICK)
    seen.note(f"the transport is gone: closed is {ws.closed}, close_code is {ws.close_code}")
    return ws


@person()
async def busy_elsewhere(request: web.Request, seen: Seen) -> Any:
    """Works for a while, and then has something to say."""
    ws = await opened(request, seen)
    message = await ws.receive()
    await ws.send_str(message.data)
    await asyncio.sleep(LIMIT)
    for number in range(3):
        await ws.send_str(f"result {number}")
    message = await ws.receive()
    seen.note(message.type.name)
    return ws


@person()
@logged
async def decorated(request: web.Request, seen: Seen) -> Any:
    """A handler under a decorator, that answers more than it should."""
    ws = await opened(request, seen)
    async for message in ws:
        await ws.send_str(message.data)
        await ws.send_str(message.data.upper())
    return ws


class Room:
    """A class with a handler and its helpers."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def serve(self, request: web.Request) -> Any:
        ws = await opened(request, self.seen, protocols=("chat", "superchat"))
        self.seen.note(f"the protocol is {ws.ws_protocol}")
        async for message in ws:
            await self.on_message(ws, message)
        await self.on_close(ws)
        return ws

    async def on_message(self, ws: Any, message: Any) -> None:
        await getattr(self, f"on_{message.type.name.lower()}")(ws, message)

    async def on_text(self, ws: Any, message: Any) -> None:
        await ws.send_str(message.data)

    async def on_error(self, ws: Any, message: Any) -> None:
        self.seen.note(f"error: {describe(message.data)}")

    async def on_close(self, ws: Any) -> None:
        self.seen.note(f"closed: {ws.closed}, {ws.close_code}")
        await ws.close()


@person()
async def class_based(request: web.Request, seen: Seen) -> Any:
    """A method as the handler, and one for each type of message."""
    return await Room(seen).serve(request)


async def texts(ws: Any, seen: Seen) -> AsyncIterator[str]:
    try:
        async for message in ws:
            if message.type is not WSMsgType.TEXT:
                return
            yield message.data
    finally:
        seen.note("the generator ends")


@person()
async def async_generator(request: web.Request, seen: Seen) -> Any:
    """The messages through an asynchronous generator."""
    ws = await opened(request, seen)
    async with contextlib.aclosing(texts(ws, seen)) as messages:
        async for message in messages:
            await ws.send_str(message)
    return ws


@person()
async def context_manager(request: web.Request, seen: Seen) -> Any:
    """An asynchronous context manager around the loop."""
    ws = await opened(request, seen)
    async with membership(seen):
        async for message in ws:
            await ws.send_str(message.data)
    return ws


@person()
async def by_hand(request: web.Request, seen: Seen) -> Any:
    """A handler that answers pings and Close frames itself."""
    ws = await opened(request, seen, autoclose=False, autoping=False)
    while True:
        message = await ws.receive()
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.PING:
            await ws.pong(message.data)
        else:
            seen.note(f"{message.type.name} {describe(message.data)}, closed is {ws.closed}")
            break
    await ws.close(code=1000)
    return ws


@person()
async def verbose(request: web.Request, seen: Seen) -> Any:
    """Answers with more than a buffer holds, if nobody reads."""
    ws = await opened(request, seen)
    async for message in ws:
        await ws.send_str(message.data * 20_000)
    return ws
