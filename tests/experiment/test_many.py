"""Many experiments in other processes: the runs come back whole, and a worker that dies costs nobody else a run."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import linecache
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest
from fastapi import WebSocket, WebSocketDisconnect
from websockets.asyncio.server import broadcast

import labkit
from labkit.errors import BadHandler, BadValue
from labkit.events import HandlerBlocked, LoopHeldUp, LoopMet
from labkit.experiment import many
from labkit.support.clock import scaled

FAULTS = ["close", "reset"]

FILE = f"/tmp/ipykernel_{os.getpid()}/1.py"

#: As a notebook has it: in no module, and in no file.
CELL = """
async def chat(websocket):
    async with labkit.resource("database"):
        async for message in websocket:
            await websocket.send(message)

async def dies(websocket):
    os._exit(3)

async def waits(websocket):
    with open(folder + "/" + str(os.getpid()), "a") as file:
        file.write("waits ")
    async for message in websocket:
        await websocket.send(message)
"""


def in_a_notebook(name: str, **names: Any) -> Callable[[Any], Any]:
    """Make a function of a notebook's cell."""
    linecache.cache[FILE] = len(CELL), None, CELL.splitlines(keepends=True), FILE
    namespace: dict[str, Any] = {"labkit": labkit, "os": os, "__name__": "__main__", **names}
    exec(compile(CELL, FILE, "exec"), namespace)
    handler: Callable[[Any], Any] = namespace[name]
    return handler


@pytest.fixture(scope="module", autouse=True)
def _tracker() -> None:
    """Multiprocessing's own process, which outlives every pool of the program that has made the first."""
    resource_tracker.ensure_running()


def processes(count: int) -> ProcessPoolExecutor:
    """A pool as people make one where the loop already runs."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))


#: A program with a Dask cluster of two processes, one of which it kills; its handler stands in the program itself.
CLUSTER = """
import asyncio, os, signal, sys
import distributed, labkit

async def waits(websocket):
    open(f"{folder}/{os.getpid()}", "w").close()
    async for message in websocket:
        await websocket.send(message)

async def main(executor):
    table = asyncio.create_task(labkit.matrix([waits], "websockets", executor=executor, patience=0.5))
    while not (found := os.listdir(folder)):
        await asyncio.sleep(0.01)
    os.kill(int(found[0]), signal.SIGKILL)
    for cell in (await table).cells:
        print(cell.fault, cell.reason)
    strip = await labkit.moments(waits, "websockets", executor=executor)
    print({strike.word for strike in strip.strikes})

if __name__ == "__main__":
    folder = sys.argv[1]
    with (
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        distributed.Client(cluster) as client,
    ):
        asyncio.run(main(client.get_executor(pure=False)))
"""


@pytest.mark.parametrize("make", [processes, ThreadPoolExecutor], ids=["processes", "threads"])
async def test_what_workers_play_is_what_the_running_loop_plays(make: Callable[[int], Executor]) -> None:
    """Matrix and strip have the same outcomes, the lines of a notebook's handler, and a run for each cell."""
    chat = in_a_notebook("chat")
    here = await labkit.matrix([chat], ["websockets"], FAULTS, progress=False)
    with make(2) as executor:
        there = await labkit.matrix([chat], ["websockets"], FAULTS, executor=executor, progress=False)
        strip = await labkit.moments(chat, "websockets", executor=executor, progress=False)
    assert [cell.outcome for cell in there.cells] == [cell.outcome for cell in here.cells] == ["clean", "raised"]
    assert [run is not None and run.verdict for run in there.runs] == [cell.verdict for cell in there.cells]
    assert 'async with labkit.resource("database")' in str(there.runs[0] and there.runs[0].source())
    assert len(strip) > 1
    assert {strike.word for strike in strip.strikes} == {"raised"}


MODULE = """
import thehelper
async def chat(websocket):
    async for message in websocket:
        await thehelper.answer(websocket, {answer!r})
"""

HELPER = """
async def answer(websocket, text):
    await websocket.send(text)
"""


def have_an_older_version(new: Path, old: Path) -> None:
    """Make of a worker one that has been there for longer than the file as it is now; the helper it has never had."""
    sys.path[:] = [str(old), *(folder for folder in sys.path if folder != str(new))]


