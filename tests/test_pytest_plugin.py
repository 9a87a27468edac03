"""The plugin for pytest, in sessions of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

HANDLERS = """
import asyncio
import labkit
import pytest

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

async def untidy(websocket):
    async with labkit.resource("database"):
        await websocket.recv()
        await websocket.wait_closed()
        await asyncio.sleep(0)
        raise ValueError("untidy")
"""


def session(pytester: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    """Run tests in a process of their own, with this plugin and no other's settings.

    Without those of Hypothesis and anyio, where no test asks for them: each imports trio, and that takes a second.
    """
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(test_it=HANDLERS + tests)
    without = ["cacheprovider", "hypothesispytest", *(["anyio"] if "anyio" not in tests else [])]
    plugins = ["labkit.pytest_plugin", *(f"no:{name}" for name in without)]
    return pytester.runpytest_subprocess(*(f"-p{name}" for name in plugins), *arguments)


def test_it_serves_every_kind_of_test(pytester: pytest.Pytester) -> None:
    """``play`` gives a run in a plain test, and is awaited in asyncio's and anyio's; markers make a test of each."""
    tests = """
@pytest.mark.faults("reset", "fin", labkit.Close(code=4000))
def test_plain(play, fault):
    run = play(echo, on="websockets", fault=fault)
    assert run.verdict.cleanup == "none"

@pytest.mark.asyncio
async def test_asyncio(play):
    assert (await play(echo, on="websockets", fault="close")).outcome == "clean"

@pytest.mark.anyio
async def test_anyio(play, anyio_backend_name):
    assert (await play(echo, on="websockets", fault="close")).outcome == "clean"

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.asyncio
async def test_parts(host, wire):
    import websockets
    async with host(echo, on="websockets") as server, wire(server.url, timeline=server.timeline) as line:
        async with websockets.connect(line.url) as ws:
            await ws.send("hello")
            await ws.recv()

@pytest.mark.moments(3)
def test_moments(play, moment):
    assert play(echo, on="websockets", fault="close", when=moment).verdict.leaked == ()

@pytest.mark.faults
def test_default(fault):
    assert fault in labkit.ENDING
"""
    result = session(pytester, tests, "-v", "-n", "2", "-o", "asyncio_mode=strict")
    told = result.parseoutcomes()
    assert "failed" not in told, str(result.stdout)
    assert told["passed"] >= 9, str(result.stdout)
    result.stdout.fnmatch_lines_random(["*test_plain?reset?*", "*close(code=4000)*", "*test_moments?await-1?*"])


@pytest.mark.parametrize("mode", ["auto", "strict"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.soak
def test_loops_and_modes_of_asyncio(pytester: pytest.Pytester, mode: str, loop: str) -> None:
    """In pytest-asyncio's two modes and with anyio's plugin, on both kinds of loop; in workers of xdist too."""
    pytest.importorskip(loop)
    policy = "uvloop.EventLoopPolicy()" if loop == "uvloop" else "asyncio.DefaultEventLoopPolicy()"
    marked = "@pytest.mark.asyncio" if mode == "strict" else ""
    anyio_marked = "" if mode == "auto" else "@pytest.mark.anyio"  # in auto mode, pytest-asyncio takes every coroutine
    tests = f"""
import {loop}

@pytest.fixture
def event_loop_policy():
    return {policy}

@pytest.fixture
def anyio_backend():
    return "asyncio", {{"use_uvloop": {loop == "uvloop"}}}

{marked}
@pytest.mark.faults("reset", "close")
async def test_asyncio(play, fault):
    assert type(asyncio.get_running_loop()).__module__.startswith({"uvloop" if loop == "uvloop" else "asyncio"!r})
    assert (await play(echo, on="websockets", fault=fault)).verdict.leaked == ()

{anyio_marked}
async def test_anyio(play):
    assert (await play(echo, on="websockets", fault="close")).outcome == "clean"

def test_plain(play):
    assert play(echo, on="websockets", fault="close").outcome == "clean"
"""
    for more in ([], ["-n", "2"]):
        result = session(pytester, tests, "-o", f"asyncio_mode={mode}", "-W", "ignore::DeprecationWarning", *more)
        result.assert_outcomes(passed=4)


def test_a_failure_shows_its_run(pytester: pytest.Pytester) -> None:
    """A report has the timeline, the verdict's sentence in the assertion, a token, and where the picture is."""
    tests = """
def test_tidy(play):
    run = play(untidy, on="websockets", fault="close")
    assert run.verdict.ending == "returned"
"""
    result = session(pytester, tests, "--labkit-artifacts", "kept")
    assert result.ret == 1
    out = str(result.stdout)
    assert "verdict.ending of untidy on websockets, fault close:" in out
    assert "- labkit: untidy on websockets, fault close -" in out
    assert "ValueError: untidy" in out
    token = re.search(r"labkit replay (lab1-\S+)", out)
    assert token is not None
    again = subprocess.run(
        [sys.executable, "-m", "labkit", "replay", token[1]], capture_output=True, text=True, check=False
    )
    assert "ValueError: untidy" in again.stdout, again.stderr
    [picture] = Path("kept").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(picture.with_suffix(".json").read_text("utf-8"))


