"""Handlers from people's own programs, each with the one thing that the lab must say of it.

Each was first tried on a plain server against a raw socket; what was seen there is what the lab must find.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import psutil
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

import labkit
from labkit.events import (
    CleanupClosed,
    ClientRecv,
    Event,
    HandlerClose,
    HandlerEnd,
    HandlerNotice,
    HandlerSend,
    LoopEnded,
    WireFault,
    WireFrame,
)


async def accept(request: web.Request, **options: Any) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(**options)
    await ws.prepare(request)
    return ws


def line_of(function: Any, text: str) -> int:
    """The number of the one line of a function, or of a function inside it, that has the text."""
    import inspect

    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, line in enumerate(lines, first) if text in line]
    return number


# --- The connection is already over, or has not come so far ----------------------------------------------------------


async def asks_for_a_password(websocket: ServerConnection) -> None:
    if await websocket.recv() == "open sesame":
        async for message in websocket:
            await websocket.send(message)
    else:
        await websocket.close(4003, "wrong password")


@pytest.mark.parametrize("fault", ["close", "reset", "bad-opcode", "stalled-reader", "ignore-close"])
async def test_a_handler_that_turns_its_client_away_is_struck_by_no_fault(fault: str) -> None:
    """It has closed the connection before; neither the run nor the matrix blames or praises it."""
    run = await labkit.play(asks_for_a_password, on="websockets", fault=fault)
    assert (run.verdict.struck, run.outcome) == (False, "unstruck")
    assert run.verdict.sentence.startswith("No fault struck, since the handler had called close(4003):")


async def test_the_matrix_tells_that_nothing_struck() -> None:
    """In a cell of its own word."""
    table = await labkit.matrix([asks_for_a_password], on=["websockets"], faults=["close", "reset"], progress=False)
    assert [cell.outcome for cell in table.cells] == ["unstruck", "unstruck"]


async def says_welcome(websocket: ServerConnection) -> None:
    await websocket.send("please wait")
    async for message in websocket:
        await asyncio.sleep(0.1)
        await websocket.send(message.upper())


async def test_a_greeting_is_not_the_answer() -> None:
    """The fault strikes when the answer has come, though it takes a while."""
    run = await labkit.play(says_welcome, on="websockets", fault="reset")
    told = [event.text for event in run.timeline.all(ClientRecv, WireFault)]
    assert told == ["'please wait'", "'HELLO'", "reset"]
    assert (run.verdict.ending, run.verdict.noticed) == ("raised", "yes")


async def calculator(websocket: ServerConnection) -> None:
    async for message in websocket:
        call = json.loads(message)
        await websocket.send(json.dumps({"id": call["id"], "result": "9" * 2000}))


async def test_a_stalled_reader_sends_what_it_was_given() -> None:
    """A handler that reads JSON gets nothing else, and ends up in a `send()` that does not return."""
    request = '{"id": 7, "method": "square"}'
    run = await labkit.play(calculator, on="websockets", fault="stalled-reader", messages=[request])
    sent = {event.text for event in run.timeline.all(WireFrame) if event.source == "client"}
    assert sent == {f"TEXT {request!r}"}
    assert (run.verdict.ending, run.verdict.exception, run.verdict.complaints) == ("running", None, ())
    assert "in send()" in run.verdict.sentence


# --- What is left behind ---------------------------------------------------------------------------------------------


async def test_a_task_that_finishes_after_its_handler_is_not_left_behind() -> None:
    """A write-behind: it ends by itself, a little later."""
    writes: set[asyncio.Task[None]] = set()

    async def notes_down(request: web.Request) -> web.WebSocketResponse:
        ws = await accept(request)
        async for message in ws:
            await ws.send_str(message.data)
        task = asyncio.create_task(asyncio.sleep(0.2), name="write-behind")
        writes.add(task)
        task.add_done_callback(writes.discard)
        return ws

    run = await labkit.play(notes_down, on="aiohttp", fault="close", patience=20)
    assert (run.verdict.leaked, run.outcome) == ((), "clean")
    [ended] = run.timeline.all(LoopEnded)
    [returned] = run.timeline.all(HandlerEnd)
    assert ended.name.startswith("write-behind")
    assert ended.at - returned.at > 0.15


async def test_a_feed_that_nobody_awaits_fails_with_a_complaint() -> None:
    """However often: its task fails at the next tick, and nobody retrieves the exception."""

    async def feeds_beside(request: web.Request) -> web.WebSocketResponse:
        ws = await accept(request)

        async def feed() -> None:
            while True:
                await ws.send_str("price")
                await asyncio.sleep(0.003)

        asyncio.create_task(feed(), name="feed")  # noqa: RUF006 - as people forget it
        async for _ in ws:
            pass
        return ws

    for _ in range(4):
        verdict = (await labkit.play(feeds_beside, on="aiohttp", fault="reset")).verdict
        [complaint] = verdict.complaints
        assert complaint.startswith(
            "Task exception was never retrieved: aiohttp.client_exceptions.ClientConnectionReset"
        )
        assert (verdict.ending, verdict.leaked) == ("returned", ())


def runs(pid: int) -> bool:
    """Whether a process has not ended; asyncio may not yet have asked for the status of one that has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_child_process_that_is_forgotten_is_named_and_ended() -> None:
    """The handler returns, and its converter goes on."""
    pids: list[int] = []

    async def converts(websocket: ServerConnection) -> None:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(50)")
        pids.append(child.pid)
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(converts, on="websockets", fault="close", patience=0.3)
    [left] = run.verdict.leaked
    assert left.startswith("process 'python")
    assert f"line {line_of(converts, 'create_subprocess_exec')}" in left
    assert not runs(pids[0])


