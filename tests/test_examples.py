"""The programs in examples/ do what their pages say, as two processes."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

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
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # older versions of aiohttp do not print the port that they were given
    with program("server.py", "--port", str(port), *options) as (server, printed):
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
