"""What the library tells a handler is seen, by whatever method the handler listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web

import labkit
from labkit.clock import scaled


async def often(work: Callable[[], Awaitable[Any]]) -> None:
    """Do something again and again, until it raises; the loop has its turn in between."""
    while True:
        await work()
        await asyncio.sleep(0.001)


async def ping_and_wait(websocket: Any) -> None:
    """A ping, and its pong: the library's exception comes out of the future that ping() gives."""
    await (await websocket.ping())


async def parts(websocket: Any) -> None:
    """A message, part by part."""
    async for part in websocket.recv_streaming():
        await websocket.send(part)


WAYS: dict[str, dict[str, Callable[[Any], Awaitable[Any]]]] = {
    "websockets": {
        "recv": lambda ws: ws.recv(),
        "recv_streaming": parts,
        "send": lambda ws: ws.send("more"),
        "send of fragments": lambda ws: ws.send(["mo", "re"]),
        "ping": lambda ws: ws.ping(),
        "the pong of a ping": ping_and_wait,
        "pong": lambda ws: ws.pong(),
    },
    "aiohttp": {
        "receive": lambda ws: ws.receive(),
        "receive_str": lambda ws: ws.receive_str(),
        "receive_bytes": lambda ws: ws.receive_bytes(),
        "receive_json": lambda ws: ws.receive_json(),
        "send_str": lambda ws: ws.send_str("more"),
        "send_bytes": lambda ws: ws.send_bytes(b"more"),
        "send_json": lambda ws: ws.send_json({}),
        "send_frame": lambda ws: ws.send_frame(b"more", WSMsgType.TEXT),
        "ping": lambda ws: ws.ping(),
        "pong": lambda ws: ws.pong(),
    },
}


@asynccontextmanager
async def accepted(given: Any) -> AsyncIterator[Any]:
    """The handler's connection, after one message has been answered."""
    if isinstance(given, web.Request):
        ws = web.WebSocketResponse()
        await ws.prepare(given)
        await ws.send_str((await ws.receive()).data)
        yield ws
    else:
        await given.send(await given.recv())
        yield given


@pytest.mark.parametrize(("on", "way"), [(on, way) for on, ways in WAYS.items() for way in ways])
async def test_each_method_that_can_tell_of_a_loss_is_watched(on: str, way: str) -> None:
    """After a reset each of them raises, or gives a message that says so; the verdict is that the handler noticed."""

    async def handler(given: Any) -> None:
        async with accepted(given) as connection:
            await often(lambda: WAYS[on][way](connection))

    run = await labkit.play(handler, on=on, fault="reset")
    assert run.verdict.noticed == "yes", run


async def test_a_message_that_is_received_in_parts_is_one_message() -> None:
    """Its fragments are joined in the record, as the client sent them."""
    run = await labkit.play(parts, on="websockets", fault=None, messages=("hello",))
    assert [event.text for event in run.timeline.select("handler", "recv")] == ["'hello'"]


async def test_a_loss_that_comes_by_another_way_is_seen_when_the_handler_ends() -> None:
    """Here a task of the handler's receives, and a group wraps what it raises."""

    async def handler(websocket: Any) -> None:
        async with asyncio.TaskGroup() as group:
            receiver = type(websocket).recv  # past the stand-in
            group.create_task(receiver(websocket))

    run = await labkit.play(handler, on="websockets", fault="reset", messages=())
    [notice] = run.timeline.select("handler", "notice")
    assert notice.data["how"] == "what it raised"
    assert run.verdict.noticed == "yes"


async def test_the_loss_of_another_connection_is_no_notice() -> None:
    """A handler may be a client of somebody else; that this one closes says nothing of its own."""
    from websockets.exceptions import ConnectionClosedError

    async def handler(websocket: Any) -> None:
        await websocket.send(await websocket.recv())
        raise ConnectionClosedError(None, None)

    run = await labkit.play(handler, on="websockets", fault=None)
    assert run.verdict.ending == "raised"
    assert not run.timeline.select("handler", "notice")


async def test_a_cancel_that_finds_nothing_to_cancel_is_seen() -> None:
    """A handler that only yields waits for no future, so nobody overhears who cancels: unknown, and never "no"."""

    async def spins(request: web.Request) -> None:
        async with accepted(request):
            while True:  # noqa: ASYNC110 - a bare yield is what it is about
                await asyncio.sleep(0)

    run = await labkit.play(spins, on="aiohttp-cancel", fault="reset")
    [cancelled] = run.timeline.select("handler", "cancelled")
    assert cancelled.data == {"by": None, "package": None}
    assert (run.verdict.ending, run.verdict.noticed) == ("cancelled", "unknown")


async def test_the_cancel_of_what_a_handler_waits_for_is_not_its_own() -> None:
    """It awaits a task that somebody cancels: CancelledError arrives, and nobody has cancelled the handler."""

    async def handler(websocket: Any) -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.wait([task])
        await asyncio.gather(task)

    run = await labkit.play(handler, on="websockets", fault=None)
    assert run.verdict.ending == "cancelled"
    assert not run.timeline.select("handler", "cancelled")


async def test_a_handler_that_awaits_itself_is_refused_by_asyncio() -> None:
    """As it would be without the lab."""

    async def handler(websocket: Any) -> None:
        await asyncio.current_task()  # type: ignore[misc]

    async with asyncio.timeout(scaled(20)):
        run = await labkit.play(handler, on="websockets", fault=None)
    assert run.verdict.exception is not None
    assert "cannot await on itself" in run.verdict.exception


@pytest.mark.parametrize("on", labkit.STACKS)
async def test_a_handler_that_exits_does_not_take_the_loop_with_it(on: str) -> None:
    """In production SystemExit ends the server's process; here the verdict tells, and the next run works."""

    async def exits(given: Any) -> None:
        async with accepted(given):
            raise SystemExit(3)

    for _ in range(2):
        run = await labkit.play(exits, on=on, fault=None)
        assert (run.verdict.ending, run.verdict.exception) == ("raised", "SystemExit: 3")
        assert run.verdict.complaints == ("SystemExit in a handler, which ends the server's process outside the lab",)
        assert run.verdict.leaked == ()
