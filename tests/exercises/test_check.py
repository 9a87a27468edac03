"""What check() says: of rules, with times; and of a handler's own bugs, which are not the same."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from websockets.exceptions import ConnectionClosed

import labkit
from labkit.errors import UnknownName
from labkit.exercises import Report, bugs, checking
from labkit.exercises.hints import IN_A_SHELL
from labkit.support.autojump import ClockName
from labkit.support.clock import scaled
from tests import handlers
from tests.left import Child, children, sockets

NAME = "unclean-exit"
EXERCISE = labkit.EXERCISES[NAME]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))


async def connected(request: Any) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    return ws


async def test_a_broken_rule_has_its_evidence() -> None:
    """The times are those of the run that is shown."""
    report = await labkit.check(NAME, EXERCISE.starter)
    assert report.broken == ("release",)
    assert not report.passed
    assert report.run is not None
    assert report.run.on == "aiohttp-cancel"
    result = report.results[1]
    found = re.fullmatch(
        r"the client vanished at (\S+) ms; your handler ended as cancelled at (\S+) ms, and the closing of `database` "
        r"never began",
        result.evidence,
    )
    assert found, result.evidence
    connect = report.run.timeline.select("client", "connect")[0].at
    fault = report.run.timeline.select("wire", "fault")[0].at
    assert found[1] == f"{(fault - connect) * 1000:,.0f}"
    assert "(6 of 11 runs)" in result.where
    assert 'Stuck? labkit.hint("unclean-exit")' in str(report)
    assert "Stuck? `labkit hint unclean-exit`" in report.text(1000, IN_A_SHELL)
    assert max(map(len, report.text(40).splitlines())) <= 40


async def test_a_notebook_shows_the_picture_of_the_first_failure() -> None:
    """With an alt text; what the learner's code may hold does not become markup."""
    html = (await labkit.check(NAME, EXERCISE.starter))._repr_mimebundle_()["text/html"]
    assert html.count("<img") == 1
    assert re.search(r'<img[^>]* alt="[^"]{40,}"', html)
    assert "<code>database</code>" in html
    assert html.count('scope="row"') == len(EXERCISE.rules)


async def test_what_the_handler_says_does_not_become_markup() -> None:
    """Nor does a backtick without its fellow make code of half a sentence."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        async for _ in ws:
            await ws.send_str("<script>`")
        labkit.note("<i>")
        return ws

    html = (await labkit.check("goodbye", handler))._repr_mimebundle_()["text/html"]
    assert "&lt;script&gt;" in html
    assert not re.search("<script|<i>", html)
    report = Report(EXERCISE, (), bug="one ` and <b>", notice="no <i>room</i>")
    html = report._repr_mimebundle_()["text/html"]
    assert "<p>! one ` and &lt;b&gt;</p>" in html
    assert "<p>no &lt;i&gt;room&lt;/i&gt;</p>" in html
    assert str(report).endswith("no <i>room</i>")


async def test_what_is_kept_or_broken_is_also_a_word() -> None:
    """A sign and a word, and no colour."""
    html = (await labkit.check(NAME, EXERCISE.starter))._repr_mimebundle_()["text/html"]
    assert re.findall(r">([✓✗?] \w+)</td>", html) == ["✓ kept", "✗ broken", "✓ kept"]
    assert "color" not in html.partition("<img")[0]


async def test_success_has_no_picture_and_is_noted() -> None:
    """What is done is done."""
    report = await labkit.check(NAME, EXERCISE.solution)
    assert report.passed
    assert report.run is None
    assert "Well done" in str(report)
    assert [result.where for result in report.results] == [
        "aiohttp, fault reset"
    ] * 3  # of how many, only a failure says
    assert "<img" not in report._repr_mimebundle_()["text/html"]
    assert NAME in labkit.progress().done


async def test_an_unknown_exercise() -> None:
    """One sentence, with the nearest name."""
    with pytest.raises(UnknownName, match=r"there is no exercise 'unclean_exit'. Did you mean 'unclean-exit'\?"):
        await labkit.check("unclean_exit", EXERCISE.solution)


async def test_a_name_error_is_a_bug() -> None:
    """Before the fault, with the line."""

    async def handler(request: Any) -> Any:
        await connected(request)
        return no_such_name  # type: ignore[name-defined] # noqa: F821

    report = await labkit.check(NAME, handler)
    assert report.bug is not None
    assert "NameError: name 'no_such_name' is not defined" in report.bug
    assert "before any fault" in report.bug
    assert "return no_such_name" in report.bug
    assert report.results == ()
    assert not report.passed


async def test_a_name_error_in_the_cleanup_is_a_bug_too() -> None:
    """No fault makes a name unknown."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        try:
            async for message in ws:
                await ws.send_str(message.data)
        finally:
            no_such_name.close()  # type: ignore[name-defined] # noqa: F821

    report = await labkit.check(NAME, handler)
    assert report.bug is not None
    assert "after the fault, and not because of it" in report.bug


