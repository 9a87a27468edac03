"""Which lines of a handler ran, and when each first did; or that it cannot be known."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import multiprocessing.popen_fork  # as an import computes much, it would hide lines of a handler
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect

import labkit
from labkit.events import HandlerLine, HandlerLines
from labkit.timeline import Scope, Timeline, scope
from labkit.watch import lines as lines_module
from labkit.watch.accounts import executable
from labkit.watch.handler import original
from labkit.watch.lines import begin_connection, watch

MONITORING = sys.version_info >= (3, 12)


async def ran(handler: Callable[..., Any], *arguments: Any) -> tuple[list[int], list[int]]:
    """Run a handler in an experiment's scope; return the lines that ran and those that did not, from its `def` on."""
    timeline = Timeline()
    token = scope.set(Scope(timeline, "handler"))
    try:
        with watch(handler, timeline):
            await handler(*arguments)
    finally:
        scope.reset(token)
    account = timeline.select("handler", "lines")[-1].data
    assert account["tool"] is not None, account["why"]
    others = {first + n - account["first"] for first, text in account["helpers"] for n in range(text.count("\n"))}
    lines = [event.data["line"] - account["first"] for event in timeline.select("handler", "line")]
    can_run = [line - account["first"] for line in account["executable"]]
    return [n for n in lines if n not in others], [n for n in can_run if n not in others and n not in lines]


async def branches(ws: Any) -> Any:
    """A docstring is no line that runs."""
    found = sorted(
        range(2),
    )
    try:
        await asyncio.sleep(0)
        for number in found:
            if number == 5:
                continue  # never
            found[number] = 0
    except ValueError:  # never
        labkit.note("never")
    finally:
        found.append(1)
    return found


async def test_each_line_is_told_once_and_in_order() -> None:
    """What ran is told when it first ran; what did not is the rest of what can run."""
    lines, missed = await ran(branches, None)
    assert len(lines) == len(set(lines))
    assert lines[-1] == max(lines)
    source = inspect.getsource(branches).splitlines()
    assert missed == [number for number, line in enumerate(source) if "never" in line]


async def test_nested_functions_and_decorators_count() -> None:
    """The function that the author wrote is watched, whatever stands around it, and what is defined inside it."""

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> Any:
            return await function(*args)

        return wrapper

    @decorated
    async def outer(given: int) -> int:
        async def inner() -> int:
            return given

        async def never() -> int:
            return 0

        return await inner()

    lines, missed = await ran(outer, 3)
    assert missed == [6]
    assert lines == [2, 5, 8, 3]


async def test_methods_partials_and_objects_are_handlers_too() -> None:
    """The lab looks through them to the code."""

    class Handlers:
        async def method(self, given: Any) -> None:
            await asyncio.sleep(0)

        async def __call__(self, given: Any) -> None:
            await asyncio.sleep(0)

    async def two(first: Any, second: Any) -> None:
        await asyncio.sleep(0)

    for handler in (Handlers().method, Handlers(), functools.partial(two, 1)):
        assert await ran(handler, None) == ([1], [])
    assert original(Handlers().method) is Handlers.method
    named = functools.partial(two, 1)
    named.__name__ = "two"  # type: ignore[attr-defined] # functools does not join a partial that has attributes
    assert original(functools.partial(two, 1)) is original(functools.partial(named, 2)) is two


def test_the_def_line_is_left_out() -> None:
    """It runs when the function is made, not when the handler runs; so do the decorators and the arguments."""

    @functools.cache
    def function(
        first: int,
        second: int = 2,
    ) -> int:
        return first + second

    code = function.__wrapped__.__code__
    assert [line - code.co_firstlineno for line in sorted(executable(code))] == [5]


# Handlers of many shapes; a comment marks the lines that never run.


async def conditions(given: Any) -> Any:
    if given is None:
        found = 1
    elif given == 1:  # never
        found = 2  # never
    else:
        found = 3  # never
    if not given:
        pass
    return found


async def loops(given: Any) -> None:
    for _ in ():
        continue  # never
    while True:
        break
    async for _ in nothing():
        await asyncio.sleep(0)  # never


