"""matrix(): every cell is an experiment of its own, and what is wrong with one is not with the others."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadHandler, BadOption, BadValue, UnknownName
from labkit.events import HandlerNote
from labkit.experiment import many
from labkit.matrices.plan import plan
from labkit.support.descriptors import descriptors_for, room_for
from tests import handlers
from tests.left import sockets

ROOT = Path(__file__).parents[2]


async def echo(websocket: Any) -> None:
    """The handler that everyone starts from."""
    async for message in websocket:
        await websocket.send(message)


async def quiet(websocket: Any) -> None:
    """One that takes the end of a connection for what it is."""
    import websockets

    try:
        await echo(websocket)
    except websockets.ConnectionClosed:
        labkit.note("gone")


# --- the table -------------------------------------------------------------------------------------------------------


async def test_every_handler_meets_every_fault_on_every_stack() -> None:
    """The cells stand stack by stack, handler by handler, with what each run proves."""
    faults = ["close", labkit.Close(code=4000), "reset"]
    table = await labkit.matrix([echo, quiet], on=["websockets"], faults=faults)
    assert [(cell.handler, cell.stack, cell.family, cell.fault) for cell in table.cells] == [
        (name, "websockets", family, fault)
        for name in ("echo", "quiet")
        for family, fault in (("closing", "close"), ("closing", "close(code=4000)"), ("transport", "reset"))
    ]
    assert [cell.outcome for cell in table.cells] == ["clean", "raised", "raised", "clean", "clean", "clean"]
    assert all(cell.seconds for cell in table.cells)


async def test_all_stacks_and_all_faults_unless_named() -> None:
    """What is left out is everything there is; a handler for a library serves each of its stacks."""
    given = {"echo": {"aiohttp": handlers.aiohttp_echo, "websockets": handlers.websockets_echo}}
    table = await labkit.matrix(given, faults="close")
    assert [cell.stack for cell in table.cells] == list(handlers.STACKS)
    assert {cell.outcome for cell in table.cells} == {"clean"}
    assert [run.handler for run in table.runs if run] == ["aiohttp_echo", "aiohttp_echo", "websockets_echo"]
    jobs = plan([handlers.listen], "aiohttp", None, {})
    assert [job.cell.fault for job in jobs] == list(labkit.FAULTS)


async def test_a_stack_without_a_handler_is_left_out() -> None:
    """A mapping names the stacks that a handler is for."""
    given = {"a": {"aiohttp-cancel": handlers.aiohttp_echo}, "b": handlers.listen}
    table = await labkit.matrix(given, on=["aiohttp", "aiohttp-cancel", "aiohttp"], faults=["close", "close"])
    names = [(cell.stack, cell.handler) for cell in table.cells]
    assert names == [("aiohttp", "b"), ("aiohttp-cancel", "a"), ("aiohttp-cancel", "b")]


async def test_a_cell_is_found_by_names_and_by_objects() -> None:
    """The key may hold what the matrix was given; what is unknown is told with the nearest name."""
    table = await labkit.matrix({"one": echo, "two": quiet}, on="websockets", faults=["fin", labkit.Close(code=4000)])
    run = table["two", "websockets", "close(code=4000)"]
    assert (run.handler, run.fault) == ("quiet", "close(code=4000)")
    assert table[quiet, "websockets", labkit.Close(code=4000)] is run
    assert table["two", "websockets", "close"] is run
    assert table[echo, "websockets", labkit.Fin()].verdict.ending == "raised"
    with pytest.raises(UnknownName, match=r"no handler 'ona'. Did you mean 'one'?"):
        table["ona", "websockets", "fin"]
    with pytest.raises(UnknownName, match="no stack 'aiohttp'"):
        table["one", "aiohttp", "fin"]
    with pytest.raises(UnknownName, match=r"no fault 'fan'. Did you mean 'fin'?"):
        table["one", "websockets", "fan"]
    with pytest.raises(labkit.LabError, match="a cell has three names"):
        table["one"]  # type: ignore[index]


async def test_runs_that_were_played_one_by_one_make_a_table_too() -> None:
    """Under the names that they are given; and it can be put behind another table."""
    runs = [await labkit.play(quiet, on="websockets", fault=fault) for fault in ("close", "reset")]
    table = await labkit.matrix([echo], on="websockets", faults=["close", "reset"])
    both = table + labkit.Matrix.of({"mine": runs})
    assert [(cell.handler, cell.family, cell.fault, cell.outcome) for cell in both.cells] == [
        ("echo", "closing", "close", "clean"),
        ("echo", "transport", "reset", "raised"),
        ("mine", "closing", "close", "clean"),
        ("mine", "transport", "reset", "clean"),
    ]
    assert both["mine", "websockets", "reset"] is runs[1]
    assert both[echo, "websockets", "close"] is table.runs[0]
    assert [run.outcome for run in both.runs if run] == ["clean", "raised", "clean", "clean"]


async def test_of_several_runs_of_one_cell_the_worst_counts() -> None:
    """A check plays a fault more than once; the chart has one cell for it, and counts one."""
    runs = [await labkit.play(handler, on="websockets", fault="reset") for handler in (quiet, echo, quiet)]
    table = labkit.Matrix.of({"mine": runs})
    assert [cell.outcome for cell in table.cells] == ["raised"]
    assert table["mine", "websockets", "reset"] is runs[1]
    assert str(table).startswith("1 cell: 1 raised")
    assert labkit.Matrix.of({}).cells == ()


async def test_rows_are_flat() -> None:
    """Text, numbers and None, as data frames take them, and the same names in every row."""
    table = await labkit.matrix([echo], on="websockets", faults=["reset", "close"])
    row, other = table.rows()
    assert row.keys() == other.keys()
    assert all(isinstance(value, str | int | float | None) for row in table.rows() for value in row.values())
    assert (row["outcome"], row["ending"], row["noticed"], row["reason"]) == ("raised", "raised", "yes", "")
    assert "ConnectionClosedError" in str(row["exception"])
    assert "connection handler failed" in str(row["complaints"])
    assert (other["exception"], other["close_code"], other["leaked"]) == ("", 1000, "")
    assert (other["swallowed"], other["clock"]) == ("", "real")
    json.dumps(table.rows())


async def test_a_table_shows_itself() -> None:
    """As text in print, as one picture with a table beneath it in a notebook."""
    table = await labkit.matrix([echo], on="websockets", faults="close")
    assert str(table).startswith("1 cell: 1 clean\n")
    bundle = table._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", "text/html"}
    assert (bundle["text/html"].count("<img"), bundle["text/html"].count("<table")) == (1, 1)
    assert table._repr_mimebundle_(include=["text/plain"]) == {"text/plain": str(table)}
    assert len(table.plot(worst_first=True).axes) == 1


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"handlers": []}, BadValue, "there are no handlers"),
        ({"handlers": echo}, BadHandler, r"matrix takes a list of handlers, such as \[echo\]"),
        ({"handlers": "echo"}, BadHandler, "matrix takes a list of handlers, or a mapping"),
        ({"handlers": [3]}, BadHandler, "the handler is 3, which cannot be called"),
        ({"handlers": [echo, handlers.release]}, BadHandler, "'release' takes nothing"),
        ({"handlers": {"a": {"websocket": echo}}}, UnknownName, "no stack 'websocket'. Did you mean 'websockets'?"),
        ({"handlers": {"a": {}}}, BadHandler, "'a' has no handler"),
        ({"handlers": {"a": {"aiohttp": echo}}}, BadValue, "none of the handlers is for websockets"),
        ({"on": ["websocket"]}, UnknownName, "no stack 'websocket'. Did you mean 'websockets'?"),
        ({"on": []}, BadValue, "on is empty; it takes one of the stacks or more"),
        ({"on": 3}, BadValue, "on=3; it takes a list of stacks"),
        ({"faults": ["rest"]}, UnknownName, "no fault 'rest'. Did you mean 'reset'?"),
        ({"faults": ()}, BadValue, "faults is empty"),
        ({"ping_intervall": 3}, BadOption, "no serve option 'ping_intervall'. Did you mean 'ping_interval'?"),
        ({"fault": "fin"}, BadOption, "no serve option 'fault'"),
        ({"messages": "hello"}, BadValue, "messages='hello'; it takes a sequence"),
        ({"patience": 0}, BadValue, "patience=0"),
        ({"client": "chrome"}, UnknownName, "no client 'chrome'"),
        ({"executor": "pool"}, BadValue, "executor='pool'; it takes a concurrent.futures.Executor"),
    ],
)
def test_bad_input_gets_one_sentence_before_anything_runs(
    arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    """The first step of the coroutine raises, outside every loop."""
    given: dict[str, Any] = {"handlers": [echo], "on": ["websockets"], **arguments}
    with pytest.raises(error, match=sentence):
        labkit.matrix(given.pop("handlers"), **given).send(None)


def test_two_handlers_of_one_name_need_a_mapping() -> None:
    """Or nobody could tell their rows apart; the same one twice is one."""

    def make() -> Any:
        async def twin(websocket: Any) -> None: ...

        return twin

    twin, other = make(), make()
    with pytest.raises(BadHandler, match="two handlers of the name 'twin'; give a mapping"):
        labkit.matrix([twin, other]).send(None)
    assert len(plan([twin, twin], "websockets", "fin", {})) == 1
    assert len(plan({"a": twin, "b": other}, "websockets", "fin", {})) == 2


# --- cells that go wrong, side by side -------------------------------------------------------------------------------


async def test_a_cell_that_breaks_is_unknown_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not failed: nothing was measured there. The reason is kept."""

    async def breaks(handler: Any, on: str, fault: Any, **options: Any) -> labkit.Run:
        if fault.name == "fin":
            raise RuntimeError("no more sockets")
        return await labkit.play(handler, on, fault, **options)

    monkeypatch.setattr(many, "play", breaks)
    table = await labkit.matrix([echo], on="websockets", faults=["close", "fin", "reset"])
    assert [cell.outcome for cell in table.cells] == ["clean", "unknown", "raised"]
    assert [cell.reason for cell in table.cells] == [None, "RuntimeError: no more sockets", None]
    with pytest.raises(labkit.LabError, match="echo on websockets against fin has no run: RuntimeError: no more so"):
        table["echo", "websockets", "fin"]
    row = table.rows()[1]
    assert {row[name] for name in ("outcome", "ending", "noticed", "cleanup", "leaked", "sentence")} == {"unknown"}
    assert (row["close_code"], row["noticed_after"]) == (None, None)
    assert "RuntimeError: no more sockets" in str(table)


