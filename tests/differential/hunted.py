"""More handlers of people's: those of which the lab once said something false, and kinds that nobody had tried."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import WSMsgType, web
from websockets.exceptions import ConcurrencyError, ConnectionClosed

from tests.cases.test_hunted import Pairs, SpeaksJson, greets_and_answers, greets_and_listens, orders
from tests.differential.on_aiohttp import opened
from tests.differential.people import CLEANUP, LIMIT, TICK, People
from tests.differential.story import Seen, describe

__all__ = ["ON_AIOHTTP", "ON_WEBSOCKETS"]

ON_WEBSOCKETS = person = People()
ON_AIOHTTP = guest = People()


# --- The lab was once wrong about these -------------------------------------------------------------------------------


def seen_from_outside(handler: Callable[[Any], Any]) -> Callable[[Any, Seen], Any]:
    """A handler of another file."""

    @functools.wraps(handler)
    async def witnessed(websocket: Any, seen: Seen) -> None:
        await handler(seen(websocket))

    return witnessed


person()(seen_from_outside(greets_and_listens))
person("one", "two")(seen_from_outside(greets_and_answers))
person('{"item": "tea"}', create_connection=SpeaksJson)(seen_from_outside(orders))


@person()
async def answers_later(websocket: Any, seen: Seen) -> None:
    """A job of its own beside each answer, which it does not wait for to the end."""
    websocket = seen(websocket)
    async for message in websocket:
        await websocket.send(message)
        beside = asyncio.ensure_future(asyncio.sleep(60))
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(beside), TICK)
        finally:
            beside.cancel()


@person(silent=True)
async def says_hello(websocket: Any, seen: Seen) -> None:
    """A coroutine from before `async def`."""

    def hello(ws: Any) -> Iterator[Any]:
        yield from ws.send("hello").__await__()

    class Hello:
        __await__ = functools.partialmethod(lambda _, ws: hello(ws), seen(websocket))

    await Hello()


@guest()
async def gives_pairs(request: web.Request, seen: Seen) -> Any:
    """A response of its own class, which gives something else than messages."""
    ws = seen(Pairs())
    await ws.prepare(request)
    while True:
        kind, data = await ws.receive()
        if kind is not web.WSMsgType.TEXT:
            return ws
        await ws.send_str(data)


# --- Nobody had tried these -------------------------------------------------------------------------------------------


@person("one", "two", "three")
async def asks_the_same_future_again(websocket: Any, seen: Seen) -> None:
    """A `recv()` that a limit of time does not cancel, and that is awaited again."""
    websocket = seen(websocket)
    waiting = asyncio.ensure_future(websocket.recv())
    try:
        for _ in range(8):
            done, _ = await asyncio.wait([waiting], timeout=LIMIT / 2)
            if not done:
                seen.note("nothing yet")
                continue
            await websocket.send(waiting.result())
            waiting = asyncio.ensure_future(websocket.recv())
    finally:
        waiting.cancel()


@person("one", "two")
async def two_at_once(websocket: Any, seen: Seen) -> None:
    """Two tasks that receive at the same time, which the library refuses to one of them."""
    websocket = seen(websocket)

    async def receive(name: str) -> None:
        try:
            async for message in websocket:
                await websocket.send(f"{name}: {message}")
        except ConcurrencyError as error:
            seen.note(f"{name}: {describe(error)}")

    await asyncio.gather(receive("first"), receive("second"))


@person("one", "two")
async def writes_from_a_queue(websocket: Any, seen: Seen) -> None:
    """A writer with a queue and a last word for it; the handler waits until all of it is sent."""
    websocket = seen(websocket)
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def write() -> None:
        while (message := await queue.get()) is not None:
            try:
                await websocket.send(message)
            finally:
                queue.task_done()

    writer = asyncio.create_task(write())
    try:
        async for message in websocket:
            await queue.put(message)
    finally:
        await queue.put(None)
        await asyncio.gather(writer, return_exceptions=True)
        seen.note(f"{queue.qsize()} are left in the queue")


@person()
async def locks_while_it_sends(websocket: Any, seen: Seen) -> None:
    """A lock around each `send()`, that a ticker wants as well."""
    websocket, lock = seen(websocket), asyncio.Lock()

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK * 3)
            async with lock:
                await websocket.send("tick")

    ticker = asyncio.create_task(tick())
    try:
        async for message in websocket:
            async with lock:
                await websocket.send(message)
    finally:
        ticker.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
            await ticker
        seen.note(f"locked: {lock.locked()}")


@person("one")
async def sorts_its_losses(websocket: Any, seen: Seen) -> None:
    """`except*` for what comes out of a task group."""
    websocket = seen(websocket)

    async def read() -> None:
        while True:
            await websocket.send(await websocket.recv())

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
    except* ConnectionClosed as group_of:
        seen.note(f"lost: {describe(group_of)}")


@person("one", "two")
async def sends_from_a_thread(websocket: Any, seen: Seen) -> None:
    """A thread that does the work, and sends through the loop."""
    websocket, loop = seen(websocket), asyncio.get_running_loop()

    async def send(message: str) -> None:
        await websocket.send(message)

    def work(message: str) -> None:
        asyncio.run_coroutine_threadsafe(send(message.upper()), loop).result()

    async for message in websocket:
        await asyncio.to_thread(work, message)


@person("one", "two")
async def hands_over_to_a_thread(websocket: Any, seen: Seen) -> None:
    """A thread of its own that is told by an event when the handler is over."""
    websocket, over = seen(websocket), threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        over.set()
        await asyncio.to_thread(thread.join)
        seen.note("joined")


@person("first", "second")
async def leaves_after_the_first(websocket: Any, seen: Seen) -> None:
    """A `break` out of the loop, and a close with a reason in an exit stack."""
    websocket = seen(websocket)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(websocket.close, 4001, "enough")
        async for message in websocket:
            await websocket.send(message)
            break


@person("hello")
async def sends_what_is_made_meanwhile(websocket: Any, seen: Seen) -> None:
    """A message in fragments, of which each is made while the last one is on its way."""
    websocket = seen(websocket)

    async def words(message: str) -> Any:
        for letter in message:
            await asyncio.sleep(0)
            yield letter

    async for message in websocket:
        await websocket.send(words(message))


@guest("one", "two")
async def answers_itself(request: web.Request, seen: Seen) -> Any:
    """`send_json()` with a function of its own that fails at the second message."""
    ws = await opened(request, seen)
    count = 0

    def dumps(value: Any) -> str:
        nonlocal count
        count += 1
        return json.dumps(value) if count < 2 else json.dumps(object())

    async for message in ws:
        try:
            await ws.send_json({"got": message.data}, dumps=dumps)
        except TypeError as error:
            seen.note(describe(error))
    return ws


@guest()
async def waits_for_two_things(request: web.Request, seen: Seen) -> Any:
    """A message or a stop, whichever comes first; what was not needed is cancelled, and begins anew."""
    ws, stop = await opened(request, seen), asyncio.Event()
    while not stop.is_set():
        receiving = asyncio.ensure_future(ws.receive())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED, timeout=LIMIT)
            if not receiving.done():
                seen.note("nobody says a word")
                break
            message = receiving.result()
            if message.type != WSMsgType.TEXT:
                break
            await ws.send_str(message.data)
        finally:
            for each in (receiving, stopping):
                each.cancel()
    return ws


@guest("one")
async def keeps_what_it_has_not_sent(request: web.Request, seen: Seen) -> Any:
    """Sends in the cleanup what could not be sent before, whatever becomes of it."""
    ws, unsent = await opened(request, seen), ["later"]
    try:
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        while unsent:
            try:
                await ws.send_str(unsent.pop())
            except (ConnectionError, RuntimeError) as error:
                seen.note(describe(error))
    return ws


@guest()
async def closes_by_hand(request: web.Request, seen: Seen) -> Any:
    """`autoclose=False`: it answers the client's Close itself, after a while."""
    ws = await opened(request, seen, autoclose=False)
    async for message in ws:
        await ws.send_str(message.data)
    await asyncio.sleep(CLEANUP)
    seen.note(f"close gives {await ws.close(code=1001)}; code {ws.close_code}")
    return ws


@guest()
async def is_the_last_to_know(request: web.Request, seen: Seen) -> Any:
    """Sends under a condition that the reader notifies, from a task that nobody watches."""
    ws, fresh, inbox = await opened(request, seen), asyncio.Condition(), list[str]()

    async def write() -> None:
        while True:
            async with fresh:
                await fresh.wait_for(lambda: inbox)
            await ws.send_str(inbox.pop())

    writer = asyncio.create_task(write())
    try:
        async for message in ws:
            async with fresh:
                inbox.append(message.data)
                fresh.notify_all()
    finally:
        writer.cancel()
        await asyncio.wait([writer])
    return ws


@guest()
async def closes_after_its_limit(request: web.Request, seen: Seen) -> Any:
    """A limit of time on each message, and another on its own close."""
    ws = await opened(request, seen)
    try:
        while True:
            async with asyncio.timeout(LIMIT):
                message = await ws.receive()
            if message.type != WSMsgType.TEXT:
                break
            await ws.send_str(message.data)
    except TimeoutError:
        seen.note("too quiet")
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ws.close(message=b"bye"), LIMIT / 2)
    return ws
