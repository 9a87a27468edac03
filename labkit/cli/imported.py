"""Which files of a user's own a Python file imports, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["find_imported"]


def find_imported(file: Path, folders: Sequence[Path]) -> set[Path]:
    """Find a file, and the files that it imports from some folders, and those that they import.

    Args:
        file: the file; what cannot be read, or is no Python, imports nothing.
        folders: where Python looks for modules of the user's own.

    Returns:
        The files. An imported one that is not there yet is among them, if its folder is.
    """
    found, waiting = {file}, [file]
    while waiting:
        each = waiting.pop()
        new = {path for path in _imports(each, folders) if path.parent.is_dir()} - found
        found |= new
        waiting += new
    return found


def _imports(file: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """Each file that a module may be which a file imports, wherever in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                for folder in folders:
                    yield from _files(folder, alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = [file.parents[node.level - 1]] if 0 < node.level <= len(file.parents) else []
            for folder in above if node.level else folders:
                for alias in node.names:
                    yield from _files(folder, ".".join(filter(None, (node.module, alias.name))))


def _files(folder: Path, module: str) -> Iterator[Path]:
    """The files that a module may be, and each package around it."""
    for name in module.split("."):
        folder /= name
        yield folder.with_name(f"{name}.py")
        yield folder / "__init__.py"