async def test_a_fault_that_cannot_be_staged_costs_its_own_cells_only() -> None:
    """With a library's client some faults are impossible: they say why."""
    table = await labkit.matrix([echo], on="websockets", faults=["no-code", "reset"], client="websockets")
    assert [cell.verdict is None for cell in table.cells] == [True, False]
    assert str(table.cells[0].reason).startswith("no-code cannot be staged: the client of websockets always sends")


async def test_cells_keep_what_is_theirs() -> None:
    """Twelve cells at once: prints, logs, leaks and exceptions stay with the handler that they are of."""
    kept: set[asyncio.Task[Any]] = set()

    def make(name: str, leaks: bool) -> Any:
        async def handler(websocket: Any) -> None:
            print(f"print of {name}")  # noqa: T201 - what is tested
            logging.getLogger(name).warning("log of %s", name)
            if leaks:
                kept.add(asyncio.create_task(asyncio.Event().wait(), name=f"leak-of-{name}"))
            try:
                await echo(websocket)
            finally:
                raise ValueError(f"exception of {name}")

        return handler

    names = [f"handler{n}" for n in range(6)]
    table = await labkit.matrix(
        {name: make(name, n % 2 == 0) for n, name in enumerate(names)}, on="websockets", faults=["close", "fin"]
    )
    for cell, run in zip(table.cells, table.runs, strict=True):
        assert run is not None
        assert cell.verdict is not None
        leaks = int(cell.handler[-1]) % 2 == 0
        assert [event.text for event in run.timeline.select("handler", "print")] == [f"print of {cell.handler}"]
        assert cell.verdict.exception == f"ValueError: exception of {cell.handler}"
        assert cell.verdict.complaints[0] == f"WARNING {cell.handler}: log of {cell.handler}"
        assert cell.outcome == ("leaked" if leaks else "raised")
        assert [f"leak-of-{cell.handler}" in left for left in cell.verdict.leaked] == [True] * leaks