async def test_any_exception_before_the_fault_is_a_bug() -> None:
    """Nobody but the handler is to blame."""

    async def handler(request: Any) -> Any:
        await connected(request)
        return {}["key"]

    report = await labkit.check(NAME, handler)
    assert report.bug is not None
    assert "KeyError: 'key'" in report.bug


async def test_a_hang_is_a_bug() -> None:
    """A handler that never answers is told so, whatever ends it."""

    async def handler(request: Any) -> Any:
        await connected(request)
        await asyncio.Event().wait()

    report = await labkit.check(NAME, handler)
    assert report.bug is not None
    assert "hangs, or forgets to answer" in report.bug
    assert "Event().wait()" in report.bug


async def test_a_hang_is_told_by_the_line_before_the_fault() -> None:
    """What ran later, when the client had gone, is not where it hung."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        async for _ in ws:
            pass
        return ws

    report = await labkit.check(NAME, handler)
    assert report.bug is not None
    assert report.bug.endswith(": pass")


async def test_a_flood_of_prints_is_a_bug() -> None:
    """It would hide what matters."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        async for message in ws:
            for _ in range(300):
                print("got", message.data)  # noqa: T201
            await ws.send_str(message.data)
        return ws

    report = await labkit.check(NAME, handler)
    assert report.bug is not None
    assert re.search(r"printed [\d,]+ lines", report.bug)


@pytest.mark.parametrize(
    ("exit_", "told"),
    [
        (lambda: sys.exit(3), "SystemExit: 3"),
        (lambda: asyncio.CanceledError, "AttributeError: module 'asyncio' has no attribute 'CanceledError'"),  # type: ignore[attr-defined]
        (lambda: {}["key"], "KeyError: 'key'"),
    ],
    ids=["exit", "misspelt", "key"],
)
async def test_a_bug_behind_the_fault_that_breaks_no_rule(exit_: Any, told: str) -> None:
    """The handler keeps all of them, and is not right."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        async with labkit.resource("database"):
            async for message in ws:
                await ws.send_str(message.data)
        exit_()
        return ws

    report = await labkit.check(NAME, handler)
    assert report.bug is not None
    assert told in report.bug
    assert "exit_()" in report.bug
    assert not labkit.progress().done


async def test_a_loop_that_asks_for_ever_is_a_bug() -> None:
    """The library answers at once, without a turn of the loop; the lab still comes to its end."""

    async def handler(websocket: Any) -> None:
        while True:
            try:
                await websocket.send(await websocket.recv())
            except Exception:
                labkit.note("lost")

    report = await labkit.check("recv", handler)
    assert report.bug is not None
    assert "leave the loop when the exception comes" in report.bug


async def test_a_step_that_never_gives_the_loop_back_is_a_bug() -> None:
    """It is told with its line, after the first run that shows it, and no further run begins."""

    async def my_handler(request: Any) -> Any:
        ws = await connected(request)
        async with labkit.resource("database"):
            async for message in ws:
                await ws.send_str(message.data)
            while True:
                time.sleep(0.05)  # noqa: ASYNC251 - as good as `pass`, which would keep a processor busy

    report = await labkit.check(NAME, my_handler)
    line = my_handler.__code__.co_firstlineno + 5
    assert re.match(
        rf"your handler kept the loop for [\d,]+ ms, in line ({line}|{line + 1}), until the lab ended", report.bug or ""
    )
    assert len(report.runs) == 1


@pytest.mark.slow
async def test_a_handler_that_keeps_the_loop_again_and_again_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up all its runs, so they are broken off, and one is played by itself and told."""
    monkeypatch.setattr(bugs, "_OFTEN", (4, 0.2))

    async def my_handler(websocket: Any) -> None:
        with suppress(ConnectionClosed):
            while True:
                with suppress(TimeoutError):
                    await websocket.send(await asyncio.wait_for(websocket.recv(), 0.001))
                time.sleep(scaled(0.08))  # noqa: ASYNC251 - that is what is wrong with it

    report = await labkit.check("receive-timeout", my_handler)
    line = my_handler.__code__.co_firstlineno + 5
    found = re.match(
        rf"your handler kept the loop (\d+) times, for [\d,]+ ms in all, in line {line}: ", report.bug or ""
    )
    assert found, report
    assert int(found[1]) >= 4
    assert len(report.runs) == 1


