"""Interrupting a run: at whatever moment, nothing is left and the next run works."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from typing import Any

import psutil
import pytest

import labkit
from labkit.errors import BadValue
from labkit.support.clock import scaled
from tests import handlers
from tests.interrupted import MODES, interrupt_at_random
from tests.left import children, sockets


async def interrupted(on: str, turns: int, again: int | None) -> bool:
    """Cancel a run after some turns of the loop, and again some turns later; tell whether it was still running."""
    task = asyncio.ensure_future(labkit.play(handlers.echo(on), on=on, patience=1))
    for _ in range(turns):
        await asyncio.sleep(0)
    running = not task.done()
    task.cancel()
    if again is not None:
        for _ in range(again):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    return running


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_run_may_be_interrupted_at_any_turn_of_the_loop(on: str, *, twice: bool) -> None:
    """Once, or twice in a row as impatient people do: nothing stays, and the next run comes to its end."""
    before = sockets(), len(asyncio.all_tasks())
    wrong: dict[int, str] = {}
    turns, running = 0, True
    while running:
        again = turns % 2 * 3 + 2 if twice else None  # 2 or 5 turns later
        running = await interrupted(on, turns, again)
        for _ in range(20):  # what has been closed takes a few turns to be gone
            await asyncio.sleep(0)
        if (left := (sockets(), len(asyncio.all_tasks()))) != before:
            wrong[turns] = f"{left[0]} and {left[1]} tasks, before {before}"
        try:
            async with asyncio.timeout(scaled(10)):
                await labkit.play(handlers.echo(on), on=on, fault="close")
        except TimeoutError:
            wrong[turns] = "the next run hangs"
        turns += 1
    assert wrong == {}
    assert turns > 20  # it did interrupt the run on its way


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_wrong_time_scale_is_told_before_any_socket_opens(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the middle of the cleanup, where it would leave a socket open."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", "fast")
    with pytest.raises(BadValue, match="LABKIT_TIME_SCALE is 'fast'"):
        labkit.play(handlers.echo(on), on=on).send(None)


#: Runs with more to clean up than a handler: a process, a thread, a client that hangs, bytes that wait.
RUNS: list[dict[str, Any]] = [
    {"fault": "sigint"},
    {"fault": "frozen-process", "client": "aiohttp"},
    {"fault": "blocked-loop"},
    {"fault": "stalled-reader"},
    {"fault": "slow-link"},
    {"fault": "idle-timeout"},
    {"fault": "shutdown"},
    {"fault": "handshake-hang", "client": "aiohttp"},
    {"fault": "blackhole", "client": "websockets"},
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(run.values()))
@pytest.mark.parametrize("on", ["aiohttp", "websockets"])
async def test_whatever_the_run_has_begun_is_ended(on: str, run: dict[str, Any]) -> None:
    """Interrupted twice at each of its first events: no socket, task, thread or process of it stays."""
    before = sockets(), len(asyncio.all_tasks()), threading.active_count(), children()
    for count in (1, 3, 8, 21):
        task = asyncio.ensure_future(labkit.play(handlers.echo(on), on=on, patience=0.2, **run))
        for _ in range(count):  # a turn of the loop, and time for a process or a thread to get on
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        for _ in range(20):
            await asyncio.sleep(0)
        # The thread that waited for a process ends by itself, right behind it (Python 3.11).
        async with asyncio.timeout(scaled(10)):
            while threading.active_count() > before[2]:  # noqa: ASYNC110 - a thread that ends tells nobody
                await asyncio.sleep(0.001)
        left = sockets(), len(asyncio.all_tasks()), threading.active_count(), children()
        assert left == before, f"interrupted after {count}"


#: What runs the loop, and how often Ctrl+C is pressed.
INTERRUPTS = [
    *((mode, 1) for mode in MODES if mode != "uvloop.run"),
    *((mode, 3) for mode in ("labkit.run", "by hand")),
    pytest.param(
        "uvloop.run", 3, marks=pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop has no wheel here")
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "presses"), INTERRUPTS)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_ctrl_c_at_any_moment_leaves_nothing(mode: str, presses: int) -> None:
    """In a script, whatever runs its loop: no process, thread or socket, no redirected stream, no word of Python's."""
    left, written = interrupt_at_random(mode, 8, presses=presses, seed=presses)
    assert left == []
    assert written == []


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("mode", "presses"), INTERRUPTS)
def test_ctrl_c_leaves_nothing_three_hundred_times(mode: str, presses: int) -> None:
    """At other moments. What Python writes where it is interrupted in its own steps does not count."""
    left, _ = interrupt_at_random(mode, 300, presses=presses, seed=100 + presses)
    assert left == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("nohup", [False, True], ids=["", "nohup"])
def test_a_frozen_client_ends_with_a_lab_that_is_killed(name: str, *, nohup: bool) -> None:
    """It is stopped, and cannot end by itself; the system ends it, or wakes it, and then it finds its pipe closed."""
    lab = subprocess.Popen(
        [sys.executable, "-c", FREEZES, "nohup" if nohup else ""], stdout=subprocess.PIPE, process_group=0
    )
    assert lab.stdout is not None
    client = psutil.Process(int(lab.stdout.readline()))
    assert client.status() == psutil.STATUS_STOPPED
    lab.send_signal(signal.SIGKILL if nohup else signal.Signals[name])
    lab.wait()
    lab.stdout.close()
    assert psutil.wait_procs([client], timeout=scaled(10)) == ([client], [])


#: Plays a run with a client that is stopped, and tells its process.
FREEZES = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] else signal.SIG_DFL)
import labkit

async def main():
    import asyncio, psutil
    playing = asyncio.ensure_future(labkit.play(echo, on="websockets", fault="frozen-process", patience=60))
    me = psutil.Process()
    while not any(child.status() == psutil.STATUS_STOPPED for child in me.children()):
        await asyncio.sleep(0.01)
    print(me.children()[0].pid, flush=True)
    await playing

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

labkit.run(main())
"""