async def test_a_thread_that_is_forgotten_is_named() -> None:
    """It cannot be ended, so it is told."""
    enough = threading.Event()

    async def samples(websocket: ServerConnection) -> None:
        threading.Thread(target=enough.wait, name="sampler", daemon=True).start()
        async for message in websocket:
            await websocket.send(message)

    try:
        run = await labkit.play(samples, on="websockets", fault="close", patience=0.3)
    finally:
        enough.set()
    assert run.verdict.leaked == (f"thread 'sampler', started in line {line_of(samples, 'threading.Thread')}",)


async def two_directions(websocket: ServerConnection) -> None:
    async def incoming() -> None:
        async for message in websocket:
            await websocket.send(message)

    async def outgoing() -> None:
        while True:
            await websocket.send("tick")
            await asyncio.sleep(0.02)

    await asyncio.gather(incoming(), outgoing())


async def test_the_other_of_two_gathered_tasks_is_left_behind() -> None:
    """Alone, and in a crowd of the matrix: always the same one."""
    run = await labkit.play(two_directions, on="websockets", fault="reset")
    [left] = run.verdict.leaked
    assert left.startswith("task two_directions.outgoing, ")
    assert "which failed: ConnectionClosedError" in left
    handlers = {str(number): two_directions for number in range(9)}
    table = await labkit.matrix(handlers, on=["websockets"], faults=["reset"], progress=False)
    assert {cell.verdict and cell.verdict.leaked for cell in table.cells} == {(left,)}


# --- Who noticed, and who did not ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["close", "reset"])
async def test_a_handler_that_polls_the_state_has_noticed(fault: str) -> None:
    """`state` tells it."""

    async def sleeps_while_open(websocket: ServerConnection) -> None:
        while websocket.state is State.OPEN:  # noqa: ASYNC110 - as people write it
            await asyncio.sleep(0.03)

    run = await labkit.play(sleeps_while_open, on="websockets", fault=fault, messages=())
    assert (run.verdict.noticed, run.verdict.ending) == ("yes", "returned")
    assert run.timeline.all(HandlerNotice)[0].how in {"state is CLOSING", "state is CLOSED"}


