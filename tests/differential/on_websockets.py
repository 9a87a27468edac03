"""Handlers for websockets, as people write them. Each takes the connection, and what writes down what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import websockets
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import State

from tests.differential.people import CLEANUP, LIMIT, TICK, People, logged, membership
from tests.differential.story import Seen, describe, seconds

__all__ = ["PEOPLE"]

PEOPLE = person = People()


@person()
async def echo(websocket: Any, seen: Seen) -> None:
    """The handler that everyone starts from."""
    websocket = seen(websocket)
    async for message in websocket:
        await websocket.send(message)
    seen.note("after the loop")


@person("one", b"two", "three")
async def recv_loop(websocket: Any, seen: Seen) -> None:
    """`recv()` for ever; every end comes out as an exception."""
    websocket = seen(websocket)
    while True:
        message = await websocket.recv()
        await websocket.send(message)


@person()
async def catches_ok(websocket: Any, seen: Seen) -> None:
    """An `except` for the clean end alone."""
    websocket = seen(websocket)
    try:
        while True:
            await websocket.send(await websocket.recv())
    except ConnectionClosedOK:
        seen.note("goodbye")


@person()
async def catches_error(websocket: Any, seen: Seen) -> None:
    """An `except` for the unclean end alone."""
    websocket = seen(websocket)
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosedError as error:
        seen.note(f"lost: {describe(error)}")
    finally:
        seen.note(f"close_code is {websocket.close_code}, close_reason is {websocket.close_reason}")


@person()
async def recv_with_timeout(websocket: Any, seen: Seen) -> None:
    """`wait_for(recv())`, and a ping to who says nothing."""
    websocket = seen(websocket)
    while True:
        try:
            message = await asyncio.wait_for(websocket.recv(), LIMIT / 2)
        except TimeoutError:
            try:
                pong = await websocket.ping()
                await asyncio.wait_for(pong, LIMIT / 2)
            except TimeoutError:
                seen.note("no pong")
                break
            seen.note("a pong")
        except ConnectionClosed as error:
            seen.note(describe(error))
            break
        else:
            await websocket.send(message)


@person()
async def asyncio_timeout(websocket: Any, seen: Seen) -> None:
    """`asyncio.timeout` around each `recv()`."""
    websocket = seen(websocket)
    while True:
        try:
            async with asyncio.timeout(LIMIT):
                message = await websocket.recv()
        except TimeoutError:
            await websocket.close(1000, "idle")
            return
        await websocket.send(message)


@person()
async def gather_pair(websocket: Any, seen: Seen) -> None:
    """A consumer and a producer under `gather`; the other goes on when one fails."""
    websocket = seen(websocket)

    async def consumer() -> None:
        async for message in websocket:
            await websocket.send(message)
        seen.note("the consumer ends")

    async def producer() -> None:
        while True:
            await websocket.send("tick")
            await asyncio.sleep(TICK)

    await asyncio.gather(consumer(), producer())


@person()
async def task_group(websocket: Any, seen: Seen) -> None:
    """A consumer and a sleeper in a TaskGroup, which cancels them in no order that is told."""
    websocket = seen(websocket)

    async def consumer() -> None:
        while True:
            await websocket.send(await websocket.recv())

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(consumer())
            group.create_task(asyncio.sleep(60))
    except* ConnectionClosedOK:
        seen.note("goodbye")


@person()
async def both_ways(websocket: Any, seen: Seen) -> None:
    """The pattern of the documentation: two tasks, the first that ends cancels the other."""
    websocket = seen(websocket)
    outbox: asyncio.Queue[str] = asyncio.Queue()

    async def consumer() -> None:
        async for message in websocket:
            outbox.put_nowait(message)

    async def producer() -> None:
        while True:
            await websocket.send(await outbox.get())

    tasks = [asyncio.create_task(consumer()), asyncio.create_task(producer())]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    seen.note(f"{len(done)} done; {', '.join(map(describe, results))}")


@person()
async def finally_says_goodbye(websocket: Any, seen: Seen) -> None:
    """A cleanup that takes a while, and a last word."""
    websocket = seen(websocket)
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        await asyncio.sleep(CLEANUP)
        seen.note("cleaned up")
        await websocket.send("goodbye")


@person()
async def shielded(websocket: Any, seen: Seen) -> None:
    """A cleanup under `shield`."""
    websocket = seen(websocket)

    async def cleanup() -> None:
        seen.note("cleanup begins")
        await asyncio.sleep(CLEANUP)
        seen.note("cleanup is complete")

    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        await asyncio.shield(cleanup())


@person()
async def broadcasts(websocket: Any, seen: Seen) -> None:
    """`websockets.broadcast` to all members, which takes the library's own connections."""
    members = {websocket}
    witness = seen(websocket)
    try:
        async for message in witness:
            websockets.broadcast(members, message)
            seen.note(f"told {len(members)}")
    finally:
        members.remove(websocket)
        seen.note("left")


@person(silent=True)
async def own_ping(websocket: Any, seen: Seen) -> None:
    """A ping of its own, whose pong must come in time."""
    websocket = seen(websocket)
    while True:
        pong = await websocket.ping()
        try:
            await asyncio.wait_for(pong, LIMIT)
        except TimeoutError:
            seen.note("no pong")
            return
        await asyncio.sleep(TICK)


@person(silent=True)
async def waits_closed(websocket: Any, seen: Seen) -> None:
    """A feed that only waits until the connection is over."""
    websocket = seen(websocket)
    await websocket.wait_closed()
    seen.note(f"close_code is {websocket.close_code}")


