"""The clock of an experiment: with the one that jumps, the libraries' own settings take milliseconds."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import importlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadRecording, BadValue, LabError
from labkit.events import HandlerBlocked, HandlerEnd, HandlerNotice, HandlerStart, LoopEnded, WireFault
from labkit.experiment import clocks
from labkit.support.autojump import AutojumpLoop
from labkit.support.clock import scaled
from tests import handlers
from tests.left import sockets

pytestmark = pytest.mark.skipif(AutojumpLoop.impossible is not None, reason=str(AutojumpLoop.impossible))


async def play(handler: Any, on: str = "websockets", fault: Any = "blackhole", **given: Any) -> labkit.Run:
    """Play on the clock that jumps, for a long time; this takes a moment."""
    began = time.monotonic()
    run = await labkit.play(handler, on=on, fault=fault, clock="autojump", **{"patience": 300, **given})
    assert run.clock == "autojump", run.clock_words
    assert time.monotonic() - began < scaled(15)
    return run


# --- What a reader has, and not 0.2 s instead -----------------------------------------------------------------------


async def test_websockets_own_keepalive() -> None:
    """A ping after 20 s, 20 s for its pong, 10 s for the answer to its Close."""
    run = await play(handlers.websockets_echo)
    assert run.verdict.noticed_after == pytest.approx(50, abs=scaled(5))
    assert "sent 1011 (internal error) keepalive ping timeout" in str(run.verdict.exception)


async def test_a_heartbeat_of_thirty_seconds() -> None:
    """Aiohttp gives up half a heartbeat after its ping; it rounds such times up to whole seconds."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(heartbeat=30)
        await ws.prepare(request)
        async for message in ws:
            if message.type is web.WSMsgType.TEXT:
                await ws.send_str(message.data)
        return ws

    run = await play(handler, "aiohttp")
    assert run.verdict.noticed_after is not None
    assert 44 < run.verdict.noticed_after < 47 + scaled(2)


@pytest.mark.parametrize("on", ["aiohttp", "websockets"])
async def test_a_proxy_that_cuts_after_a_minute(on: str) -> None:
    """Without pings the connection is quiet for 60 s, and then cut."""
    options = {"ping_interval": None} if on == "websockets" else {}
    run = await play(handlers.echo(on), on, labkit.IdleTimeout(60), **options)
    fault, start = run.timeline.first(WireFault), run.timeline.first(HandlerStart)
    assert fault is not None
    assert start is not None
    assert fault.at - start.at == pytest.approx(scaled(60), abs=scaled(5))
    assert run.verdict.noticed == "yes"


async def test_pings_every_twenty_seconds_keep_the_proxy_quiet() -> None:
    """Websockets' own keepalive is more often than the proxy's minute."""
    run = await play(handlers.websockets_echo, fault=labkit.IdleTimeout(60))
    assert run.verdict.sentence.startswith("No fault struck")


async def test_a_shutdown_of_a_minute() -> None:
    """Aiohttp waits for its handlers for 60 s, and cancels them."""
    run = await play(handlers.aiohttp_echo, "aiohttp", "shutdown", shutdown_timeout=60)
    fault, end = run.timeline.first(WireFault), run.timeline.first(HandlerEnd)
    assert fault is not None
    assert end is not None
    assert run.verdict.ending == "cancelled"
    assert 59 < end.at - fault.at < 125


# --- What holds it, and what keeps the real one ---------------------------------------------------------------------


async def test_a_thread_of_the_handler_holds_the_time() -> None:
    """No limit is over before the thread has done its work, and the run says what it was."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            async with asyncio.timeout(100):
                await asyncio.to_thread(time.sleep, 0.1)
            await websocket.send(message)

    run = await play(handler, fault="close")
    assert run.verdict.ending == "returned"
    assert "a thread" in run.clock_words
    assert "held it for" in run.clock_words


async def test_a_thread_that_nobody_awaits_holds_it_too() -> None:
    """It belongs to the experiment, since the handler has started it."""
    done = threading.Event()

    async def handler(websocket: Any) -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:
            time.sleep(0.1)
            done.set()
            loop.call_soon_threadsafe(came.set)

        async for message in websocket:
            threading.Thread(target=work).start()
            async with asyncio.timeout(100):
                await came.wait()
            await websocket.send(message)

    run = await play(handler, fault="close")
    assert run.verdict.ending == "returned"
    assert done.is_set()
    assert "a thread of the handler held it for" in run.clock_words


DATABASE = """
import asyncio, queue, threading, time

