"""TEACHING's plans: each section that they send a room to is in its notebook, and their minutes add up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NUMBERS = sorted(path.stem[:2] for path in NOTEBOOKS.glob("*.ipynb"))
TEACHING = (NOTEBOOKS / "TEACHING.md").read_text("utf-8")
PLANS = re.findall(
    r"^### (.+?)\n(.*?)(?=^##|\Z)",
    TEACHING.partition("## Three plans")[2].partition("\n## ")[0],
    re.MULTILINE | re.DOTALL,
)
#: What takes a person how long, alone: words of prose in a minute; in minutes, a cell of code, a prediction with its
#: run, and an exercise; but in 00 there is nothing to write, and those of 09 ask for the whole course.
WORDS, CELL, PREDICTION, EXERCISE, OTHERS = 200, 1 / 3, 1, 10, {"00": 5, "09": 15}

ROW = re.compile(r"^\| (\d+)–(\d+) \|.*\|(.*)\|$", re.MULTILINE)


def cells(number: str, kind: str) -> list[dict[str, Any]]:
    """The cells of a notebook that are of a kind."""
    [file] = NOTEBOOKS.glob(f"{number}-*.ipynb")
    found = json.loads(file.read_text("utf-8"))["cells"]  # nbformat takes a second to import
    return [cell for cell in found if cell["cell_type"] == kind]


def prose(number: str) -> str:
    """The text of a notebook."""
    return "\n".join("".join(cell["source"]) for cell in cells(number, "markdown"))


def headings(number: str) -> set[str]:
    """The headings of a notebook."""
    return set(re.findall(r"^#+ (.+)$", prose(number), re.MULTILINE))


def minutes(number: str) -> int:
    """The minutes that a notebook says it takes."""
    [said] = re.findall(r"in about (\d+) minutes", prose(number))
    return int(said)


def sections(where: str) -> Iterator[tuple[str, str]]:
    """Each section that a cell of a plan names, with its notebook: ``02, to "Is a reset special?"``."""
    notebook = ""
    for number, section in re.findall(r'\b(\d\d)\b(?!-)|"(.+?)"', where):
        notebook = number or notebook
        if section:
            yield notebook, section


@pytest.mark.parametrize(("name", "plan"), PLANS, ids=[name for name, _ in PLANS])
def test_a_plan_names_sections_that_are_there(name: str, plan: str) -> None:
    """Who renames one, or moves it to another notebook, is told."""
    named = [each for *_, where in ROW.findall(plan) for each in sections(where)]
    assert named
    assert [each for each in named if each[1] not in headings(each[0])] == []


@pytest.mark.parametrize(("name", "plan"), PLANS, ids=[name for name, _ in PLANS])
def test_the_minutes_of_a_plan_add_up(name: str, plan: str) -> None:
    """Each row begins where the last one ends, and all of them take what the plan says."""
    rows = [(int(begin), int(end)) for begin, end, _ in ROW.findall(plan)]
    assert rows[0][0] == 0
    assert all(first[1] == second[0] for first, second in pairwise(rows))
    said = re.match(r"(\d+) minutes", name)
    assert rows[-1][1] == (int(said[1]) if said else 210)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_notebook_takes_the_minutes_that_it_says(number: str) -> None:
    """Within a quarter: who has grown or shrunk one says so at its head."""
    text = re.sub(r"\]\(\S+\)", "]", prose(number))
    read = [cell["metadata"] for cell in cells(number, "code") if not cell["metadata"].get("jupyter")]
    exercises = sum("exercise" in cell["metadata"].get("tags", []) for cell in cells(number, "code"))
    estimate = (
        len(text.split()) / WORDS
        + len(read) * CELL
        + text.count("**Predict") * PREDICTION
        + exercises * OTHERS.get(number, EXERCISE)
    )
    assert minutes(number) == pytest.approx(estimate, rel=0.25)


def test_the_pages_say_how_long_it_takes() -> None:
    """README has the shortest and the longest notebook, TEACHING all of them together, to half an hour."""
    each = [minutes(number) for number in NUMBERS]
    readme = (NOTEBOOKS.parent / "README.md").read_text("utf-8")
    assert f"Each notebook takes {min(each)} to {max(each)} minutes" in " ".join(readme.split())
    [said] = re.findall(r"all ten take (\d+\.\d) hours", TEACHING)
    assert abs(sum(each) / 60 - float(said)) <= 0.5
