"""The one table of events: what each kind declares, and what is derived from it."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

import labkit
from labkit import events
from labkit.errors import BadValue
from labkit.events import KINDS, LANES, Event, Unlisted, make

PACKAGE = Path(labkit.__file__).parent


def recorded() -> set[str]:
    """The classes of events that the package makes, by name."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        if file.name != "events.py":
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                # Made where it is recorded, or handed to a helper that makes it.
                if isinstance(node, ast.Call):
                    for part in (node.func, *node.args):
                        found |= {name.id for name in ast.walk(part) if isinstance(name, ast.Name)}
                elif isinstance(node, ast.IfExp):
                    found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    return found


def test_every_kind_of_the_table_is_recorded_somewhere() -> None:
    """A kind that nobody records is a promise that the lab does not keep."""
    assert {kind.__name__ for kind in KINDS.values()} - recorded() == set()


def test_the_package_records_by_class_alone() -> None:
    """So that no kind is recorded that the table does not have: words are for scripts."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "record":
                assert not isinstance(node.args[0], ast.Constant), f"{file.name}, line {node.lineno}"


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_a_kind_says_all_about_itself(kind: type[Event]) -> None:
    """Its lane and its name are those of its class; it is documented; its words can be filled in."""
    about = kind.about
    assert KINDS[about.lane, about.name] is kind
    assert kind.__name__ == about.lane.capitalize() + "".join(map(str.capitalize, about.name.split("-")))
    assert (kind.__doc__ or "").strip().endswith(".")
    event = example(kind)
    assert event.clause("X")
    assert event.label
    assert event.shape
    assert (event.lane, event.kind) == (about.lane, about.name)


def example(kind: type[Event]) -> Event:
    """An event of a kind, with something of the right type in each detail that must be there."""
    values = {
        "int": 1, "str": "x", "bool": True, "list[int]": [1], "Side": "client", "Literal": "returned",
    }  # fmt: skip
    values_of = {"source": "client", "side": "client", "ending": "returned", "how": "close"}
    data = {}
    for name in (name for name in kind.__struct_fields__ if name not in Event.__struct_fields__):
        declared = next(c.__annotations__[name] for c in kind.__mro__ if name in getattr(c, "__annotations__", {}))
        if ((declared.startswith("Literal") or declared == "Side") and name in values_of) or declared in values:
            data[name] = values_of.get(name, values.get(declared))
    return make(kind.about.lane, kind.about.name, "text", data)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_an_event_comes_back_from_its_parts(kind: type[Event]) -> None:
    """As a recording keeps it, and as it travels between processes."""
    event = example(kind)
    at, lane, name, text, data = event
    assert make(lane, name, text, data, at=at) == event
    assert pickle.loads(pickle.dumps(event)) == event


def test_details_that_a_kind_does_not_declare_are_kept() -> None:
    """They are read in `more`, and in `data` beside the others."""
    event = make("client", "recv", "'hi'", {"opcode": "TEXT", "length": 2, "who": "Ann"})
    assert isinstance(event, events.ClientRecv)
    assert (event.opcode, event.length, event.more) == ("TEXT", 2, {"who": "Ann"})
    assert event.data == {"opcode": "TEXT", "length": 2, "who": "Ann"}


def test_a_kind_of_a_script_s_own_is_kept_as_it_is() -> None:
    """The table knows nothing of it, and loses nothing."""
    event = make("library", "sent a ping", "ping", {"number": 1})
    assert isinstance(event, Unlisted)
    assert [*event][1:] == ["library", "sent a ping", "ping", {"number": 1}]
    assert (event.shape, event.label, event.failed) == ("say", "ping", False)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (("moon", "recv"), "there is no lane 'moon'; the lanes are client, wire, library, handler, cleanup, loop"),
        (("handler", "line", "", {}), "handler line has no 'line'"),
        (("handler", "line", "", {"line": "7"}), "handler line has line='7': expected int, got str"),
        (("handler", "end", "", {"ending": "left", "call": 1}), "handler end has ending='left': invalid enum value"),
    ],
)
def test_what_is_missing_or_wrong_gets_one_sentence(parts: tuple[Any, ...], sentence: str) -> None:
    """It names the detail, and what it holds."""
    with pytest.raises(BadValue) as problem:
        make(*parts)
    assert str(problem.value).startswith(sentence)


def test_an_event_does_not_change() -> None:
    """What was measured stays as it was."""
    with pytest.raises(AttributeError):
        make("wire", "fault", "reset").text = "another"  # type: ignore[misc]


def test_every_lane_is_known_to_the_views() -> None:
    """Also the library's, on which nothing is recorded yet."""
    from labkit.views.canvas.palette import THEMES
    from labkit.views.sequence.geometry import _ROOM

    assert all(set(theme.hues) == set(LANES) for theme in THEMES.values())
    assert set(_ROOM) == set(LANES)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (make("wire", "fault", "close(code=4000, reason='out of coffee')", {"fault": "close"}), "fault: close"),
        (
            make("client", "ended", "connection ended: websockets.exceptions.ConnectionClosedError: x"),
            "ended: ConnectionClosedError: x",
        ),
        (make("client", "error", "aiohttp.ClientError: no route to a.b.c"), "ClientError: no route to a.b.c"),
        (make("loop", "shutdown", "the shutdown begins", {"done": False}), "the shutdown begins"),
    ],
)
def test_a_label_is_short(event: Event, words: str) -> None:
    """A fault's knobs are in the title, and the modules of exceptions in the text view: the lanes are narrow."""
    assert event.label == words


def test_the_annotations_of_a_kind_are_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for each event: a recording has hundreds of thousands of them."""
    evaluated: list[type] = []
    fields = msgspec.structs.fields

    def counted(kind: type) -> Any:
        evaluated.append(kind)
        return fields(kind)

    monkeypatch.setattr(msgspec.structs, "fields", counted)
    for number in range(3):
        make("wire", "closed", "link closed", {"link": number})
    assert len(evaluated) <= 1
