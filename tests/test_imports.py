"""The rooms of the package know only the rooms below them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import labkit

PACKAGE = Path(labkit.__file__).parent
GROUND = {"errors", "clock", "checks"}

#: room → the rooms that it may import, besides the ground.
ROOMS: dict[str, set[str]] = {
    "timeline": set(),
    "wording": set(),
    "pulse": set(),
    "tasks": {"timeline"},
    "resources": {"timeline"},
    "lines": {"timeline"},
    "verdict": {"timeline"},
    "outcome": {"verdict"},
    "bar": set(),
    "wire": {"timeline", "wording", "tasks"},
    "servers": {"timeline", "wording", "pulse", "tasks", "resources", "lines"},
    "faults": {"timeline", "tasks", "wire"},
    "client": {"timeline", "wording", "tasks"},
    "clients": {"timeline", "wording", "tasks", "client"},
    "views": {"timeline", "verdict", "outcome"},
    "loop": set(),
    "doctor": {"views"},
    "acting": {"timeline", "wire", "servers", "faults", "clients"},
    "experiment": {
        "acting",
        "timeline",
        "tasks",
        "resources",
        "lines",
        "verdict",
        "wire",
        "servers",
        "faults",
        "client",
        "clients",
        "views",
    },
}
ROOMS["recordings"] = ROOMS["timemachine"] = ROOMS["experiment"] | {"experiment"}
ROOMS["matrices"] = ROOMS["recordings"] | {"bar", "clients", "outcome", "pulse", "wording"}
#: ``__init__``: the handlers of an exercise are written as a learner writes them, with ``import labkit``.
ROOMS["exercises"] = (ROOMS["recordings"] | {"matrices", "__init__"}) - {"servers", "wire"}
#: ``run.save()`` reaches up, when it is called.
LATE = {("experiment", "recordings")}
#: The doors may use every room.
DOORS = {"__init__", "__main__", "arguments", "cli", "pytest_plugin"}


def room_of(module: str) -> str:
    """``labkit.wire.frames`` stands in the room ``wire``."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(file: Path, *, types: bool = True) -> Iterator[str]:
    """All the modules that a file imports, also inside its functions, and also for their types alone."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    tree = ast.parse(file.read_text("utf-8"))
    if not types:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: -node.level]) + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            # `from labkit import timeline` names a module; `from labkit import play` does not.
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "labkit" else (module,)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_the_rooms_below_it(file: Path) -> None:
    """A file imports its own room, the ground, and what the table allows to its room."""
    room = file.relative_to(PACKAGE).with_suffix("").parts[0]
    if room in DOORS:
        return
    assert room in ROOMS or room in GROUND, f"the room {room!r} is new: give it a place in this table"
    allowed = {room} | ({"errors"} if room in GROUND else GROUND | ROOMS[room])
    for module in imports(file):
        if module.split(".")[0] == "labkit":
            assert room_of(module) in allowed or (room, room_of(module)) in LATE, f"{room} may not import {module}"


def test_the_table_has_no_circles() -> None:
    """Downwards means that the rooms can be put in an order."""
    TopologicalSorter(ROOMS).prepare()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_only_the_views_know_matplotlib(file: Path) -> None:
    """Nothing but a view draws."""
    if file.relative_to(PACKAGE).parts[0] != "views":
        assert not [module for module in imports(file, types=False) if module.split(".")[0] == "matplotlib"]


def test_the_timeline_knows_no_library() -> None:
    """The ground floor stands on the standard library alone."""
    for name in ("errors", "clock", "checks", "timeline", "resources", "verdict"):
        for module in imports(PACKAGE / f"{name}.py"):
            top = module.split(".")[0]
            assert top == "labkit" or top in sys.stdlib_module_names, f"{name} imports {module}"


def test_importing_labkit_loads_no_heavy_library() -> None:
    """Who imports labkit pays for a library when it is used, not before."""
    heavy = {"aiohttp", "websockets", "matplotlib", "IPython", "nest_asyncio", "nest_asyncio2", "click", "numpy"}
    code = "import sys, labkit; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not heavy & set(out.split())
