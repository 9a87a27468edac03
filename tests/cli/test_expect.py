"""``--expect`` and the exit status: what a script, or continuous integration, has from the command line."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import labkit
from labkit.cli import main

SERVER = """
import labkit

async def tidy(websocket):
    async with labkit.resource("database"):
        async for message in websocket:
            await websocket.send(message)

async def forgets(websocket):
    database = labkit.resource("database")
    await database.__aenter__()
    async for message in websocket:
        await websocket.send(message)
    await database.__aexit__(None, None, None)

def is_closed(run):
    return run.verdict.cleanup == "complete"
"""

#: What an exercise's handler needs.
IMPORTS = "import labkit\nfrom websockets.exceptions import *\n\n"

#: As people start a server at the end of a file, and forget the line above it.
SERVES = {
    "asyncio": "asyncio.run(main())",
    "aiohttp": "web.run_app(web.Application(), host='127.0.0.1', port=0, print=None)",
    "uvloop": "import uvloop; uvloop.run(main())",
    "uvicorn": "import uvicorn; uvicorn.run(echo, port=0)",
    "starlette": "import uvicorn; from starlette.applications import Starlette; uvicorn.run(Starlette(), port=0)",
    "http": "HTTPServer(('127.0.0.1', 0), BaseHTTPRequestHandler).serve_forever()",
}
SERVING = """
import asyncio
from http.server import BaseHTTPRequestHandler, HTTPServer
import websockets
from aiohttp import web

async def echo(websocket): ...

async def main():
    try:
        async with websockets.serve(echo, "127.0.0.1", 0):
            await asyncio.Future()
    except Exception:
        pass

"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a handler."""
    (tmp_path / "kept.py").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    return tmp_path


def labkit_says(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="labkit")


@pytest.mark.parametrize(
    ("expected", "status", "says"),
    [
        (["cleanup=complete"], 0, ""),
        (["cleanup=complete", "noticed=yes", "outcome=raised|clean"], 0, ""),
        (["close_code=1006", "leaked=()", "blocked=0"], 0, ""),
        (["cleanup=missing"], 1, "Not as expected: cleanup is complete, not missing\n"),
        (["outcome=clean", "ending=returned"], 1, "outcome is raised, not clean\nNot as expected: ending is raised"),
        (["reaction.tcp=FIN", "others.answered=yes"], 1, "reaction.tcp is unknown, not FIN\nNot as expected: others."),
        (["cleanup"], 2, "'cleanup' is not NAME=VALUE, such as cleanup=complete"),
        (["cleanupp=complete"], 2, "there is no finding 'cleanupp'. Did you mean 'cleanup'?"),
    ],
)
def test_a_verdict_is_as_expected_or_not(folder: Path, expected: list[str], status: int, says: str) -> None:
    """The exit status tells a script; stderr tells its reader."""
    options = [word for each in expected for word in ("--expect", each)]
    result = labkit_says("play", "kept.py:tidy", "--on", "websockets", *options)
    assert (result.exit_code, says in result.stderr) == (status, True), result.output


def test_each_cell_and_each_moment_is_as_expected_or_not(folder: Path) -> None:
    """Each that is not is named; an invariant of the user's own counts too."""
    arguments = ("kept.py:tidy", "kept.py:forgets", "--on", "websockets", "--fault", "reset")
    result = labkit_says("matrix", *arguments, "--expect", "cleanup=complete")
    assert result.exit_code == 1
    assert result.stderr == ("Not as expected: forgets on websockets against reset: cleanup is missing, not complete\n")
    for handler, status in (("tidy", 0), ("forgets", 1)):
        for more in (("--expect", "cleanup=complete"), ("--holds", "kept.py:is_closed")):
            result = labkit_says("moments", f"kept.py:{handler}", "--on", "websockets", *more)
            assert result.exit_code == status, result.output
    row = json.loads(labkit_says("moments", "kept.py:forgets", "--on", "websockets", "--json").stdout)[-1]
    assert labkit_says("replay", row["token"], "--expect", "cleanup=complete").exit_code == 1
    assert labkit_says("replay", row["token"], "kept.py:tidy", "--expect", "cleanup=complete").exit_code == 0


