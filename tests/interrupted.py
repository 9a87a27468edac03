"""A program that plays one run after the other, may be interrupted at any moment, and tells what each run has left.

``python -m tests.interrupted MODE``: ``MODE`` says what runs the loop. It reads the arguments of a run, a line of JSON,
writes "ready", plays, and writes what is there that was not there before. Only from "ready" on can it be interrupted.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import labkit
from labkit.support.clock import scaled
from tests import handlers
from tests.left import children, sockets

#: What runs the loop: the lab; Python; the program itself, as older programs do; another loop.
MODES: Final = ("labkit.run", "asyncio.run", "by hand", "uvloop.run")

#: Runs with much to clean up: a thread, a process, one that is stopped, a client that hangs, bytes that wait.
RUNS: Final[Sequence[Mapping[str, Any]]] = [
    {"fault": "blocked-loop"},
    {"fault": "sigint"},
    {"fault": "frozen-process", "patience": 0.3},
    {"fault": "frozen-process", "client": "aiohttp", "patience": 0.3},
    {"fault": "blackhole", "client": "websockets", "patience": 0.3},
    {"fault": "stalled-reader", "patience": 0.3},
    {"fault": "shutdown", "patience": 0.5},
    {"fault": "reset"},
    {"fault": "blackhole", "clock": "autojump", "patience": 60},
    {"fault": "shutdown", "clock": "autojump"},
]

#: Seconds for what has been closed to be gone.
_GOING: Final = 2.0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _run_by_hand(coroutine: Coroutine[Any, Any, Any]) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _tell("ready")
        loop.run_until_complete(coroutine)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()


async def _interrupted_alone(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Take interrupts while the coroutine runs, and neither before nor after.

    With any program, the second of several presses may meet ``uvloop.run`` where it ends its loop, which it then leaves
    as it is; or Python where it forgets a task, and it can only write that.
    """
    _tell("ready")
    try:
        await coroutine
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(mode: str, coroutine: Coroutine[Any, Any, Any]) -> None:
    if mode == "by hand":
        _run_by_hand(coroutine)
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if mode == "uvloop.run":
        import uvloop

        uvloop.run(_interrupted_alone(coroutine))
        return
    _tell("ready")
    (labkit.run if mode == "labkit.run" else asyncio.run)(coroutine)


def _state() -> dict[str, Any]:
    return {
        "sockets": sorted(sockets()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "processes": sorted(child.pid for child in children()),
        "stdout": type(sys.stdout).__name__,
        "stderr": type(sys.stderr).__name__,
    }


def main() -> None:
    """Play what the standard input says."""
    [mode] = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = _state()
    for line in sys.stdin:
        on, options = json.loads(line)
        began, ended = time.perf_counter(), "returned"
        playing = labkit.play(handlers.echo(on), on=on, **options)
        try:
            try:
                _run(mode, playing)
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                # It may have come before the first step.
                if inspect.getcoroutinestate(playing) == inspect.CORO_CREATED:
                    playing.close()
        except (KeyboardInterrupt, asyncio.CancelledError) as interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            ended = type(interrupt).__name__
        took = time.perf_counter() - began
        deadline = time.monotonic() + scaled(_GOING)
        while (now := _state()) != before and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        left = {name: now[name] for name in now if now[name] != before[name]}
        _tell(json.dumps({"ended": ended, "took": took, "left": left}))
        before = now


class Program:
    """The program, in a process of its own."""

    def __init__(self, mode: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "always", "-m", "tests.interrupted", mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._written: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self._written.extend(self._process.stderr)

    def play(self, on: str, options: Mapping[str, Any], moments: Sequence[float]) -> dict[str, Any]:
        """Play a run, and interrupt it.

        Args:
            on: the stack's name.
            options: arguments of ``labkit.play``.
            moments: when to interrupt it: seconds after the previous one.

        Returns:
            How it ended, how long it took, and what it has left.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([on, dict(options)]) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n", self.stop()
        for moment in moments:
            time.sleep(moment)
            os.kill(self._process.pid, signal.SIGINT)
        line = self._process.stdout.readline()
        assert line, self.stop()
        told: dict[str, Any] = json.loads(line)
        return told

    def stop(self) -> list[str]:
        """End the program; return what it has written to its standard error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdin.close()
        try:
            self._process.wait(scaled(20))
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            self._process.stdout.close()
            self._process.stderr.close()
        return self._written


@contextmanager
def program(mode: str) -> Iterator[Program]:
    """The program, while the block runs."""
    running = Program(mode)
    try:
        yield running
    finally:
        running.stop()


def interrupt_at_random(mode: str, count: int, *, presses: int = 1, seed: int = 0) -> tuple[list[str], list[str]]:
    """Interrupt runs at random moments.

    Args:
        mode: what runs the loop, one of ``MODES``.
        count: how many runs.
        presses: how often each is interrupted, within some hundredths of a second.
        seed: the seed of the random numbers.

    Returns:
        What the runs have left, and what the program has written to its standard error.
    """
    chance, lengths, wrong = random.Random(seed), {}, []
    with program(mode) as playing:
        for _ in range(count):
            # uvloop has no clock that jumps.
            runs = [run for run in RUNS if "clock" not in run or mode != "uvloop.run"]
            options, on = chance.choice(runs), chance.choice(handlers.STACKS)
            length = lengths.get(str(options), 1.0)
            moments = [chance.uniform(0, length), *(chance.uniform(0, 0.05) for _ in range(presses - 1))]
            told = playing.play(on, options, moments)
            if told["ended"] == "returned":
                lengths[str(options)] = told["took"]
            if told["left"]:
                wrong.append(f"{on} {options} interrupted after {moments}: {told}")
        return wrong, playing.stop()


if __name__ == "__main__":
    main()
