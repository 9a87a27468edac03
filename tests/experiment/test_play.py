"""play(): one experiment, whole; what it refuses; and that nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadHandler, BadOption, BadValue, UnknownName
from labkit.events import WireFault
from labkit.remains.tasks import reap, track
from labkit.support.clock import scaled
from labkit.timeline import Scope, Timeline, scope
from tests import handlers
from tests.left import sockets


async def test_the_fault_strikes_when_the_last_answer_has_arrived() -> None:
    """Cause, not clock: every message is answered before the fault."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="close", messages=("a", b"\x00", "c"))
    assert [event.text for event in run.timeline.select("client", "recv")] == ["'a'", "b'\\x00'", "'c'"]
    [fault] = run.timeline.all(WireFault)
    assert (fault.fault, fault.family, fault.knobs) == ("close", "closing", {"code": 1000, "reason": ""})
    assert fault.line == handlers.websockets_echo.__code__.co_firstlineno + 1  # where it waits for the next message
    assert fault.waits is not None
    assert fault.waits >= 1
    assert fault.at >= run.timeline.select("client", "recv")[-1].at
    assert (run.handler, run.on, run.fault) == ("websockets_echo", "websockets", "close")


async def test_without_messages_it_strikes_once_the_handler_runs() -> None:
    """There is no answer to wait for."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="reset", messages=())
    assert run.verdict.noticed == "yes"
    assert not run.timeline.select("client", "send")


async def test_a_handler_that_never_answers_is_struck_too() -> None:
    """When it waits for the next message."""

    async def sink(websocket: Any) -> None:
        async for _ in websocket:
            pass

    run = await labkit.play(sink, on="websockets", fault="reset")
    assert run.verdict.noticed == "yes"


async def test_without_a_fault_the_client_stays() -> None:
    """The handler ends when it likes."""

    async def one(websocket: Any) -> None:
        await websocket.send(await websocket.recv())

    run = await labkit.play(one, on="websockets", fault=None)
    assert run.fault == "none"
    assert run.verdict.sentence.startswith("No fault struck: one on websockets returned")


async def test_a_handler_that_has_ended_is_not_struck() -> None:
    """There is nothing left to break, and the verdict says that no fault struck."""

    async def short(websocket: Any) -> None:
        await websocket.recv()

    run = await labkit.play(short, on="websockets", fault="reset")
    assert not run.timeline.select("wire", "fault")
    assert run.verdict.noticed == "unknown"


async def test_server_options_reach_the_library() -> None:
    """Keyword arguments are the library's own: here, a limit that the client's message exceeds."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=None, messages=("x" * 100,), max_size=10)
    assert run.timeline.select("client", "close-received")[0].data["code"] == 1009


async def test_a_handler_that_hangs_is_stopped() -> None:
    """It is told as running, and the lab ends it."""

    async def hangs(websocket: Any) -> None:
        await asyncio.Event().wait()

    run = await labkit.play(hangs, on="websockets", fault="reset", patience=0.1)
    assert (run.verdict.ending, run.verdict.noticed) == ("running", "no")
    assert run.timeline.select("handler", "cancelled")[-1].data["by"] == "the lab"
    assert run.verdict.leaked == ()


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_handler_that_swallows_its_cancels_is_closed_and_named(on: str) -> None:
    """Nothing is left of it, and the verdict says what it did."""

    async def stubborn(given: Any) -> None:
        if on != "websockets":
            ws = web.WebSocketResponse()
            await ws.prepare(given)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                labkit.note("no")

    run = await labkit.play(stubborn, on=on, fault=None, patience=0.1)
    assert run.verdict.ending == "running"
    assert run.verdict.leaked == ("handler 'stubborn', which swallowed 2 cancels",)
    assert len(run.timeline.select("handler", "note")) == 2


async def test_a_task_that_outlives_its_server_is_named_and_ended() -> None:
    """So are what it raised and nobody asked for."""
    kept: set[asyncio.Task[None]] = set()

    async def leaky(websocket: Any) -> None:
        async def heartbeat() -> None:
            await asyncio.Event().wait()

        async def fails() -> None:
            raise ValueError("nobody asks")

        kept.add(asyncio.create_task(heartbeat(), name="pulse"))
        await asyncio.wait([asyncio.create_task(fails())])
        async for _ in websocket:
            pass

    run = await labkit.play(leaky, on="websockets", fault="close")
    [left] = run.verdict.leaked
    assert left.startswith("task pulse (")
    assert "Task exception was never retrieved: ValueError: nobody asks" in run.verdict.complaints


