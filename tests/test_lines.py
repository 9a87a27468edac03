"""Which lines of a handler ran, and when each first did; or that it cannot be known."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest

import labkit
from labkit.lines import executable, original, watch
from labkit.timeline import Place, Timeline, place

MONITORING = sys.version_info >= (3, 12)


async def ran(handler: Callable[..., Any], *arguments: Any) -> tuple[list[int], list[int]]:
    """Run a handler in an experiment's place; return the lines that ran and those that did not, from its `def` on."""
    timeline = Timeline()
    token = place.set(Place(timeline, "handler"))
    try:
        with watch(handler, timeline):
            await handler(*arguments)
    finally:
        place.reset(token)
    account = timeline.select("handler", "lines")[-1].data
    assert account["tool"] is not None, account["why"]
    lines = [event.data["line"] for event in timeline.select("handler", "line")]
    return [line - account["first"] for line in lines], [
        line - account["first"] for line in account["executable"] if line not in lines
    ]


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
    assert original(functools.partial(two, 1)) is two


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
        if depth:
            return recursive(depth - 1)
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
        token = place.set(Place(first, "handler"))
        await branches(None)
        place.reset(token)
    assert first.select("handler", "line")
    assert not second.select("handler", "line")
    assert [event.data["tool"] is None for event in first.select("handler", "lines")] == [False]


async def test_a_line_tells_itself_and_when_it_first_ran() -> None:
    """The event has the line as it stands in the source, and comes in the moment in which it runs."""
    timeline = Timeline()
    token = place.set(Place(timeline, "handler"))

    async def handler(given: Any) -> None:
        labkit.note("one")
        labkit.note("two")

    with watch(handler, timeline):
        await handler(None)
        await handler(None)
    place.reset(token)
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
    token = place.set(Place(timeline, "handler"))
    with watch(names["handler"], timeline):
        await names["handler"](None)
    with watch(len, timeline):
        pass
    place.reset(token)
    accounts = timeline.select("handler", "lines")
    assert accounts[0].data["source"] is None
    assert accounts[0].data["executable"] == [2, 3, 4]
    assert [event.text for event in timeline.select("handler", "line")] == ["line 2", "line 4"]
    assert (accounts[1].data["tool"], accounts[1].data["why"]) == (None, "the handler is not Python code")


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
