"""What a handler opens and does not close: sockets, files, databases, client sessions."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gzip
import importlib
import io
import logging
import os
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

import labkit
from labkit.events import ClientRecv, LoopEnded

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:ResourceWarning", "ignore:.*:pytest.PytestUnraisableExceptionWarning"
)

#: What handlers keep beyond their end.
kept: list[Any] = []


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    kept.clear()


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a server that somebody else runs, and that answers HTTP."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def plays(handler: Any, on: str = "websockets", fault: str = "reset", patience: float = 0.3) -> labkit.Run:
    return await labkit.play(handler, on=on, fault=fault, patience=patience)


def line(function: Any, number: int) -> str:
    """So many lines below the first one of a function."""
    return f"line {function.__code__.co_firstlineno + number}"


# --- each kind -------------------------------------------------------------------------------------------------------


async def opens_socket(port: int, _: Path) -> Any:
    return socket.create_connection(("127.0.0.1", port))


async def opens_connection(port: int, _: Path) -> Any:
    return await asyncio.open_connection("127.0.0.1", port)


async def opens_connection_in_time(port: int, _: Path) -> Any:
    return await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 5)


async def opens_in_thread(port: int, _: Path) -> Any:
    return await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port))


async def serves(_: int, __: Path) -> Any:
    return await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def opens_file(_: int, path: Path) -> Any:
    return open(path, "w")  # noqa: ASYNC230, PTH123 - as people write it


async def opens_path(_: int, path: Path) -> Any:
    return path.open("wb")


async def opens_zipped(_: int, path: Path) -> Any:
    return gzip.open(path, "wb")


async def opens_database(_: int, path: Path) -> Any:
    return sqlite3.connect(path)


async def opens_session(port: int, _: Path) -> Any:
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/") as answer:
        await answer.text()
    return session


async def opens_temporary(_: int, __: Path) -> Any:
    return tempfile.NamedTemporaryFile()


OPENS: list[tuple[Callable[[int, Path], Any], str]] = [
    (opens_socket, "socket"),
    (opens_connection, "socket"),
    (opens_connection_in_time, "socket"),
    (opens_in_thread, "socket"),
    (serves, "socket"),
    (opens_file, "file 'a.log'"),
    (opens_path, "file 'a.log'"),
    (opens_zipped, "file 'a.log'"),
    (opens_database, "database 'a.log'"),
    (opens_session, "client session of aiohttp"),
    (opens_temporary, "temporary file"),
]


@pytest.mark.parametrize(("opens", "title"), OPENS)
async def test_what_stays_open_is_left_behind(opens: Any, title: str, port: int, tmp_path: Path) -> None:
    """By what it is, and the line that has opened it; the lab closes it."""

    async def handler(websocket: Any) -> None:
        kept.append(await opens(port, tmp_path / "a.log"))
        await echo(websocket)

    run = await plays(handler)
    [left] = run.verdict.leaked
    # A thread does not know who has called for it.
    assert left == title if opens is opens_in_thread else left.startswith(f"{title}, opened in line ")
    await asyncio.sleep(0)
    assert not is_open(kept[-1])
    if isinstance(kept[-1], gzip.GzipFile):
        # Its own file is closed already; otherwise its destructor would say so in a later test.
        with contextlib.suppress(ValueError):
            kept[-1].close()


def is_open(thing: Any) -> bool:
    match thing:
        case socket.socket():
            return thing.fileno() != -1
        case (_, asyncio.StreamWriter() as writer):
            return not writer.is_closing()
        case asyncio.Server():
            return any(each.fileno() != -1 for each in thing.sockets)
        case sqlite3.Connection():
            with contextlib.suppress(sqlite3.ProgrammingError):
                return bool(thing.execute("select 1"))
            return False
        case gzip.GzipFile():
            return not thing.fileobj.closed  # type: ignore[union-attr]
        case _:
            return not thing.closed


#: Python says nothing of a zipped file.
LOST = [each for each in OPENS if each[0] not in {serves, opens_zipped}]


@pytest.mark.parametrize(("opens", "title"), LOST)
async def test_what_nobody_refers_to_any_more_is_left_behind_too(
    opens: Any, title: str, port: int, tmp_path: Path
) -> None:
    """Python closes it when it is collected, and says ResourceWarning; each is counted."""

    async def handler(websocket: Any) -> None:
        for _ in range(3):
            opened = await opens(port, tmp_path / "a.log")
            del opened
        await echo(websocket)

    run = await plays(handler, fault="close")
    [left] = run.verdict.leaked
    assert left.startswith(title)
    assert left.endswith(", 3 times")


async def test_a_socket_with_the_number_of_a_closed_one_is_left_behind_too(port: int) -> None:
    """The loop may still know the transport that had the number before it."""

    async def handler(websocket: Any) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        number = writer.get_extra_info("socket").fileno()
        writer.close()
        await writer.wait_closed()
        kept.append(writer)
        others: list[socket.socket] = []
        while (opened := socket.create_connection(("127.0.0.1", port))).fileno() < number:
            others.append(opened)
        assert opened.fileno() == number
        for other in others:
            other.close()
        kept.append(opened)
        await echo(websocket)

    run = await plays(handler)
    [left] = run.verdict.leaked
    assert left.startswith("socket, opened in line ")


async def asks_a_server_of_its_own(websocket: Any) -> None:
    async def shouts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())

    server = await asyncio.start_server(shouts, "127.0.0.1", 0)
    async for message in websocket:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(f"{message}\n".encode())
        await websocket.send((await reader.readline()).decode().strip())
    kept.append(writer)


async def asks_a_pipe(websocket: Any) -> None:
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    file = os.fdopen(read, "rb")
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, file)
    kept.append(transport)
    async for message in websocket:
        os.write(write, f"{message.upper()}\n".encode())
        await websocket.send((await reader.readline()).decode().strip())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' loop reads no pipe that has a number")
@pytest.mark.parametrize("handler", [asks_a_server_of_its_own, asks_a_pipe])
async def test_what_the_lab_closes_makes_no_later_handler_deaf(handler: Any) -> None:
    """The next one gets the same numbers from the system; the loop has to look after them anew."""
    for _ in range(3):
        run = await plays(handler, fault="close")
        assert [event.text for event in run.timeline.all(ClientRecv)] == ["'HELLO'"], str(run)
        assert len(run.verdict.leaked or ()) >= 2
    for each in kept:  # asyncio minds a transport that is dropped open, in whatever test that happens
        each.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("fault", ["close", "reset"])
async def test_what_is_closed_is_not(fault: str, port: int, tmp_path: Path) -> None:
    """At the end, before it, or in the loop's next turn."""

    async def handler(websocket: Any) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        (tmp_path / "b.log").write_text("here")
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
                with (tmp_path / "a.log").open("w"), socket.create_connection(("127.0.0.1", port)):
                    await answer.text()
                    with contextlib.closing(sqlite3.connect(tmp_path / "db")) as database:
                        database.execute("create table x (y)")
                        await echo(websocket)
        finally:
            writer.close()

    run = await plays(handler, fault=fault, patience=20)
    assert run.verdict.leaked == ()
    assert not run.timeline.all(LoopEnded)


