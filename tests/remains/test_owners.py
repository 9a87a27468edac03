"""Objects that hold workers, descriptors or memory until somebody closes them."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import selectors
import shutil
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
import httpx
import pytest
from aiohttp import web

import labkit

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:ResourceWarning",
    "ignore:.*:pytest.PytestUnraisableExceptionWarning",
)

#: What handlers keep beyond their end.
kept: list[Any] = []

#: Where a server of somebody else's answers HTTP.
address: list[str] = []

#: What a module has for all connections.
pool: ThreadPoolExecutor | None = None


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    kept.clear()
    gc.collect()


@pytest.fixture(autouse=True, scope="module")
def tracker() -> None:
    """The process with which Python minds memory and semaphores of all processes; it is the test's, not a handler's.

    It ends with this one: stopped before, it unlinks semaphores that are in use here, and Python fails to at its exit.
    """
    resource_tracker.ensure_running()


@pytest.fixture
async def site() -> AsyncIterator[None]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address[:] = [f"http://127.0.0.1:{runner.addresses[0][1]}/"]
    yield
    await runner.cleanup()


async def works(pool: Any) -> Any:
    await asyncio.get_running_loop().run_in_executor(pool, abs, 1)
    return pool


async def thread_pool(_: Path) -> Any:
    return await works(ThreadPoolExecutor(1))


async def process_pool(_: Path) -> Any:
    return await works(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))


async def workers(_: Path) -> Any:
    return multiprocessing.get_context("spawn").Pool(1)


async def manager(_: Path) -> Any:
    made = multiprocessing.get_context("spawn").Manager()
    kept.append(members := made.list())
    members.append("a")
    return made


async def queue(_: Path) -> Any:
    made = multiprocessing.get_context("spawn").Queue()
    made.put("a job")
    return made


async def simple_queue(_: Path) -> Any:
    return multiprocessing.get_context("spawn").SimpleQueue()


async def connection(_: Path) -> Any:
    here, there = multiprocessing.Pipe()
    there.close()
    return here


async def selector(_: Path) -> Any:
    return selectors.DefaultSelector()


async def log_file(folder: Path) -> Any:
    handler = logging.FileHandler(folder / "chat.log")
    logging.getLogger("tests.chat").addHandler(handler)
    return handler


async def directory(_: Path) -> Any:
    return tempfile.TemporaryDirectory()


async def memory(_: Path) -> Any:
    return SharedMemory(create=True, size=16)


async def archive(folder: Path) -> Any:
    return zipfile.ZipFile(folder / "a.zip", "w")


async def tar(folder: Path) -> Any:
    return tarfile.open(folder / "a.tar", "w")


async def database(_: Path) -> Any:
    return await aiosqlite.connect(":memory:")


async def client(_: Path) -> Any:
    made = httpx.AsyncClient(verify=False, trust_env=False)
    await made.get(address[0])
    return made


class Kind(NamedTuple):
    title: str
    line: int
    close: Callable[[Any], Any]


async def wait_for(process_pool: Any) -> None:
    await asyncio.to_thread(process_pool.shutdown)


def end_queue(made: Any) -> None:
    made.close()
    made.join_thread()


def end_pool(made: Any) -> None:
    made.close()
    made.join()


def remove(made: SharedMemory) -> None:
    made.close()
    made.unlink()


def remove_log(made: logging.Handler) -> None:
    logging.getLogger("tests.chat").removeHandler(made)
    made.close()


KINDS = {
    thread_pool: Kind("ThreadPoolExecutor, with its threads, made", 1, wait_for),
    process_pool: Kind("ProcessPoolExecutor, with its processes, made", 1, wait_for),
    workers: Kind("pool of multiprocessing, with its workers, made", 1, end_pool),
    manager: Kind("manager of multiprocessing, with its process, made", 1, lambda it: it.shutdown()),
    queue: Kind("queue of multiprocessing, made", 1, end_queue),
    simple_queue: Kind("queue of multiprocessing, made", 1, lambda it: it.close()),
    connection: Kind("connection of multiprocessing, made", 1, lambda it: it.close()),
    selector: Kind("selector, made", 1, lambda it: it.close()),
    log_file: Kind("FileHandler of logging, with its file, made", 1, remove_log),
    directory: Kind("temporary directory, made", 1, lambda it: it.cleanup()),
    memory: Kind("shared memory, made", 1, remove),
    archive: Kind("ZipFile, with its file, made", 1, lambda it: it.close()),
    tar: Kind("TarFile, with its file, made", 1, lambda it: it.close()),
    database: Kind("connection of aiosqlite, with its thread, made", 1, lambda it: it.close()),
    client: Kind("client of httpx, with its connections, made", 1, lambda it: it.aclose()),
}


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
async def test_each_kind_is_left_behind_until_it_is_closed(make: Any, tmp_path: Path) -> None:
    """It alone is told, and not what it holds; the lab closes it."""

    async def leaves(websocket: Any) -> None:
        kept.append(await make(tmp_path))
        await websocket.wait_closed()

    async def closes(websocket: Any) -> None:
        made = await make(tmp_path)
        try:
            await websocket.wait_closed()
        finally:
            if asyncio.iscoroutine(closing := KINDS[make].close(made)) or asyncio.isfuture(closing):
                await closing

    title, line, _ = KINDS[make]
    left = await labkit.play(leaves, on="websockets", fault="close", patience=10, clock="autojump")
    assert left.verdict.leaked == (f"{title} in line {make.__code__.co_firstlineno + line}",)
    closed = await labkit.play(closes, on="websockets", fault="close", patience=10)
    assert closed.verdict.leaked == ()


async def test_the_lab_closes_what_is_left(tmp_path: Path) -> None:
    """Its threads and its files with it."""

    async def leaves(websocket: Any) -> None:
        kept.extend([await make(tmp_path) for make in (thread_pool, log_file, directory, memory, archive, database)])
        await websocket.wait_closed()

    before = set(threading.enumerate())
    await labkit.play(leaves, on="websockets", fault="close", patience=0.5)
    threads, log, folder, shared, file, _ = kept
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()
    assert threads._shutdown
    assert log.stream is None
    assert not folder._finalizer.alive
    with pytest.raises(FileNotFoundError):
        SharedMemory(shared.name)
    assert file.fp is None
    logging.getLogger("tests.chat").removeHandler(log)


async def test_what_python_closes_with_the_last_who_has_it_is_not_left(tmp_path: Path) -> None:
    """A pool ends its threads then; of a directory, Python itself complains; memory stays."""

    async def drops(websocket: Any) -> None:
        for make in (thread_pool, simple_queue, connection, selector, archive):
            await make(tmp_path)
        await websocket.wait_closed()

    async def drops_too(websocket: Any) -> None:
        for make in (directory, memory):
            await make(tmp_path)
        await websocket.wait_closed()

    run = await labkit.play(drops, on="websockets", fault="close", patience=5)
    assert run.verdict.leaked == ()
    run = await labkit.play(drops_too, on="websockets", fault="close", patience=0.5)
    assert [each.partition(",")[0] for each in run.verdict.leaked or ()] == ["temporary directory", "shared memory"]


async def test_what_has_no_workers_and_what_the_module_keeps_is_not_left() -> None:
    """A pool makes its threads when it is first needed; and one pool may be for all."""

    async def keeps(websocket: Any) -> None:
        global pool  # noqa: PLW0603 - as people keep one for all connections
        kept.append(ThreadPoolExecutor(1))
        pool = pool or ThreadPoolExecutor(1)
        await works(pool)
        await websocket.wait_closed()

    try:
        run = await labkit.play(keeps, on="websockets", fault="close", patience=0.5)
        assert run.verdict.leaked == ()
        assert pool is not None
        assert not pool._shutdown
    finally:
        assert pool is not None
        pool.shutdown()


async def test_what_a_library_makes_for_itself_is_the_librarys(tmp_path: Path) -> None:
    """Such as the pool of threads in which asyncio runs a function, or a selector that waits for a process."""

    async def asks(websocket: Any) -> None:
        await asyncio.to_thread(shutil.make_archive, str(tmp_path / "a"), "zip", tmp_path)
        await websocket.wait_closed()

    run = await labkit.play(asks, on="websockets", fault="close", patience=5)
    assert run.verdict.leaked == ()