@pytest.mark.parametrize("how", SERVES)
def test_a_file_that_serves_when_it_is_imported_is_told(folder: Path, how: str) -> None:
    """It would never come to its end. What its end would log, such as the lifespan's of Starlette, is not logged."""
    if how in {"uvloop", "uvicorn", "starlette"}:
        pytest.importorskip(how)
    (folder / "serving.py").write_text(SERVING + SERVES[how])
    result = labkit_says("play", "serving.py:echo", "--on", "websockets")
    assert result.exit_code == 2
    told = result.stderr.splitlines()[-1]  # uvicorn says something before
    assert "serving.py starts a server when it is imported (serving.py, line 16): put that below" in told
    assert "Traceback" not in result.stderr
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for one process")
@pytest.mark.parametrize(
    "command",
    [
        "play kept.py:tidy --on websockets --clients 3 --when 1000 --patience 100",
        "check recv slow.py:h",
        "play text.py:h",
    ],
)
def test_ctrl_c_ends_a_command_without_a_traceback(folder: Path, command: str) -> None:
    """With the exit status that shells give; also in code that is a string, as in each import of a dataclass."""
    # Python looks for signals before it sleeps, and not once more when it begins to: one long sleep could miss it.
    slow = "import time\nopen('started', 'w').close()\nfor _ in range(10_000): time.sleep(0.01)\n"
    (folder / "slow.py").write_text(slow)
    (folder / "text.py").write_text(f"exec({slow!r})\n")
    (folder / "kept.py").write_text(SERVER + "\nopen('started', 'w').close()\n")
    program = subprocess.Popen(
        [sys.executable, "-m", "labkit", *command.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with program:
        while not os.path.exists("started"):  # noqa: PTH110 - as quick as can be
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        _, complaints = program.communicate()
    assert "Traceback" not in complaints
    assert program.returncode == 130, complaints


def test_a_file_is_checked_again_when_it_is_saved(folder: Path) -> None:
    """``check --watch`` goes on until Ctrl+C; a module that the handler's file imports counts as that file."""
    (folder / "mine.py").write_text("from helper import my_handler\n")
    (folder / "helper.py").write_text(f"{IMPORTS}{labkit.EXERCISES['recv'].starter_source}\n")
    command = [sys.executable, "-m", "labkit", "check", "recv", "mine.py:my_handler", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout
        assert program.stderr

        def report() -> bool:
            """Read up to the end of the next report."""
            lines = []
            for line in program.stdout or ():
                lines.append(line)
                if line == "}\n":
                    break
            while "Watching mine.py" not in (program.stderr or sys.stdin).readline():
                """Read on."""
            passed: bool = json.loads("".join(lines))["passed"]
            return passed

        try:
            first = report()
            (folder / "helper.py").write_text(f"{IMPORTS}{labkit.EXERCISES['recv'].solution_source}\n")
            second = report()
        finally:
            program.send_signal(signal.SIGINT)
            program.communicate()
    assert (first, second, program.returncode) == (False, True, 130)


def test_help_with_an_exercise(folder: Path) -> None:
    """Hints one by one, each with what comes next; the solution; and what is done."""
    exercise = labkit.EXERCISES["recv"]
    first, last = labkit_says("hint", "recv").stdout, labkit_says("hint", "recv", "--number", "99").stdout
    assert first.startswith(f"Hint 1 of 3\n\n{exercise.hints[0][:20]}")
    assert first.endswith("\nNext: labkit hint recv --number 2\n")
    assert last.startswith("Hint 3 of 3\n\n")
    assert last.endswith("\nNext: labkit solution recv\n")
    assert labkit_says("solution", "recv").stdout.strip() == exercise.solution_source.strip()
    assert json.loads(labkit_says("progress", "--json").stdout)["done"] == {}
    assert "Did you mean 'recv'?" in labkit_says("hint", "recvv").stderr


@pytest.mark.parametrize("command", ["faults", "faults reset", "stacks", "exercises", "exercises recv", "doctor"])
def test_json_is_there_for_programs(folder: Path, command: str) -> None:
    """Each list is a list, and each thing an object."""
    found = json.loads(labkit_says(*command.split(), "--json").stdout)
    assert isinstance(found, dict if " " in command else list)
    assert found


@pytest.mark.parametrize(("columns", "encoding"), [("40", "utf-8"), ("100", "ascii"), ("80", "latin-1")])
def test_narrow_and_without_signs(folder: Path, columns: str, encoding: str) -> None:
    """A terminal of 40 columns, and one that has no signs beyond its letters, get all the same."""
    environment = {**os.environ, "COLUMNS": columns, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for command in (["--help"], ["play", "--help"], ["play", "kept.py:tidy", "--on", "websockets"], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-m", "labkit", *command], env=environment, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"\x1b" not in done.stdout  # no colours in a pipe
        done.stdout.decode("utf-8" if encoding == "ascii" else encoding)  # click takes ascii for a mistake
