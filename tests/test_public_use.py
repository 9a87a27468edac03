"""What people copy uses the public names alone: the notebooks, the pages beside them, the README, the examples."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import labkit

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(ROOT / "notebooks").glob("*.md")]
PROGRAMS = [*(ROOT / "examples").rglob("*.py"), ROOT / ".github" / "readme.py"]
FILES = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *PAGES, *PROGRAMS])


def code(file: Path) -> Iterator[str]:
    """The pieces of Python in a file."""
    text = file.read_text("utf-8")
    if file.suffix == ".py":
        yield text
    elif file.suffix == ".md":
        yield from map(textwrap.dedent, re.findall(r"^ *```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE))
    else:
        cells = json.loads(text)["cells"]  # nbformat takes a second to import
        for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
            magic, _, written = source.partition("\n")
            yield written if magic.startswith("%%writefile") else source


def insides(piece: str) -> Iterator[str]:
    """What a piece of code uses of labkit that is not public."""
    for node in ast.walk(compile(piece, "piece", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names if alias.name.startswith("labkit."))
            case ast.ImportFrom("labkit", names):
                yield from (alias.name for alias in names if alias.name not in labkit.__all__)
            case ast.ImportFrom(str(module)) if module.startswith("labkit."):
                yield module
            case ast.Attribute(ast.Name("labkit"), name) if name not in labkit.__all__:
                yield f"labkit.{name}"


def test_insides_are_found() -> None:
    """The search would see each way to reach for what is not public."""
    piece = (
        "import labkit.wire\nfrom labkit.views.text import text\nfrom labkit import verdict\nlabkit.timeline.Timeline\n"
        "from labkit import play\nlabkit.play(h)\nawait labkit.play(h)\n"
    )
    assert [*insides(piece)] == ["labkit.wire", "labkit.views.text", "verdict", "labkit.timeline"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_uses_public_names_alone(file: Path) -> None:
    """Learners copy what they see, and what is not public may change."""
    assert [name for piece in code(file) for name in insides(piece)] == []
