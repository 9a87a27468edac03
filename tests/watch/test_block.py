"""A handler that keeps the loop to itself: how long, where, and that a play with it comes back."""

# ruff: noqa: ASYNC251 - handlers that block are what it is about

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websockets
from aiohttp import web

import labkit
from labkit.events import ClientRecv, HandlerBlocked, HandlerRecv, LoopHeldUp, LoopStop, WireFrame
from labkit.introspection.place import may_be_broken, stack_from
from labkit.support.clock import scaled
from tests import handlers

#: A block that no machine takes for nothing.
LONG = 0.3


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


def line_of(handler: Any, text: str) -> int:
    """The number of a handler's line."""
    lines, first = inspect.getsourcelines(handler)
    return next(first + n for n, line in enumerate(lines) if text in line)


async def sleeps(websocket: Any) -> None:
    async for message in websocket:
        time.sleep(scaled(LONG))
        await websocket.send(message)


async def sleeps_on_aiohttp(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        time.sleep(scaled(LONG))
        await ws.send_str(message.data)
    return ws


async def computes(websocket: Any) -> None:
    async for message in websocket:
        end = time.thread_time() + scaled(LONG)
        while time.thread_time() < end:
            "busy".upper()
        await websocket.send(message)


async def reads_a_socket(websocket: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(scaled(LONG))
        async for message in websocket:
            try:
                ours.recv(1)
            except TimeoutError:
                await websocket.send(message)


async def reads_a_queue(websocket: Any) -> None:
    jobs: queue.Queue[str] = queue.Queue()
    async for message in websocket:
        try:
            jobs.get(timeout=scaled(LONG))
        except queue.Empty:
            await websocket.send(message)


async def waits_for_a_process(websocket: Any) -> None:
    async for message in websocket:
        command = [sys.executable, "-c", f"import time; time.sleep({scaled(LONG)})"]
        subprocess.run(command, check=True)  # noqa: ASYNC221 - that is the point
        await websocket.send(message)


async def blocks_in_a_task(websocket: Any) -> None:
    async def work() -> None:
        time.sleep(scaled(LONG))

    async for message in websocket:
        await asyncio.create_task(work())
        await websocket.send(message)


async def blocks_in_a_callback(websocket: Any) -> None:
    async for message in websocket:
        done = asyncio.Event()

        def work(done: asyncio.Event = done) -> None:
            time.sleep(scaled(LONG))
            done.set()

        asyncio.get_running_loop().call_soon(work)
        await done.wait()
        await websocket.send(message)


def helps() -> None:
    time.sleep(scaled(LONG))


async def blocks_in_a_helper(websocket: Any) -> None:
    async for message in websocket:
        helps()
        await websocket.send(message)


@pytest.mark.parametrize(
    ("handler", "on", "where"),
    [
        (sleeps, "websockets", "time.sleep"),
        (sleeps_on_aiohttp, "aiohttp", "time.sleep"),
        (sleeps_on_aiohttp, "aiohttp-cancel", "time.sleep"),
        (reads_a_socket, "websockets", "ours.recv(1)"),
        (reads_a_queue, "websockets", "jobs.get"),
        (waits_for_a_process, "websockets", "subprocess.run"),
        (blocks_in_a_task, "websockets", "time.sleep"),
        (blocks_in_a_callback, "websockets", "time.sleep"),
        (blocks_in_a_helper, "websockets", None),
    ],
)
async def test_a_block_is_told_with_its_length_and_line(handler: Any, on: str, where: str | None) -> None:
    """Whatever blocks, in whatever the handler has started: the line is the one in the handler's file."""
    run = await labkit.play(handler, on=on, fault="close", patience=10)
    line = line_of(handler, where) if where else line_of(helps, "time.sleep")
    assert scaled(LONG) <= run.verdict.blocked < scaled(LONG) + 2
    assert run.verdict.blocked_line == line
    [block] = run.timeline.all(HandlerBlocked)
    assert (block.line, block.seconds, block.ended) == (line, run.verdict.blocked, False)
    assert f"blocked the loop for {run.verdict.blocked * 1000:.0f} ms (line {line})" in run.verdict.sentence
    assert run.outcome == "blocks"


async def test_a_computation_blocks_too() -> None:
    """It uses the CPU, and never waits: its line is one of the loop's."""
    run = await labkit.play(computes, on="websockets", fault="close", patience=10)
    assert run.verdict.blocked >= scaled(LONG)
    first = line_of(computes, "while time")
    assert run.verdict.blocked_line in (first, first + 1)


async def test_the_block_stands_between_its_cause_and_its_effect() -> None:
    """It begins after the message that the handler then works on, and it ends before the answer."""
    run = await labkit.play(sleeps, on="websockets", fault="close", patience=10)
    [block] = run.timeline.all(HandlerBlocked)
    [received] = run.timeline.all(HandlerRecv)
    [sent] = run.timeline.select("handler", "send")
    assert received.at <= block.at < sent.at
    assert block.at + block.seconds == pytest.approx(sent.at, abs=0.1)


async def test_a_handler_that_awaits_blocks_nothing() -> None:
    """A pause in which other things can run is no block; nor is work in a thread."""

    async def polite(websocket: Any) -> None:
        async for message in websocket:
            await asyncio.sleep(LONG)
            await asyncio.to_thread(time.sleep, LONG)
            await websocket.send(message)

    run = await labkit.play(polite, on="websockets", fault="close", patience=10)
    assert (run.verdict.blocked, run.verdict.blocked_line) == (0.0, None)
    assert run.outcome != "blocks"


async def test_several_blocks_are_added_up() -> None:
    """The verdict has their sum, and the line of the longest."""

    async def two(websocket: Any) -> None:
        async for message in websocket:
            time.sleep(scaled(LONG))
            await asyncio.sleep(0)
            time.sleep(2 * scaled(LONG))
            await websocket.send(message)

    run = await labkit.play(two, on="websockets", fault="close", patience=10)
    assert len(run.timeline.all(HandlerBlocked)) == 2
    assert run.verdict.blocked >= 3 * scaled(LONG)
    assert run.verdict.blocked_line == line_of(two, "2 * scaled")
    assert "it blocked the loop 2 times, for" in run.verdict.sentence


async def test_a_block_after_the_fault_is_told_too() -> None:
    """In the cleanup, for example."""

    async def tidies(websocket: Any) -> None:
        try:
            await echo(websocket)
        finally:
            async with labkit.resource("database"):
                time.sleep(scaled(LONG))

    run = await labkit.play(tidies, on="websockets", fault="reset", patience=10)
    [block] = run.timeline.all(HandlerBlocked)
    [fault] = run.timeline.select("wire", "fault")
    assert block.at > fault.at
    assert run.verdict.cleanup == "complete"
    assert run.outcome == "blocks"


async def talks(client: Any) -> None:
    await client.send("hello")
    await client.recv()


answers: list[str] = []


async def keeps_what_it_hears(client: Any) -> None:
    await client.send("hello")
    answers.append(await client.recv())


@pytest.mark.parametrize(
    ("options", "apart"),
    [
        ({}, True),
        ({"talk": talks}, True),
        ({"talk": keeps_what_it_hears}, False),
        ({"clock": "autojump"}, False),
        ({"fault": "blocked-loop"}, True),
    ],
    ids=["plain", "talk", "talk with a state", "autojump", "own loop"],
)
async def test_whether_the_client_stood_still_is_told(options: dict[str, Any], *, apart: bool) -> None:
    """Where it shared the loop that was blocked, its times are the handler's doing, and the verdict says so."""
    run = await labkit.play(sleeps, on="websockets", **{"fault": "close", "patience": 10, **options})
    assert {block.apart for block in run.timeline.all(HandlerBlocked)} == {apart}
    assert ("the client stood still with it, so its times are unknown" in run.verdict.sentence) is not apart


async def test_whether_the_wire_stood_still_is_told() -> None:
    """Under ``labkit.host``, where the client is somebody else's; and in another experiment of the same loop."""
    async with (
        labkit.host(sleeps, on="websockets") as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
        labkit.host(echo, on="websockets") as neighbour,
        websockets.connect(wire.url) as client,
        websockets.connect(neighbour.url) as other,
    ):
        await client.send("hello")
        await client.recv()
        await other.send("hello")
        await other.recv()
    assert "the wire stood still with it, so its times are unknown" in server.run().verdict.sentence
    [block], [held_up] = server.timeline.all(HandlerBlocked), neighbour.timeline.all(LoopHeldUp)
    assert (held_up.seconds, server.timeline.all(LoopHeldUp)) == (block.seconds, [])
    verdict = neighbour.run().verdict
    assert "another experiment kept the loop for" in verdict.sentence
    assert verdict.blocked == 0


async def test_the_lab_blocks_without_the_handler() -> None:
    """The fault ``blocked-loop`` is no block of the handler's."""
    run = await labkit.play(echo, on="websockets", fault="blocked-loop")
    assert run.verdict.blocked == 0.0
    assert run.outcome != "blocks"


async def test_other_code_of_the_loop_is_not_the_handlers() -> None:
    """Somebody else's task in the same loop may keep it; the verdict on the handler does not say so."""

    async def other() -> None:
        await asyncio.sleep(0.01)
        time.sleep(scaled(LONG))

    task = asyncio.create_task(other())
    run = await labkit.play(echo, on="websockets", fault="close", patience=10)
    await task
    assert run.verdict.blocked == 0.0


# --- one that never gives the loop back ------------------------------------------------------------------------------


async def never_awaits(websocket: Any) -> None:
    await websocket.recv()
    while True:
        pass


async def sleeps_in_pieces(websocket: Any) -> None:
    await websocket.recv()
    while True:
        time.sleep(0.01)


async def sleeps_for_an_hour(websocket: Any) -> None:
    await websocket.recv()
    time.sleep(3600)


async def waits_for_a_job(websocket: Any) -> None:
    await websocket.recv()
    queue.Queue[str]().get()


async def swallows_everything(websocket: Any) -> None:
    await websocket.recv()
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.001)


async def never_awaits_in_a_task(websocket: Any) -> None:
    async def work() -> None:
        while True:
            time.sleep(0.01)

    await websocket.recv()
    async with asyncio.TaskGroup() as group:
        group.create_task(work())


async def never_awaits_in_its_cleanup(websocket: Any) -> None:
    try:
        await echo(websocket)
    finally:
        while True:
            time.sleep(0.01)


async def never_awaits_on_aiohttp(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.receive()
    while True:
        pass


NEVER = [
    (never_awaits, "websockets", "pass"),
    (sleeps_in_pieces, "websockets", "time.sleep"),
    (sleeps_for_an_hour, "websockets", "time.sleep"),
    (waits_for_a_job, "websockets", "queue.Queue"),
    (swallows_everything, "websockets", "time.sleep"),
    (never_awaits_in_a_task, "websockets", "time.sleep"),
    (never_awaits_in_its_cleanup, "websockets", "time.sleep"),
    (never_awaits_on_aiohttp, "aiohttp", "pass"),
]
#: Only a signal to the main thread gets through to these.
IN_C = (sleeps_for_an_hour, waits_for_a_job, swallows_everything)


def play_never(handler: Any, on: str, text: str) -> None:
    run = labkit.run(labkit.play(handler, on=on, fault="reset", patience=0.5))
    began = line_of(handler, text)
    assert run.verdict.ending == "running"
    assert run.verdict.blocked >= scaled(0.5)
    assert run.verdict.blocked_line in (began - 1, began)
    assert "until the lab ended it" in run.verdict.sentence
    assert run.outcome == "blocks"
    [stop] = run.timeline.all(LoopStop)
    assert stop.patience == scaled(0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that breaks a call")
@pytest.mark.parametrize(("handler", "on", "text"), NEVER)
def test_a_play_comes_back_from_a_handler_that_never_awaits(handler: Any, on: str, text: str) -> None:
    """When the patience is over, the lab ends the step that never ends, and the verdict says where it was."""
    before = signal.getsignal(signal.SIGURG), sys.gettrace()
    began = time.monotonic()
    play_never(handler, on, text)
    assert time.monotonic() - began < scaled(5)
    assert (signal.getsignal(signal.SIGURG), sys.gettrace()) == before
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("labkit")]


@pytest.mark.parametrize(("handler", "on", "text"), [case for case in NEVER if case[0] not in IN_C])
def test_it_comes_back_in_another_thread_too(handler: Any, on: str, text: str) -> None:
    """There Python raises the exception between two instructions."""
    problems: list[BaseException] = []

    def play() -> None:
        try:
            play_never(handler, on, text)
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    thread.join(scaled(20))
    assert not thread.is_alive()
    assert problems == []


def test_what_cannot_be_interrupted_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """In another thread, a call of C ends when it ends; the lab says what it waits for."""

    async def waits(websocket: Any) -> None:
        await websocket.recv()
        time.sleep(scaled(5))

    runs: list[Any] = []
    thread = threading.Thread(
        target=lambda: runs.append(labkit.run(labkit.play(waits, on="websockets", patience=0.2))), daemon=True
    )
    with caplog.at_level(logging.WARNING, "labkit"):
        thread.start()
        thread.join(scaled(30))
    assert not thread.is_alive()
    assert [f"line {line_of(waits, 'time.sleep')}: " in record.getMessage() for record in caplog.records] == [True]
    assert runs[0].outcome == "blocks"


async def test_a_matrix_comes_back_too() -> None:
    """The cells of other handlers are as they would be without it."""
    table = await labkit.matrix({"never": never_awaits, "echo": echo}, "websockets", ["close", "reset"], patience=0.3)
    assert table["never", "websockets", "close"].outcome == "blocks"
    assert table["echo", "websockets", "close"].outcome == "clean"


async def test_a_check_comes_back_too() -> None:
    """It is a rule broken, or a bug; not a wait for ever."""

    async def sleeps(request: web.Request) -> None:
        time.sleep(3600)

    report = await labkit.check("heartbeat", sleeps)
    assert not report.passed


# --- an interrupt ----------------------------------------------------------------------------------------------------

SCRIPT = """
import asyncio, signal, threading, time
import labkit

async def never_awaits(websocket):
    await websocket.recv()
    pressing.start()
    {body}

def press():
    time.sleep(0.3)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

pressing = threading.Thread(target=press)
began = time.monotonic()
try:
    {run}(labkit.play(never_awaits, on="websockets", patience=600))
except KeyboardInterrupt:
    print("interrupted")
pressing.join()
print([thread.name for thread in threading.enumerate()], signal.getsignal(signal.SIGURG) == signal.SIG_DFL)
"""

BODIES = {
    "a loop": "while True: pass",
    "a call": "time.sleep(3600)",
    "a task": "await asyncio.gather(work())",
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("run", ["labkit.run", "asyncio.run"])
def test_one_interrupt_is_enough(run: str, body: str) -> None:
    """Ctrl+C ends a handler that never awaits, and what plays it, at once."""
    work = "async def work():\n    while True: time.sleep(0.01)\n"
    program = work + SCRIPT.format(run=run, body=BODIES[body])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=scaled(30), check=False
    )
    assert done.stdout.splitlines() == ["interrupted", "['MainThread'] True"], done.stderr


# --- a busy machine --------------------------------------------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[None]:
    """Two processes that use the CPU all the time."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("on", handlers.STACKS)
async def test_on_a_busy_machine_no_handler_is_said_to_block(on: str) -> None:
    """A step that only waits for its turn is no block of the handler's."""
    runs = [await labkit.play(handlers.echo(on), on=on, fault="close") for _ in range(10)]
    assert [run.timeline.all(HandlerBlocked) for run in runs] == [[]] * 10


@pytest.mark.parametrize(
    ("module", "function", "broken"),
    [("weakref", "remove", False), ("queue", "__del__", False), ("queue", "f", True)],
)
def test_what_python_calls_by_itself_is_not_broken_off(module: str, function: str, *, broken: bool) -> None:
    """It would drop the exception: the step would go on, and Python tell of it wherever it is next."""
    names: dict[str, Any] = {"__name__": module, "look": lambda: may_be_broken(stack_from(sys._getframe(1)), __file__)}
    exec(compile(f"def {function}():\n    return look()", os.__file__, "exec"), names)
    assert names[function]() is broken


async def test_what_tells_of_a_failed_destructor_is_not_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would drop what ends it there; the handler is ended when its own code runs."""
    broken: list[BaseException] = []

    def tell(_: Any) -> None:
        try:
            time.sleep(0.01)
        except BaseException as error:
            broken.append(error)

    class Fails:
        def __del__(self) -> None:
            raise ValueError

    async def handler(websocket: Any) -> None:
        await websocket.recv()
        while True:
            Fails()
            time.sleep(0.001)

    monkeypatch.setattr(sys, "unraisablehook", tell)
    run = await labkit.play(handler, on="websockets", patience=0.2)
    assert run.outcome == "blocks"
    assert broken == []


# --- a client elsewhere ----------------------------------------------------------------------------------------------


async def computes_for_a_while(websocket: Any) -> None:
    await websocket.send(await websocket.recv())
    time.sleep(scaled(1.0))
    await websocket.send("result")
    async for _ in websocket:
        pass


async def test_the_client_of_a_handler_that_blocks_lives_elsewhere() -> None:
    """It has its answer before the block; its own keepalive gives up while the server's loop stands still."""
    options = {"ping_interval": scaled(0.2), "ping_timeout": scaled(0.2)}
    run = await labkit.play(
        computes_for_a_while, on="websockets", fault=None, client="websockets", client_options=options, patience=10
    )
    [blocked] = run.timeline.all(HandlerBlocked)
    [answer, *_] = run.timeline.all(ClientRecv)
    [gave_up] = [event for event in run.timeline.all(WireFrame) if (event.source, event.opcode) == ("client", "CLOSE")]
    assert answer.at < blocked.at + blocked.seconds / 2
    assert blocked.at < gave_up.at < blocked.at + blocked.seconds
    assert (run.verdict.ending, run.verdict.close_code) == ("raised", 1011)
    assert "sent 1011 (internal error) keepalive ping timeout" in str(run.verdict.client_exception)


async def test_a_handler_that_blocks_at_its_first_call_is_told_so() -> None:
    """The run that is played again does not block; it does not take the place of the one that did."""
    called = 0

    async def handler(websocket: Any) -> None:
        nonlocal called
        called += 1
        if called == 1:
            time.sleep(scaled(0.3))
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(handler, on="websockets", fault="close")
    assert called == 2
    assert run.verdict.blocked > 0.2
    assert run.outcome == "blocks"


async def test_a_talk_stays_in_the_running_loop() -> None:
    """It may use what belongs to that loop, such as an event."""
    begun = asyncio.Event()

    async def talk(client: Any) -> None:
        begun.set()
        await client.send("hello")
        await client.recv()

    run = await labkit.play(computes_for_a_while, on="websockets", talk=talk, patience=10)
    assert begun.is_set()
    assert run.verdict.blocked > 0.5


async def test_an_interrupt_of_the_client_elsewhere_leaves_nothing() -> None:
    """A cancel while the server's loop has to itself what the other waits for."""
    seen = 0

    async def handler(websocket: Any) -> None:
        nonlocal seen
        seen += 1
        time.sleep(0.1)
        await websocket.recv()
        if seen == 2:
            playing.cancel()
        await asyncio.Event().wait()

    before = threading.active_count()
    playing = asyncio.ensure_future(labkit.play(handler, on="websockets", fault=None, patience=0.5))
    await asyncio.wait([playing])
    assert playing.cancelled()
    assert (seen, threading.active_count()) == (2, before)