@person()
async def closes_itself(websocket: Any, seen: Seen) -> None:
    """One answer, a close of its own, and a message that it still wants."""
    websocket = seen(websocket)
    await websocket.send(await websocket.recv())
    await websocket.close(4001, "enough")
    await websocket.recv()


@person()
async def turned_away(websocket: Any, seen: Seen) -> None:
    """Asks for a token, gets something else, closes and returns."""
    websocket = seen(websocket)
    if await websocket.recv() != "token":
        await websocket.close(4401, "unauthorized")
        return
    async for message in websocket:
        await websocket.send(message)


@person(silent=True)
async def polls_state(websocket: Any, seen: Seen) -> None:
    """Looks at `state` now and then."""
    websocket = seen(websocket)
    while websocket.state is State.OPEN:  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(TICK)
    seen.note(f"close_code is {websocket.close_code}")


@person()
@logged
async def under_a_decorator(websocket: Any, seen: Seen) -> None:
    """A handler under a decorator."""
    websocket = seen(websocket)
    async for message in websocket:
        await websocket.send(message)


class Session:
    """A session with its own `__call__`."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.received = 0

    async def __call__(self, websocket: Any) -> None:
        self.seen.note(f"path {websocket.request.path}, subprotocol {websocket.subprotocol}")
        websocket = self.seen(websocket)
        try:
            while True:
                message = await websocket.recv(decode=False)
                self.received += 1
                await websocket.send(message, text=True)
        except ConnectionClosed as error:
            self.seen.note(f"after {self.received}: {describe(error)}")
            raise


@person()
async def session_class(websocket: Any, seen: Seen) -> None:
    """A class whose objects are handlers."""
    await Session(seen)(websocket)


@person()
async def from_generator(websocket: Any, seen: Seen) -> None:
    """The messages through an asynchronous generator."""
    websocket = seen(websocket)

    async def messages() -> AsyncIterator[str]:
        try:
            while True:
                yield await websocket.recv()
        except ConnectionClosed:
            seen.note("no more messages")
            return

    async for message in messages():
        await websocket.send(message.upper())
    seen.note("after the loop")


@person()
async def in_context(websocket: Any, seen: Seen) -> None:
    """An exit stack of two, around the loop."""
    websocket = seen(websocket)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(membership(seen))
        stack.push_async_callback(asyncio.sleep, CLEANUP)
        async for message in websocket:
            await websocket.send(message)


@person()
async def streams(websocket: Any, seen: Seen) -> None:
    """Messages by their fragments, in both directions."""
    websocket = seen(websocket)
    while True:
        fragments = [fragment async for fragment in websocket.recv_streaming()]
        await websocket.send(fragments)


@person()
async def talkative(websocket: Any, seen: Seen) -> None:
    """Answers with more than a buffer holds, if nobody reads."""
    websocket = seen(websocket)
    async for message in websocket:
        await websocket.send(message * 20_000)


@person('{"id": 1}')
async def json_calls(websocket: Any, seen: Seen) -> None:
    """JSON, and an `except` for everything but the end."""
    websocket = seen(websocket)
    async for message in websocket:
        try:
            await websocket.send(json.dumps({"id": json.loads(message)["id"]}))
        except ConnectionClosed:
            raise
        except Exception as error:
            await websocket.send(json.dumps({"error": type(error).__name__}))


@person()
async def catches_cancelled(websocket: Any, seen: Seen) -> None:
    """An `except CancelledError` around the loop, and something to do after it."""
    websocket = seen(websocket)
    try:
        async for message in websocket:
            await websocket.send(message)
    except asyncio.CancelledError:
        seen.note("cancelled")
    await asyncio.sleep(CLEANUP)
    seen.note("cleaned up")


@person(silent=True)
async def feed(websocket: Any, seen: Seen) -> None:
    """A feed that never listens, until sending fails."""
    websocket = seen(websocket)
    try:
        while True:
            await websocket.send("tick")
            await asyncio.sleep(TICK)
    except ConnectionClosed as error:
        seen.note(f"the feed ends: {describe(error)}")


@person()
async def tries_again(websocket: Any, seen: Seen) -> None:
    """Takes every error for a passing one, three times."""
    websocket = seen(websocket)
    errors = 0
    while errors < 3:
        try:
            await websocket.send(await websocket.recv())
        except ConnectionClosed as error:
            errors += 1
            seen.note(f"error {errors}: {describe(error)}")


@person(ping_interval=seconds(0.2), ping_timeout=seconds(0.4))
async def with_keepalive(websocket: Any, seen: Seen) -> None:
    """The library's own keepalive."""
    websocket = seen(websocket)
    async for message in websocket:
        await websocket.send(message)


@person()
async def working(websocket: Any, seen: Seen) -> None:
    """Works for a while, and then has something to say."""
    websocket = seen(websocket)
    await websocket.send(await websocket.recv())
    await asyncio.sleep(LIMIT)
    for number in range(3):
        await websocket.send(f"result {number}")
    await websocket.recv()


@person("a", "b")
async def until_done(websocket: Any, seen: Seen) -> None:
    """Awaits a shielded cleanup to its end, whatever cancels."""
    websocket = seen(websocket)
    try:
        while (message := await websocket.recv()) is not None:
            await websocket.send(message)
    finally:
        task, cancel = asyncio.ensure_future(asyncio.sleep(CLEANUP)), None
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                cancel = error
                seen.note("cancelled in the cleanup")
        seen.note("cleaned up")
        if cancel is not None:
            raise cancel
