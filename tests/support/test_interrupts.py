"""Ctrl+C: what is interrupted may clean up, however often somebody presses it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

import pytest

import labkit
from labkit.support.clock import scaled
from labkit.support.interrupts import Interrupts, cancel_on_interrupt
from labkit.support.loop import finish

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

#: What runs a coroutine, in a script.
RUNNERS = {
    "labkit.run": "labkit.run({})",
    "asyncio.run": "asyncio.run({})",
    "by hand": "by_hand({})",
    "inside a running loop": "asyncio.run(outer({}))",
}

SCRIPT = """
import asyncio, signal
import labkit
from labkit.support.interrupts import cancel_on_interrupt

def press():
    signal.raise_signal(signal.SIGINT)

async def outer(coroutine):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a kernel
    labkit.run(coroutine)

def by_hand(coroutine):
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()

{program}

try:
    {run}
except KeyboardInterrupt:
    print("interrupted")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""

#: Its cleanup takes a while, and somebody presses again and again.
CLEANS_UP = """
async def main():
    with cancel_on_interrupt():
        asyncio.get_running_loop().call_soon(press)
        try:
            await asyncio.sleep(60)
        finally:
            closing = asyncio.ensure_future(asyncio.sleep(0.01))
            for _ in range(3):
                press()
                try:
                    await asyncio.shield(closing)
                except asyncio.CancelledError:
                    print("cancelled again")
            await closing
            print("closed")
"""
#: It takes account of the interrupt, as the matrix does, which then gives what it has.
SWALLOWS = """
async def main():
    asyncio.get_running_loop().call_soon(press)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("gives what it has")
"""
#: It keeps the loop from everything.
NEVER_AWAITS = """
import threading, time

async def never_awaits(websocket):
    await websocket.recv()
    threading.Timer(0.1, press_main).start()
    while True:
        pass

def press_main():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

async def main():
    await labkit.play(never_awaits, on="websockets", fault="reset", patience=60)
"""


@pytest.mark.parametrize("line", sorted({line for *_, line in Interrupts.__call__.__code__.co_lines() if line}))
def test_the_second_press_may_come_while_the_first_is_taken(line: int) -> None:
    """Between any two lines of that: it breaks off nothing, since the first one was just now."""
    taken = Interrupts(signal.default_int_handler)

    def press_again(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is Interrupts.__call__.__code__ and event == "line" and frame.f_lineno == line:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)
        return press_again

    traced = sys.gettrace()
    with taken.installed():
        sys.settrace(press_again)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pytest.fail("it broke off what happened to run")
        finally:
            sys.settrace(traced)
    assert taken.count in {1, 2}  # some lines are for those who press for long
    assert 0 <= time.monotonic() - taken._first < scaled(60)


def script(text: str, runner: str) -> list[str]:
    """Run a script; return the lines that it writes."""
    code = SCRIPT.format(program=text, run=RUNNERS[runner].format("main()"))
    program = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(program, capture_output=True, text=True, timeout=scaled(60), check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_cleanup_is_left_in_peace(runner: str) -> None:
    """Whoever runs the loop: however often somebody presses, the cleanup comes to its end, and then the interrupt."""
    *cancels, closed, interrupted, restored = script(CLEANS_UP, runner)
    assert set(cancels) <= {"cancelled again"}
    assert (closed, interrupted) == ("closed", "interrupted")
    assert restored == "True"


@pytest.mark.parametrize("runner", ["labkit.run", "inside a running loop"])
def test_what_takes_account_of_the_interrupt_returns(runner: str) -> None:
    """As under ``asyncio.run``."""
    assert script(SWALLOWS, runner) == ["gives what it has", "True"]


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_handler_that_never_awaits_is_interrupted_by_one_press(runner: str) -> None:
    """At the line where it stands, since no cancel would reach it."""
    began = time.monotonic()
    assert script(NEVER_AWAITS, runner) == ["interrupted", "True"]
    assert time.monotonic() - began < scaled(30)


async def test_somebody_elses_handler_stays() -> None:
    """As a kernel has one of its own while a cell awaits."""
    taken: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: taken.append(number))
    try:
        with cancel_on_interrupt():
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert taken == [signal.SIGINT]


async def test_overlapping_blocks_share_one_handler() -> None:
    """The first that comes in puts it there, the last that goes out puts back what was there."""
    before = signal.getsignal(signal.SIGINT)
    first, second = cancel_on_interrupt(), cancel_on_interrupt()
    first.__enter__()
    ours = signal.getsignal(signal.SIGINT)
    second.__enter__()
    first.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is ours is not before
    second.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is before


async def test_work_that_must_not_be_left_half_done_begins_again() -> None:
    """When all tasks are cancelled, as at the end of ``asyncio.run``; the caller's cancel comes behind it."""
    done: list[str] = []

    async def work() -> None:
        done.append("begun")
        await asyncio.sleep(0.01)
        done.append("done")

    caller = asyncio.create_task(finish(work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == ["begun", "begun", "done"]


async def test_what_the_work_returns_and_raises_passes() -> None:
    """A cancel of the caller comes first."""

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    assert await finish(lambda: asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ValueError, match="mine"):
        await finish(fails)
    caller = asyncio.create_task(finish(fails))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


def test_an_interrupt_before_the_loop_runs() -> None:
    """The coroutine does not begin, and nobody is told that it was never awaited."""
    program = """
async def main():
    print("begun")

class Presses:
    def __await__(self):
        return main().__await__()

make_loop = asyncio.new_event_loop
def pressed():
    press()
    return make_loop()
asyncio.events.new_event_loop = asyncio.runners.events.new_event_loop = pressed
"""
    assert script(program, "labkit.run") == ["interrupted", "True"]
    assert labkit.run.__module__ == "labkit.support.loop"
