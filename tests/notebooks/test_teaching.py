"""TEACHING's plans: each section that they send a room to is in its notebook, and their minutes add up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TEACHING = (NOTEBOOKS / "TEACHING.md").read_text("utf-8")
PLANS = re.findall(
    r"^### (.+?)\n(.*?)(?=^##|\Z)",
    TEACHING.partition("## Three plans")[2].partition("\n## ")[0],
    re.MULTILINE | re.DOTALL,
)
ROW = re.compile(r"^\| (\d+)–(\d+) \|.*\|(.*)\|$", re.MULTILINE)


def headings(number: str) -> set[str]:
    """The headings of a notebook."""
    [file] = NOTEBOOKS.glob(f"{number}-*.ipynb")
    cells = json.loads(file.read_text("utf-8"))["cells"]  # nbformat takes a second to import
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return set(re.findall(r"^#+ (.+)$", "\n".join(texts), re.MULTILINE))


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
