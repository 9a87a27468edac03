"""More handlers from people's own programs: of each, the lab once said something false, or left something out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import json
import multiprocessing
import os
import sys
import threading
import time
import types
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed

import labkit
from labkit.events import ClientOpen, ClientRecv, HandlerBlocked, HandlerSend, WireFault, WireSpared
from labkit.support.clock import scaled

# --- There was never a WebSocket -------------------------------------------------------------------------------------


async def asks_for_a_session(request: web.Request) -> web.StreamResponse:
    if "session" not in request.cookies:
        raise web.HTTPUnauthorized
    raise AssertionError("the lab has no cookie")


async def serves_a_page(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<p>please use a WebSocket")


async def closes_before_it_accepts(websocket: Any) -> None:
    await websocket.close(4003)


@pytest.mark.parametrize(
    ("handler", "on", "status"),
    [
        (asks_for_a_session, "aiohttp", 401),
        (serves_a_page, "aiohttp-cancel", 200),
        (closes_before_it_accepts, "asgi", 403),
    ],
)
async def test_a_client_that_is_refused_is_struck_by_no_fault(handler: Any, on: str, status: int) -> None:
    """The handler has answered the request, so there is nothing for the fault to break, nor to blame it for."""
    if on == "asgi":
        pytest.importorskip("uvicorn")
        pytest.importorskip("starlette")
    run = await labkit.play(handler, on=on, fault="reset")
    assert run.timeline.all(ClientOpen, WireFault) == []
    assert (run.verdict.struck, run.outcome) == (False, "unstruck")
    [spared] = run.timeline.all(WireSpared)
    assert spared.why == f"the client was refused: HTTP {status}"
    assert run.verdict.sentence.startswith(f"No fault struck, since the client was refused: HTTP {status}:")


async def test_a_client_that_is_never_answered_is_struck_by_no_fault() -> None:
    """The handler does something else before it prepares the connection, and the client waits."""

    async def waits_for_a_lock(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("it is never set")

    run = await labkit.play(waits_for_a_lock, on="aiohttp", fault="reset", patience=0.2)
    assert (run.verdict.struck, run.outcome) == (False, "unstruck")
    assert "since the handshake was never complete" in run.verdict.sentence


# --- A greeting is no answer -----------------------------------------------------------------------------------------

present: set[ServerConnection] = set()


@contextlib.contextmanager
def listed(websocket: ServerConnection) -> Iterator[None]:
    present.add(websocket)
    try:
        yield
    finally:
        present.discard(websocket)


async def greets_and_listens(websocket: ServerConnection) -> None:
    await websocket.send("welcome")
    async for _ in websocket:
        pass


async def tells_who_is_here(websocket: ServerConnection) -> None:
    with listed(websocket):
        await websocket.send("welcome")
        async for _ in websocket:
            pass
    broadcast(present, "somebody has left")


async def greets_and_answers(websocket: ServerConnection) -> None:
    await websocket.send("welcome")
    async for message in websocket:
        await websocket.send(message)


async def relays(websocket: ServerConnection) -> None:
    await websocket.send("welcome")
    with listed(websocket):
        async for message in websocket:
            for each in tuple(present):
                await each.send(message)


@pytest.mark.parametrize(
    ("handler", "answered"),
    [
        (greets_and_listens, "unknown"),
        (tells_who_is_here, "unknown"),
        (greets_and_answers, "yes"),
        (relays, "yes"),
    ],
)
async def test_a_greeting_is_no_answer_that_is_missed_after_the_fault(handler: Any, answered: str) -> None:
    """A handler that greets, and never answers, does not answer the other client less than before."""
    run = await labkit.play(handler, on="websockets", fault="reset", clients=2)
    other = run.connections[1].verdict
    assert other.answered == answered, str(run)
    assert ("no longer answered" in run.verdict.sentence) is (answered == "no")
    assert run.outcome != "unserved"


async def test_a_client_with_a_greeting_that_is_no_longer_answered_is_told_so() -> None:
    """It was answered before the fault, beside the greeting."""
    serving = True

    async def stops_with_the_first(websocket: ServerConnection) -> None:
        nonlocal serving
        await websocket.send("welcome")
        try:
            async for message in websocket:
                if serving:
                    await websocket.send(message)
        finally:
            serving = False

    run = await labkit.play(stops_with_the_first, on="websockets", fault="reset", clients=2, patience=0.4)
    assert (run.connections[1].verdict.answered, run.outcome) == ("no", "unserved")
    assert len(run.connections[1].timeline.all(HandlerSend)) == 2


# --- What is left, and what is complained of -------------------------------------------------------------------------


async def test_a_task_that_refuses_to_end_is_told_once() -> None:
    """It is one task: left behind, and stubborn."""
    enough = asyncio.Event()

    async def refuses() -> None:
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await enough.wait()

    async def starts_it(websocket: ServerConnection) -> None:
        asyncio.create_task(refuses(), name="poller")  # noqa: RUF006 - as people forget it
        async for message in websocket:
            await websocket.send(message)

    try:
        run = await labkit.play(starts_it, on="websockets", fault="close", patience=0.2)
    finally:
        enough.set()
    [left] = run.verdict.leaked or ()
    assert left.startswith("task poller")
    assert left.endswith(", which refuses to end")


async def test_a_thread_that_fails_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets its exception; Python prints it, as it does without the lab."""
    printed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda given: printed.append(given.exc_type))

    def sends_mail() -> None:
        raise OSError("no route to the mail server")

    async def notifies(websocket: ServerConnection) -> None:
        async for message in websocket:
            thread = threading.Thread(target=sends_mail, name="mail")
            thread.start()
            await asyncio.to_thread(thread.join)
            await websocket.send(message)

    run = await labkit.play(notifies, on="websockets", fault="close")
    assert run.verdict.complaints == ("Exception in thread 'mail': OSError: no route to the mail server",)
    assert (printed, run.outcome) == ([OSError], "noisy")


