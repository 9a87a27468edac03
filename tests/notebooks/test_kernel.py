"""A real kernel: its cells are interrupted, and it is restarted, at whatever moment."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.manager import AsyncKernelManager

from labkit.support.clock import scaled
from tests import handlers
from tests.interrupted import RUNS

pytestmark = [
    pytest.mark.notebooks,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]

ROOT = Path(__file__).parents[2]

PREPARES = """\
import asyncio, gc, json, sys, threading
import psutil, labkit
from tests import handlers

def state():
    me, tasks = psutil.Process(), asyncio.all_tasks()
    return {
        "sockets": len(me.net_connections("inet")),
        "threads": threading.active_count(),
        "processes": [f"{child.pid} {child.status()}" for child in me.children(recursive=True)],
        "tasks": sorted(task.get_coro().__qualname__ for task in tasks),
        "stdout": type(sys.stdout).__name__,
    }

for on in ("aiohttp", "websockets"):  # what is imported and made once
    labkit.run(labkit.play(handlers.echo(on), on=on, fault="close"))"""
TELLS = "_ = gc.collect(); print(json.dumps(state()))"

#: The same in a cell that awaits, and in code that is no coroutine, such as a widget's callback.
CELLS = ("await labkit.play({})", "labkit.run(labkit.play({}))")

#: What Python writes where an interrupt meets a step of its own, such as a destructor: it cannot be raised there.
PYTHONS_OWN = re.compile(r"Exception ignored in.*?\nKeyboardInterrupt:?\s*\n", re.DOTALL)


class Kernel:
    """A kernel with the lab in it."""

    def __init__(self, manager: AsyncKernelManager) -> None:
        self.manager = manager
        self._client: Any = manager.client()

    async def prepare(self) -> None:
        """Wait until it runs, and import the lab."""
        self._client.start_channels()
        await self._client.wait_for_ready(timeout=scaled(60))
        await self.run(PREPARES)
        await self.state()  # psutil has imported what it needs

    async def run(self, code: str) -> tuple[str, str]:
        """Run a cell; return what it has printed, and the name of its error."""
        printed, failed = [], []
        # A kernel that is interrupted between two cells sends no reply for the one; but it says when it is idle again.
        ours, idle = self._client.execute(code, stop_on_error=False), False
        while not idle:
            message = await self._client.get_iopub_msg(timeout=scaled(60))
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != ours:
                continue
            if kind == "stream":
                printed.append(content["text"])
            if kind == "error":
                failed.append(content["ename"])
            idle = kind == "status" and content["execution_state"] == "idle"
        return "".join(printed), "".join(failed)

    async def state(self) -> dict[str, Any]:
        """What there is in the kernel's process."""
        told: dict[str, Any] = json.loads((await self.run(TELLS))[0])
        return told

    async def interrupt(self, code: str, moment: float) -> str:
        """Run a cell, interrupt it after some seconds; return the name of its error, and what the lab has printed."""
        running = asyncio.create_task(self.run(code))
        await asyncio.sleep(moment)
        await self.manager.interrupt_kernel()
        printed, failed = await running
        return failed + PYTHONS_OWN.sub("", printed)

    async def end(self) -> None:
        """End the kernel, and the connection to it."""
        self._client.stop_channels()
        await self.manager.shutdown_kernel(now=True)


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    # Without ports, which somebody else may have by the time that the kernel is there; who sends to it then hangs. Nor
    # could anybody listen to them, of which a kernel with ports warns.
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}/kernel")
        await manager.start_kernel(env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=str(ROOT))
        running = Kernel(manager)
        try:
            await running.prepare()
            yield running
        finally:
            await running.end()