async def test_no_more_at_once_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait; the time of a cell is its own."""
    running = most = 0

    async def counting(handler: Any, on: str, fault: Any, **options: Any) -> labkit.Run:
        nonlocal running, most
        running += 1
        most = max(most, running)
        run = await labkit.play(handler, on, fault, **options)
        running -= 1
        return run

    monkeypatch.setattr(many, "play", counting)
    monkeypatch.setattr(many, "room_for", lambda each, most: 2)
    await labkit.matrix([echo, quiet], on="websockets", faults=["close", "fin", "reset"])
    assert most == 2


def test_the_room_is_what_the_system_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell has a dozen sockets and the like: two that listen, the client's, the ends of the relay."""
    resource = pytest.importorskip("resource")
    for soft, expected in [(20_000, {100}), (resource.RLIM_INFINITY, {100}), (256, set(range(4, 16))), (8, {1})]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert room_for(descriptors_for(1), 100) in expected


# --- interrupts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancels", [1, 2, 5])
async def test_an_interrupt_gives_what_is_done(cancels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells under way end, nothing of them is left, and the table comes back; an impatient one changes nothing."""
    started, finished = asyncio.Event(), asyncio.Event()
    before = sockets(), len(asyncio.all_tasks())

    async def hangs(websocket: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    async def tells(handler: Any, on: str, fault: Any, **options: Any) -> labkit.Run:
        run = await labkit.play(handler, on, fault, **options)
        finished.set()
        return run

    monkeypatch.setattr(many, "play", tells)
    monkeypatch.setattr(many, "room_for", lambda each, most: 2)

    async def cell_of_a_notebook() -> tuple[labkit.Matrix, int]:
        table = await labkit.matrix([echo, hangs, quiet], on="websockets", faults="close", patience=1000)
        task = asyncio.current_task()
        assert task is not None
        return table, task.cancelling()

    task = asyncio.create_task(cell_of_a_notebook())
    await started.wait()
    await finished.wait()
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    table, cancelling = await task
    assert cancelling == 0
    assert [cell.reason for cell in table.cells][:2] == [None, "interrupted"]
    assert [cell.outcome for cell in table.cells][:2] == ["clean", "unknown"]
    assert table.rows()[1]["seconds"] is None
    for _ in range(20):  # what has been closed takes a few turns to be gone
        await asyncio.sleep(0)
    assert (sockets(), len(asyncio.all_tasks())) == before
    table = await labkit.matrix([echo], on="websockets", faults="close")
    assert table.cells[0].outcome == "clean"


SCRIPT = """
import asyncio, os
import labkit

async def hangs(websocket):
    os.write(1, b"started\\n")
    await asyncio.Event().wait()

async def returns(websocket):
    await websocket.recv()

table = labkit.run(labkit.matrix([hangs], on="websockets", faults="reset", patience=1000))
print(table.cells[0].reason)
print(labkit.run(labkit.matrix([returns], on="websockets", faults="reset")).cells[0].verdict.ending)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_a_script_goes_on_behind_the_matrix() -> None:
    """The script has its table, partial as it is, and what follows in it runs."""
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True, cwd=ROOT) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "started\n"
        script.send_signal(signal.SIGINT)
        assert script.communicate()[0] == "interrupted\nreturned\n"
    assert script.returncode == 0