async def test_a_module_of_the_users_own_travels_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is played is the code that was given, and not what the worker would import under that name, or cannot."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "theserver.py").write_text(MODULE.format(answer=name), "utf-8")
    (tmp_path / "new" / "thehelper.py").write_text(HELPER, "utf-8")
    monkeypatch.syspath_prepend(tmp_path / "new")
    handler = importlib.import_module("theserver").chat
    pool = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), have_an_older_version, (tmp_path / "new", tmp_path / "old")
    )
    with pool:
        table = await labkit.matrix([handler], "websockets", "close", executor=pool, progress=False)
    run = table["chat", "websockets", "close"]
    assert run is not None, table.cells
    assert [event.text for event in run.timeline.select("client", "recv")] == ["'new'"]
    assert "thehelper.answer" in str(run.source())


async def test_a_module_with_a_lock_is_imported_by_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot travel is found there by its name, as before."""
    source = "import threading\nLOCK = threading.Lock()\nasync def chat(websocket):\n    with LOCK:\n        pass\n"
    (tmp_path / "locked.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with processes(1) as pool:
        table = await labkit.matrix(
            [importlib.import_module("locked").chat], "websockets", "close", executor=pool, progress=False
        )
    assert [run is not None and run.verdict.ending for run in table.runs] == ["returned"]


async def test_a_handler_that_kills_its_worker_costs_nobody_else_a_run() -> None:
    """A pool breaks as a whole; each other cell is played again, and the table names the one that kills."""
    chat, dies = in_a_notebook("chat"), in_a_notebook("dies")
    with processes(2) as executor:
        table = await labkit.matrix({"chat": chat, "dies": dies}, "websockets", FAULTS, executor=executor)
    assert [cell.reason or cell.outcome for cell in table.cells] == [
        "clean",
        "raised",
        *["its worker died each time while it was played"] * 2,
    ]


async def first_in(folder: Path) -> int:
    """Wait until a handler runs, and tell in which process."""
    while not (found := os.listdir(folder)):  # noqa: ASYNC110, PTH208 - another process tells it, by this alone
        await asyncio.sleep(0.01)
    return int(found[0])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
async def test_the_cells_of_a_worker_that_is_killed_are_played_again(tmp_path: Path) -> None:
    """None is lost, and none is there twice."""
    waits = in_a_notebook("waits", folder=str(tmp_path))
    with processes(2) as executor:
        table = asyncio.create_task(labkit.matrix([waits], "websockets", executor=executor, patience=0.5))
        os.kill(await first_in(tmp_path), signal.SIGKILL)
        cells = (await table).cells
    assert [(cell.fault, cell.reason) for cell in cells] == [(fault, None) for fault in labkit.FAULTS]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_dask_cluster_that_loses_a_worker_plays_every_cell(tmp_path: Path) -> None:
    """The cluster gives the cells of a worker that was killed to another one."""
    pytest.importorskip("distributed")
    (program := tmp_path / "cluster.py").write_text(CLUSTER, "utf-8")
    (folder := tmp_path / "workers").mkdir()
    command = [sys.executable, str(program), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [*(f"{fault} None" for fault in labkit.FAULTS), "{'raised'}"], done.stderr


async def sleeps(websocket: Any) -> None:
    async for message in websocket:
        time.sleep(scaled(0.3))  # noqa: ASYNC251 - to block the loop is the point
        await websocket.send(message)


async def never_awaits(websocket: Any) -> None:
    await websocket.recv()
    while True:
        pass


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.soak)])
async def test_a_cell_that_blocks_does_not_falsify_its_neighbours(workers: int) -> None:
    """They are played again without it; and those that block, each by itself."""
    with processes(1) if workers else contextlib.nullcontext() as executor:
        table = await labkit.matrix(
            [sleeps, never_awaits, echo], "websockets", "close", executor=executor, patience=1, progress=False
        )
    assert [cell.outcome for cell in table.cells] == ["blocks", "blocks", "clean"]
    for run in filter(None, table.runs):
        events = run.timeline.until_stop()
        assert events.all(LoopHeldUp) == []
        assert all(block.apart or block.ended for block in events.all(HandlerBlocked))


members: set[Any] = set()


async def room(websocket: Any) -> None:
    """All that is said is told to all; who has gone is noticed by the one who speaks."""
    members.add(websocket)
    try:
        async for message in websocket:
            for member in members:
                await member.send(message)
    finally:
        members.remove(websocket)


async def hall(websocket: Any) -> None:
    members.add(websocket)
    async for message in websocket:
        broadcast(members, message)
    members.remove(websocket)


online: dict[str, Any] = {}


async def forgets(websocket: Any) -> None:
    """Everybody is called ann here, and who is lost stays online."""
    online["ann"] = websocket
    async for message in websocket:
        await websocket.send(message)
    del online["ann"]


def nobody_is_online(run: labkit.Run) -> bool:
    left = bool(online)
    online.clear()
    return not left


async def test_what_a_module_keeps_is_one_experiments_at_a_time() -> None:
    """So no cell raises for another one's sake, and an invariant looks at what its own run has left."""
    table = await labkit.matrix([forgets], "websockets", ["close", "going-away", "no-code"], progress=False)
    assert {cell.outcome for cell in table.cells} == {"clean"}
    strips = await labkit.moments(forgets, "websockets", ["reset", "close"], holds=nobody_is_online, progress=False)
    assert [[strike.holds for strike in strip.strikes] for strip in strips] == [[False] * 4, [True] * 4]


