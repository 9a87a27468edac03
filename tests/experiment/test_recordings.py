"""A run kept as JSON is the same run when it comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.errors import BadRecording
from labkit.views.alt import alt_text
from labkit.views.sequence.plan import plan
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
        ("\udc80", "is not a recording: it is not JSON"),
        ("[" * 100_000, "is not a recording: it is not JSON"),
        ("[]", r"is not a recording; make one with run.save\(path\)"),
        ('{"labkit": 99}', "has format 99, this labkit reads 1; record the run again"),
        ('{"labkit": true}', "has format True, this labkit reads 1"),
        ('{"labkit": 1.0}', "has format 1.0, this labkit reads 1"),
        ('{"labkit": [[[[]]]]}', r"has format \[\[\[\[\]\]\]\], this labkit reads 1"),
        ('{"labkit": 1}', "is a damaged recording: it has no 'handler'; record the run again"),
        ('{"labkit": 1, "handler": 5}', "is a damaged recording: it has handler=5"),
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
        file.write_text(content, encoding="utf-8", errors="surrogateescape")
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
    assert names(tmp_path) == ["run.json"]
    (tmp_path / "run.json.partial").mkdir()
    with pytest.raises(BadRecording, match=r"cannot write '.*run\.json': Is a directory"):
        labkit.load(file).save(file)
    assert file.read_text() == before
    assert json.loads(before)["handler"] == "websockets_echo"
    assert sorted(names(tmp_path)) == ["run.json", "run.json.partial"]


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
async def test_nothing_is_left_of_a_save_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Neither of a full disk nor of an interrupt, at either step; the older recording stays."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="close")
    file = tmp_path / "run.json"
    run.save(file)
    before = file.read_bytes()
    for problem, told in ((OSError(28, "No space left"), BadRecording), (KeyboardInterrupt(), KeyboardInterrupt)):

        def fail(self: Path, *_: object, problem: BaseException = problem) -> None:
            self.touch()
            raise problem

        with monkeypatch.context() as patch:
            patch.setattr(Path, step, fail)
            with pytest.raises(told):
                run.save(file)
        assert names(tmp_path) == ["run.json"]
        assert file.read_bytes() == before


async def test_what_names_no_file_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For save and for load, and nothing is left there."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="close")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for path in ("", "/", ".", Path()):
        with pytest.raises(BadRecording, match=r"cannot write '.*': it names no file; give one, such as 'run\.json'"):
            run.save(path)
    for path in ("folder", "folder/", "..", "a\0b", "a\ud800b", "x" * 300):
        with pytest.raises(BadRecording, match=r"^cannot write '.*': .+"):
            run.save(path)
    for path in ("", "/", "folder", "a\0b", "a\ud800b", "x" * 300):
        with pytest.raises(BadRecording, match=r"^cannot read '.*': .+"):
            labkit.load(path)
    for odd in (5, None, b"run.json"):
        with pytest.raises(BadRecording, match=r"is not the name of a file; give one, such as 'run\.json'"):
            run.save(odd)  # type: ignore[arg-type]
        with pytest.raises(BadRecording, match=r"is not the name of a file; give one, such as 'run\.json'"):
            labkit.load(odd)  # type: ignore[arg-type]
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == []


async def test_odd_text_comes_back_as_it_was(tmp_path: Path) -> None:
    """Half a character, which UTF-8 cannot hold, behind a backslash too; and numbers that JSON cannot hold."""

    async def handler(websocket: object) -> None:
        print("print \ud800 \\\udfff \x00 \u2028 😀")  # noqa: T201 - what is tested
        labkit.note("note \udc80", more="\ud800", endless=float("inf"), none=float("nan"))
        raise ValueError("raised \udcff")

    run = await labkit.play(handler, on="websockets", fault=None)
    run.save(tmp_path / "run.json")
    again = labkit.load(tmp_path / "run.json")
    assert list(again.timeline) == list(run.timeline)
    assert again.verdict == run.verdict
    assert again.verdict.exception == "ValueError: raised \udcff"
    assert "😀" in (tmp_path / "run.json").read_text("utf-8")
    assert names(tmp_path) == ["run.json"]


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


def story() -> Iterator[list[Any]]:
    """One event of each kind of which something is read, as a recording keeps it."""
    data = {
        "client ended": {"how": "fin", "code": 1000, "exception": None},
        "wire frame": {"link": 0, "source": "client", "opcode": "TEXT", "length": 5},
        "wire lost": {"link": 0, "source": "client", "length": 11},
        "wire opaque": {"link": 0, "source": "server"},
        "handler start": {"handler": "h", "stack": "aiohttp", "library": "aiohttp 3", "given": "Request", "call": 1},
        "handler lines": {"executable": [1, 2], "tool": None, "why": "busy", "source": "a\nb", "first": 1},
        "handler line": {"line": 1},
        "handler cancelled": {"by": "the lab", "package": "labkit"},
        "handler log": {"level": "ERROR", "levelno": 40, "logger": "mine", "exception": None},
        "cleanup open": {"resource": "database", "id": 1},
        "cleanup closing": {"resource": "database", "id": 1},
        "cleanup truncated": {"resource": "database", "id": 1},
        "handler end": {"ending": "cancelled", "exception": None, "close_code": None, "call": 1},
    }
    yield [0.0, "client", "connect", "connect", {}]
    for number, (names, values) in enumerate(data.items(), 1):
        yield [number / 1000, *names.split(), f"text {number}", values]


def damages() -> Iterator[tuple[str, list[Any]]]:
    """The story with one thing wrong in it: a part of an event or a value of its data is lost, or of another kind."""
    odd: tuple[Any, ...] = (None, [], {}, [[]], "(", -1, 0.5, float("nan"), float("inf"), 10**400, "\ud800")
    for number, whole in enumerate(story()):
        for part in range(5):
            for value in odd:
                events = list(story())
                events[number][part] = value
                yield f"event {number + 1}, part {part}: {value!r}", events
            events = list(story())
            del events[number][part]
            yield f"event {number + 1} without part {part}", events
        for key in whole[4]:
            for value in odd:
                events = list(story())
                events[number][4] = whole[4] | {key: value}
                yield f"event {number + 1}, {key}: {value!r}", events
            events = list(story())
            del events[number][4][key]
            yield f"event {number + 1} without {key}", events


def read_all(run: labkit.Run) -> None:
    """Let everything that reads events read these; the picture is planned, and not drawn."""
    assert run.verdict.sentence
    assert str(run)
    assert str(run.source())
    assert run.source()._repr_mimebundle_()
    assert alt_text(run.timeline, run.verdict)
    assert plan(run.timeline)


def recorded(events: list[Any], file: Path) -> Path:
    content = {"labkit": 1, "handler": "h", "on": "aiohttp", "fault": "none", "events": events}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_a_damaged_event_is_refused_or_does_no_harm(tmp_path: Path) -> None:
    """What the verdict and the views read of an event is there and of its kind, or the file is refused at load."""
    file = tmp_path / "run.json"
    read_all(labkit.load(recorded(list(story()), file)))
    sentences = []
    for what, events in damages():
        try:
            read_all(labkit.load(recorded(events, file)))
        except BadRecording as problem:
            sentences.append(str(problem).removeprefix(repr(str(file))))
        except Exception as problem:
            pytest.fail(f"{what}: {problem!r}")
    assert all(s.startswith(" is a damaged recording: ") and len(s) < 200 for s in sentences), sentences
    assert len(sentences) > 500


@pytest.mark.parametrize(
    ("kind", "data", "sentence"),
    [
        ("end", {}, "event 1, handler end has no 'ending'; record the run again"),
        (
            "start",
            {"handler": "h", "stack": 5},
            "event 1, handler start has stack=5: expected str, got int; record the run again",
        ),
        (
            "lines",
            {"executable": ["a"], "tool": None, "why": None, "source": None, "first": 1},
            "event 1, handler lines has executable=",
        ),
        ("note", {}, None),
    ],
)
def test_the_sentence_names_the_event(tmp_path: Path, kind: str, data: dict[str, Any], sentence: str | None) -> None:
    """And what it lacks."""
    file = recorded([[0, "handler", kind, "text", data]], tmp_path / "run.json")
    if sentence is None:
        assert len(labkit.load(file).timeline) == 1
    else:
        with pytest.raises(BadRecording, match=sentence):
            labkit.load(file)


def test_events_that_make_no_verdict_are_refused(tmp_path: Path) -> None:
    """Though each of them is one: this resource was closed without having begun to, when the handler had ended."""
    end = [0, "handler", "end", "returned", {"ending": "returned", "call": 1}]
    closed = [1, "cleanup", "closed", "database", {"resource": "database", "id": 1}]
    file = recorded([end, closed], tmp_path / "run.json")
    with pytest.raises(BadRecording, match=r"its events make no verdict \(StopIteration"):
        labkit.load(file)