@pytest.mark.slow
async def test_work_may_keep_the_loop_where_a_rule_judges_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the exercise whose handler has jobs to do, every run is played."""
    monkeypatch.setattr(bugs, "_OFTEN", (1, 0.01))
    busy = labkit.EXERCISES["busy"]
    [handler] = [wrong for wrong in busy.wrong if wrong.__name__ == "blocks_the_loop"]
    rules = tuple(rule for rule in busy.rules if rule.name == "release")
    monkeypatch.setitem(labkit.EXERCISES, "busy", dataclasses.replace(busy, rules=rules))
    report = await labkit.check("busy", handler)
    assert report.bug is None, report
    assert len(report.runs) == 3


async def test_a_handler_that_blocks_beside_others_alone_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it does not do so again, and its rules are asked."""
    monkeypatch.setattr(bugs, "_OFTEN", (1, 0.05))
    calls = 0

    async def my_handler(websocket: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            time.sleep(scaled(0.15))  # noqa: ASYNC251 - as an import of a large module, at the first call
        await labkit.EXERCISES["recv"].solution(websocket)

    report = await labkit.check("recv", my_handler)
    assert report.passed, report


async def test_a_cancel_of_the_handlers_own_is_a_bug() -> None:
    """Where nobody has cancelled it, after a goodbye on aiohttp's default."""

    async def my_handler(request: Any) -> Any:
        await labkit.EXERCISES["catch-cancelled"].solution(request)
        raise asyncio.CancelledError

    report = await labkit.check("catch-cancelled", my_handler)
    assert "your handler ended as cancelled, though nobody cancelled it" in (report.bug or ""), report


async def test_a_flood_of_notes_is_a_bug() -> None:
    """As one of prints."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            for _ in range(300):
                labkit.note("got one")
            await websocket.send(message)

    report = await labkit.check("recv", handler)
    assert report.bug is not None
    assert re.search(r"noted \d{3} things", report.bug)


async def test_a_keyboard_interrupt_in_a_handler_ends_the_check_at_once() -> None:
    """As it ends a run: by a cancel of who asked, who need not wait for the others."""
    started = time.monotonic()

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        async for message in ws:
            await ws.send_str(message.data)
        await asyncio.Event().wait()

    interrupted: list[bool] = []
    checking = asyncio.create_task(labkit.check(NAME, handler))
    await asyncio.wait([checking])
    assert checking.cancelled()
    assert checking.cancelling() == 1
    assert time.monotonic() - started < scaled(1.5)


async def test_an_object_that_can_be_called_is_a_handler() -> None:
    """In an exercise that gives more than the connection, too."""

    class Handler:
        async def __call__(self, websocket: Any, members: Any) -> None:
            await labkit.EXERCISES["members"].solution(websocket, members)

    report = await labkit.check("members", Handler())
    assert report.passed, report


async def test_the_members_are_no_strangers() -> None:
    """The handler is to write to their clients, so the report does not say that it is unknown whose doing that is."""
    report = await labkit.check("members", labkit.EXERCISES["members"].starter)
    assert report.runs
    assert not [run.verdict.sentence for run in report.runs if "another experiment" in run.verdict.sentence]
    assert not [run for run in report.runs if run.timeline.select("loop", "met")]


@pytest.mark.parametrize("name", [NAME, "members"])
async def test_a_wrong_signature_is_a_bug(name: str) -> None:
    """It says how to write it."""

    async def handler() -> None: ...

    report = await labkit.check(name, handler)
    assert report.bug is not None
    assert "write it as: async def" in report.bug
    report = await labkit.check(name, lambda *_: None)  # type: ignore[arg-type, return-value]
    assert report.bug is not None
    assert "not a coroutine function" in report.bug
    assert (await labkit.check(name, 5)).bug is not None  # type: ignore[arg-type]


async def test_a_handler_for_the_other_library_is_told() -> None:
    """The most frequent mix-up has a sentence of its own."""
    report = await labkit.check(NAME, labkit.EXERCISES["recv"].solution)
    assert report.bug is not None
    assert "is it written for websockets?" in report.bug


async def test_more_time_is_no_help_for_what_a_handler_does_not_show() -> None:
    """Nothing was open when the client vanished, on any machine."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        async with labkit.resource("database"):
            pass
        async for message in ws:
            await ws.send_str(message.data)
        return ws

    report = await labkit.check(NAME, handler)
    assert report.unknown == ("release",)
    assert "LABKIT_TIME_SCALE" not in str(report)
    assert "Change the handler" in " ".join(str(report).split())


async def test_a_handler_that_never_ends_is_not_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that held up each run by a little: that is no reason for seconds, nor for what follows from them."""
    monkeypatch.setattr(checking, "was_held_up", lambda _: True)
    started = 0

    async def handler(websocket: Any) -> None:
        nonlocal started
        started += 1
        await labkit.EXERCISES["busy"].starter(websocket)

    report = await labkit.check("busy", handler, clock="autojump")
    assert report.unknown == ("no-rest", "nothing-escapes")
    assert report.broken == ("ends", "release")
    assert started == len(report.runs)


@pytest.mark.parametrize("clock", ["real", "autojump"])
async def test_what_a_handler_is_given_is_of_the_loop_in_which_it_runs(clock: ClockName) -> None:
    """It may wait for what another client answers."""

    async def handler(websocket: Any, members: Any) -> None:
        members.add(websocket)
        try:
            async for message in websocket:
                for member in list(members):
                    with suppress(ConnectionClosed):
                        if member is not websocket:
                            await (await member.ping())
                        await member.send(message)
        except ConnectionClosed:
            pass
        finally:
            members.remove(websocket)

    report = await labkit.check("members", handler, clock=clock)
    assert report.passed, report


async def test_a_rule_is_unknown_where_its_fault_never_struck() -> None:
    """A handler that leaves early has not survived anything."""
    report = await labkit.check(NAME, next(iter(h for h, rule in EXERCISE.wrong.items() if rule == "echo")))
    assert report.broken == ("echo",)
    assert report.unknown == ("release", "passes")


@pytest.mark.parametrize("name", [NAME, "members", "survive-websockets"])
@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, 0.5])
async def test_an_interrupt_leaves_nothing(name: str, moment: float) -> None:
    """The stop button, in the middle of a check: no task, no socket, no process."""

    def left() -> tuple[set[str], set[str], set[Child]]:
        tasks = {str(task) for task in asyncio.all_tasks() - {asyncio.current_task()}}
        return tasks, sockets(), children()

    await labkit.play(handlers.echo("websockets"), on="websockets")  # what is made once and kept is there
    before = left()
    checking = asyncio.create_task(labkit.check(name, labkit.EXERCISES[name].solution))
    await asyncio.sleep(moment)
    checking.cancel()
    await asyncio.wait([checking])
    assert checking.cancelled() or checking.result().passed  # a quick one may have been through
    for _ in range(20):  # what has been closed takes a few turns to be gone
        await asyncio.sleep(0.01)
    assert left() == before


async def test_a_forgotten_response_is_a_bug() -> None:
    """The library logs it, whichever rules are kept."""

    async def handler(request: Any) -> None:
        ws = await connected(request)
        async for message in ws:
            await ws.send_str(message.data)
        labkit.note("bye" if ws.close_code in (0, 1000, 1001) else "lost")

    report = await labkit.check("goodbye", handler)
    assert report.bug is not None
    assert "returned nothing" in report.bug
    assert "return ws" in report.bug


def test_a_forgotten_await_is_a_bug() -> None:
    """It is named, with its line; the second time too, though Python warns once of a line."""
    program = """
import asyncio, labkit
async def handler(websocket):
    async for message in websocket:
        websocket.send(message)
async def twice():
    for _ in range(2):
        print((await labkit.check("recv", handler)).bug)
asyncio.run(twice())
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"your handler calls \S*send\(\) without await, in line (\d+)", out) == ["5", "5"], out


