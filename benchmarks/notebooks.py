"""How long does each notebook take, headless, one after another? python benchmarks/notebooks.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
EACH, ALL = 15, 90


def run(notebook: nbformat.NotebookNode) -> tuple[float, float]:
    """Start a kernel, run all cells, end it; return the seconds, and those of the processor in the kernel and below it.

    A cell that fails ends the benchmark.
    """
    began, before = time.perf_counter(), os.times()
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS[0].parent)}})
    client.execute()
    after = os.times()
    worked = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, worked


def told(seconds: float, worked: float) -> str:
    """What one took, in a line of the table."""
    return f"{seconds:6.1f} s, {worked:5.1f} s of the processor"


def main() -> None:
    """Print the seconds of each notebook, those of its kernel included."""
    empty = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("pass")])
    print(f"{'a kernel that runs nothing':<34}{told(*run(empty))}")
    took = []
    for path in NOTEBOOKS:
        took.append(run(nbformat.read(path, as_version=4)))
        print(f"  {path.stem:<32}{told(*took[-1])}   the limit is {EACH}")
    print(f"all {len(took)} of them{'':<19}{told(*map(sum, zip(*took, strict=True)))}   the limit is {ALL}")


if __name__ == "__main__":
    main()