jobs = queue.Queue()

def work():
    while (job := jobs.get()) is not None:
        time.sleep(0.1)
        job.get_loop().call_soon_threadsafe(job.set_result, "row")

threading.Thread(target=work, daemon=True).start()

async def query():
    job = asyncio.get_running_loop().create_future()
    jobs.put(job)
    return await job
"""


async def test_a_library_with_a_thread_of_its_own_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread was there before; what shows is that the handler waits for what nothing in the loop may bring."""
    (tmp_path / "a_database.py").write_text(DATABASE)
    monkeypatch.syspath_prepend(tmp_path)
    database = importlib.import_module("a_database")

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            async with asyncio.timeout(30):
                await websocket.send(f"{message} {await database.query()}")

    try:
        run = await play(handler, fault="close")
    finally:
        database.jobs.put(None)
    assert run.verdict.ending == "returned"
    assert "something outside the lab, for which the handler waits, held it for" in run.clock_words


async def reads_monotonic(websocket: Any) -> None:
    began = time.monotonic()
    async for message in websocket:
        await websocket.send(f"{message} {time.monotonic() - began}")


async def reads_it_by_its_own_name(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(f"{message} {monotonic()}")


async def reads_the_date(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(f"{message} {dt.datetime.now(dt.UTC)}")


def stamp() -> float:
    return time.time()


def count() -> float:
    return 1.0


async def may_read_it(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(f"{message} {count()}")


async def has_a_helper(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(f"{message} {stamp()}")


@pytest.mark.parametrize(
    ("handler", "fault", "why"),
    [
        (handlers.websockets_echo, "sigint", "the client has a process of its own, whose time does not jump"),
        (handlers.websockets_echo, "blocked-loop", "the server has a thread of its own, which the fault blocks"),
        (reads_monotonic, "reset", "reads_monotonic() reads time.monotonic(), which does not jump"),
        (reads_it_by_its_own_name, "reset", "reads_it_by_its_own_name() reads time.monotonic(), which does not jump"),
        (reads_the_date, "reset", "reads_the_date() reads datetime.now(), which does not jump"),
        (has_a_helper, "reset", "stamp() reads time.time(), which does not jump"),
    ],
    ids=lambda value: getattr(value, "__name__", value) if not isinstance(value, str) or " " not in value else "",
)
async def test_what_keeps_the_real_clock(handler: Any, fault: str, why: str) -> None:
    """The run tells that it had it, and why; nothing of it is timed by a clock that jumps."""
    run = await labkit.play(handler, on="websockets", fault=fault, patience=0.3, clock="autojump")
    assert run.clock == "real"
    assert run.clock_words.startswith(why)
    assert f"clock       real, since {why.split(',', maxsplit=1)[0]}" in str(run).replace("\n            ", " ")


async def test_a_name_that_is_given_to_a_clock_later_keeps_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a handler names is read off its code once; what has that name now is looked up each time."""
    runs = [await labkit.play(may_read_it, on="websockets", clock="autojump")]
    monkeypatch.setitem(globals(), "count", time.monotonic)
    runs.append(await labkit.play(may_read_it, on="websockets", clock="autojump"))
    assert [run.clock for run in runs] == ["autojump", "real"]
    assert runs[1].clock_words.startswith("may_read_it() reads time.monotonic()")


async def test_a_server_elsewhere_keeps_it_too() -> None:
    """It is another program, and its time does not jump."""
    async with labkit.host(handlers.websockets_echo, on="websockets") as server:
        run = await labkit.play(server.url, fault="close", clock="autojump")
    assert (run.clock, run.clock_words) == ("real", "the server is another program")


async def test_a_block_is_told_at_its_time() -> None:
    """The loop's time flows while a step of the handler keeps the loop."""

    async def handler(websocket: Any) -> None:
        await asyncio.sleep(100)
        for _ in range(2):
            time.sleep(0.2)  # noqa: ASYNC251 - to block the loop is the point
        await asyncio.sleep(100)

    run = await play(handler, fault=None, messages=())
    blocked = run.timeline.first(HandlerBlocked)
    assert blocked is not None
    assert blocked.at == pytest.approx(100, abs=scaled(5))
    assert run.verdict.blocked == pytest.approx(0.4, abs=scaled(1))


async def test_a_handler_that_never_gives_the_loop_back() -> None:
    """It is ended when the patience is over, here too."""

    async def handler(websocket: Any) -> None:
        while True:
            pass

    run = await labkit.play(handler, on="websockets", fault="reset", clock="autojump", patience=0.5)
    assert run.verdict.blocked > 0
    assert run.clock == "autojump"


async def test_what_outlives_the_handler_is_told_at_its_time() -> None:
    """A task that ends by itself after a minute, though nobody looks at it every 20 ms."""

    async def handler(websocket: Any) -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        async for message in websocket:
            await websocket.send(message)
        del task

    run = await play(handler, fault="close")
    ended, end = run.timeline.first(LoopEnded), run.timeline.first(HandlerEnd)
    assert ended is not None
    assert end is not None
    assert ended.at - end.at == pytest.approx(60, abs=scaled(5))
    assert run.verdict.leaked == ()


# --- Where it runs ---------------------------------------------------------------------------------------------------


async def test_it_runs_beside_the_running_loop() -> None:
    """In a thread of its own, which ends with it; two runs at the same time don't disturb each other."""
    threads: set[str] = set()

    async def handler(websocket: Any) -> None:
        threads.add(threading.current_thread().name)
        await handlers.websockets_echo(websocket)

    before = threading.active_count()
    one, other = await asyncio.gather(play(handler), play(handler, fault="close"))
    assert threads == {"labkit clock"}
    assert threading.active_count() == before
    assert (one.verdict.noticed, other.verdict.ending) == ("yes", "returned")


@pytest.mark.parametrize("again", [None, 3])
async def test_it_may_be_interrupted_at_any_moment(again: int | None) -> None:
    """Once or twice: no socket, task or thread of it stays."""
    before = sockets(), len(asyncio.all_tasks()), threading.active_count()
    for count in range(0, 60, 4):
        task = asyncio.ensure_future(play(handlers.websockets_echo, patience=0.5))
        for _ in range(count):
            await asyncio.sleep(0.0005)
        task.cancel()
        for _ in range(again or 0):
            await asyncio.sleep(0.0005)
            task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        left = sockets(), len(asyncio.all_tasks()), threading.active_count()
        assert left == before, f"interrupted after {count}"


BUSY = """
import asyncio, os, signal, threading, labkit

async def handler(websocket):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    while True:
        pass

try:
    labkit.run(labkit.play(handler, on="websockets", fault="reset", clock="autojump", patience=1000))
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
"""


def test_one_interrupt_ends_a_handler_that_keeps_its_loop(tmp_path: Path) -> None:
    """Ctrl+C comes to the main thread; the handler computes in another one."""
    (tmp_path / "busy.py").write_text(BUSY)
    root = str(Path(labkit.__file__).parents[1])
    program = subprocess.run(
        [sys.executable, "busy.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=scaled(60),
        check=False,
        env={"PYTHONPATH": root},
    )
    assert program.stdout == "interrupted 1\n", program.stderr


async def test_what_a_handler_raises_comes_out_of_it() -> None:
    """A handler's own interrupt cancels the run, as on the real clock."""

    async def handler(websocket: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(asyncio.CancelledError, match="KeyboardInterrupt in the handler"):
        await play(handler)


async def test_nobody_waits_for_a_clock_whose_thread_is_gone() -> None:
    """Whether it is gone before the experiment begins, or before the experiment's end has been told."""
    thread = clocks._Thread(asyncio.get_running_loop())
    await thread.stop()
    with pytest.raises(LabError, match="the loop of the clock that jumps has ended before the experiment"):
        await thread.run(functools.partial(asyncio.sleep, 0))


def test_under_uvloop_one_sentence() -> None:
    """It would be another loop than the one that was asked about."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop has no wheel here")
    with pytest.raises(BadValue, match=r"^clock='autojump' plays on a loop of asyncio's own, and this one is uvloop"):
        uvloop.run(play(handlers.websockets_echo))


async def test_another_clock_is_refused() -> None:
    """In one sentence."""
    with pytest.raises(BadValue, match=r"^clock='fast'; it takes 'real' or 'autojump'$"):
        await labkit.play(handlers.websockets_echo, clock="fast")  # type: ignore[arg-type]
    with pytest.raises(BadValue, match=r"^clock='fast'; it takes 'real' or 'autojump'$"):
        await labkit.matrix([handlers.websockets_echo], clock="fast")


# --- Everywhere ------------------------------------------------------------------------------------------------------


async def test_a_matrix_shares_one_loop() -> None:
    """Each of its cells has the clock that it can have."""
    threads: set[int] = set()

    async def handler(websocket: Any) -> None:
        threads.add(threading.get_ident())
        await handlers.websockets_echo(websocket)

    faults = ["blackhole", "ignore-close", "close", "sigkill"]
    table = await labkit.matrix([handler], "websockets", faults, clock="autojump", patience=300, progress=False)
    assert [run.clock for run in table.runs if run is not None] == ["autojump", "autojump", "autojump", "real"]
    assert len(threads) == 2
    assert table["handler", "websockets", "blackhole"].verdict.noticed_after == pytest.approx(50, abs=scaled(5))


async def test_moments_on_it() -> None:
    """A handler that takes a minute for each step."""

    async def handler(websocket: Any) -> None:
        async for _ in websocket:
            labkit.note("reserved")
            await asyncio.sleep(60)
            labkit.note("charged")
            await asyncio.sleep(60)
            labkit.note("written")

    strip = await labkit.moments(handler, on="websockets", clock="autojump", patience=300, progress=False)
    assert [strike.done for strike in strip.strikes][1:3] == [("reserved",), ("reserved", "charged")]
    assert all(run is not None and run.clock == "autojump" for run in strip.runs)


async def test_an_exercise_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The solution passes, and the starter breaks a rule, sooner than on the real clock."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    exercise = labkit.EXERCISES["heartbeat"]
    assert (await labkit.check("heartbeat", exercise.solution, clock="autojump")).passed
    report = await labkit.check("heartbeat", exercise.starter, clock="autojump")
    assert "broken" in {result.state for result in report.results}
    assert all(run.clock == "autojump" for run in report.runs)


async def test_a_recording_keeps_it(tmp_path: Path) -> None:
    """One of a time when there was no other clock has the real one."""
    path = tmp_path / "run.json"
    run = await play(handlers.websockets_echo, fault="close")
    run.save(path)
    again = labkit.load(path)
    assert (again.clock, again.clock_words, str(again)) == (run.clock, run.clock_words, str(run))
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(content | {"clock": "fast"}), "utf-8")
    with pytest.raises(BadRecording, match="it has clock='fast'"):
        labkit.load(path)
    del content["clock"], content["clock_words"]
    path.write_text(json.dumps(content), "utf-8")
    assert labkit.load(path).clock == "real"


def test_the_command_has_it(tmp_path: Path) -> None:
    """``--clock autojump``; the text tells how much of the time was jumped."""
    (tmp_path / "server.py").write_text("async def echo(ws):\n    async for m in ws:\n        await ws.send(m)\n")
    command = [sys.executable, "-m", "labkit", "play", "server.py:echo", "--on", "websockets", "--fault", "blackhole"]
    program = subprocess.run(
        [*command, "--clock", "autojump", "--patience", "300"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=scaled(60),
        check=False,
        env={"PYTHONPATH": str(Path(labkit.__file__).parents[1])},
    )
    assert program.returncode == 0, program.stderr
    assert re.search(r"noticed after (4[5-9]|50)\.", program.stdout)
    assert re.search(r"^clock       autojump: (4[5-9]|50)\.\d s were jumped$", program.stdout, re.MULTILINE)


def test_notices_are_in_the_loops_time() -> None:
    """Under ``labkit.run`` too, as in a script."""
    run = labkit.run(play(handlers.websockets_echo))
    fault, notice = run.timeline.first(WireFault), run.timeline.first(HandlerNotice)
    assert fault is not None
    assert notice is not None
    assert notice.at - fault.at == pytest.approx(50, abs=scaled(5))


def test_what_nagles_algorithm_holds_is_on_its_way() -> None:
    """The second of two small pieces waits until the first is acknowledged, which takes 40 ms: the time flows."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            writer.write(b"one")
            writer.write(b"two")
        writer.close()

    async def ask() -> None:
        # Where no protocol is named, asyncio leaves the algorithm on.
        server = await asyncio.start_server(answer, sock=socket.create_server(("127.0.0.1", 0)))
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with server, asyncio.timeout(1000):
            for _ in range(10):
                writer.write(b"hello")
                assert await reader.readexactly(6) == b"onetwo"
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        runner.run(ask())


def test_what_comes_during_the_last_look_is_there_before_a_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way any more, since it has arrived."""
    accepted: list[asyncio.StreamWriter] = []

    def look(_: object) -> bool:
        for each in accepted:
            each.write(b"here")
            each.close()
        return False

    async def wait() -> None:
        server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with server, asyncio.timeout(1000):
            assert await reader.readexactly(4) == b"here"
            writer.close()
            await writer.wait_closed()

    monkeypatch.setattr("labkit.support.autojump._Selector._is_under_way", look)
    with asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        runner.run(wait())
