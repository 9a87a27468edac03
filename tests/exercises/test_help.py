"""Hints, solutions, the progress, and predictions."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

import labkit
from labkit import timeline
from labkit.errors import UnknownName
from labkit.exercises.book import alone, mark_done, path_of_progress
from labkit.exercises.hints import forget_hints
from labkit.exercises.predictions import EVENTS

NAME = "unclean-exit"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    forget_hints()
    return tmp_path / "home"


def test_the_hints_come_one_after_the_other() -> None:
    """Each call shows the next and which it is; behind the third, the third again."""
    shown = [str(labkit.hint(NAME)).replace("\n", " ") for _ in range(4)]
    for number, hint in enumerate(labkit.EXERCISES[NAME].hints, 1):
        assert shown[number - 1].startswith(f"Hint {number} of 3: {hint}")
    assert shown[3] == shown[2]
    assert f'labkit.solution("{NAME}")' in shown[2]
    assert str(labkit.hint("recv")).startswith("Hint 1 of 3")


def test_a_notebook_gets_markdown() -> None:
    """JupyterLab renders it; code in it is code."""
    assert labkit.hint(NAME)._repr_mimebundle_()["text/markdown"].startswith("**Hint 1 of 3.**")
    solution = labkit.solution(NAME)
    assert solution._repr_mimebundle_()["text/markdown"] == f"```python\n{solution}\n```"
    assert str(solution).startswith("async def my_handler(request):\n    ws = web.WebSocketResponse()")


@pytest.mark.parametrize("help_", [labkit.hint, labkit.solution])
def test_an_unknown_name(help_: object) -> None:
    """The usual sentence."""
    with pytest.raises(UnknownName, match="there is no exercise 'nonesuch'"):
        help_("nonesuch")  # type: ignore[operator]


def test_the_progress_is_kept_and_can_be_reset(home: Path) -> None:
    """In a small file; a reset keeps the old one beside the new."""
    assert labkit.progress().done == {}
    assert not home.exists()
    assert mark_done(NAME) == mark_done("recv") == ""
    assert set(labkit.progress().done) == {NAME, "recv"}
    assert NAME not in labkit.progress().left
    assert f"2 of {len(labkit.EXERCISES)} exercises done" in str(labkit.progress())
    assert "✓" in labkit.progress()._repr_mimebundle_()["text/html"]
    assert labkit.progress(reset=True).done == {}
    assert labkit.progress().done == {}
    assert set(json.loads((home / "progress-1.old.json").read_text())["done"]) == {NAME, "recv"}
    assert labkit.progress(reset=True).notice == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_processes_at_once_lose_nothing(home: Path) -> None:
    """Who writes waits until the other has, and adds to what is there then."""
    home.mkdir()
    writer = threading.Thread(target=mark_done, args=[NAME])
    with alone(home / "progress.lock"):
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        (home / "progress.json").write_text('{"done": {"recv": "2026-01-02"}}')
    writer.join()
    assert set(labkit.progress().done) == {NAME, "recv"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"done": 5}', b'{"done": {"recv": 5}}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_file_is_kept_aside(home: Path, content: bytes) -> None:
    """One sentence, nothing lost, and a new file."""
    home.mkdir()
    (home / "progress.json").write_bytes(content)
    progress = labkit.progress()
    assert progress.done == {}
    assert "is damaged, and was put aside" in progress.notice
    assert progress.notice in str(progress)
    assert (home / "progress-1.old.json").read_bytes() == content
    assert labkit.progress().notice == ""
    mark_done(NAME)
    assert set(labkit.progress().done) == {NAME}


def test_a_file_that_cannot_be_written_is_a_sentence(home: Path) -> None:
    """And the check's answer still comes."""
    home.write_text("a file where the folder should be")
    assert "cannot be noted" in mark_done(NAME)
    assert "cannot be read" in labkit.progress().notice


def test_without_labkit_home_it_is_the_users_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the systems have it."""
    monkeypatch.delenv("LABKIT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert path_of_progress() == tmp_path / "labkit" / "progress.json"
    monkeypatch.setattr("sys.platform", "darwin")
    assert path_of_progress().parts[-3:] == ("Application Support", "labkit", "progress.json")


async def test_a_prediction_stands_beside_the_run() -> None:
    """Place by place; what did not happen comes last."""
    prediction = labkit.predict("fault", "closed", "cancelled", "truncated", "end")
    assert str(prediction).startswith("You expect: fault → closed")
    run = await labkit.play(labkit.EXERCISES[NAME].solution, on="aiohttp-cancel", fault="reset")
    rows = prediction.compare(run).rows
    assert [row[1] for row in rows] == list(prediction.events)
    assert [row[2].partition(",")[0].partition(":")[0] for row in rows] == [
        "fault", "cancelled", "closed", "end", "truncated",
    ]  # fmt: skip
    assert [row[3][0] for row in rows] == ["✓", "✗", "✗", "✗", "✗"]
    assert rows[-1][2] == "truncated: it did not happen"


async def test_a_name_twice_means_the_second() -> None:
    """And a lane says which of two events of one name."""
    run = await labkit.play(labkit.EXERCISES["recv"].solution, on="websockets", fault="fin", messages=("a", "b"))
    prediction = labkit.predict("client send", "recv", "client recv", "client send", "recv", "fault", "wire fin")
    assert [row[3][0] for row in prediction.compare(run).rows] == ["✓"] * 7


def test_a_prediction_of_the_unknown() -> None:
    """One sentence, with the nearest name."""
    with pytest.raises(UnknownName, match=r"there is no event 'notise'. Did you mean 'notice'"):
        labkit.predict("fault", "notise")


async def test_a_prediction_that_is_skipped() -> None:
    """The same two cells run; the table says what happened, from the fault to the handler's end."""
    run = await labkit.play(labkit.EXERCISES[NAME].solution, on="aiohttp-cancel", fault="reset")
    prediction = labkit.predict()
    assert str(prediction).startswith("Nothing is written down")
    assert [row[1] for row in prediction.compare(run).rows] == ["fault", "cancelled", "closing", "closed", "end"]


def test_the_events_are_those_of_the_timeline() -> None:
    """Each word is in the module's table."""
    table = timeline.__doc__ or ""
    rows = {line.split()[0]: line for line in table.splitlines() if line and line.split()[0] in EVENTS}
    for lane, kinds in EVENTS.items():
        for kind in kinds:
            assert kind in rows[lane].replace(",", " ").split(), (lane, kind)
