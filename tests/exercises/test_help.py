"""Hints, solutions and predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.errors import BadValue, UnknownName
from labkit.exercises.hints import forget_hints
from labkit.exercises.predictions import EVENTS

NAME = "unclean-exit"


@pytest.fixture(autouse=True)
def from_the_first() -> None:
    """No hint has been given."""
    forget_hints()


def test_the_hints_come_one_after_the_other() -> None:
    """Each call shows the next and which it is; behind the third, the third again."""
    shown = [str(labkit.hint(NAME)).replace("\n", " ") for _ in range(4)]
    for number, hint in enumerate(labkit.EXERCISES[NAME].hints, 1):
        assert shown[number - 1].startswith(f"Hint {number} of 3: {hint}")
    assert shown[3] == shown[2]
    assert f'labkit.solution("{NAME}")' in shown[2]
    assert str(labkit.hint("recv")).startswith("Hint 1 of 3")


async def test_to_run_a_notebook_again_spends_no_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a check, the hint shown last comes once more; a second call is for another."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    exercise = labkit.EXERCISES["recv"]
    for _ in range(2):  # Run All, twice
        await labkit.check("recv", exercise.starter, clock="autojump")
        assert str(labkit.hint("recv")).startswith("Hint 1 of 3")
    assert str(labkit.hint("recv")).startswith("Hint 2 of 3")
    await labkit.check("recv", exercise.starter, clock="autojump")
    assert str(labkit.hint("recv")).startswith("Hint 2 of 3")
    assert str(labkit.hint("recv")).startswith("Hint 3 of 3")


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


async def test_a_prediction_stands_beside_the_run() -> None:
    """In the order of the run: one event at another place makes no other one wrong; surprises are named."""
    prediction = labkit.predict("fault", "closed", "cancelled", "truncated", "end")
    assert str(prediction).startswith("You expect: fault → closed")
    run = await labkit.play(labkit.EXERCISES[NAME].solution, on="aiohttp-cancel", fault="reset")
    found = prediction.compare(run)
    assert [(row[1], row[2].partition(",")[0], row[3][0]) for row in found.rows] == [
        ("fault", "fault", "✓"),
        ("cancelled", "cancelled", "✗"),
        ("truncated", "it did not happen", "✗"),
        ("", "closing", "·"),
        ("closed", "closed", "✓"),
        ("end", "end", "✓"),
    ]
    assert found.caption.endswith("3 of 5 as you said")


async def test_what_was_left_out_is_not_right() -> None:
    """Naming the sure things alone leaves the surprise to be told."""
    run = await labkit.play(labkit.EXERCISES[NAME].solution, on="aiohttp-cancel", fault="reset")
    rows = labkit.predict("fault", "end").compare(run).rows
    assert "cancelled" in [row[2].partition(",")[0] for row in rows if row[3] == "· not foreseen"]


async def test_a_name_twice_means_the_second() -> None:
    """And a lane says which of two events of one name."""
    run = await labkit.play(labkit.EXERCISES["recv"].solution, on="websockets", fault="fin", messages=("a", "b"))
    prediction = labkit.predict("client send", "recv", "client recv", "client send", "recv", "fault", "wire fin")
    expected = [row for row in prediction.compare(run).rows if row[1]]
    assert [row[3][0] for row in expected] == ["✓"] * 7


def test_a_prediction_of_the_unknown() -> None:
    """One sentence, with the nearest name."""
    with pytest.raises(UnknownName, match=r"there is no event 'notise'. Did you mean 'notice'"):
        labkit.predict("fault", "notise")


@pytest.mark.parametrize("names", [(), ("fault",)], ids=["skipped", "predicted"])
def test_a_prediction_is_compared_with_a_run_alone(names: tuple[str, ...]) -> None:
    """One sentence for anything else, such as the coroutine that nobody awaited."""
    with pytest.raises(BadValue, match=r"takes a run, such as `await labkit.play\(...\)` gives; this is None"):
        labkit.predict(*names).compare(None)  # type: ignore[arg-type]


async def test_a_prediction_that_is_skipped() -> None:
    """The same two cells run; the table says what happened, from the fault to the handler's end."""
    run = await labkit.play(labkit.EXERCISES[NAME].solution, on="aiohttp-cancel", fault="reset")
    prediction = labkit.predict()
    assert str(prediction).startswith("Nothing is written down")
    rows = [row[1] for row in prediction.compare(run).rows]
    assert [row for row in rows if row.startswith(("handler", "cleanup"))] == [
        "handler cancelled", "cleanup closing", "cleanup closed", "handler end",
    ]  # fmt: skip
    assert {"wire fault", "client ended", "library lost"} <= set(rows)


@pytest.mark.parametrize("names", [(), ("fault", "end")], ids=["skipped", "predicted"])
async def test_a_flood_is_folded_and_said_to_be(names: tuple[str, ...]) -> None:
    """The table stays short; how many events it leaves out stands where they were."""

    async def notes(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)
        for number in range(500):
            labkit.note(str(number))

    run = await labkit.play(notes, on="websockets", fault="close")
    rows = labkit.predict(*names).compare(run).rows
    assert len(rows) < 70
    assert any(str(cell).startswith("+4") and str(cell).endswith(" more events") for row in rows for cell in row)


def test_the_events_are_those_of_the_timeline() -> None:
    """Each word is in the documentation that `labkit.Timeline?` shows, by lane."""
    shown = {line.split()[0]: line for line in (labkit.Timeline.__doc__ or "").splitlines() if line.split()}
    for lane, kinds in EVENTS.items():
        assert set(kinds) <= set(shown[lane].replace(",", " ").split())