async def test_what_a_library_opens_for_the_handler_counts_too() -> None:
    """Such as the connection of another WebSocket."""

    async def upstream(websocket: Any) -> None:
        kept.append(await connect(url))
        await echo(websocket)

    async with serve(echo, "127.0.0.1", 0) as server:
        [listens] = server.sockets
        url = f"ws://127.0.0.1:{listens.getsockname()[1]}"
        run = await plays(upstream)
    assert run.verdict.leaked == (f"socket, opened in {line(upstream, 1)}",)


# --- not the handler's to close --------------------------------------------------------------------------------------

shared: aiohttp.ClientSession | None = None


async def test_what_the_module_keeps_is_for_the_next_connection(port: int) -> None:
    """It is not the handler's to close, nor are its connections: a session that the first handler makes for all."""

    async def handler(websocket: Any) -> None:
        global shared  # noqa: PLW0603 - as people write it
        if shared is None:
            shared = aiohttp.ClientSession()
        async with shared.get(f"http://127.0.0.1:{port}/") as answer:
            await answer.text()
        await echo(websocket)

    run = await plays(handler)
    assert run.verdict.leaked == ()
    assert shared is not None
    assert not shared.closed
    await shared.close()


lock = asyncio.Lock()


async def test_a_loop_that_the_module_knows_keeps_nothing(port: int) -> None:
    """Many objects refer to it, such as a lock for which somebody has waited."""
    await lock.acquire()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await lock.acquire()
    lock.release()

    async def handler(websocket: Any) -> None:
        kept.append(await asyncio.open_connection("127.0.0.1", port))
        await echo(websocket)

    run = await plays(handler)
    assert run.verdict.leaked == (f"socket, opened in {line(handler, 1)}",)


