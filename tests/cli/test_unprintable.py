"""What a handler raises, prints and logs may hold anything: no door of the lab hands that to a terminal as it is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.support.clock import scaled

#: A terminal's title, its screen, its colours (also as one character), a direction of text, half of a surrogate pair.
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\udc80\ud800"

#: What must not be written, beside new lines.
RAW = re.compile(r"[^\n\x20-\x7e\xa1-\u2029\u2030-\ud7ff\ue000-\U0010ffff]")

HANDLER = """
import logging
import labkit

HOSTILE = {hostile}

async def hostile(websocket):
    "{raw}"
    print(HOSTILE)
    logging.getLogger(HOSTILE).error("%s", HOSTILE)
    labkit.note(HOSTILE)
    async for message in websocket:
        await websocket.send(message)
    raise RuntimeError(HOSTILE)
""".format(hostile=ascii(HOSTILE), raw="\x9b31m\u202e")


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the handler stands."""
    file = tmp_path / "doors.py"
    file.write_text(HANDLER)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    return f"{file}:hostile"


@pytest.mark.parametrize(
    "command",
    [
        "play HANDLER --on websockets --fault close",
        "play HANDLER --on websockets --fault close --json",
        "matrix HANDLER --on websockets --fault close",
        "matrix HANDLER --on websockets --fault close --json",
        "check recv HANDLER",
    ],
)
def test_every_command(command: str, handler: str) -> None:
    """Bytes that are UTF-8, and characters that a terminal only shows."""
    words = [handler if word == "HANDLER" else word for word in command.split()]
    program = subprocess.run(
        [sys.executable, "-m", "labkit", *words], capture_output=True, timeout=scaled(60), check=False
    )
    assert program.stderr == b""
    written = program.stdout.decode()
    assert "owned" in written or "matrix" in command
    assert RAW.findall(written) == []
    if "--json" in command:
        json.loads(written)


def test_the_sentence_of_an_error(tmp_path: Path) -> None:
    """A file that cannot be imported may say anything too."""
    file = tmp_path / "broken.py"
    file.write_text(f"raise RuntimeError({HOSTILE!a})")
    program = subprocess.run(
        [sys.executable, "-m", "labkit", "play", f"{file}:echo"], capture_output=True, timeout=scaled(60), check=False
    )
    written = program.stderr.decode()
    assert written.startswith("Error: cannot import ")
    assert RAW.findall(written) == []


async def test_every_view(handler: str) -> None:
    """The verdict's sentence, and what the views print; what the events hold is what the handler gave."""
    from labkit.support.names import load_name

    run = await labkit.play(load_name(handler), on="websockets", fault="close")
    assert run.verdict.exception == f"RuntimeError: {HOSTILE}"
    views: list[Any] = [
        run,
        run.verdict.sentence,
        run.source(),
        labkit.predict("open", "close").compare(run),
        labkit.table(["what"], [run.verdict.exception]),
        await labkit.matrix([load_name(handler)], on="websockets", faults=["close"], progress=False),
    ]
    for view in views:
        assert RAW.findall(str(view)) == [], view