async def test_a_handler_that_leaves_while_the_connection_closes_has_no_close_code_yet() -> None:
    """Both Close frames have passed, and websockets tells the code when TCP is gone: then, it is 1000."""

    async def sleeps_while_open(websocket: ServerConnection) -> None:
        while websocket.state is State.OPEN:  # noqa: ASYNC110 - as people write it
            await asyncio.sleep(0)

    async def sleeps_until_closed(websocket: ServerConnection) -> None:
        while websocket.state is not State.CLOSED:  # noqa: ASYNC110 - as people write it
            await asyncio.sleep(0)

    early = await labkit.play(sleeps_while_open, on="websockets", fault="close", messages=(), when=0.05)
    assert early.verdict.close_code is None
    assert "returned; no close code yet, since TCP was still open." in early.verdict.sentence
    late = await labkit.play(sleeps_until_closed, on="websockets", fault="close", messages=(), when=0.05)
    assert "returned; close code 1000." in late.verdict.sentence


@pytest.mark.parametrize("fault", ["fin", "reset"])
async def test_a_handler_that_polls_the_transport_has_noticed(fault: str) -> None:
    """`request.transport` is gone; this one does not expect that, and fails."""

    async def sleeps_while_connected(request: web.Request) -> web.WebSocketResponse:
        ws = await accept(request)
        while not request.transport.is_closing():  # type: ignore[union-attr]  # noqa: ASYNC110 - as people write it
            await asyncio.sleep(0.03)
        return ws

    run = await labkit.play(sleeps_while_connected, on="aiohttp", fault=fault, messages=())
    assert run.verdict.noticed == "yes"
    assert run.verdict.exception == "AttributeError: 'NoneType' object has no attribute 'is_closing'"


async def test_a_handler_whose_own_ping_is_not_answered_has_noticed() -> None:
    """A heartbeat of its own."""

    async def beats(websocket: ServerConnection) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                pong = await websocket.ping()
                await asyncio.wait_for(pong, 0.3)
                await asyncio.sleep(0.05)

    verdict = (await labkit.play(beats, on="websockets", fault="blackhole", patience=20)).verdict
    assert (verdict.noticed, verdict.ending) == ("yes", "returned")


async def test_a_handler_that_closes_by_itself_has_not_noticed() -> None:
    """An idle limit in a task beside it closes the connection; that the loop then ends is its own doing."""

    async def kicks_idlers(request: web.Request) -> web.WebSocketResponse:
        ws = await accept(request, timeout=0.2)

        async def kick() -> None:
            await asyncio.sleep(0.3)
            await ws.close(code=4008)

        kicking = asyncio.create_task(kick())
        async for message in ws:
            await ws.send_str(message.data)
        await kicking
        return ws

    run = await labkit.play(kicks_idlers, on="aiohttp", fault="blackhole", patience=20)
    assert (run.verdict.noticed, run.verdict.noticed_after, run.verdict.ending) == ("no", None, "returned")
    assert [event.text for event in run.timeline.all(HandlerClose)] == ["close(4008)"]


async def test_a_handler_that_its_own_timer_cancels_has_not_noticed() -> None:
    """The timer is on record as the canceller."""

    async def limits_itself(request: web.Request) -> web.WebSocketResponse:
        ws = await accept(request)
        task = asyncio.current_task()
        assert task is not None

        def time_is_up() -> None:
            task.cancel()

        asyncio.get_running_loop().call_later(0.4, time_is_up)
        async for message in ws:
            await ws.send_str(message.data)
        return ws

    verdict = (await labkit.play(limits_itself, on="aiohttp", fault="blackhole", patience=20)).verdict
    assert (verdict.noticed, verdict.ending) == ("no", "cancelled")
    assert "was cancelled by" in verdict.sentence
    assert "time_is_up" in verdict.sentence


@pytest.mark.parametrize("limit", [anyio.move_on_after, asyncio.timeout])
async def test_a_handler_that_its_own_limit_ends_has_not_noticed(limit: Callable[[float], Any]) -> None:
    """One for the whole connection, of anyio or of asyncio."""

    async def for_a_while(websocket: ServerConnection) -> None:
        with contextlib.suppress(TimeoutError):
            async with _entered(limit(0.4)):
                async for message in websocket:
                    await websocket.send(message)

    verdict = (await labkit.play(for_a_while, on="websockets", fault="blackhole", patience=20)).verdict
    assert (verdict.noticed, verdict.ending) == ("no", "returned")