async def test_a_task_that_has_just_begun_is_not_left_behind() -> None:
    """A timer may start one at any moment, as aiohttp's heartbeat does for a handler that ended without a Close."""
    going = True
    kept: set[asyncio.Task[None]] = set()

    async def ticks(websocket: Any) -> None:
        loop = asyncio.get_running_loop()

        async def ping() -> None:
            """End in one step."""

        def tick() -> None:
            if going:
                kept.add(asyncio.create_task(ping()))
                loop.call_soon(tick)

        tick()
        async for _ in websocket:
            pass

    with track(asyncio.get_running_loop()):  # as where other experiments share the loop
        run = await labkit.play(ticks, on="websockets", fault="close", patience=0.5)
    going = False
    assert len(kept) > 5
    [left] = run.verdict.leaked  # what the loop would still call; none of the tasks that it starts
    assert left.startswith("callback that calls ")
    assert ".tick, line " in left


async def test_what_a_task_raised_is_found_in_a_cycle_too() -> None:
    """An exception whose traceback holds its task lives until the next garbage collection; the lab does not wait."""

    async def forgetful(websocket: Any) -> None:
        async def fails() -> None:
            me = asyncio.current_task()
            raise ValueError(f"nobody asks {type(me).__name__}")

        task = asyncio.create_task(fails())
        await asyncio.wait([task])

    gc.disable()
    try:
        run = await labkit.play(forgetful, on="websockets", fault="close")
    finally:
        gc.enable()
    assert "Task exception was never retrieved: ValueError: nobody asks Task" in run.verdict.complaints


async def test_a_task_that_nobody_holds_is_a_complaint() -> None:
    """Asyncio keeps only weak references: such a task is collected in the middle of its work, and asyncio complains."""

    async def forgetful(websocket: Any) -> None:
        async def heartbeat() -> None:
            await asyncio.get_running_loop().create_future()

        websocket.heartbeat = asyncio.create_task(heartbeat())
        async for _ in websocket:
            pass

    run = await labkit.play(forgetful, on="websockets", fault="close")
    assert run.verdict.leaked or "Task was destroyed but it is pending!" in run.verdict.complaints


@pytest.mark.parametrize(
    ("handler", "on", "given", "other"),
    [
        (handlers.websockets_echo, "aiohttp", "Request", "websockets"),
        (handlers.aiohttp_echo, "websockets", "ServerConnection", "aiohttp"),
    ],
)
async def test_a_handler_of_the_other_library(handler: Any, on: str, given: str, other: str) -> None:
    """The library's own error, and beside it one sentence that says what is wrong."""
    run = await labkit.play(handler, on=on)
    assert run.verdict.exception is not None
    assert given in run.verdict.exception
    assert f"{on} calls a handler with a {given}" in run.verdict.sentence
    assert run.verdict.sentence.endswith(f"is it written for {other}?")


def not_a_coroutine(websocket: Any) -> None:
    """A handler that somebody forgot to make async."""


async def two(websocket: Any, path: str) -> None:
    """A handler with the signature of websockets before 14."""


async def none() -> None:
    """A handler that takes nothing."""


