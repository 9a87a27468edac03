"""What a terminal shows: colours where they belong, and lines that are broken between words."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.cli.output import Tone, list_rows, show

BOLD = "\x1b[1"


class Terminal(io.StringIO):
    """What stdout is on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[str]]:
    """The lines that something writes on a terminal of 60 columns, which knows colours."""
    for name, value in {"COLUMNS": "60", "TERM": "xterm", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)

    def write(what: Callable[[], None]) -> list[str]:
        with contextlib.redirect_stdout(Terminal()) as opened:
            what()
        return opened.getvalue().splitlines()

    return write


@pytest.mark.parametrize("tone", ["good", "bad", "neutral"])
def test_the_first_sentence_stands_out_and_what_failed(terminal: Any, tone: Tone) -> None:
    """The rest is as everything else on the terminal."""
    text = "The sentence.\n\n    1.0   wire     link\n    2.0!  client   ended"
    first, _, plain, failed = terminal(lambda: show(text, tone))
    assert first.startswith(BOLD)
    assert plain == "    1.0   wire     link"
    assert failed.startswith("\x1b[31m")


def test_without_colours_nothing_is_coloured(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves what is bold."""
    monkeypatch.setenv("NO_COLOR", "1")
    lines = terminal(lambda: show("The sentence.\n\n    2.0!  client   ended", "bad"))
    assert set(re.findall(r"\x1b\[([\d;]+)m", "".join(lines))) == {"1", "0"}


def test_a_list_is_as_wide_as_the_terminal(terminal: Any) -> None:
    """Each text below its beginning; in a pipe, where another program reads, a row is a line."""
    rows = {
        "slow": "The network is slow.",
        "frame": "The client sends a frame without a mask. Every frame must have one.",
    }
    assert terminal(lambda: list_rows(rows)) == [
        "slow   The network is slow.",
        "frame  The client sends a frame without a mask. Every frame",
        "       must have one.",
    ]


def test_what_failed_is_red_to_its_end(terminal: Any) -> None:
    """Also where its text goes on in the next line; the row after it is as the rest."""
    text = (
        "It.\n\n  1.0!  wire  x  a text\n            that goes on\n ⋯     50 ms idle\n  1.2   wire  x  b\n          c"
    )
    lines = terminal(lambda: show(text, "bad"))[2:]
    assert ["\x1b[31m" in line for line in lines] == [True, True, False, False, False]


def test_of_a_report_the_words_are_coloured(terminal: Any) -> None:
    """What became of each rule, not the rule."""
    _, _, kept, broken, _ = terminal(lambda: show("It.\n\n✓ kept     one\n✗ broken   two\n? unknown  three", "bad"))
    assert (kept, broken) == ("\x1b[32m✓ kept\x1b[0m     one", "\x1b[31m✗ broken\x1b[0m   two")


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("command", ["play", "probe", "matrix"])
def test_help_has_room_on_a_narrow_terminal(command: str, columns: int) -> None:
    """No option and no word of its text is cut or broken; an example comes last."""
    environment = {**os.environ, "COLUMNS": str(columns)}
    arguments = [sys.executable, "-m", "labkit", command, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, encoding="utf-8", check=True, env=environment)
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert {"--subprotocol", "subprotocol", "conversation.", "--expect"} <= set(done.stdout.split())
    assert "…" not in done.stdout
    assert f"For example: labkit {command} " in " ".join(done.stdout.split())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_mistake_is_broken_between_words_on_a_terminal() -> None:
    """As wide as the terminal of stderr, wherever stdout goes; in a pipe it is one line."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    arguments = [sys.executable, "-m", "labkit", "faults", "rset"]
    piped = subprocess.run(arguments, capture_output=True, text=True, check=False).stderr
    assert piped.count("\n") == 1
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        assert subprocess.run(arguments, stdout=subprocess.PIPE, stderr=theirs, check=False).returncode == 2
        shown = terminal.read(4096).decode().splitlines()
        os.close(theirs)
    assert max(map(len, shown)) <= 50
    assert " ".join(shown) == piped.strip()


def test_json_is_alone_on_stdout(tmp_path: Path) -> None:
    """What the user's program prints and logs there, when it is imported and when it runs, goes to stderr."""
    (tmp_path / "server.py").write_text(
        "import logging, sys\n"
        "logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)\n"
        "print('imported')\n"
        "async def echo(websocket):\n"
        "    async for message in websocket:\n"
        "        logging.info('echoes')\n"
        "        await websocket.send(message)\n"
    )
    command = [sys.executable, "-m", "labkit", "play", "server.py:echo", "--on", "websockets", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["handler"] == "echo"
    assert "imported" in done.stderr
    assert "INFO:root:echoes" in done.stderr
