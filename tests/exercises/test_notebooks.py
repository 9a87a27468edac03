"""A notebook that sends its learner to an exercise starts from the exercise's own starter."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import labkit

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[tuple[list[str], str]]:
    found = json.loads(notebook.read_text("utf-8"))["cells"]
    return [(cell["metadata"].get("tags", []), "".join(cell["source"])) for cell in found]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_starter_is_the_exercises_own(notebook: Path) -> None:
    """In a cell tagged as an exercise, word for word; and the exercise is one of this notebook."""
    told = cells(notebook)
    for name in {name for _, source in told for name in re.findall(r'labkit\.check\("([^"]+)"', source)}:
        exercise = labkit.EXERCISES[name]
        assert notebook.stem.startswith(exercise.notebook)
        assert any("exercise" in tags and exercise.starter_source in source for tags, source in told), name