@pytest.fixture(scope="module")
def _tracker() -> None:
    """Multiprocessing's own process, which stays as long as the program that has made the first process."""
    resource_tracker.ensure_running()


@pytest.mark.usefixtures("_tracker")
async def test_a_process_of_multiprocessing_is_left_behind() -> None:
    """It is named, and ended."""
    started: list[Any] = []

    async def renders(websocket: ServerConnection) -> None:
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), name="renderer")
        process.start()
        started.append(process)
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(renders, on="websockets", fault="close", patience=0.2)
    [left] = run.verdict.leaked or ()
    assert left.startswith("process 'renderer', started in line ")
    assert started[0].exitcode is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked on Windows")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("fault", ["close", "reset", "fin"])
async def test_a_forked_process_keeps_no_socket_of_the_client(fault: str) -> None:
    """It has copies of the server's sockets, as in production; while it had one of the client's, no end was told."""

    async def renders(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            async for _ in ws:
                await ws.send_str(str(await asyncio.wrap_future(pool.submit(pow, 2, 10))))
        return ws

    run = await labkit.play(renders, on="aiohttp", fault=fault, patience=5)
    assert (run.verdict.noticed, run.verdict.ending) == ("yes", "returned"), str(run)


async def test_a_timer_that_sets_itself_again_is_left_behind() -> None:
    """It is named, and ended; one that is cancelled, and one that comes to its end, is not left."""
    ticks: list[None] = []

    def ends() -> None:
        ticks.clear()

    async def quotes(websocket: ServerConnection) -> None:
        loop = asyncio.get_running_loop()

        def tick(again: float) -> None:
            ticks.append(None)
            loop.call_later(again, tick, again)

        tick(0.02)
        loop.call_later(0.05, ends)
        loop.call_later(60, ends).cancel()
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(quotes, on="websockets", fault="close", patience=0.2)
    line = quotes.__code__.co_firstlineno + 3
    [left] = run.verdict.leaked or ()
    assert left.endswith(f"quotes.tick, line {line}")
    waiting = getattr(asyncio.get_running_loop(), "_scheduled", ())
    assert [each for each in waiting if "quotes" in str(each) and not each.cancelled()] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_destructor_that_fails_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets its exception; Python prints it, as it does without the lab."""
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: printed.append(dropped.exc_type))

    class Seat:
        def __del__(self) -> None:
            raise RuntimeError("given back twice")

    async def takes_a_seat(websocket: ServerConnection) -> None:
        _seat = Seat()
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(takes_a_seat, on="websockets", fault="close")
    [complaint] = run.verdict.complaints
    assert complaint.startswith("Exception ignored in ")
    assert complaint.endswith(".Seat.__del__: RuntimeError: given back twice")
    assert (printed, run.outcome) == ([RuntimeError], "noisy")


async def test_what_a_talk_is_told_of_a_lost_connection_has_a_public_name() -> None:
    """The documentation says `ConnectionError`, and so does the verdict."""

    async def one_answer(websocket: ServerConnection) -> None:
        await websocket.send(await websocket.recv())
        await websocket.close(4001)

    async def asks_twice(client: Any) -> None:
        for _ in range(2):
            await client.send("more")
            await client.recv()

    sentence = (await labkit.play(one_answer, on="websockets", fault="reset", talk=asks_twice)).verdict.sentence
    assert "the client's asks_twice() raised ConnectionError: " in sentence


# --- Connections of the user's own classes ---------------------------------------------------------------------------


class SpeaksJson(ServerConnection):
    """Sends and receives objects, and gives None at the end."""

    async def send(self, message: Any, **options: Any) -> None:
        await super().send(json.dumps(message), **options)

    async def recv(self, decode: bool | None = None) -> Any:
        try:
            return json.loads(await super().recv(decode))
        except ConnectionClosed:
            return None


async def orders(websocket: Any) -> None:
    """Gets an object, and sends a list."""
    while (order := await websocket.recv()) is not None:
        await websocket.send([order["item"], "accepted"])


@pytest.mark.parametrize("fault", ["close", "reset"])
async def test_a_connection_class_may_speak_of_objects(fault: str) -> None:
    """They come and go as without the lab, and the end that it tells without an exception is noticed."""
    options: Any = {"create_connection": SpeaksJson, "messages": ('{"item": "tea"}',)}
    run = await labkit.play(orders, on="websockets", fault=fault, **options)
    assert [event.text for event in run.timeline.all(ClientRecv)] == [repr('["tea", "accepted"]')]
    assert [event.text for event in run.timeline.all(HandlerSend)] == ["a message, as list"]
    assert (run.verdict.noticed, run.outcome) == ("yes", "clean"), str(run)


class Pairs(web.WebSocketResponse):
    """Gives the type of a message, and its data."""

    async def receive(self, timeout: float | None = None) -> Any:
        message = await super().receive(timeout)
        return message.type, message.data


@pytest.mark.parametrize("fault", ["close", "reset"])
async def test_a_response_class_may_give_something_else_than_messages(fault: str) -> None:
    """The handler gets it, and is told the end by it."""

    async def echoes(request: web.Request) -> web.WebSocketResponse:
        ws = Pairs()
        await ws.prepare(request)
        while True:
            kind, data = await ws.receive()
            if kind is not web.WSMsgType.TEXT:
                return ws
            await ws.send_str(data)

    run = await labkit.play(echoes, on="aiohttp", fault=fault)
    assert (run.verdict.noticed, run.outcome) == ("yes", "clean"), str(run)


# --- Which lines ran -------------------------------------------------------------------------------------------------


async def test_what_a_server_computes_at_its_start_hides_no_line_of_the_handler() -> None:
    """A program that loads something large when it starts, as an import does."""
    squares = web.AppKey("squares", list[int])

    def square(number: int) -> int:
        return number * number

    async def loads(app: web.Application) -> None:
        app[squares] = [square(number) for number in range(20_000)]

    async def looks_up(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for _ in ws:
            await ws.send_str(str(len(request.app[squares])))
        return ws

    def make_app() -> web.Application:
        app = web.Application()
        app.on_startup.append(loads)
        app.router.add_get("/", looks_up)
        return app

    run = await labkit.play(make_app, on="aiohttp", fault="close")
    assert run.verdict.lines_never_ran == (), run.verdict.sentence


class Stock(web.View):
    """A handler as a class, with a helper, and a method that no WebSocket calls."""

    async def get(self) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(self.request)
        async for message in ws:
            await self.answer(ws, message.data)
        return ws

    async def answer(self, ws: web.WebSocketResponse, text: str) -> None:
        if text == "price":
            await ws.send_str("12")
        else:
            await ws.send_str("?")

    async def post(self) -> web.Response:
        return web.Response()


async def test_the_lines_of_a_view_are_watched() -> None:
    """Aiohttp makes an object of the class for each request, and calls its `get`."""
    run = await labkit.play(Stock, on="aiohttp", fault="close")
    lines, first = inspect.getsourcelines(Stock)
    never = [first + n for n, line in enumerate(lines) if '"12"' in line]
    assert run.verdict.lines_never_ran == tuple(never)
    assert run.verdict.sentence.startswith("close: Stock on aiohttp noticed")


async def test_a_task_that_is_busy_elsewhere_is_told_without_a_line_of_pythons_own() -> None:
    """The reader has no use for a line of asyncio's `tasks.py`."""

    async def answers_later(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)
            beside = asyncio.ensure_future(asyncio.sleep(60))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(beside), 0.01)

    sentence = (await labkit.play(answers_later, on="websockets", fault="close", patience=0.3)).verdict.sentence
    assert "sleep() was busy;" in sentence


# --- What blocks, and what is a handler ------------------------------------------------------------------------------


async def test_a_callback_of_c_that_sleeps_blocks_the_loop() -> None:
    """It has no line; the event names the function."""

    async def cools_down(websocket: ServerConnection) -> None:
        async for message in websocket:
            asyncio.get_running_loop().call_soon(time.sleep, scaled(0.2))
            await websocket.send(message)

    run = await labkit.play(cools_down, on="websockets", fault="close")
    assert (run.verdict.blocked >= scaled(0.15), run.verdict.blocked_line, run.outcome) == (True, None, "blocks")
    [block] = run.timeline.all(HandlerBlocked)
    assert block.text.endswith(", in time.sleep(), a callback")


async def test_a_generator_that_is_a_coroutine_is_a_handler() -> None:
    """As `types.coroutine` makes it; the library awaits what it is given."""

    @types.coroutine
    def says_hello(websocket: ServerConnection) -> Iterator[Any]:
        yield from websocket.send("hello").__await__()

    run = await labkit.play(says_hello, on="websockets", fault=None)
    assert [event.text for event in run.timeline.all(ClientRecv)] == ["'hello'"]
    assert run.verdict.ending == "returned"
