"""Every notebook has the same frame: what, how long, predict, run, your turn, takeaways, next."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import labkit

if TYPE_CHECKING:  # importing it takes seconds, in each process that collects the tests
    import nbformat

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PAGES = [*NOTEBOOKS, *sorted(FOLDER.glob("*.md"))]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

#: Lines that a code cell may have: one idea a cell.
LONGEST = 12
#: Characters that JupyterLab shows of a line of code, in a window of 1280 pixels; behind them, the cell scrolls.
WIDEST = 100
#: What every notebook says, in this order. Each is searched for in the markdown.
FRAME = (
    r"^# ",
    r"you will learn",
    r"\babout \d+ minutes\b",
    r"\*\*Predict",
    r"^## Your turn",
    r"^## Takeaways",
    r"^## Next",
)
#: Words that tell a reader nothing who does not see the colour.
COLOURS = r"\b(red|green|blue|orange|vermilion|yellow|purple|grey)\b"


def read(path: Path) -> nbformat.NotebookNode:
    import nbformat

    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code" and cell.source.strip()]


def prose(path: Path) -> str:
    """The text of a page, without its blocks of code."""
    if path.suffix == ".ipynb":
        text = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    else:
        text = path.read_text("utf-8")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def test_the_sequence_is_whole() -> None:
    """Ten notebooks, numbered without a gap; a glob that finds nothing would let everything below pass."""
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(10)]


@each_notebook
def test_it_is_stored_without_outputs(path: Path) -> None:
    """The repository holds what a person wrote; nbstripout removes the rest."""
    import nbformat

    stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for cell in stored["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert stored["metadata"]["kernelspec"]["name"] == "python3"
    nbformat.validate(nbformat.from_dict(stored))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_its_headings_are_an_outline(path: Path) -> None:
    """One title, at the top; no level is skipped."""
    levels = [len(match) for match in re.findall(r"^(#+) ", prose(path), flags=re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels)), levels


@each_notebook
def test_it_has_the_frame(path: Path) -> None:
    """What you will learn, how long; predict before you run; your turn; takeaways; the next one."""
    text = prose(path)
    at = 0
    for part in FRAME:
        found = re.compile(part, re.MULTILINE | re.IGNORECASE).search(text, at)
        assert found, f"{path.name} has no {part!r} after {text[:at].splitlines()[-1:]}"
        at = found.start()


@each_notebook
def test_a_prediction_comes_before_its_run(path: Path) -> None:
    """Behind each "Predict", before the next heading, is a cell that runs."""
    cells = read(path).cells
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown" and "**Predict" in cell.source:
            behind = cells[number + 1]
            assert behind.cell_type == "code", cell.source
            assert re.search(r"\bawait\b|\basync with\b|labkit", behind.source), behind.source


@each_notebook
def test_a_prediction_can_be_written_down(path: Path) -> None:
    """Before one `play` at least; left empty, so that skipping it costs nothing; and compared after it."""
    code = "\n".join(cell.source for cell in code_cells(path))
    written, compared = code.find(" = labkit.predict()"), code.find(".compare(")
    assert 0 <= written < compared or "labkit.play(" not in code


@each_notebook
def test_its_exercises_are_all_there(path: Path) -> None:
    """Under "Your turn", each exercise of the notebook: its own starter, a check, the hints, a way to its solution."""
    cells = read(path).cells
    turn = next(number for number, cell in enumerate(cells) if cell.source.startswith("## Your turn"))
    told = [(cell.metadata.get("tags", []), cell.source) for cell in cells[turn:]]
    text = "\n".join(source for _, source in told)
    for exercise in labkit.EXERCISES.values():
        here = exercise.notebook == path.stem[:2]
        for call in ("check", "hint", "solution"):
            assert (f'labkit.{call}("{exercise.name}"' in text) == here, (exercise.name, call)
        starts = any("exercise" in tags and exercise.starter_source in source for tags, source in told)
        assert starts == here, f"{path.name} and the starter of {exercise.name}"


@each_notebook
def test_its_claims_are_in_its_prose(path: Path) -> None:
    """Each sentence that is checked stands in its cell, word for word; each table of claims has its answers."""
    for cell in read(path).cells:
        claimed = cell.metadata.get("labkit", {})
        for sentence in claimed.get("holds", {}):
            assert " ".join(sentence.split()) in " ".join(cell.source.split())
        assert ("labkit.claims(" in cell.source and cell.cell_type == "code") == ("answers" in claimed), cell.source


@each_notebook
def test_its_cells_are_short(path: Path) -> None:
    """One idea a cell; only an exercise, tagged as one, may be longer."""
    for cell in code_cells(path):
        if "exercise" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= LONGEST, cell.source


@each_notebook
def test_its_code_fits_into_the_page(path: Path) -> None:
    """No line of code has to be scrolled sideways to be read; ruff folds them, by ``notebooks/.ruff.toml``."""
    for cell in code_cells(path):
        for line in cell.source.splitlines():
            assert len(line) <= WIDEST, line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_its_links_lead_somewhere(path: Path) -> None:
    """To a file that is there, or to the web by https; and each notebook to the one behind it."""
    links = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    for link in links:
        assert link.startswith("https://") or (path.parent / link.partition("#")[0]).is_file(), link
    if path in NOTEBOOKS[:-1]:
        assert NOTEBOOKS[NOTEBOOKS.index(path) + 1].name in links


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_nothing_is_told_by_colour_alone(path: Path) -> None:
    """The prose names shapes, words and places, but where it teaches the legend; a picture has its text."""
    text = re.sub(r"^## How to read the picture.*?^## ", "", prose(path), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(COLOURS, text, flags=re.IGNORECASE)
    assert not re.findall(r"!\[\]\(", text)