def test_a_mistake_is_one_sentence(pytester: pytest.Pytester) -> None:
    """A fault that there is not, a marker without its argument, too few moments: said in a sentence, no traceback."""
    tests = """
@pytest.mark.faults("rest")
def test_unknown(play, fault):
    pass
"""
    result = session(pytester, tests)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    out = str(result.stdout)
    assert "there is no fault 'rest'. Did you mean 'reset'?" in out
    assert "Traceback" not in out
    assert "pytest_plugin.py" not in out


def test_a_mistake_in_a_test_shows_its_line_alone(pytester: pytest.Pytester) -> None:
    """What the lab refuses is told in its sentence, at the test's own line, with nothing of the lab's code."""
    tests = """
def test_plain(play):
    play(echo, on="websocket")

@pytest.mark.asyncio
async def test_asyncio(play):
    await play("ws://127.0.0.1:9/")
"""
    result = session(pytester, tests, "-o", "asyncio_mode=strict")
    result.assert_outcomes(failed=2)
    out = str(result.stdout)
    assert "there is no stack 'websocket'. Did you mean 'websockets'?" in out
    assert "ws://127.0.0.1:9/: the server cannot be reached" in out
    places = re.findall(r"^(\S+\.py):\d+: ", out, re.MULTILINE)
    assert set(places) == {"test_it.py"}, out


def test_moments_that_are_not_tried_are_told(pytester: pytest.Pytester) -> None:
    """If a handler suspends more often than a test tries, the last moment fails; a moment that is not there skips."""
    tests = """
@pytest.mark.moments(1)
def test_few(play, moment):
    play(echo, on="websockets", fault="close", messages=["a", "b", "c"], when=moment)

@pytest.mark.moments(9)
def test_many(play, moment):
    play(echo, on="websockets", fault="close", messages=["a"], when=moment, patience=0.3)
"""
    result = session(pytester, tests)
    told = result.parseoutcomes()
    assert told["failed"] == 1
    assert told["skipped"] >= 1
    assert re.search(r"suspends \d+ times, and this test tries 1 of them", str(result.stdout))


def test_loading_it_loads_nothing_of_the_lab() -> None:
    """A session without the lab's fixtures pays for the door alone."""
    code = "import sys, pytest; before = {*sys.modules}; import labkit.pytest_plugin; print(*{*sys.modules} - before)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name for name in out.split() if name.startswith("labkit")} == {"labkit", "labkit.pytest_plugin"}
    assert not {"aiohttp", "websockets", "matplotlib", "msgspec", "click"} & set(out.split())


def test_a_session_that_does_not_use_it_pays_for_nothing() -> None:
    """No library is loaded for it, nor asyncio, which takes longer than all else."""
    code = "import sys, pytest; before = {*sys.modules}; import labkit.pytest_plugin; print(*({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} == {"labkit"}


#: A test of somebody who has installed labkit and configured nothing.
STRANGER = """
async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

def test_it(play):
    import labkit
    assert "site-packages" in labkit.__file__
    assert play(echo, on="websockets", fault="reset").outcome == "raised"
"""


def uv(*arguments: str | Path, **options: Any) -> None:
    """Run uv; a registry that does not answer skips the test."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False, **options
    )
    if done.returncode and ("Failed to fetch" in done.stderr or "error sending request" in done.stderr):
        pytest.skip("the registry of packages does not answer")
    assert not done.returncode, done.stderr


@pytest.mark.soak
def test_an_installed_wheel_brings_the_plugin(tmp_path: Path) -> None:
    """Built, and installed beside pytest in a venv of its own: the fixtures are there, by the entry point alone."""
    pytest.importorskip("uv")
    project, venv = tmp_path / "project", tmp_path / "venv"
    python = venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    uv("build", "--wheel", "--out-dir", tmp_path, Path(__file__).parents[1])
    uv("venv", "--python", sys.executable, venv)
    uv("pip", "install", "--python", python, *tmp_path.glob("*.whl"), "pytest")
    project.mkdir()
    (project / "test_stranger.py").write_text(STRANGER)
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        [python, "-m", "pytest", "-rA"], cwd=project, env=alone, capture_output=True, text=True, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "labkit-0" in done.stdout  # among the plugins of the report's head