# --- other processes -------------------------------------------------------------------------------------------------

POOL = """
import asyncio, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
import labkit
from labkit.experiment import many
from tests import handlers

async def local(websocket): ...

async def main(pool):
    table = await labkit.matrix([handlers.listen, handlers.release_all], on=["websockets"], faults=["close", "reset"],
                                executor=pool, patience=1000)
    for cell, run in zip(table.cells, table.runs, strict=True):
        print(cell.handler, cell.fault, cell.outcome, run.verdict == cell.verdict, len(run.timeline) > 5)
    for broken in [sys.stdin, 3]:
        try:
            await labkit.matrix([handlers.listen], on="websockets", faults="fin", executor=pool, open_timeout=broken)
        except labkit.LabError as error:
            print(error)
    many._BATCH = 1
    task = asyncio.create_task(labkit.matrix([handlers.hangs], on="websockets", executor=pool, patience=0.5))
    while not os.path.exists("started"):
        await asyncio.sleep(0.01)
    task.cancel()
    print({cell.reason for cell in (await task).cells}, task.cancelled())
    print(len(open("started").readlines()) < len(labkit.FAULTS) / 2)
    print([cell.outcome for cell in (await labkit.matrix([handlers.listen], on="websockets", faults="close",
                                                         executor=pool)).cells])
    table = await labkit.matrix([handlers.dies], on="websockets", faults=["fin"], executor=pool)
    print(table.cells[0].reason)

if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        asyncio.run(main(pool))
"""

MODULE = """
import asyncio, os
import labkit, labkit.timeline

async def listen(websocket):
    async for message in websocket:
        await websocket.send(message)

async def release_all(websocket):
    labkit.timeline.scope.get().timeline.record("handler", "note", "without data")
    async with labkit.resource("database"):
        await listen(websocket)

async def hangs(websocket):
    with open("started", "a") as file:
        print("hangs", file=file)
    await asyncio.Event().wait()

async def dies(websocket):
    os._exit(3)
"""


