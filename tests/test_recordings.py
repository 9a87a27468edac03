"""A run kept as JSON is the same run when it comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import labkit
from labkit.errors import BadRecording
from tests import handlers


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def test_a_round_trip(tmp_path: Path) -> None:
    """The same events, and so the same verdict and the same text."""
    for on in handlers.STACKS:
        run = await labkit.play(handlers.echo(on), on=on, fault="reset")
        run.save(tmp_path / "run.json")
        again = labkit.load(tmp_path / "run.json")
        assert list(again.timeline) == list(run.timeline)
        assert again.verdict == run.verdict
        assert str(again) == str(run)
        assert (again.handler, again.on, again.fault) == (run.handler, run.on, run.fault)
    assert names(tmp_path) == ["run.json"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read .*: No such file"),
        ("hello", "is not a recording: it is not JSON"),
        ("[]", r"is not a recording; make one with run.save\(path\)"),
        ('{"labkit": 99}', "has format 99, this labkit reads 1; record the run again"),
        ('{"labkit": 1}', "is a damaged recording"),
        (
            '{"labkit": 1, "handler": "h", "on": "x", "fault": "f", "events": [[0, "attic", "a", "", {}]]}',
            "no lane 'attic'",
        ),
    ],
)
def test_what_is_no_recording_gets_one_sentence(tmp_path: Path, content: str | None, sentence: str) -> None:
    """It says what was wrong with the file."""
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadRecording, match=sentence):
        labkit.load(file)


async def test_a_save_that_fails_costs_no_older_recording(tmp_path: Path) -> None:
    """It is written beside, and put in place when it is whole; where it cannot be, the older one stays."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="close")
    file = tmp_path / "run.json"
    run.save(file)
    before = file.read_text()
    run.timeline.record("handler", "note", "cannot be kept", {"what": object()})
    with pytest.raises(TypeError):
        run.save(file)
    assert file.read_text() == before
    (tmp_path / "run.json.partial").mkdir()
    with pytest.raises(BadRecording, match=r"cannot write '.*run\.json': Is a directory"):
        labkit.load(file).save(file)
    assert file.read_text() == before
    assert json.loads(before)["handler"] == "websockets_echo"


async def test_a_recording_is_json_that_other_programs_read(tmp_path: Path) -> None:
    """UTF-8, one object, the events in order; what the handler said keeps its letters."""

    async def handler(websocket: object) -> None:
        labkit.note("Grüße, 世界", rows=3)

    run = await labkit.play(handler, on="websockets", fault=None)
    run.save(str(tmp_path / "run.json"))
    content = json.loads((tmp_path / "run.json").read_bytes())
    assert content["labkit"] == 1
    assert [event[1:] for event in content["events"] if event[2] == "note"] == [
        ["handler", "note", "Grüße, 世界", {"rows": 3}]
    ]
    assert "世界" in (tmp_path / "run.json").read_text("utf-8")
    assert [event[0] for event in content["events"]] == sorted(event[0] for event in content["events"])


async def test_a_folder_that_is_not_there_gets_one_sentence(tmp_path: Path) -> None:
    """For save and for load."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="close")
    with pytest.raises(BadRecording, match=r"cannot write '.*nowhere.*': No such file"):
        run.save(tmp_path / "nowhere" / "run.json")
    with pytest.raises(BadRecording, match=r"cannot read '.*': Is a directory"):
        labkit.load(tmp_path)
    assert names(tmp_path) == []
