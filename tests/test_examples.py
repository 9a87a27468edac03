"""The programs in examples/ do what their pages say, as two processes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

import labkit
from labkit.support.names import load_name

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@contextmanager
def program(name: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A program and what it prints, for as long as the block runs."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        try:
            yield running, running.stdout
        finally:
            running.kill()


def lost(options: tuple[str, ...], number: signal.Signals) -> list[str]:
    """End a client; return what the server prints from then on, up to the end of its handler."""
    with program("server.py", "--port", "0", *options) as (server, printed):
        found = re.search(r"http://\S+", printed.readline())
        assert found is not None
        assert "CTRL+C" in printed.readline()
        with program("client.py", found[0]) as (client, answers):
            assert printed.readline() == "connected\n"
            assert "got 'hello'" in answers.readline()
            client.send_signal(number)
            client.wait()
            told = [printed.readline().strip()]
            if told[0].startswith("the loop"):
                told.append(printed.readline().strip())
        server.send_signal(signal.SIGINT)
        assert printed.read() == ""
        assert server.wait() == 0
    return told


ENDED = "the loop has ended, close code {}"


@pytest.mark.parametrize(
    ("options", "number", "told"),
    [
        ((), signal.SIGINT, [ENDED.format(1000), "the last line has run"]),
        ((), signal.SIGKILL, [ENDED.format(1006), "the last line has run"]),
        (("--cancel",), signal.SIGINT, [ENDED.format(1000), "cancelled, close code 1000"]),
        (("--cancel",), signal.SIGKILL, ["cancelled, close code None"]),
    ],
)
def test_how_the_client_ends_decides(options: tuple[str, ...], number: signal.Signals, told: list[str]) -> None:
    """Ctrl+C is a goodbye, kill -9 is not; and the server's setting decides whether the last line runs."""
    assert lost(options, number) == told


def test_what_is_in_the_way_is_one_sentence() -> None:
    """A client without a server, a server that has gone, and a port that is taken: no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with program("server.py", "--port", str(port)) as (_, printed):
            assert printed.read() == f"cannot listen on port {port} (Address already in use): try --port 8081\n"
    url = f"http://127.0.0.1:{port}/"
    with program("client.py", url) as (_, printed):
        assert printed.read() == f"nobody listens at {url}: start server.py in another terminal first\n"
    with program("server.py", "--port", "0") as (server, said):
        found = re.search(r"http://\S+", said.readline())
        assert found is not None
        with program("client.py", found[0]) as (_, printed):
            assert "got 'hello'" in printed.readline()
            server.send_signal(signal.SIGINT)
            assert printed.read().splitlines()[-1] == "the server is gone"


@pytest.mark.parametrize("started", ["the program", "labkit"])
def test_without_its_database_an_example_says_what_to_install(started: str) -> None:
    """SQLite's presence needs aiosqlite, which labkit does not: one sentence, however it is started."""
    run = {
        "the program": f"import runpy; runpy.run_path({str(EXAMPLES / 'sqlite_presence.py')!r}, run_name='__main__')",
        "labkit": f"from labkit.cli import main; main(['play', {str(EXAMPLES / 'sqlite_presence.py')!r} + ':lobby'])",
    }[started]
    without = f"import sys; sys.modules['aiosqlite'] = None; {run}"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    assert "aiosqlite, which is not installed: python -m pip install aiosqlite" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


CHAT = EXAMPLES / "fastapi_chat.py"


def test_the_chat_is_played_as_the_readme_says(tmp_path: Path) -> None:
    """Its command, word for word: the endpoint is told, and nobody is left in the table who is gone."""
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    found = re.search(r"^\$ labkit (play \S*fastapi_chat.*)$", readme, re.MULTILINE)
    assert found is not None
    command = [sys.executable, "-m", "labkit", *shlex.split(found[1])]
    database = tmp_path / "chat.db"
    ran = subprocess.run(
        command,
        cwd=EXAMPLES.parent,
        env={**os.environ, "CHAT_DB": str(database)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("reset: chat on asgi noticed after"), ran.stdout
    assert "ann is gone: 1005" in ran.stdout
    assert "receive_text(): WebSocketDisconnect" in ran.stdout
    assert names_in(database) == []


def names_in(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as opened:
        return [name for (name,) in opened.execute("SELECT name FROM present")]


async def test_the_chat_forgets_who_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends a client, its row goes, and the other one still gets answers."""
    make_app = load_name(f"{CHAT}:make_app")
    monkeypatch.setenv("CHAT_DB", str(tmp_path / "chat.db"))
    # One after the other, since they share the database.
    for fault in ("close", "closed-tab", "close-at-once", "reset", "truncated-frame", "bad-utf8"):
        run = await labkit.play(make_app, on="asgi", path="/ws/ann", fault=fault)
        assert run.verdict.noticed == "yes", run
        assert run.verdict.leaked == (), run
        assert names_in(tmp_path / "chat.db") == [], run
