"""The plugin for pytest, in sessions of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

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
    """Run tests in a process of their own, with this plugin and no other's settings."""
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(test_it=HANDLERS + tests)
    return pytester.runpytest_subprocess("-p", "labkit.pytest_plugin", "-p", "no:cacheprovider", *arguments)


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


def test_moments_that_are_not_tried_are_told(pytester: pytest.Pytester) -> None:
    """If a handler suspends more often than a test tries, the last moment fails; a moment that is not there skips."""
    tests = """
@pytest.mark.moments(1)
def test_few(play, moment):
    play(echo, on="websockets", fault="close", messages=["a", "b", "c"], when=moment)

@pytest.mark.moments(9)
def test_many(play, moment):
    play(echo, on="websockets", fault="close", messages=["a"], when=moment)
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