def test_cells_may_be_played_in_other_processes(tmp_path: Path) -> None:
    """The runs come back whole; what cannot be sent is told; an interrupt takes back what has not begun."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "handlers.py").write_text(MODULE)
    (tmp_path / "pool.py").write_text(POOL)
    done = subprocess.run([sys.executable, "pool.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    first, rest = done.stdout.splitlines()[:4], done.stdout.splitlines()[4:]
    assert first == [
        "listen close clean True True",
        "listen reset raised True True",
        "release_all close clean True True",
        "release_all reset raised True True",
    ]
    assert "the options cannot be sent to another process" in rest[0]
    assert rest[1:] == ["{'interrupted'} False", "True", "['clean']", "its worker died each time while it was played"]


async def test_each_cell_may_have_several_clients() -> None:
    """Alone, the handler is clean; with two, the one who is gone stays on the list, and the other gets no answer."""
    members: set[Any] = set()

    async def tells_everybody(websocket: Any) -> None:
        import websockets

        members.add(websocket)
        try:
            async for message in websocket:
                for member in sorted(members, key=lambda member: member is websocket):
                    await member.send(message)
        except websockets.ConnectionClosed:
            labkit.note("gone")

    told = {}
    for clients in (1, 2):
        members.clear()
        table = await labkit.matrix([tells_everybody], on="websockets", faults="reset", clients=clients)
        told[clients] = table["tells_everybody", "websockets", "reset"]
        assert len(told[clients].connections) == clients
    assert (told[1].outcome, told[2].outcome) == ("clean", "unserved")
    assert "Connection 2 was no longer answered, and its handler returned." in told[2].verdict.sentence


async def test_a_cell_may_tell_the_worst_of_every_moment() -> None:
    """At the end of the conversation the order is written; at one moment before, the card is charged and it is not."""

    async def order(request: Any) -> Any:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for _ in ws:
            async with labkit.resource("charge"):
                await asyncio.sleep(0)
                labkit.note("charged")
                await ws.send_str("charged")
            labkit.note("written")
        return ws

    faults = ["second-cancel", "handshake-cut"]
    once = await labkit.matrix([order], "aiohttp-cancel", faults)
    every = await labkit.matrix([order], "aiohttp-cancel", faults, when="every")
    assert [cell.outcome for cell in once.cells] == ["clean", "unstarted"]
    assert [cell.outcome for cell in every.cells] == ["cut", "unstarted"]
    assert "second-cancel at await" in every["order", "aiohttp-cancel", "second-cancel"].verdict.sentence
    assert "written" not in [
        note.text for note in every[order, "aiohttp-cancel", "second-cancel"].timeline.all(HandlerNote)
    ]


async def test_an_application_is_no_mapping_from_libraries_to_handlers() -> None:
    """That of aiohttp is a mapping, of what it keeps. One that has been made runs once; the cells after that say so."""

    async def echoes(request: Any) -> Any:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
        return ws

    def make() -> web.Application:
        app = web.Application()
        app.router.add_get("/", echoes)
        return app

    listed = await labkit.matrix([make()], "aiohttp", "close")
    named = await labkit.matrix({"old": make(), "new": {"aiohttp": make()}}, "aiohttp", "close")
    assert listed["Application", "aiohttp", "close"].outcome == "clean"
    assert [cell.outcome for cell in named.cells] == ["clean", "clean"]
    again = await labkit.matrix([make()], "aiohttp", ["close", "fin"])
    assert [cell.outcome for cell in again.cells] == ["clean", "unknown"]
    assert "runs once: give the function that makes it" in " ".join(str(again).split())
    with pytest.raises(BadHandler, match=r"takes a list of handlers, such as \[Application\]"):
        await labkit.matrix(make(), "aiohttp", "close")
    strip = await labkit.moments(make(), on="aiohttp", fault="close")
    assert strip.rows()


async def test_what_takes_real_time_begins_first() -> None:
    """A client's process, and a server that is blocked, wait on any clock; the others have the processor meanwhile."""
    faults = ["close", "sigkill", "fin", "blocked-loop"]
    table = await labkit.matrix([handlers.websockets_echo], on=["websockets"], faults=faults, progress=False)
    began = {run.fault: run.timeline.began for run in table.runs if run is not None}
    assert sorted(began, key=lambda fault: began[fault]) == ["sigkill", "blocked-loop", "close", "fin"]