@contextlib.asynccontextmanager
async def _entered(limit: Any) -> AsyncIterator[None]:
    if hasattr(limit, "__aenter__"):
        async with limit:
            yield
    else:
        with limit:
            yield


async def test_a_feed_learns_of_a_closed_tab_when_it_sends() -> None:
    """A browser says Close 1001 and drops TCP at once; the feed never asks, so the next tick or two fail."""

    async def quotes(request: web.Request) -> web.WebSocketResponse:
        ws = await accept(request)
        while True:
            await ws.send_str("quote")
            await asyncio.sleep(0.1)

    run = await labkit.play(quotes, on="aiohttp", fault="closed-tab", messages=(), patience=20)
    assert run.verdict.exception is not None
    assert run.verdict.exception.startswith("aiohttp.client_exceptions.ClientConnectionResetError")
    [fault] = run.timeline.all(WireFault)
    after = [event for event in run.timeline if event.at > fault.at]
    assert [event.text for event in after if isinstance(event, WireFrame) and event.source == "client"] == [
        "Close 1001"
    ]
    assert len([event for event in after if isinstance(event, HandlerSend)]) <= 2


# --- Which lines ran -------------------------------------------------------------------------------------------------


async def _to_thread(work: Callable[[], str]) -> str:
    return await asyncio.to_thread(work)


async def _in_executor(work: Callable[[], str]) -> str:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def _in_thread(work: Callable[[], str]) -> str:
    done: asyncio.Future[str] = (loop := asyncio.get_running_loop()).create_future()
    threading.Thread(target=lambda: loop.call_soon_threadsafe(done.set_result, work())).start()
    return await done


@pytest.mark.parametrize("hand_over", [_to_thread, _in_executor, _in_thread])
async def test_a_line_that_a_thread_runs_has_run(hand_over: Callable[[Callable[[], str]], Awaitable[str]]) -> None:
    """The three ways to leave work to a thread."""

    async def looks_up(websocket: ServerConnection) -> None:
        def query() -> str:
            return "found"

        async for _ in websocket:
            await websocket.send(await hand_over(query))

    run = await labkit.play(looks_up, on="websockets", fault="close")
    assert run.verdict.lines_never_ran == ()
    assert "'found'" in [event.text for event in run.timeline.all(ClientRecv)]


online: set[ServerConnection] = set()


@contextlib.asynccontextmanager
async def listed(websocket: ServerConnection) -> AsyncIterator[None]:
    online.add(websocket)
    yield
    online.discard(websocket)  # without a `finally`


async def stays_online(websocket: ServerConnection) -> None:
    async with listed(websocket):
        async for message in websocket:
            await websocket.send(message)


async def test_a_line_of_a_helper_that_never_ran_is_named() -> None:
    """A context manager without a `finally`, in the handler's own file."""
    run = await labkit.play(stays_online, on="websockets", fault="reset")
    online.clear()
    never_ran = run.verdict.lines_never_ran
    assert never_ran == (line_of(listed, "discard"),)
    assert f"line {never_ran[0]} never ran" in run.verdict.sentence


# --- What is complained of -------------------------------------------------------------------------------------------


async def test_a_logger_that_propagates_nothing_is_heard() -> None:
    """As Django's and uvicorn's configurations make them."""
    log = logging.getLogger("tests.cases.shop")
    log.propagate = False

    async def sells(websocket: ServerConnection) -> None:
        try:
            async for message in websocket:
                await websocket.send(message)
        except websockets.ConnectionClosed:
            log.warning("a customer has left without a word")

    run = await labkit.play(sells, on="websockets", fault="reset")
    assert run.verdict.complaints == ("WARNING tests.cases.shop: a customer has left without a word",)


async def test_the_members_of_a_group_are_named() -> None:
    """An ExceptionGroup says of itself no more than how many there are."""

    async def reads_in_a_group(websocket: ServerConnection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(50))
            group.create_task(websocket.recv())

    verdict = (await labkit.play(reads_in_a_group, on="websockets", fault="reset", messages=())).verdict
    assert verdict.exception is not None
    assert verdict.exception.startswith("ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)")
    assert "ConnectionClosedError: no close frame received or sent" in verdict.exception
    assert "ConnectionClosedError" in verdict.sentence


