"""Every notebook runs: top to bottom, again, and out of order; and leaves nothing behind."""

from __future__ import annotations

import importlib
import random
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labkit.support.clock import scaled

if TYPE_CHECKING:  # importing it takes seconds, in each process that collects the tests
    import nbformat

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: The notebooks whose limits and waits stand against each other, some of the lab's, some of a library's.
TIMED = ("05", "08")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# Runs in the kernel, before and after the notebook. It looks for tasks, sockets and processes that stay.
REMEMBER = """
import sys

# What a task says after its cell is done belongs to no output that nbclient would see.
_said = []

class _Ear:
    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        _said.append(text)
        return self._stream.write(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)

sys.stderr = _Ear(sys.stderr)

def _left():
    import asyncio, json, psutil
    from ipykernel.connect import get_connection_info
    me = psutil.Process()
    # On a busy machine, a channel of the kernel's own may be connected when the first cell has begun.
    own = {port for name, port in json.loads(get_connection_info()).items() if name.endswith("_port")}
    sockets = [c for c in me.net_connections("inet") if c.laddr.port not in own]
    found = {f"socket {c.laddr} -> {c.raddr} {c.status}" for c in sockets}
    for child in me.children(recursive=True):
        found.add(f"process {child.pid} {child.name()}")
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        code = getattr(task.get_coro(), "cr_code", None)
        # The kernel's own tasks come and go.
        if code is None or not any(f"/{kernel}/" in code.co_filename for kernel in ("ipykernel", "tornado", "zmq")):
            found.add(f"task {task.get_name()} {task.get_coro()!r}")
    return found

_before = _left()
"""
COMPARE = """
import asyncio, gc, sys, time
_end = time.monotonic() + {patience}
while (_extra := _left() - _before) and time.monotonic() < _end:
    gc.collect()
    await asyncio.sleep(0.05)
gc.collect()
assert not _extra, "left behind: " + "; ".join(sorted(_extra))
assert not _said, "on stderr: " + "".join(_said)
_pyplot = sys.modules.get("matplotlib.pyplot")
assert not (_pyplot and _pyplot.get_fignums()), "left behind: open pyplot figures, which Jupyter shows twice"
"""


def read(path: Path) -> nbformat.NotebookNode:
    import nbformat

    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def copy(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same cell as a new one, so that each execution has outputs of its own."""
    import nbformat

    return nbformat.v4.new_code_cell(cell.source, metadata=dict(cell.metadata))


def with_checks(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that run; behind each cell with claims, what must hold for them (see CONTRIBUTING)."""
    import nbformat

    cells = []
    for cell in notebook.cells:
        claimed = cell.metadata.get("labkit", {})
        if cell.cell_type == "code" and cell.source.strip():
            cells.append(copy(cell))
        checks = [f"assert {holds}, {sentence!r}" for sentence, holds in claimed.get("holds", {}).items()]
        if "answers" in claimed:
            checks.append(f"assert list(Out[max(Out)].answers) == {claimed['answers']!r}, Out[max(Out)]")
        cells.extend(nbformat.v4.new_code_cell(check) for check in checks)
    return cells


async def execute(cells: list[nbformat.NotebookNode], folder: Path) -> list[nbformat.NotebookNode]:
    """Run cells in one fresh kernel, in this order.

    Args:
        cells: the cells; they get their outputs.
        folder: where the kernel runs.

    Returns:
        The cells, up to the first that failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=scaled(60), resources={"metadata": {"path": str(folder)}}
    )
    await client.async_execute()
    return cells


def seconds(cells: list[nbformat.NotebookNode]) -> float:
    """How long the kernel took from the first cell to the last, by its own messages."""

    def at(cell: nbformat.NotebookNode, message: str) -> datetime:
        return datetime.fromisoformat(cell.metadata.execution[message])

    first, last = at(cells[0], "iopub.status.busy"), at(cells[-1], "iopub.status.idle")
    return (last - first).total_seconds()


def complaints(cells: list[nbformat.NotebookNode]) -> list[str]:
    """What the cells wrote to stderr: warnings, and "Task exception was never retrieved"."""
    return [
        f"{cell.source.splitlines()[0]} … wrote to stderr: {output.text}"
        for cell in cells
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stderr"
    ]


@pytest.fixture(scope="module", autouse=True)
def _fonts_are_known() -> None:
    # Matplotlib's first import on a machine takes seconds and says so on stderr; most often it was imported by now.
    importlib.import_module("matplotlib.font_manager")


async def run(path: Path, *passes: list[nbformat.NotebookNode], capsys: pytest.CaptureFixture[str]) -> None:
    """Run cells in one kernel, one pass after the other: no error, no stderr, and nothing is left behind."""
    import nbformat

    before = nbformat.v4.new_code_cell(REMEMBER)
    after = nbformat.v4.new_code_cell(COMPARE.format(patience=scaled(2)))
    done = await execute([before, *(cell for each in passes for cell in each), after], path.parent)
    assert not complaints(done)
    with capsys.disabled():
        sys.stdout.write(f"\n{path.name}: {', then '.join(f'{seconds(each):.1f} s' for each in passes if each)}\n")


@pytest.mark.notebooks
@each_notebook
async def test_it_runs_and_its_claims_hold(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From top to bottom; each claim of the prose is asked of the runs above it."""
    await run(path, with_checks(read(path)), capsys=capsys)


@pytest.mark.soak
@pytest.mark.notebooks
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem[:2] in TIMED], ids=lambda path: path.stem)
async def test_its_claims_hold_on_a_slow_machine(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where every wait of the lab takes three times as long, those that tell of times tell the truth too."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", "3")
    await run(path, with_checks(read(path)), capsys=capsys)


@pytest.mark.soak
@pytest.mark.notebooks
@each_notebook
async def test_it_runs_twice_and_out_of_order(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one kernel: from top to bottom, the same again, then shuffled."""
    notebook = read(path)
    cells = code_cells(notebook)
    first, second = with_checks(notebook), [copy(cell) for cell in cells]
    shuffled: list[nbformat.NotebookNode] = []
    if not notebook.metadata.get("labkit", {}).get("ordered"):
        rest = [copy(cell) for cell in cells[1:]]
        random.Random(path.name).shuffle(rest)
        shuffled = [copy(cells[0]), *rest]
    await run(path, first, second, shuffled, capsys=capsys)
