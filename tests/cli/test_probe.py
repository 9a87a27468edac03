"""labkit probe: several faults against one server of any kind, and a table of what it did."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit.cli import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups of this kind")

SERVER = """
import asyncio, sys
from websockets.asyncio.server import serve

async def echo(websocket):
    assert websocket.request.headers["Cookie"] == "user=ann"
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1])):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    """What starts a server at the port that it is given."""
    (tmp_path / "server.py").write_text(SERVER)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'server.py'))} {{port}}"


def test_a_row_for_each_fault(command: str) -> None:
    """What the server sent, what it did with TCP, and whether it still answers others."""
    faults = [f"--fault={fault}" for fault in ("close(code=4000)", "half-close", "reset")]
    options = ["--path", "/ws", "--cookie", "user=ann", "--command", command, *faults]
    done = CliRunner().invoke(main, ["probe", "ws://127.0.0.1:{port}", *options, "--json"])
    assert done.exit_code == 0, done.output
    close, half, reset = json.loads(done.output)
    assert [row["fault"] for row in (close, half, reset)] == ["close(code=4000)", "half-close", "reset"]
    assert {row["answered"] for row in (close, half, reset)} == {"yes"}
    assert close["Close"].startswith("4000 after ")
    assert close["TCP"].startswith("FIN after ")
    assert half["TCP"].startswith("FIN after ")
    assert (reset["Close"], reset["TCP"], reset["the other client"]) == ("cannot be seen", "cut", "still answered")


def test_what_a_server_does_is_as_expected_or_not(command: str) -> None:
    """What client and wire saw can be asked; what nobody saw is not as expected."""
    options = ["--cookie", "user=ann", "--command", command, "--fault", "half-close", "--patience", "1", "--expect"]

    def probed(*expected: str) -> tuple[int, str]:
        more = [word for each in expected for word in ("--expect", each)][1:]
        done = CliRunner().invoke(main, ["probe", "ws://127.0.0.1:{port}", *options, *more])
        return done.exit_code, done.stderr

    assert probed("others.answered=yes", "reaction.tcp=FIN|RST", "reaction.answered=True") == (0, "")
    status, told = probed("reaction.tcp=RST", "cleanup=complete")
    assert status == 1
    assert told.splitlines() == [
        "Not as expected: fault half-close: reaction.tcp is FIN, not RST",
        "Not as expected: fault half-close: cleanup is unknown, not complete",
    ]
    assert probed("others.answers=yes")[0] == 2


def test_a_table_for_a_reader(command: str) -> None:
    """With its head, and what was probed above it."""
    options = ["--cookie", "user=ann", "--command", command, "--fault", "close"]
    done = CliRunner().invoke(main, ["probe", "ws://127.0.0.1:{port}/", *options])
    caption, _, head, line, row = done.output.strip().splitlines()[:5]
    assert caption == "1 fault against ws://127.0.0.1:{port}/"
    assert head.split("  ")[0] == "fault"
    assert set(line) == {"-", " "}
    assert row.startswith("close ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ws://example.org:80/"], "is on another machine"),
        (["server.py:echo"], "there is no file server.py"),
        (["json:dumps"], "is no server that listens; give its URL"),
        (["ws://127.0.0.1:80/", "--cookie", "user"], "'user' is not a cookie, such as 'session=abc'"),
        (["ws://127.0.0.1:9/"], "the server cannot be reached"),
        (["ws://127.0.0.1:80/", "--fault", "shutdown"], "shutdown is done inside a server"),
    ],
)
def test_what_cannot_be_probed_is_a_sentence(arguments: list[str], sentence: str) -> None:
    """And exit status 2."""
    done = CliRunner().invoke(main, ["probe", *arguments])
    assert (done.exit_code, sentence in done.output) == (2, True), done.output