async def nothing() -> Any:
    for never in ():
        yield never


async def exceptions(given: Any) -> str:
    try:
        await asyncio.sleep(0)
        raise KeyError
    except ValueError:  # this is asked
        return "never asked"  # never
    except (
        LookupError,
        OSError,
    ) as error:
        return str(error)
    finally:
        await asyncio.sleep(0)


async def matches(given: Any) -> None:
    match given:
        case None:
            found = 1
        case {"code": code}:  # never
            found = code  # never
    assert found, "never"


async def leaves(given: Any) -> Any:
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(list)
        if given is None:
            return stack
        stack.pop_all()  # never
    return None  # never


async def defines(given: Any) -> Any:
    class Counter:
        start = 1

        def count(self) -> int:
            return self.start  # never

    def recursive(depth: int) -> int:
        def less() -> int:
            return depth - 1

        if depth:
            return recursive(less())
        return depth

    return Counter, recursive(3)


@pytest.mark.parametrize(
    "handler", [conditions, loops, exceptions, matches, leaves, defines], ids=lambda handler: handler.__name__
)
async def test_the_lines_of_any_handler(handler: Callable[..., Any]) -> None:
    """On every Python, with either tool: exactly the marked lines are told as never run."""
    lines, missed = await ran(handler, None)
    source = inspect.getsource(handler).splitlines()
    assert [source[number] for number in missed] == [line for line in source if line.endswith("# never")]
    assert len(lines) == len(set(lines))


async def test_a_run_that_ends_leaves_the_lines_to_the_others() -> None:
    """Two runs of one handler overlap; the tool stays on until the last of them is over."""
    first, second = Timeline(), Timeline()
    with watch(branches, first):
        with watch(branches, second):
            pass
        token = scope.set(Scope(first, "handler"))
        await branches(None)
        scope.reset(token)
    assert first.select("handler", "line")
    assert not second.select("handler", "line")
    assert [event.data["tool"] is None for event in first.select("handler", "lines")] == [False]


async def test_two_handlers_are_watched_each_for_itself() -> None:
    """The tool stays on for the one when the other is over; of a run that is over nothing is kept."""
    first, second = Timeline(), Timeline()
    with watch(branches, first):
        with watch(conditions, second):
            pass
        with first.scope():
            await branches(None)
    assert first.select("handler", "line")
    assert lines_module._accounts == {}


async def test_a_line_tells_itself_and_when_it_first_ran() -> None:
    """The event has the line as it stands in the source, and comes in the moment in which it runs."""
    timeline = Timeline()
    token = scope.set(Scope(timeline, "handler"))

    async def handler(given: Any) -> None:
        labkit.note("one")
        labkit.note("two")

    with watch(handler, timeline):
        await handler(None)
        await handler(None)
    scope.reset(token)
    told = [(event.kind, event.text) for event in timeline.select("handler", "line", "note")]
    assert told == [
        ("line", 'labkit.note("one")'),
        ("note", "one"),
        ("line", 'labkit.note("two")'),
        ("note", "two"),
        ("note", "one"),
        ("note", "two"),
    ]


async def test_a_handler_without_source_or_without_code_is_no_trouble() -> None:
    """From exec, the lines have numbers and no text; a builtin has none, and they are unknown."""
    names: dict[str, Any] = {}
    exec("async def handler(given):\n    if given:\n        return 1\n    return 2", names)
    timeline = Timeline()
    token = scope.set(Scope(timeline, "handler"))
    with watch(names["handler"], timeline):
        await names["handler"](None)
    with watch(len, timeline):
        pass
    scope.reset(token)
    accounts = timeline.select("handler", "lines")
    assert (accounts[0].data["source"], accounts[0].data["first"]) == (None, 1)
    assert accounts[0].data["executable"] == [2, 3, 4]
    assert [event.text for event in timeline.select("handler", "line")] == ["line 2", "line 4"]
    assert (accounts[1].data["tool"], accounts[1].data["why"]) == (None, "the handler is not Python code")