async def interrupt_at_random(kernel: Kernel, cell: str, count: int, seed: int) -> list[str]:
    """Interrupt cells at random moments; return what they have left."""
    chance, before, wrong = random.Random(seed), await kernel.state(), []
    for _ in range(count):
        arguments = describe(chance.choice(handlers.STACKS), chance.choice(RUNS))
        moment = chance.uniform(0.01, 1.0)
        failed = await kernel.interrupt(f"_ = {cell.format(arguments)}", moment)
        deadline = time.monotonic() + scaled(3)
        while (now := await kernel.state()) != before and time.monotonic() < deadline:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)
        if now != before or failed not in {"", "KeyboardInterrupt", "CancelledError"}:
            wrong.append(f"{arguments} interrupted after {moment}: {failed}, {now}, before {before}")
            before = now
    return wrong


def describe(on: str, options: Mapping[str, Any]) -> str:
    """The arguments of ``labkit.play``, as one writes them."""
    return f"handlers.echo({on!r}), " + ", ".join(f"{name}={value!r}" for name, value in {"on": on, **options}.items())


async def test_the_stop_button_leaves_nothing(kernel: Kernel) -> None:
    """At whatever moment: no socket, thread, process or task; and nothing goes on behind the scenes."""
    for cell in CELLS:
        assert await interrupt_at_random(kernel, cell, 10, seed=1) == [], cell


@pytest.mark.soak
@pytest.mark.parametrize("cell", CELLS)
async def test_the_stop_button_leaves_nothing_a_hundred_times(kernel: Kernel, cell: str) -> None:
    """The same at other moments."""
    assert await interrupt_at_random(kernel, cell, 100, seed=2) == []


async def test_an_interrupt_does_not_wait_for_the_patience(kernel: Kernel) -> None:
    """The cell ends soon, and the patience is an hour."""
    arguments = "handlers.websockets_echo, on='websockets', fault='blackhole', patience=3600"
    for cell in CELLS:
        assert await kernel.interrupt(cell.format(arguments), 0.5) in {"KeyboardInterrupt", "CancelledError"}, cell
        assert await kernel.run("print('goes on')") == ("goes on\n", ""), cell


async def test_a_frozen_client_ends_with_the_kernel(kernel: Kernel) -> None:
    """A kernel that restarts is killed while clients are stopped, one of each stack; nothing is left of any."""
    provisioner: Any = kernel.manager.provisioner
    program = psutil.Process(provisioner.pid)
    for on in ("aiohttp", "websockets"):
        play = f"labkit.play(handlers.echo({on!r}), on={on!r}, fault='frozen-process', patience=3600)"
        await kernel.run(f"{on} = asyncio.ensure_future({play})")
    stopped: list[psutil.Process] = []
    async with asyncio.timeout(scaled(20)):
        while len(stopped) < 2:
            await asyncio.sleep(0.02)
            stopped = [child for child in program.children() if child.status() == psutil.STATUS_STOPPED]
    await kernel.manager.restart_kernel(now=True)
    gone, alive = psutil.wait_procs(stopped, timeout=scaled(10))
    assert (set(gone), alive) == (set(stopped), [])


#: Handlers that never give the loop back.
BLOCKS = """\
import time

async def computes(websocket):
    await websocket.recv()
    while True:
        pass

async def sleeps(websocket):
    await websocket.recv()
    time.sleep(3600)

async def in_a_task(websocket):
    async def work():
        while True:
            time.sleep(0.01)
    await asyncio.gather(work())
"""


async def test_a_handler_that_never_awaits_ends_too(kernel: Kernel) -> None:
    """One interrupt is enough, though the loop that has to take it stands still; and so is the patience."""
    await kernel.run(BLOCKS)
    before = await kernel.state()
    for handler, cell in itertools.product(("computes", "sleeps", "in_a_task"), CELLS):
        play = cell.format(f"{handler}, on='websockets', patience={{}}")
        assert await kernel.interrupt(play.format(3600), 0.7) in {"KeyboardInterrupt", "CancelledError"}, play
        printed, failed = await kernel.run(f"run = {play.format(0.5)}; print(run.outcome)")
        assert (printed, failed) == ("blocks\n", ""), play
        assert await kernel.state() == before, play
