"""A handler may notice a loss by asking, or by a ping of its own; what it has ended by itself it has not noticed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import anyio
import pytest
from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import RequestHandler
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

import labkit
from labkit.events import HandlerNotice
from tests.versions import older


async def state(websocket: Any) -> None:
    while websocket.state is State.OPEN:  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.02)


async def code(websocket: Any) -> None:
    while websocket.close_code is None:  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.02)


async def transport(websocket: Any) -> None:
    while not websocket.transport.is_closing():  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.02)


async def reason(websocket: Any) -> None:
    while websocket.close_reason is None:  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.02)


async def protocol(websocket: Any) -> None:
    while websocket.protocol.state is State.OPEN:  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.02)


async def waiter(websocket: Any) -> None:
    while not websocket.connection_lost_waiter.done():  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.02)


async def in_a_thread(websocket: Any) -> None:
    def poll() -> None:
        while websocket.state is State.OPEN:
            time.sleep(0.02)

    await asyncio.to_thread(poll)


async def in_a_task(websocket: Any) -> None:
    """A poller beside the handler, which then cancels it."""
    me = asyncio.current_task()

    async def poll() -> None:
        await state(websocket)
        assert me is not None
        me.cancel()

    poller = asyncio.create_task(poll())
    try:
        await asyncio.sleep(60)
    finally:
        poller.cancel()


@pytest.mark.parametrize("handler", [state, code, reason, protocol, transport, waiter, in_a_task, in_a_thread])
@pytest.mark.parametrize("fault", ["close", "reset", "fin"])
async def test_asking_is_noticing_on_websockets(handler: Any, fault: str) -> None:
    """Each of these tells that the connection is over, once it is."""
    run = await labkit.play(handler, on="websockets", fault=fault, messages=())
    assert run.verdict.noticed == "yes", run


async def polls(ask: Any, request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.1)
    await ws.prepare(request)
    while not ask(ws, request):  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.02)
    return ws


@pytest.mark.parametrize(
    "ask",
    [
        lambda ws, _: ws.closed,
        lambda ws, _: ws.close_code is not None,
        lambda ws, _: ws.exception() is not None,
        lambda _, request: request.transport is None or request.transport.is_closing(),
        pytest.param(
            lambda _, request: request.clone().transport is None,
            marks=pytest.mark.skipif(
                older("aiohttp", "3.12"), reason="a copy of this aiohttp fails without a transport"
            ),
        ),
        lambda _, request: request.protocol.transport is None,
        lambda _, request: not request.protocol.connected,
        lambda ws, _: ws._writer.transport.is_closing(),
        lambda ws, _: ws._closed,
    ],
    ids=["closed", "close_code", "exception()", "transport", "copy", "slot", "protocol", "writer", "_closed"],
)
async def test_asking_is_noticing_on_aiohttp(ask: Any) -> None:
    """The heartbeat finds the dead network; the handler asks for what it found."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        return await polls(ask, request)

    run = await labkit.play(handler, on="aiohttp", fault="blackhole", messages=(), patience=20)
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "yes"), run


@pytest.mark.parametrize("fault", ["fin", "reset"])
async def test_a_transport_that_is_gone_tells_even_who_stumbles_over_it(fault: str) -> None:
    """Aiohttp forgets its transport when TCP is gone: whoever asks it whether it is closing gets an AttributeError."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        return await polls(lambda _, request: request.transport.is_closing(), request)

    run = await labkit.play(handler, on="aiohttp", fault=fault, messages=())
    assert run.verdict.noticed == "yes", run


class Own(ServerConnection):
    """A connection class as people have it."""

    @property
    def gone(self) -> bool:
        """Whether it is over."""
        return super().state is not State.OPEN


async def test_a_property_of_the_users_own_class_asks_for_the_handler() -> None:
    """It stands in the user's code, whatever it asks of the library."""

    async def handler(websocket: Any) -> None:
        while not websocket.gone:  # noqa: ASYNC110 - as people write it
            await asyncio.sleep(0.02)

    run = await labkit.play(handler, on="websockets", fault="reset", messages=(), create_connection=Own)
    assert run.verdict.noticed == "yes", run