async def test_a_file_that_was_edited_since_is_no_trouble(tmp_path: Path) -> None:
    """What is no longer in it has its number for a text."""
    path = tmp_path / "edited.py"
    path.write_text("async def handler(given):\n    given = 1\n    given = 2\n    return given\n")
    names: dict[str, Any] = {"__name__": "edited"}
    exec(compile(path.read_text(), path, "exec"), names)
    path.write_text("async def handler(given):\n    given = 1\n")
    lines, missed = await ran(names["handler"], None)
    assert (lines, missed) == ([1, 2, 3], [])


async def test_runs_of_the_same_handler_keep_their_own_accounts() -> None:
    """Two experiments at once: each tells the lines that ran in it."""

    async def handler(websocket: Any) -> None:
        first = await websocket.recv()
        if first == "left":
            labkit.note("left")
        else:
            labkit.note("right")

    runs = await asyncio.gather(
        *(labkit.play(handler, on="websockets", messages=(word,)) for word in ("left", "right") * 3)
    )
    first = handler.__code__.co_firstlineno
    assert [[line - first for line in run.verdict.lines_never_ran or ()] for run in runs] == [[5], [3]] * 3


async def computes(websocket: Any) -> None:
    async for message in websocket:
        total = 0
        for number in range(20_000):
            if number % 3:
                total += number
            else:
                total -= number
        if message == "left":
            labkit.note("left")
        elif message == "right":
            labkit.note("right")


