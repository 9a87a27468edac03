"""What somebody types wrong is told in one sentence, with what would have been right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit.cli import main

SERVER = "async def echo(websocket):\n    async for message in websocket:\n        await websocket.send(message)\n"
PLAY = ["play", "server_beside.py:echo", "--on", "websockets"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a server, a file that is no Python, and a package without anything in it."""
    (tmp_path / "server_beside.py").write_text(SERVER)
    (tmp_path / "notes.txt").write_text("Buy milk.\n")
    (tmp_path / "nothing_here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pley", "server_beside.py:echo"], "there is no command 'pley'. Did you mean 'play'?"),
        (["play", "sever_beside.py:echo"], "there is no file sever_beside.py. Did you mean server_beside.py?"),
        (["check", "nope", "server_beside.py:echo", "--watch"], "there is no exercise 'nope'"),
        (["check", "recv", "no_package.server:echo", "--watch"], "there is no file no_package.server to watch"),
        (["play", "notes.txt:echo"], "notes.txt is not a Python file, whose name ends with .py"),
        (["play", "nothing_here:echo"], "there is no handler 'echo'. There is no handler at all."),
        (["play", "127.0.0.1:8000"], "a server that listens has a URL, such as ws://127.0.0.1:8000/"),
        (["probe", "127.0.0.1:8000/ws"], "a server that listens has a URL, such as ws://127.0.0.1:8000/"),
        (["probe", "ws://example.com/"], "is not the URL of a server; the wire takes one such as"),
        ([*PLAY, "--expect", "cleanup=complet"], "cleanup is never 'complet'; it is one of complete, missing, "),
        ([*PLAY, "--expect", "outcome=clean|nois"], "outcome is never 'nois'; it is one of blocks, broken, "),
        ([*PLAY, "--expect", "struck=yes"], "struck is never 'yes'; it is one of False, None, True"),
        ([*PLAY, "--expect", "reaction.tcp=fin"], "reaction.tcp is never 'fin'; it is one of FIN, None, RST"),
        ([*PLAY, "--expect", "cleanp=complete"], "Did you mean 'cleanup'? The findings are: answered, blocked, "),
        ([*PLAY, "--expect", "reaction.tpc=FIN"], "Did you mean 'reaction.tcp'? The findings are: reaction.answered, "),
    ],
)
def test_what_is_typed_wrong(arguments: list[str], sentence: str) -> None:
    """Exit status 2, one line on stderr, and nothing on stdout."""
    result = CliRunner().invoke(main, arguments, prog_name="labkit")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
    assert sentence in result.stderr


@pytest.mark.parametrize("expected", ["ending=raised|cancelled", "ending='raised'", "struck=True", "answered=None"])
def test_what_a_finding_can_be_may_be_expected(expected: str) -> None:
    """As text, as Python writes it, and one of several."""
    assert CliRunner().invoke(main, [*PLAY, "--expect", expected]).exit_code == 0
