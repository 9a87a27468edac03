"""The loop and the mode in which Python runs change no verdict: a sample of the matrix, played in each of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.errors import LabError
from labkit.support.clock import scaled
from tests import handlers
from tests.loops import Told, play_sample

ROOT = Path(__file__).parents[2]

needs_uvloop = pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop has no wheel here")


@pytest.fixture(scope="module")
def told() -> dict[str, Told]:
    """What the runs of the sample tell on asyncio's own loop."""
    return asyncio.run(play_sample())


def uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def eager() -> asyncio.AbstractEventLoop:
    """A loop that runs each new task at once until it waits."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def test_the_sample_is_not_all_the_same(told: dict[str, Told]) -> None:
    """Otherwise it would be the same everywhere too."""
    assert {run["outcome"] for run in told.values()} >= {"clean", "leaked", "noisy", "raised", "unaware", "unstarted"}
    assert [left.partition(",")[0] for left in told["a task that stays"]["leaked"]] == ["task pinging (sleep)"]
    assert "cancelled cancelled by Timeout._on_timeout (asyncio)" in told["a limit of its own"]["handler"]


@pytest.mark.parametrize(
    ("make", "debug"),
    [
        pytest.param(uvloop, False, id="uvloop", marks=needs_uvloop),
        pytest.param(
            eager,
            False,
            id="eager",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"),
        ),
        pytest.param(asyncio.new_event_loop, True, id="debug"),
    ],
)
def test_on_another_loop(make: Callable[[], asyncio.AbstractEventLoop], told: dict[str, Told], *, debug: bool) -> None:
    """The same verdicts, and the same events on the lanes of the server, in the same order."""
    with asyncio.Runner(debug=debug, loop_factory=make) as runner:
        assert runner.run(play_sample()) == told


@pytest.mark.parametrize("options", [["-O"], ["-W", "error"], ["-X", "dev"]], ids=" ".join)
def test_in_another_mode(options: list[str], told: dict[str, Told]) -> None:
    """Without asserts; with each warning an error; with all that Python checks for developers."""
    command = [sys.executable, *options, "-m", "tests.loops"]
    program = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=scaled(60), check=False)
    assert program.returncode == 0, program.stderr
    assert json.loads(program.stdout) == told
    assert "never awaited" not in program.stderr
    assert "never retrieved" not in program.stderr


#: The tests of somebody who has both plugins.
PROJECT = """
import json, os, pytest
from tests.loops import play_sample

told = json.loads(os.environ["TOLD"])

@pytest.mark.asyncio
async def test_under_pytest_asyncio():
    assert await play_sample() == told

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})])
async def test_under_anyio(anyio_backend):
    if anyio_backend != "asyncio":
        pytest.importorskip("uvloop", reason="uvloop has no wheel here")
    assert await play_sample() == told
"""


def test_under_the_plugins_of_pytest(told: dict[str, Told], tmp_path: Path) -> None:
    """pytest-asyncio, and anyio's plugin with its backend for asyncio, on both loops."""
    (tmp_path / "test_it.py").write_text(PROJECT)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    program = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--strict-markers"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOLD": json.dumps(told)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=scaled(100),
        check=False,
    )
    assert program.returncode == 0, program.stdout + program.stderr
    assert "3 passed" in program.stdout or find_spec("uvloop") is None


async def check(handler: Any) -> Any:
    return await labkit.check("goodbye", handler)


async def matrix(handler: Any) -> Any:
    return await labkit.matrix([handler], on="websockets")


async def host(handler: Any) -> Any:
    async with labkit.host(handler, on="websockets"):
        pass


async def wire(_: Any) -> Any:
    async with labkit.Wire("ws://127.0.0.1:1"):
        pass


@pytest.mark.parametrize("use", [labkit.play, check, matrix, host, wire])
def test_another_framework_gets_one_sentence(use: Callable[[Any], Any]) -> None:
    """Under trio no loop of asyncio runs, in anyio's backend for it neither."""
    import trio

    with pytest.raises(LabError, match=r"^the lab works in a task of asyncio, and this is none; under trio, run it in"):
        trio.run(use, handlers.websockets_echo)


def test_that_sentence_is_right() -> None:
    """In a thread of its own the lab works under trio."""
    import trio

    async def main() -> labkit.Run:
        playing = labkit.play(handlers.websockets_echo, on="websockets", fault="close")
        run: labkit.Run = await trio.to_thread.run_sync(labkit.run, playing)
        return run

    assert trio.run(main).verdict.ending == "returned"