async def test_an_open_connection_tells_nothing() -> None:
    """Whoever asks and hears that all is well has not noticed anything."""

    async def asks(websocket: Any) -> None:
        for _ in range(10):
            assert websocket.state is State.OPEN
            assert websocket.close_code is None
            assert not websocket.transport.is_closing()
            assert websocket.protocol.state is State.OPEN
            assert websocket.latency < 5
            await asyncio.sleep(0.02)

    run = await labkit.play(asks, on="websockets", fault="blackhole", messages=())
    assert (run.verdict.noticed, run.timeline.all(HandlerNotice)) == ("no", [])


async def test_what_was_told_already_is_not_told_again() -> None:
    """A handler that logs the close code after its loop has been told by the loop."""

    async def logs(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)
        labkit.note(f"closed with {websocket.close_code}, {websocket.state.name}")

    run = await labkit.play(logs, on="websockets", fault="close")
    assert len(run.timeline.all(HandlerNotice)) == 1


async def test_what_others_ask_after_the_handlers_end_is_not_its_question() -> None:
    """A task that it has left asks on."""
    asked: list[bool] = []

    async def leaves(websocket: Any) -> None:
        async def poll() -> None:
            while websocket.state is State.OPEN:  # noqa: ASYNC110 - as people write it
                await asyncio.sleep(0.01)
            asked.append(True)

        leaves.task = asyncio.create_task(poll())  # type: ignore[attr-defined]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(websocket.recv(), 0.2)

    run = await labkit.play(leaves, on="websockets", fault="blackhole", messages=())
    assert (run.verdict.noticed, asked) == ("no", [True]), run


@pytest.mark.skipif(older("aiohttp", "3.12"), reason="the classes of this aiohttp hold no defaults of their attributes")
async def test_the_classes_are_the_librarys_again_on_aiohttp() -> None:
    """Properties, methods, slots and plain attributes; meanwhile they can be read and written as ever."""
    places = [(web.WebSocketResponse, name) for name in ("closed", "close_code", "exception", "_closed", "_closing")]
    places += [(BaseProtocol, name) for name in ("transport", "connected")] + [(web.BaseRequest, "transport")]
    before = [vars(owner)[name] for owner, name in places]

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        assert not [name for owner, name in places if vars(owner)[name] in before]
        assert (type(ws), type(request.protocol)) == (web.WebSocketResponse, RequestHandler)
        ws._closed = True
        assert vars(ws)["_closed"]
        assert ws.closed
        del ws._closed
        assert not ws.closed
        async for message in ws:
            await ws.send_str(message.data)
        return ws

    run = await labkit.play(handler, on="aiohttp", fault="close")
    assert run.verdict.ending == "returned", run
    assert [vars(owner)[name] for owner, name in places] == before


async def test_the_class_is_the_librarys_again() -> None:
    """What stood in for its properties is gone when the last handler that was observed has ended."""
    seen: list[Any] = []
    before = vars(Connection)["state"]

    async def keeps(websocket: Any) -> None:
        seen.append(websocket)
        assert type(websocket) is ServerConnection
        assert vars(Connection)["state"] is not before
        await websocket.wait_closed()

    assert "connection_lost_waiter" not in vars(ServerConnection)
    await asyncio.gather(*(labkit.play(keeps, on="websockets", fault=f, messages=()) for f in ("close", "reset")))
    assert vars(Connection)["state"] is before
    assert "connection_lost_waiter" not in vars(ServerConnection)
    assert not [name for each in seen for name in vars(each) if "labkit" in name]


# --- what it did itself ----------------------------------------------------------------------------------------------