class Chat:
    """Such as a handler's object keeps."""

    file: Any = None

    def __init__(self, path: Path) -> None:
        self.path = path

    async def handler(self, websocket: Any) -> None:
        """Open the file once."""
        if self.file is None:
            self.file = self.path.open("w")
        await echo(websocket)


async def test_what_the_handlers_object_keeps_is_too(tmp_path: Path) -> None:
    """And what is in the closure."""
    chat = Chat(tmp_path / "a.log")
    run = await plays(chat.handler)
    assert run.verdict.leaked == ()
    assert not chat.file.closed
    chat.file.close()


async def test_what_a_library_opens_for_itself_does_not_count(tmp_path: Path) -> None:
    """Such as the file of a log that is opened when it is first written."""
    log = logging.getLogger("labkit.tests.opened")
    to_file = logging.FileHandler(tmp_path / "a.log", delay=True)
    log.addHandler(to_file)

    async def handler(websocket: Any) -> None:
        log.warning("hello")
        await echo(websocket)

    run = await plays(handler)
    log.removeHandler(to_file)
    assert run.verdict.leaked == ()
    to_file.close()


# --- told apart ------------------------------------------------------------------------------------------------------


async def test_what_is_closed_later_is_told_as_that(port: int, tmp_path: Path) -> None:
    """Within the patience, by a task or a thread that goes on: it is not left behind."""

    async def handler(websocket: Any) -> None:
        file = (tmp_path / "a.log").open("w")
        opened = socket.create_connection(("127.0.0.1", port))

        def closes() -> None:
            threading.Event().wait(0.1)
            file.close()
            opened.close()

        threading.Thread(target=closes, name="closes").start()
        await echo(websocket)

    run = await plays(handler, patience=20)
    assert run.verdict.leaked == ()
    assert sorted(event.what for event in run.timeline.all(LoopEnded)) == ["file", "socket", "thread"]


async def test_a_handler_that_still_runs_has_left_nothing_yet(tmp_path: Path) -> None:
    """It may close it when the lab stops it."""

    async def handler(websocket: Any) -> None:
        with (tmp_path / "a.log").open("w"):
            await echo(websocket)

    run = await plays(handler, fault="blackhole")
    assert (run.verdict.ending, run.verdict.leaked) == ("running", ())


@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel"])
async def test_aiohttp_too(on: str, tmp_path: Path) -> None:
    """However the handler ends."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        file = (tmp_path / "a.log").open("a")
        async for message in ws:
            file.write(message.data)
            await ws.send_str(message.data)
        return ws

    run = await plays(handler, on=on)
    assert run.verdict.leaked == (f"file 'a.log', opened in {line(handler, 3)}",)


async def test_of_two_connections_each_has_its_own(tmp_path: Path) -> None:
    """The fault strikes the first; the second one's handler has not ended."""

    async def handler(websocket: Any) -> None:
        kept.append((tmp_path / "a.log").open("w"))
        await echo(websocket)

    run = await labkit.play(handler, on="websockets", fault="reset", clients=2, patience=0.3)
    assert len(run.verdict.leaked) == 1
    assert run.verdict.others[0].leaked == ()


# --- what the lab leaves ---------------------------------------------------------------------------------------------


async def test_python_is_as_it_was(tmp_path: Path) -> None:
    """Also where two experiments overlap. A class that is made meanwhile may take `open` for an attribute."""
    before = builtins.open, io.open, socket.socket.__init__, socket.socket.detach, sqlite3.connect

    async def handler(websocket: Any) -> None:
        class Store:
            opens = open

        with Store().opens(tmp_path / "a.log", "w"), tempfile.TemporaryFile():
            await echo(websocket)

    runs = await asyncio.gather(*(plays(handler, fault="close") for _ in range(3)))
    assert {run.verdict.leaked for run in runs} == {()}
    assert (builtins.open, io.open, socket.socket.__init__, socket.socket.detach, sqlite3.connect) == before


async def test_a_notebooks_open_counts(tmp_path: Path) -> None:
    """IPython gives its cells an `open` of its own."""
    opens = importlib.import_module("IPython.core.interactiveshell")._modified_open

    async def handler(websocket: Any) -> None:
        kept.append(opens(tmp_path / "a.log", "w"))
        await echo(websocket)

    run = await plays(handler)
    assert run.verdict.leaked == (f"file 'a.log', opened in {line(handler, 1)}",)
