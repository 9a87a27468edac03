"""The child processes that a handler makes by hand."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

import labkit
from labkit.events import LoopEnded

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork on Unix alone"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def forks(child: Callable[[], object]) -> int:
    if pid := os.fork():
        return pid
    try:
        child()
    finally:
        os._exit(0)


def wait(pid: int) -> None:
    os.waitpid(pid, 0)


def spawn() -> int:
    return os.posix_spawn(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"], os.environ)


def line(function: Any, number: int) -> str:
    """So many lines below the first one of a function."""
    return f"line {function.__code__.co_firstlineno + number}"


async def test_a_child_that_goes_on_is_left_behind_and_killed() -> None:
    """With the line that has forked it."""
    pids: list[int] = []

    async def leaves(websocket: Any) -> None:
        pids.append(forks(lambda: time.sleep(60)))
        await websocket.wait_closed()

    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.3)
    assert run.verdict.leaked == (f"child process, forked in {line(forks, 1)}",)
    assert not psutil.pid_exists(pids[0])


async def test_a_child_for_which_nobody_waits_is_left_behind() -> None:
    """It has ended, and the system keeps it: a server that does this for each client has no room for more some day."""
    pids: list[int] = []

    async def leaves(websocket: Any) -> None:
        pids.append(forks(lambda: None))
        await asyncio.to_thread(os.waitid, os.P_PID, pids[0], os.WEXITED | os.WNOWAIT)
        await websocket.wait_closed()

    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.3)
    text = f"child process, forked in {line(forks, 1)}, which has ended, and for which nobody has waited"
    assert run.verdict.leaked == (text,)
    assert not psutil.pid_exists(pids[0])


async def test_a_child_that_somebody_has_waited_for_is_not_left() -> None:
    """Nor one that a program has spawned, and ended."""

    async def waits(websocket: Any) -> None:
        wait(forks(lambda: None))
        pid = spawn()
        try:
            await websocket.wait_closed()
        finally:
            os.kill(pid, signal.SIGKILL)
            wait(pid)

    run = await labkit.play(waits, on="websockets", fault="close")
    assert run.verdict.leaked == ()
    assert run.timeline.all(LoopEnded) == []


async def test_a_program_that_is_spawned_is_left_behind() -> None:
    """It is started, not forked."""

    async def leaves(websocket: Any) -> None:
        spawn()
        await websocket.wait_closed()

    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.3)
    assert run.verdict.leaked == (f"child process, started in {line(spawn, 1)}",)


async def test_a_process_is_named_by_its_function_or_as_its_author_has_named_it() -> None:
    """Python's own name has a number in it, which is another one in each run."""
    started = []

    async def leaves(websocket: Any) -> None:
        for name in (None, "mail"):
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), name=name)
            process.start()
            started.append(process)
        await websocket.wait_closed()

    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.3)
    assert [each.partition(",")[0] for each in run.verdict.leaked or ()] == ["process 'sleep'", "process 'mail'"]