async def yields(websocket: Any) -> AsyncIterator[str]:
    """A handler that sends as a stream of another framework does."""
    yield "hello"


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"handler": 3}, BadHandler, "the handler is 3, which cannot be called"),
        ({"handler": not_a_coroutine}, BadHandler, "'not_a_coroutine' is not a coroutine function; write it as: async"),
        ({"handler": two}, BadHandler, r"'two' takes \(websocket: .*, path: .*\), but is called with one argument"),
        ({"handler": none}, BadHandler, r"'none' takes nothing, but is called with one argument, the websocket"),
        ({"handler": int}, BadHandler, "'int' is a class"),
        (
            {"handler": yields},
            BadHandler,
            "'yields' has a `yield`, which makes it an async generator; no library takes",
        ),
        (
            {"talk": lambda: None},
            BadHandler,
            r"the talk '<lambda>' is not a coroutine function; .* async def h\(client\)",
        ),
        ({"client_options": 5}, BadValue, "client_options=5; it takes a mapping, such as {'ping_interval': 20}"),
        (
            {"ssl": "server.pem"},
            BadOption,
            "ssl='server.pem'; it takes an ssl.SSLContext with the server's certificate",
        ),
        ({"on": "websocket"}, UnknownName, "no stack 'websocket'. Did you mean 'websockets'?"),
        ({"fault": "rest"}, UnknownName, "no fault 'rest'. Did you mean 'reset'?"),
        ({"ping_intervall": 3}, BadOption, "no serve option 'ping_intervall'. Did you mean 'ping_interval'?"),
        ({"on": "aiohttp", "keepalive": 3}, BadOption, "no AppRunner option 'keepalive'. Did you mean"),
        ({"on": "aiohttp-cancel", "handler_cancellation": False}, BadOption, "no AppRunner option"),
        ({"port": 80}, BadOption, "'port' is the lab's to set: a server listens on 127.0.0.1, on a free port"),
        ({"messages": "hello"}, BadValue, r"messages='hello'; it takes a sequence of messages, such as \('hello',\)"),
        ({"on": ["websockets"]}, UnknownName, r"no stack \['websockets'\]. Did you mean 'websockets'?"),
        ({"on": None}, UnknownName, "no stack None"),
        ({"fault": ["reset"]}, UnknownName, r"no fault \['reset'\]. Did you mean 'reset'?"),
        ({"fault": labkit.Fault}, UnknownName, "no fault <class .*The faults are: .*close, "),
        ({"messages": [3]}, BadValue, "the message 3 is neither str"),
        ({"messages": ("a", "\ud800")}, BadValue, r"^message 2 holds '\\ud800', a lone surrogate, which UTF-8 cannot"),
        ({"patience": 0}, BadValue, "patience=0; it takes a number of seconds above 0"),
        ({"patience": -1}, BadValue, "patience=-1; it takes a number of seconds above 0"),
        ({"patience": True}, BadValue, "patience=True; it takes a number of seconds above 0"),
        ({"patience": "2"}, BadValue, "patience='2'; it takes a number of seconds above 0"),
        ({"patience": float("inf")}, BadValue, "patience=inf; it takes"),
        ({"patience": float("nan")}, BadValue, "patience=nan; it takes"),
    ],
)
async def test_bad_input_gets_one_sentence_before_any_socket_opens(
    arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    """It says what was wrong and what would do."""
    given: dict[str, Any] = {"handler": handlers.websockets_echo, "on": "websockets", **arguments}
    play = labkit.play(given.pop("handler"), **given)
    # The first step of the coroutine raises: it has not come to anything that could open a socket.
    with pytest.raises(error, match=sentence):
        play.send(None)


def everything() -> list[object]:
    loop = asyncio.get_running_loop()
    return [
        sys.stdout,
        sys.stderr,
        list(logging.getLogger().handlers),
        loop.get_exception_handler(),
        loop.get_task_factory(),
        sys.gettrace(),
        scope.get(),
        sockets(),
        len(asyncio.all_tasks()),
    ]


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_nothing_is_left_of_an_interrupted_run(on: str) -> None:
    """A cancel in the middle, as the interrupt of a cell: all is as before, and the next run works."""
    before = everything()
    started = asyncio.Event()

    async def hangs(given: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(labkit.play(hangs, on=on, fault=None, patience=1000))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert everything() == before
    run = await labkit.play(handlers.echo(on), on=on, fault="close")
    assert run.verdict.ending == "returned"
    assert everything() == before


async def test_runs_share_a_loop_and_do_not_mix() -> None:
    """Nine at once: each has the prints and the log records of its own handler, and no others."""

    def make(number: int) -> Any:
        async def handler(websocket: Any) -> None:
            print(f"print {number}")  # noqa: T201 - what is tested
            logging.getLogger("mine").warning("log %s", number)
            await handlers.websockets_echo(websocket)

        return handler

    runs = await asyncio.gather(*(labkit.play(make(number), on="websockets", fault="close") for number in range(9)))
    for number, run in enumerate(runs):
        assert [event.text for event in run.timeline.select("handler", "print")] == [f"print {number}"]
        assert run.verdict.complaints == (f"WARNING mine: log {number}",)


async def test_a_run_shows_itself() -> None:
    """As text in print, and as one picture with its text in a notebook."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="reset")
    assert run.verdict.sentence.split(";")[0] in " ".join(str(run).split())
    bundle = run._repr_mimebundle_()
    assert {"text/plain", "text/html"} <= set(bundle)
    assert bundle["text/html"].count("<img") == 1
    assert 'alt="' in bundle["text/html"]
    assert len(run.plot().axes) == 1
    assert "never ran" in str(run.source())


async def test_patience_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is slow, never wrong."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", "2")

    async def hangs(websocket: Any) -> None:
        await asyncio.Event().wait()

    run = await labkit.play(hangs, on="websockets", fault="reset", messages=(), patience=0.05)
    assert run.timeline.select("loop", "stop")[0].data["patience"] == pytest.approx(0.1)
    assert scaled(1) == 2


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_ten_at_once_do_not_mix(on: str) -> None:
    """Whatever their faults, each run has its own handler's words, its own frames and its own verdict."""

    def make(number: int) -> Any:
        async def handler(given: Any) -> Any:
            try:
                return await handlers.echo(on)(given)
            finally:
                print(f"the end of {number}")  # noqa: T201 - what is tested

        return handler

    faults = ["close", "reset"] * 5
    runs = await asyncio.gather(
        *(labkit.play(make(n), on=on, fault=fault, messages=(f"message {n}",)) for n, fault in enumerate(faults))
    )
    for number, (run, fault) in enumerate(zip(runs, faults, strict=True)):
        assert [event.text for event in run.timeline.select("handler", "print")] == [f"the end of {number}"]
        assert [event.text for event in run.timeline.select("handler", "recv")] == [f"'message {number}'"]
        assert [event.text for event in run.timeline.select("wire", "fault")] == [fault]
        assert (run.verdict.close_code == 1000) is (fault == "close")


async def test_runs_follow_each_other() -> None:
    """The second knows nothing of the first: same handler, new timeline, new verdict."""
    first = await labkit.play(handlers.websockets_echo, on="websockets", fault="reset")
    events = len(first.timeline)
    second = await labkit.play(handlers.websockets_echo, on="websockets", fault="close")
    assert len(first.timeline) == events
    assert first.verdict.lines_never_ran != second.verdict.lines_never_ran == ()


async def test_a_timeout_of_the_handlers_own_is_not_the_connections_end() -> None:
    """asyncio.timeout fires as it does anywhere: named as asyncio's, and no notice of the fault."""

    async def limited(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str((await ws.receive()).data)
        try:
            async with asyncio.timeout(0.02):
                await asyncio.Event().wait()
        except TimeoutError:
            labkit.note("timed out")
        return ws

    run = await labkit.play(limited, on="aiohttp", fault="reset")
    [cancelled] = run.timeline.select("handler", "cancelled")
    assert (cancelled.by, cancelled.package) == ("Timeout._on_timeout (asyncio)", "asyncio")
    assert run.timeline.select("handler", "note")
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "no")


async def test_the_end_of_a_run_is_the_labs_doing_and_is_told_last() -> None:
    """What the lab cancels is named as its own, behind the stop, and the verdict leaves it out."""

    async def hangs(websocket: Any) -> None:
        async with labkit.resource("database"):
            await asyncio.Event().wait()

    run = await labkit.play(hangs, on="websockets", fault="reset", patience=0.05)
    kinds = [(e.lane, e.kind) for e in run.timeline if (e.lane, e.kind) != ("handler", "line")]
    stop = kinds.index(("loop", "stop"))
    assert kinds.index(("handler", "cancelled")) > stop
    assert kinds.index(("cleanup", "closed")) > stop
    assert (run.verdict.cleanup, run.verdict.ending) == ("missing", "running")


async def test_a_task_that_swallows_its_cancels_is_named_once() -> None:
    """It is left behind, and then refuses to end; when it does end, nothing is left of it."""
    released = asyncio.Event()
    kept: list[asyncio.Task[None]] = []

    async def handler(websocket: Any) -> None:
        async def clings() -> None:
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()

        kept.append(asyncio.create_task(clings(), name="limpet"))
        await asyncio.sleep(0)

    run = await labkit.play(handler, on="websockets", fault=None)
    released.set()
    await asyncio.wait(kept)
    [left] = run.verdict.leaked or ()
    assert left.startswith("task limpet (")
    assert left.endswith(", which refuses to end")
    assert [event.data["stubborn"] for event in run.timeline.select("loop", "leaked")] == [False, True]


@pytest.mark.parametrize("clause", ["except asyncio.CancelledError:", "except BaseException:"])
def test_a_program_ends_though_a_task_of_the_handler_refuses_to(clause: str) -> None:
    """`asyncio.run` waits for every task at its end; for this one it would wait for ever."""
    program = f"""
import asyncio, labkit

async def handler(websocket):
    async def clings():
        while True:
            try:
                await asyncio.sleep(0.1)
            {clause}
                pass

    async with asyncio.TaskGroup() as group:
        group.create_task(clings())
        async for message in websocket:
            await websocket.send(message)

run = labkit.run(labkit.play(handler, on="websockets", fault="cancel", patience=0.2))
print(run.verdict.leaked)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=scaled(60), check=True
    )
    assert "which refuses to end" in done.stdout
    assert "Traceback" not in done.stderr


async def test_an_error_of_the_lab_leaves_nothing_either() -> None:
    """The library refuses a value once it has started: its error passes, and all is as before."""
    before = everything()
    with pytest.raises(ValueError, match="unsupported compression: zip"):
        await labkit.play(handlers.websockets_echo, on="websockets", compression="zip")
    assert everything() == before


async def test_a_client_that_cannot_speak_any_more_is_not_waited_for() -> None:
    """The handler fails at the first message; the second is not sent, and no answer is waited for."""

    async def fails(websocket: Any) -> None:
        async for _ in websocket:
            raise NameError("no such name")

    run = await labkit.play(fails, on="websockets", messages=("hello", "again"), patience=3600)
    assert [event.text for event in run.timeline.select("client", "send")] == ["'hello'"]


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_task_that_has_just_begun_is_not_left(turns: int) -> None:
    """As a library's ping is not, when its time comes at the very end; it ends as soon as it may."""
    loop, timeline = asyncio.get_running_loop(), Timeline()
    context = contextvars.copy_context()
    context.run(scope.set, Scope(timeline, "handler"))
    pings: list[asyncio.Task[None]] = []

    def begins_after(turns: int) -> None:
        if turns:
            loop.call_soon(begins_after, turns - 1, context=context)
        else:
            pings.append(loop.create_task(asyncio.sleep(0)))

    with track(loop):
        loop.call_soon(begins_after, turns, context=context)
        await reap(timeline)
        await asyncio.sleep(0.01)
    assert pings
    assert not timeline.select("loop", "leaked")


async def turns_away(websocket: Any) -> None:
    """A handler that wants a token first, as a login does."""
    if await websocket.recv() != "token":
        await websocket.close(4401, "unauthorized")
        return
    await websocket.wait_closed()


async def has_left(request: Any) -> web.WebSocketResponse:
    """A handler that ends by itself."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    return ws


@pytest.mark.parametrize("fault", ["close", "reset", "bad-opcode", "stalled-reader", "ignore-close", "shutdown"])
async def test_a_connection_that_is_over_is_not_struck(fault: str) -> None:
    """The handler has closed it: nothing is left to break, and nothing that follows is the fault's doing."""
    run = await labkit.play(turns_away, on="websockets", fault=fault)
    assert run.verdict.struck is False
    assert run.timeline.first(WireFault) is None
    assert run.verdict.sentence.startswith("No fault struck, since the handler had called close(4401): turns_away on")
    assert run.outcome == "unstruck"
    table = await labkit.matrix([turns_away], on="websockets", faults=[fault])
    assert [cell.outcome for cell in table.cells] == ["unstruck"]


@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel"])
async def test_why_nothing_struck_is_said(on: str) -> None:
    """Nor does a matrix call it clean."""
    run = await labkit.play(has_left, on=on, fault="reset", messages=())
    assert run.verdict.struck is False
    assert run.verdict.sentence.startswith("No fault struck, since the handler had ")
    assert run.outcome == "unstruck"


@pytest.mark.parametrize(("fault", "struck"), [("reset", True), (None, None)])
async def test_a_live_connection_is_struck(fault: str | None, struck: bool | None) -> None:
    """And where there is no fault, nothing is said of it."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault)
    assert run.verdict.struck is struck