async def test_a_loop_that_computes_is_let_alone_until_the_next_await(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs behind it is seen where single lines can be let alone; elsewhere what is not seen is unknown."""
    seen: list[int] = []
    ran = lines_module._Listener.ran
    monkeypatch.setattr(
        lines_module._Listener, "ran", lambda self, code, line: (seen.append(line), ran(self, code, line))
    )
    run = await labkit.play(computes, on="websockets", messages=("left",))
    never = [line - computes.__code__.co_firstlineno for line in run.verdict.lines_never_ran or ()]
    assert never == ([10, 11] if MONITORING else [])
    assert (run.verdict.lines_never_ran is None) is not MONITORING
    assert len(seen) < 500  # of 60,000 that ran


async def test_each_connection_has_the_lines_of_a_loop_that_computes() -> None:
    """A line that was let alone for the one is watched again for the other."""
    runs = await asyncio.gather(
        *(labkit.play(computes, on="websockets", messages=(word,)) for word in ("left", "right") * 2)
    )
    for run in runs:
        looked_at = {event.line - computes.__code__.co_firstlineno for event in run.timeline.all(HandlerLine)}
        assert looked_at >= {1, 2, 3, 4, 5, 7}


async def test_where_all_lines_have_run_a_loop_that_computes_hides_nothing() -> None:
    """Then no line can have been missed, whatever watches them."""

    async def handler(websocket: Any) -> None:
        async for _ in websocket:
            for number in range(20_000):
                if number == 2:
                    labkit.note("two")

    run = await labkit.play(handler, on="websockets")
    assert run.verdict.lines_never_ran == ()


async def test_connections_that_call_the_same_functions_share_what_is_told_of_them() -> None:
    """There may be thousands, and each has an event with the source of all that it has called."""
    timeline = Timeline()

    async def handler(_: Any) -> None:
        computed_elsewhere()

    with watch(handler, timeline):
        for number in (1, 2):
            begin_connection(timeline, number)
            token = scope.set(Scope(timeline, "handler", number))
            await handler(None)
            scope.reset(token)
    first, second = (event for event in timeline.all(HandlerLines) if event.served is not None)
    assert first.helpers
    assert first.helpers is second.helpers
    assert first.executable is second.executable


def computed_elsewhere() -> int:
    return 1


@pytest.mark.skipif(not MONITORING, reason="sys.monitoring came with Python 3.12")
async def test_a_line_that_each_of_a_crowd_runs_once_is_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each handler has a step of its own; to look at all lines again behind each such step costs more than they do."""
    if sys.version_info >= (3, 12):
        restarts: list[None] = []
        restart = sys.monitoring.restart_events
        monkeypatch.setattr(sys.monitoring, "restart_events", lambda: (restarts.append(None), restart()))
        over = asyncio.Event()

        async def handler(websocket: Any) -> None:
            await over.wait()
            labkit.note("over")
            await websocket.close()

        async with labkit.host(handler, on="websockets") as server:
            crowd = [await websockets.connect(server.url) for _ in range(40)]
            await server.timeline.until(lambda _: len(server.running) == 40, 5)
            restarts.clear()
            over.set()
            await asyncio.gather(*(client.wait_closed() for client in crowd))
            assert len(restarts) <= 1


async def test_code_outside_the_experiment_is_not_told() -> None:
    """The same handler, called by somebody else while an experiment runs, leaves no trace in it."""
    timeline = Timeline()
    with watch(branches, timeline):
        await branches(None)
    assert not timeline.select("handler", "line")


@pytest.mark.skipif(not MONITORING, reason="sys.monitoring came with Python 3.12")
async def test_monitoring_is_given_back() -> None:
    """Its place is free again after the run, and the code runs at full speed."""
    if sys.version_info >= (3, 12):
        before = [sys.monitoring.get_tool(tool) for tool in range(6)]
        await ran(branches, None)
        assert [sys.monitoring.get_tool(tool) for tool in range(6)] == before


@pytest.mark.skipif(not MONITORING, reason="sys.monitoring came with Python 3.12")
async def test_where_no_place_is_free_it_is_unknown() -> None:
    """Other tools hold the places: the verdict says unknown, and never guesses."""
    if sys.version_info >= (3, 12):
        taken = [tool for tool in (3, 4) if sys.monitoring.get_tool(tool) is None]
        for tool in taken:
            sys.monitoring.use_tool_id(tool, "somebody else")
        try:
            run = await labkit.play(branches, on="websockets")
        finally:
            for tool in taken:
                sys.monitoring.free_tool_id(tool)
        assert run.verdict.lines_never_ran is None
        assert "which lines ran is unknown" in run.verdict.sentence


@pytest.mark.skipif(MONITORING, reason="from Python 3.12 on the lab does not use settrace")
async def test_settrace_gives_way_to_a_debugger() -> None:
    """A debugger that is there already stays, and one that comes during the run stays; the answer is unknown."""

    def debugger(frame: Any, event: str, argument: Any) -> None:
        return None

    sys.settrace(debugger)
    try:
        run = await labkit.play(branches, on="websockets")
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(None)
    assert run.verdict.lines_never_ran is None
    accounts = [event.data["why"] for event in run.timeline.select("handler", "lines")]
    assert accounts == ["a debugger or a coverage tool holds sys.settrace"]

    async def debugged(websocket: Any) -> None:
        sys.settrace(debugger)

    try:
        run = await labkit.play(debugged, on="websockets")
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(None)
    assert run.verdict.lines_never_ran is None


async def test_settrace_is_given_back() -> None:
    """After a run nobody traces."""
    before = sys.gettrace()
    await ran(branches, None)
    assert sys.gettrace() is before


# --- threads, and helpers of the handler's own file ------------------------------------------------------------------


async def in_to_thread(work: Any) -> None:
    await asyncio.to_thread(work)


async def in_executor(work: Any) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


async def in_own_pool(work: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        await asyncio.wrap_future(pool.submit(work))


async def in_own_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join)


@pytest.mark.parametrize("run_in", [in_to_thread, in_executor, in_own_pool, in_own_thread])
async def test_lines_that_run_in_a_thread_ran(run_in: Any) -> None:
    """Wherever the handler has its work done; what the work notes is on the timeline too."""

    async def handler(websocket: Any) -> None:
        def work() -> None:
            labkit.note("working")
            answers.append("answer")

        answers: list[str] = []
        async for _ in websocket:
            await run_in(work)
            await websocket.send(answers.pop())

    started, submitted = threading.Thread.start, concurrent.futures.ThreadPoolExecutor.submit
    run = await labkit.play(handler, on="websockets", fault="close")
    assert run.verdict.lines_never_ran == (), run.source()
    assert [event.text for event in run.timeline.select("handler", "note")] == ["working"]
    assert (threading.Thread.start, concurrent.futures.ThreadPoolExecutor.submit) == (started, submitted)


def forked(work: Any) -> None:
    """Do some work in a process that is forked by hand."""
    if not (child := os.fork()):
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def forked_by_a_library(work: Any) -> None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()


def grandchild(work: Any) -> None:
    forked(lambda: forked(work))


async def in_fork_of_a_thread(work: Any) -> None:
    await asyncio.to_thread(forked, work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked on Windows")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("run_in", [forked, forked_by_a_library, grandchild, in_fork_of_a_thread])
async def test_lines_that_run_in_a_forked_process_ran(run_in: Any) -> None:
    """The process tells the one from which it was forked; a line that ran in neither is told as ever."""

    async def handler(websocket: Any) -> None:
        def work() -> None:
            if websocket.request is None:
                labkit.note("never")
            for _ in range(2):
                members.discard(websocket)

        async for _ in websocket:
            if (waited := run_in(work)) is not None:
                await waited
            await websocket.send("done")

    run = await labkit.play(handler, on="websockets", fault="close")
    missed = {handler.__code__.co_firstlineno + 3}
    if inspect.iscoroutinefunction(run_in):
        assert run.verdict.lines_never_ran == tuple(missed), run.source()
    else:  # nor is there anything to wait for
        assert run.verdict.lines_never_ran == (*missed, handler.__code__.co_firstlineno + 9), run.source()
    [told] = [event for event in run.timeline.all(HandlerLine) if "discard" in event.text]
    sent, received = run.timeline.select("handler", "send")[0], run.timeline.select("handler", "recv")[0]
    assert received.at < told.at < sent.at


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked on Windows")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
async def test_a_run_so_far_knows_the_lines_of_forked_processes() -> None:
    """And which connection's they were."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            if message:
                forked(
                    lambda: members.discard(websocket),
                )
            await websocket.send(message)

    async with labkit.host(handler, on="websockets") as server, connect(server.url) as client:
        await client.send("leave")
        await client.recv()
        assert server.run().verdict.lines_never_ran == ()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked on Windows")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(MONITORING, reason="sys.monitoring lets single lines alone, and only those that have run")
async def test_a_forked_process_that_runs_too_much_leaves_lines_unknown() -> None:
    """As a loop does in the handler's own process."""

    async def handler(websocket: Any) -> None:
        def work() -> None:
            for _ in range(20_000):
                pass
            members.discard(websocket)

        async for message in websocket:
            forked(work)
            await websocket.send(message)

    run = await labkit.play(handler, on="websockets", fault="close")
    assert run.verdict.lines_never_ran is None


members: set[Any] = set()


@contextlib.asynccontextmanager
async def membership(websocket: Any) -> AsyncIterator[None]:
    members.add(websocket)
    yield
    members.discard(websocket)


class Room:
    """An object that handlers share."""

    def __init__(self) -> None:
        self.members: set[Any] = set()

    def enter(self, websocket: Any) -> None:
        self.members.add(websocket)

    def leave(self, websocket: Any) -> None:
        if websocket in self.members:
            self.members.discard(websocket)
        else:
            raise LookupError(websocket)


room = Room()


def never_called() -> None:
    members.clear()


async def uses_helper(websocket: Any) -> None:
    async with membership(websocket):
        async for message in websocket:
            await websocket.send(message)
    if not websocket:
        never_called()


async def uses_room(websocket: Any) -> None:
    room.enter(websocket)
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        room.leave(websocket)


async def test_a_line_of_a_helper_that_never_ran_is_named() -> None:
    """It stands in the same file, and the handler has called the helper; one that it has not called is left out."""
    run = await labkit.play(uses_helper, on="websockets", fault="reset")
    text = {line.number: line.code.strip() for line in run.source().lines}
    never = run.verdict.lines_never_ran
    assert never is not None
    assert "members.discard(websocket)" in {text[number] for number in never}
    assert "members.clear()" not in text.values()
    clean = await labkit.play(uses_helper, on="websockets", fault="close")
    assert clean.verdict.lines_never_ran is not None
    assert [text[number] for number in clean.verdict.lines_never_ran] == ["never_called()"]


async def test_the_methods_of_an_object_of_the_file_are_helpers_too() -> None:
    """Of those that were called, the lines that did not run are named."""
    run = await labkit.play(uses_room, on="websockets", fault="reset")
    text = {line.number: line.code.strip() for line in run.source().lines}
    never = run.verdict.lines_never_ran
    assert never is not None
    assert [text[number] for number in never] == ["raise LookupError(websocket)"]


@pytest.mark.skipif(MONITORING, reason="from Python 3.12 on the lab does not use settrace")
async def test_settrace_is_there_for_what_may_be_a_handlers() -> None:
    """For the handler and the task that it starts, and not for whatever else runs in the loop: each call costs."""
    traced: dict[str, set[bool]] = {"handler": set(), "task": set(), "beside": set()}

    def note(who: str) -> None:
        traced[who].add(sys.gettrace() is not None)

    async def in_a_task() -> None:
        note("task")

    async def handler(websocket: Any) -> None:
        task = asyncio.create_task(in_a_task())
        async for message in websocket:
            note("handler")
            await websocket.send(message)
        await task

    async def beside() -> None:
        while True:
            note("beside")
            await asyncio.sleep(0)

    other = asyncio.create_task(beside())
    run = await labkit.play(handler, on="websockets", fault="close", messages=("one", "two"))
    other.cancel()
    assert run.verdict.lines_never_ran == ()
    assert traced == {"handler": {True}, "task": {True}, "beside": {False}}


@pytest.mark.skipif(MONITORING, reason="from Python 3.12 on the lab does not use settrace")
async def test_a_debugger_that_comes_and_goes_is_told() -> None:
    """As ``breakpoint()`` does when it goes on: from there on no line is known, though nobody holds the trace now."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            sys.settrace(lambda *_: None)
            sys.settrace(None)
            await websocket.send(message)

    run = await labkit.play(handler, on="websockets", fault="close")
    assert run.verdict.lines_never_ran is None
    assert "ended sys.settrace during the run" in run.timeline.select("handler", "lines")[-1].data["why"]


async def test_an_error_at_the_limit_of_recursion_hides_no_line_that_ran_before_or_later() -> None:
    """On Python 3.11 it ends the watching, which begins again at the next await; no debugger has taken over."""

    def deeper(number: int) -> int:
        return deeper(number + 1)

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            with contextlib.suppress(RecursionError):
                if message == "first":
                    deeper(0)
            await websocket.send(message)
        await websocket.close()

    run = await labkit.play(handler, on="websockets", fault="close", messages=("first", "second"))
    assert run.verdict.lines_never_ran == (), run.timeline.select("handler", "lines")[-1].data["why"]


async def test_a_line_that_the_lab_ends_has_run() -> None:
    """It kept the loop for ever; all lines have run by then, so none is unknown."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            asyncio.run_coroutine_threadsafe(websocket.send(message), asyncio.get_running_loop()).result()

    run = await labkit.play(handler, on="websockets", fault="close", patience=0.3)
    assert run.verdict.blocked > 0
    assert run.verdict.lines_never_ran == ()


async def test_a_file_that_is_no_python_by_now_gives_no_source(tmp_path: Path) -> None:
    """It was saved in the middle of an edit, while the program runs: the numbers of the lines are still true."""
    file, names = tmp_path / "server.py", dict[str, Any]()
    program = "async def echo(websocket):\n    async for message in websocket:\n        await websocket.send(message)\n"
    exec(compile(program, file, "exec"), names)
    file.write_text("async def echo(websocket):\n    print(\\ now\n", "utf-8")
    run = await labkit.play(names["echo"], on="websockets", fault="close")
    assert run.verdict.lines_never_ran == ()
    assert run.outcome == "clean", run