class Speaks(ServerConnection):
    """A connection class of the user's own, with other names for the parameters."""

    async def send(self, payload: Any) -> None:  # type: ignore[override]
        await super().send(payload if isinstance(payload, str) else json.dumps(payload))

    async def close(self, status: int = 1000, why: str = "") -> None:
        await super().close(status, why)


async def test_a_connection_class_of_the_users_own_works_as_without_the_lab() -> None:
    """What it is called with is recorded by what it means."""

    async def leaves_first(websocket: Speaks) -> None:
        await websocket.send({"heard": await websocket.recv()})
        await websocket.close(4009, "that is all")

    run = await labkit.play(leaves_first, on="websockets", fault=None, create_connection=Speaks)
    assert (run.verdict.ending, run.verdict.close_code, run.verdict.complaints) == ("returned", 4009, ())
    assert [event.text for event in run.timeline.all(HandlerClose)] == ["close(4009)"]
    assert [event.text for event in run.timeline.all(ClientRecv)] == ["""'{"heard": "hello"}'"""]


async def test_a_missing_attribute_is_not_taken_for_the_wrong_library() -> None:
    """`username` is there only with basic authentication; that says nothing of another library."""

    async def greets_by_name(websocket: ServerConnection) -> None:
        await websocket.send(f"hello {websocket.username}")  # type: ignore[attr-defined]

    verdict = (await labkit.play(greets_by_name, on="websockets", fault="close")).verdict
    assert verdict.exception == "AttributeError: 'ServerConnection' object has no attribute 'username'"
    assert "is it written for" not in verdict.sentence


# --- Two clients -----------------------------------------------------------------------------------------------------


async def test_each_of_two_clients_has_its_own_verdict() -> None:
    """A room in which the fault strikes one of two members; the other is told, and cleans up when it ends."""
    room: list[web.WebSocketResponse] = []

    async def member(request: web.Request) -> web.WebSocketResponse:
        ws = await accept(request)
        room.append(ws)
        async with labkit.resource("seat", closing=0.01):
            async for message in ws:
                for each in room:
                    with contextlib.suppress(ConnectionError):
                        await each.send_str(message.data)
        room.remove(ws)
        return ws

    run = await labkit.play(member, on="aiohttp", fault="reset", clients=2)
    struck, stayed = run.connections
    assert (struck.verdict.noticed, struck.verdict.ending, struck.verdict.cleanup) == ("yes", "returned", "complete")
    assert (stayed.verdict.ending, stayed.verdict.answered) == ("running", "yes")
    assert "outlived" not in run.verdict.sentence
    assert {event.connection for event in marks(struck.timeline)} == {struck.number}
    assert marks(stayed.timeline) == []


def marks(timeline: labkit.Timeline) -> list[Event]:
    """What only the connection has that was struck."""
    return list(timeline.until_stop().all(WireFault, CleanupClosed, HandlerEnd))


# --- A handler that does not listen ----------------------------------------------------------------------------------


async def swallows_for_ever(websocket: ServerConnection) -> None:
    while True:
        with contextlib.suppress(websockets.ConnectionClosed):
            await websocket.send(await websocket.recv())


async def asks_once_more(websocket: ServerConnection) -> None:
    for _ in range(2):
        with contextlib.suppress(websockets.ConnectionClosed):
            await websocket.recv()
            await websocket.recv()


async def test_a_handler_that_asks_a_lost_connection_again_and_again() -> None:
    """It never ends, and is told why; the timeline is some screens, not a thousand lines."""
    run = await labkit.play(swallows_for_ever, on="websockets", fault="reset", patience=0.3)
    assert (run.outcome, run.verdict.ending, run.verdict.noticed) == ("hangs", "running", "yes")
    assert "it was told more than 100 times that the connection is over, and asked again" in run.verdict.sentence
    assert len(str(run).splitlines()) < 120


async def test_a_handler_that_asks_once_more_is_not_told_so() -> None:
    """Twice is no flood."""
    run = await labkit.play(asks_once_more, on="websockets", fault="reset")
    assert "asked again" not in run.verdict.sentence