@pytest.mark.parametrize("handler", [room, hall])
async def test_handlers_that_share_their_clients_do_not_meet(handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each experiment is as it is by itself, also where nobody can see that they have the same list."""
    monkeypatch.setattr(many, "keeps_state", lambda target: False)
    faults = ["close", "fin", "reset", "going-away", "truncated-frame"]
    alone = [(await labkit.play(handler, "websockets", fault)).verdict for fault in faults]
    members.clear()
    table = await labkit.matrix([handler], "websockets", faults, progress=False)
    for run, verdict in zip(table.runs, alone, strict=True):
        assert run is not None
        assert (run.verdict.ending, run.verdict.exception) == (verdict.ending, verdict.exception), run
        assert len(run.timeline.select("client", "recv")) == 1, run
        assert run.timeline.until_stop().first(LoopMet) is None
    members.clear()


async def test_experiments_that_have_met_say_so() -> None:
    """Whoever plays them side by side by himself is told that nobody can know whose doing it is."""
    runs = await asyncio.gather(*(labkit.play(room, "websockets", "close") for _ in range(2)))
    told = [event.text for run in runs for event in run.timeline.all(LoopMet)]
    assert set(told) <= {
        "the handler writes to a client of another experiment",
        "the handler of another experiment writes to the client",
    }
    assert len(told) == 2
    assert all("another experiment had the same clients" in run.verdict.sentence for run in runs)
    members.clear()


async def test_what_cannot_travel_is_told_in_one_sentence() -> None:
    """Before any worker has begun."""
    lock = threading.Lock()
    chat = in_a_notebook("chat")

    async def holds_a_lock(websocket: Any) -> None:
        with lock:
            await chat(websocket)

    with processes(1) as executor:
        with pytest.raises(BadHandler, match=r"cannot be sent to another process \(.*\); define it in a module"):
            await labkit.matrix([holds_a_lock], "websockets", "close", executor=executor)
        with pytest.raises(BadValue, match="the options cannot be sent to another process"):
            await labkit.moments(chat, "websockets", executor=executor, messages=["hello"], open_timeout=lock)
    with pytest.raises(BadValue, match=r"executor='pool'; it takes a concurrent\.futures\.Executor"):
        await labkit.moments(chat, "websockets", executor="pool")  # type: ignore[arg-type] # what is tested


def test_the_lab_itself_travels_by_name() -> None:
    """A handler names ``labkit``; in the other process that is the one which is installed there."""
    assert pickle.loads(pickle.dumps(labkit)) is labkit


class Manager:
    """As FastAPI's documentation has it: a client whose handler is cancelled stays in the list."""

    def __init__(self) -> None:
        self.active: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active.append(websocket)

    async def broadcast(self, message: str) -> None:
        for each in self.active:
            await each.send_text(message)


async def test_a_client_of_an_earlier_experiment_is_told() -> None:
    """The lab has stopped its handler, so what comes of it is not the handler's doing alone."""
    manager = Manager()

    async def chat(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        try:
            while True:
                await manager.broadcast(await websocket.receive_text())
        except WebSocketDisconnect:
            manager.active.remove(websocket)

    first, second = [await labkit.play(chat, on="asgi", fault="reset", clients=2) for _ in range(2)]
    assert first.timeline.first(LoopMet) is None
    assert first.outcome == "clean"
    met = second.timeline.first(LoopMet)
    assert met is not None
    assert met.earlier
    assert (
        "it still had a client of an earlier experiment, so whose doing this is, is unknown" in second.verdict.sentence
    )
