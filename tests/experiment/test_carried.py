"""What ``labkit.watch`` watches is watched by the workers of an executor too, in other processes as in threads."""

from __future__ import annotations

import multiprocessing
import re
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.errors import BadValue
from labkit.events import CleanupOpen
from labkit.support.names import load_name

#: A program of two modules: a pool that a handler asks for a connection, and a function that it calls.
STORE = """
import asyncio

class Pool:
    async def acquire(self):
        await asyncio.sleep(0)
        return self

    async def release(self):
        await asyncio.sleep(0)

pool = Pool()

def checked(order):
    if order == "nothing":
        return 0
    return len(order)
"""
SHOP = """
import lab_store
from lab_store import pool

async def shop(websocket):
    connection = await pool.acquire()
    try:
        async for order in websocket:
            await websocket.send(str(lab_store.checked(order)))
    finally:
        await connection.release()
"""


def forked(count: int) -> Executor:
    """A pool that begins with all that this process has."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("fork"))


def spawned(count: int) -> Executor:
    """A pool that begins with nothing, as on Windows and macOS."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))


POOLS = [
    pytest.param(ThreadPoolExecutor, id="threads"),
    pytest.param(spawned, id="spawn"),
    pytest.param(forked, id="fork", marks=pytest.mark.skipif(sys.platform == "win32", reason="no fork")),
]


@pytest.fixture(scope="module", autouse=True)
def _tracker() -> None:
    """Multiprocessing's own process, which outlives every pool of the program that has made the first."""
    resource_tracker.ensure_running()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The handler."""
    (tmp_path / "lab_store.py").write_text(STORE)
    (tmp_path / "lab_shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)
    yield load_name("lab_shop:shop")
    del sys.modules["lab_store"], sys.modules["lab_shop"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("make", POOLS)
@pytest.mark.parametrize("of", ["class", "object"])
async def test_workers_watch_the_same(shop: Any, make: Callable[[int], Executor], of: str) -> None:
    """Its cleanup and its lines are told once each, in matrix and moments; and no longer than the block runs."""
    store = sys.modules["lab_store"]
    pool = store.Pool if of == "class" else store.pool

    async def table() -> labkit.Run:
        [run] = (await labkit.matrix([shop], "websockets", "close", executor=executor, progress=False)).runs
        assert run is not None
        return run

    with make(1) as executor:
        with labkit.watch(pool, open="acquire", close="release", name="connection", lines=[store.checked]):
            watched = await table()
            strip = await labkit.moments(shop, "websockets", "close", executor=executor, progress=False)
        plain = await table()
    assert watched.verdict.cleanup == "complete"
    assert [event.text for event in watched.timeline.all(CleanupOpen)] == ["connection"]
    told = {line.code.strip(): line.state for line in watched.source().lines if line.function}
    assert told["return 0"] == "never"
    assert told["return len(order)"] == "ran"
    assert {strike.verdict and strike.verdict.cleanup for strike in strip.strikes} == {"complete"}
    assert plain.verdict.cleanup == "none"
    assert not [line for line in plain.source().lines if line.function]
    assert watched.verdict.lines_never_ran == plain.verdict.lines_never_ran == ()


async def test_a_handler_of_the_program_itself_finds_the_same_object(shop: Any) -> None:
    """It travels with its code, and what it names: the object that is watched is the worker's, and no copy."""
    store = sys.modules["lab_store"]
    travels: dict[str, Any] = {"__name__": "__main__", "lab_store": store}
    exec(SHOP.replace("import lab_store\n", ""), travels)
    with spawned(1) as executor, labkit.watch(store.pool, open="acquire", close="release"):
        strip = await labkit.moments(travels["shop"], "websockets", executor=executor, progress=False)
    assert {strike.verdict and strike.verdict.cleanup for strike in strip.strikes} == {"complete"}


class Local:
    def take(self) -> None: ...
    def give(self) -> None: ...


async def test_what_no_worker_can_find_is_a_sentence(shop: Any) -> None:
    """An object of a function, or of a list: it is told before anything is played."""
    said = r"the workers of an executor cannot find {}: it is no global of a module that they can import"

    def inner() -> None: ...

    with spawned(1) as executor:
        for watched, name in (
            (labkit.watch(Local(), open="take", close="give"), "this Local"),
            (labkit.watch(lines=[inner]), ".*inner"),
        ):
            with watched, pytest.raises(BadValue, match=said.format(name)):
                await labkit.matrix([shop], "websockets", "close", executor=executor)


async def test_a_module_that_a_worker_does_not_have_is_a_sentence(shop: Any, tmp_path: Path) -> None:
    """As on another machine: the cells are unknown, and say why."""
    handler: dict[str, Any] = {"__name__": "__main__"}
    exec("async def echo(websocket):\n    async for m in websocket: await websocket.send(m)", handler)
    store = sys.modules["lab_store"]
    with spawned(1) as executor, labkit.watch(store.pool, open="acquire", close="release"):
        (tmp_path / "lab_store.py").unlink()
        table = await labkit.matrix([handler["echo"]], "websockets", "close", executor=executor, progress=False)
    reason = "a worker cannot find lab_store.pool, which labkit.watch watches"
    assert re.search(reason, table.cells[0].reason or ""), table
