"""Handlers of the kind that people ask about, each with a window in which their client must not leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from websockets.exceptions import ConnectionClosed

import labkit


def each(done: str, *then: str) -> Callable[[labkit.Run], bool]:
    """An invariant: what is done is followed by one of the others, each time."""

    def holds(run: labkit.Run) -> bool:
        notes = [event.text for event in run.timeline.until_stop().select("handler", "note")]
        return notes.count(done) == sum(map(notes.count, then))

    return holds


def words(strip: labkit.Strip) -> dict[str, str]:
    return {row["moment"]: row["outcome"] for row in strip.rows()}


async def test_a_lock_that_is_released_behind_the_loop() -> None:
    """Whoever leaves once it is locked leaves it locked where aiohttp cancels; nobody does on its default.

    After https://aio-libs.discourse.group/t/async-context-manager-finalization-gets-canceled-in-websocket-handler/242
    """

    async def game(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await asyncio.sleep(0.01)
        labkit.note("locked")
        async for message in ws:
            await ws.send_str(message.data)
        await asyncio.sleep(0.01)
        labkit.note("released")
        return ws

    on = ["aiohttp-cancel", "aiohttp"]
    strips = await labkit.moments(game, on, ["close", "reset"], holds=each("locked", "released"))
    for fault in ("close", "reset"):
        found = words(strips[fault, "aiohttp-cancel"])
        assert found["await 2"] == found["through"] == "broken"
        assert {row["holds"] for row in strips[fault, "aiohttp"].rows()} == {True}
    assert words(strips["reset", "aiohttp-cancel"])["await 1"] != "broken"


async def test_a_connection_that_is_taken_and_not_yet_given() -> None:
    """A cancel in the pool's own `acquire` loses the connection: `async with` does not hold it yet.

    After https://github.com/MagicStack/asyncpg/issues/97
    """

    def listener(*, mended: bool) -> Callable[[web.Request], Any]:
        async def acquire() -> None:
            labkit.note("taken")
            try:
                await asyncio.sleep(0.001)  # is it still alive?
            except asyncio.CancelledError:
                if mended:
                    labkit.note("given back")
                raise

        @asynccontextmanager
        async def connection() -> AsyncIterator[None]:
            await acquire()
            try:
                yield
            finally:
                await asyncio.sleep(0.001)
                labkit.note("given back")

        async def handler(request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            async with connection():
                await asyncio.sleep(0.001)
                async for message in ws:
                    await ws.send_str(message.data)
            return ws

        return handler

    for mended in (False, True):
        strip = await labkit.moments(
            listener(mended=mended), "aiohttp-cancel", "reset", holds=each("taken", "given back")
        )
        broken = [moment for moment, word in words(strip).items() if word == "broken"]
        assert broken == ([] if mended else ["await 1"])


async def test_a_letter_that_is_out_of_the_queue_and_not_yet_sent() -> None:
    """Whoever leaves between the two loses it, unless the handler puts it back.

    After https://github.com/python-websockets/websockets/issues/152
    """

    def mailbox(*, mended: bool) -> Callable[[Any], Any]:
        async def handler(websocket: Any) -> None:
            async for message in websocket:
                labkit.note("taken")
                await asyncio.sleep(0.001)  # it is written out
                try:
                    await websocket.send(message)
                except ConnectionClosed:
                    if mended:
                        labkit.note("put back")
                    raise
                labkit.note("sent")

        return handler

    for mended in (False, True):
        strip = await labkit.moments(
            mailbox(mended=mended),
            "websockets",
            "reset",
            messages=["one", "two"],
            holds=each("taken", "sent", "put back"),
        )
        broken = [moment for moment, word in words(strip).items() if word == "broken"]
        assert broken == ([] if mended else ["await 2", "await 4"])


async def test_a_message_that_is_answered_before_it_is_written() -> None:
    """Who leaves before the answer loses the message: the answer fails, and what was to be written behind it is not.

    After https://github.com/ansible/eda-server/pull/423
    """

    def consumer(*, mended: bool) -> Callable[[Any], Any]:
        async def write() -> None:
            await asyncio.sleep(0.001)
            labkit.note("written")

        async def handler(websocket: Any) -> None:
            await websocket.recv()
            labkit.note("taken")
            await asyncio.sleep(0.001)  # whose is it?
            if mended:
                await write()
            await websocket.send("hello")
            if not mended:
                await write()

        return handler

    for mended in (False, True):
        strip = await labkit.moments(consumer(mended=mended), "websockets", "reset", holds=each("taken", "written"))
        broken = [moment for moment, word in words(strip).items() if word == "broken"]
        assert broken == ([] if mended else ["await 2"])


async def test_a_subscription_that_is_given_back_behind_the_yield() -> None:
    """Whatever comes out of the block, the line below the `yield` does not run without a `finally`.

    After https://github.com/encode/broadcaster/issues/55
    """

    def feed(*, mended: bool) -> Callable[[Any], Any]:
        @asynccontextmanager
        async def subscribe() -> AsyncIterator[None]:
            await asyncio.sleep(0.001)
            labkit.note("subscribed")
            if not mended:
                yield
                labkit.note("unsubscribed")
                return
            try:
                yield
            finally:
                labkit.note("unsubscribed")

        async def handler(websocket: Any) -> None:
            async with subscribe():
                while True:
                    await websocket.send(await websocket.recv())

        return handler

    for mended in (False, True):
        strip = await labkit.moments(
            feed(mended=mended), "websockets", ["reset", "close"], holds=each("subscribed", "unsubscribed")
        )
        for fault in ("reset", "close"):
            found = words(strip[fault, "websockets"])
            assert {found["await 2"], found["through"]} == ({"raised"} if mended else {"broken"})


async def test_a_member_that_stays_in_the_room_after_a_cancel() -> None:
    """`except Exception` does not catch a cancel, and what stands behind it does not run.

    After https://github.com/aio-libs/aiohttp/issues/2061
    """

    async def room(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        labkit.note("joined")
        try:
            await ws.prepare(request)
            async for message in ws:
                await ws.send_str(message.data)
        except Exception:
            labkit.note("failed")
        labkit.note("left")
        return ws

    strips = await labkit.moments(room, ["aiohttp-cancel", "aiohttp"], "reset", holds=each("joined", "left"))
    assert set(words(strips["reset", "aiohttp-cancel"]).values()) == {"broken"}
    assert "broken" not in words(strips["reset", "aiohttp"]).values()