async def test_a_bug_in_a_task_group_is_named() -> None:
    """By the member of the group, not by the group."""

    async def handler(websocket: Any) -> None:
        async def read() -> None:
            await websocket.recv()
            no_such_name.read()  # type: ignore[name-defined] # noqa: F821

        async with asyncio.TaskGroup() as group:
            group.create_task(read())

    report = await labkit.check("recv", handler)
    assert report.bug is not None
    assert "NameError: name 'no_such_name' is not defined" in report.bug


async def test_swapped_arguments_are_told() -> None:
    """By their names; by what happens, if they have other names."""

    async def swapped(members: Any, websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    async def renamed(everybody: Any, ws: Any) -> None:
        everybody.add(ws)

    report = await labkit.check("members", swapped)
    assert report.bug is not None
    assert "in this order, and takes members and websocket" in report.bug
    report = await labkit.check("members", renamed)
    assert report.bug is not None
    assert "are its two arguments swapped?" in report.bug


async def test_a_decorator_may_supply_an_argument() -> None:
    """What counts is how the handler is called, not what it wraps."""

    def with_words(handler: Any) -> Any:
        @functools.wraps(handler)
        async def call(websocket: Any, members: Any) -> None:
            await handler(websocket, members, "words")

        return call

    @with_words
    async def handler(websocket: Any, members: Any, words: str) -> None:
        await labkit.EXERCISES["members"].solution(websocket, members)

    report = await labkit.check("members", handler)
    assert report.passed, report


async def test_a_resource_that_was_opened_elsewhere() -> None:
    """It is not none; one that is only made elsewhere is as good as any."""
    made = labkit.resource("database", closing=0.01)
    open_already = await labkit.resource("database", closing=0.01).open()

    async def uses(request: Any) -> Any:
        ws = await connected(request)
        async with made:
            async for message in ws:
                await ws.send_str(message.data)
        return ws

    async def closes(request: Any) -> Any:
        ws = await connected(request)
        try:
            async for message in ws:
                await ws.send_str(message.data)
        finally:
            await open_already.close()
        return ws

    assert (await labkit.check(NAME, uses)).passed
    report = await labkit.check(NAME, closes)
    assert report.broken == ("release",)
    assert "opened elsewhere" in str(report)


async def test_a_handler_that_never_upgrades() -> None:
    """The client was refused, and so nothing came back."""

    async def handler(request: Any) -> Any:
        return web.Response(text="hello")

    report = await labkit.check(NAME, handler)
    assert report.bug is None
    assert report.broken == ("echo", "release")
    assert "your handler returned" in report.results[0].evidence


@pytest.mark.parametrize(("scale", "most"), [("1", 20), ("20", 1)])
async def test_a_slow_machine_does_less_at_once(scale: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner's own heartbeat is not multiplied, so the loop must not be late for it."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", scale)
    active, seen = 0, 0

    async def handler(request: Any) -> Any:
        nonlocal active, seen
        active += 1
        seen = max(seen, active)
        try:
            return await labkit.EXERCISES["goodbye"].solution(request)
        finally:
            active -= 1

    assert (await labkit.check("goodbye", handler)).passed
    assert seen == 1 if most == 1 else 1 < seen <= most