async def closes(ws: web.WebSocketResponse) -> None:
    await asyncio.sleep(0.05)
    await ws.close(code=4001)


async def test_a_handler_that_closes_by_itself_has_not_noticed() -> None:
    """Aiohttp tells the reader that the handler's own close() has begun; the dead network told nobody."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=0.05)
        await ws.prepare(request)
        task = asyncio.create_task(closes(ws))
        async for message in ws:
            await ws.send_str(message.data)
        await task
        return ws

    run = await labkit.play(handler, on="aiohttp", fault="blackhole")
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "no"), run


async def test_a_handler_on_websockets_that_closes_by_itself_has_not_noticed() -> None:
    """Its reader gets an exception, which tells of the handler's own Close."""

    async def handler(websocket: Any) -> None:
        async def kick() -> None:
            await asyncio.sleep(0.1)
            await websocket.close(4001)

        task = asyncio.create_task(kick())
        with contextlib.suppress(ConnectionClosed):
            await websocket.recv()
        await task
        labkit.note(f"closed with {websocket.close_code}")

    run = await labkit.play(handler, on="websockets", fault="blackhole", messages=(), close_timeout=0.2)
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "no"), run


async def test_a_limit_of_a_client_inside_the_handler_is_its_own() -> None:
    """The handler asks another server, with aiohttp's client; that client's timer cancels it, not aiohttp's server."""

    async def stuck(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async with ClientSession(timeout=ClientTimeout(total=0.2)) as session:
            for _ in range(3):  # the fault strikes when it has come round once
                with contextlib.suppress(TimeoutError):
                    await session.get(f"http://127.0.0.1:{port}/")
        return ws

    over, app = asyncio.Event(), web.Application()
    app.router.add_get("/", stuck)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        run = await labkit.play(handler, on="aiohttp", fault="blackhole", messages=())
    finally:
        over.set()
        await runner.cleanup()
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "no"), run
    assert not run.timeline.select("library", "cancel")


@pytest.mark.parametrize("await_it", [True, False], ids=["what it awaits", "itself"])
async def test_a_cancel_that_nobody_saw_leaves_it_unknown(await_it: bool) -> None:
    """A task that the handler awaits is cancelled; or the handler, past the method of its task."""

    async def handler(websocket: Any) -> None:
        me = asyncio.current_task()
        assert me is not None
        target = asyncio.create_task(websocket.recv()) if await_it else me
        asyncio.get_running_loop().call_later(0.3, lambda: asyncio.Task.cancel(target) and None)
        await (target if await_it else websocket.recv())

    run = await labkit.play(handler, on="websockets", fault="blackhole", messages=())
    assert (run.verdict.ending, run.verdict.noticed) == ("cancelled", "unknown"), run


@pytest.mark.parametrize("limit", ["timer", "function", "anyio", "asyncio"])
@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel", "websockets"])
async def test_a_limit_of_its_own_is_not_noticing(limit: str, on: str) -> None:
    """The one who cancels is known, and knows nothing of the connection."""

    async def limited(receive: Any) -> None:
        me = asyncio.current_task()
        assert me is not None
        cancel = me.cancel
        if limit == "timer":
            asyncio.get_running_loop().call_later(0.1, cancel)
        elif limit == "function":
            asyncio.get_running_loop().call_later(0.1, lambda: cancel() and labkit.note("expired"))
        elif limit == "anyio":
            with anyio.move_on_after(0.1):
                await receive()
            return
        elif limit == "asyncio":
            async with asyncio.timeout(0.1):
                await receive()
        await receive()

    async def on_websockets(websocket: Any) -> None:
        await limited(websocket.recv)

    async def on_aiohttp(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await limited(ws.receive)
        return ws

    handler = on_websockets if on == "websockets" else on_aiohttp
    run = await labkit.play(handler, on=on, fault="blackhole", messages=())
    assert run.verdict.noticed == "no", run
