"""How long does each notebook take, headless, one after another? python benchmarks/notebooks.py."""

from __future__ import annotations

import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
EACH, ALL = 15, 90


def run(notebook: nbformat.NotebookNode) -> float:
    """Start a kernel, run all cells, end it; a cell that fails ends the benchmark."""
    began = time.perf_counter()
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS[0].parent)}})
    client.execute()
    return time.perf_counter() - began


def main() -> None:
    """Print the seconds of each notebook, those of its kernel included."""
    empty = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("pass")])
    print(f"{'a kernel that runs nothing':<34}{run(empty):6.1f} s")
    took = {}
    for path in NOTEBOOKS:
        took[path.name] = run(nbformat.read(path, as_version=4))
        print(f"  {path.stem:<32}{took[path.name]:6.1f} s   the limit is {EACH}")
    print(f"all {len(took)} of them{'':<19}{sum(took.values()):6.1f} s   the limit is {ALL}")


if __name__ == "__main__":
    main()
