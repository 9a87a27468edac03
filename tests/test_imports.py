"""The rooms of the package know only the rooms below them."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import labkit

PACKAGE = Path(labkit.__file__).parent

#: room → the rooms that it may import. A room is a folder of the package, or a module beside the folders.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "support": {"errors"},
    "events": {"errors", "support"},
    "timeline": {"errors", "events", "support"},
    "resources": {"events", "support", "timeline"},
    "connections": {"events", "timeline"},
    "reaction": {"support", "events", "timeline"},
    "findings": {"events", "timeline", "reaction"},
    "sentence": {"support", "events", "timeline", "findings"},
    "verdict": {"events", "timeline", "connections", "findings", "sentence"},
    "outcome": {"verdict"},
    "strikes": {"verdict", "outcome"},
    "advice": {"strikes", "verdict"},
    "views": {"errors", "support", "events", "timeline", "connections", "verdict", "outcome", "strikes"},
    "wire": {"errors", "support", "events", "timeline"},
    "introspection": {"errors", "support", "events", "timeline"},
    "remains": {"errors", "support", "events", "timeline", "introspection"},
    "watch": {"errors", "support", "events", "timeline", "introspection", "remains"},
    "clients": {"errors", "support", "events", "timeline"},
    "stacks": {"errors", "support", "events", "timeline", "introspection", "watch"},
    "faults": {"errors", "support", "events", "timeline", "wire"},
    "doctor": {"errors", "support", "views"},
}
ROOMS["experiment"] = set(ROOMS) - {"doctor"}
ROOMS["timemachine"] = {"errors", "support", "faults", "stacks", "experiment", "labkit"}
ROOMS["matrices"] = ROOMS["experiment"] | {"experiment"}
#: The handlers of an exercise are written as a learner writes them, with ``import labkit``: the door, which itself
#: imports nothing until it is asked for a name.
ROOMS["exercises"] = (ROOMS["matrices"] | {"matrices", "labkit"}) - {"stacks", "wire"}
ROOMS["labkit"] = set()
#: Loaded by pytest itself; nobody imports it.
ROOMS["pytest_plugin"] = ROOMS["experiment"] | {"experiment", "labkit"}
ROOMS["cli"] = set(ROOMS) - {"pytest_plugin"}
ROOMS["__main__"] = {"cli"}


def room_of(module: str) -> str:
    """``labkit.wire.frames`` stands in the room ``wire``."""
    return module.split(".")[1] if "." in module else module


def name_of(file: Path) -> str:
    """The name by which a file is imported."""
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports(file: Path, *, types: bool = True) -> frozenset[str]:
    """All the modules that a file imports, also inside its functions, and also for their types alone."""
    tree = ast.parse(file.read_text("utf-8"))
    if not types:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{file}: write the whole name, not a relative one"
            # `from labkit import timeline` names a module; `from labkit import play` does not.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return frozenset(found)


def test_a_room_imports_only_the_rooms_below_it() -> None:
    """A file imports its own room, and what the table allows to its room."""
    for name, file in MODULES.items():
        room = room_of(name)
        assert room in ROOMS, f"the room {room!r} is new: give it its line in the table"
        for module in imports(file):
            if module.split(".")[0] == "labkit":
                assert room_of(module) in {room} | ROOMS[room], f"{name}: {room} may not import {module}"


def test_the_rooms_have_an_order() -> None:
    """Downwards means that the rooms can be put in an order."""
    TopologicalSorter(ROOMS).prepare()


def test_no_file_imports_itself_by_a_detour() -> None:
    """Inside a room too: there is no circle of files, nor of what they import late or for types."""
    graph = {module: imports(file) & set(MODULES) - {module} for module, file in MODULES.items()}
    TopologicalSorter(graph).prepare()


def test_only_the_views_know_matplotlib() -> None:
    """Nothing but a view draws."""
    for name, file in MODULES.items():
        if room_of(name) != "views":
            found = [module for module in imports(file, types=False) if module.split(".")[0] == "matplotlib"]
            assert not found, f"{name} imports {found}"


def test_the_timeline_knows_no_asyncio_library() -> None:
    """What only reads events runs wherever they are read."""
    for name in ("errors", "events", "timeline", "resources", "findings", "sentence", "verdict", "outcome"):
        for module in imports(PACKAGE / f"{name}.py"):
            top = module.split(".")[0]
            assert top in {"labkit", "msgspec"} or top in sys.stdlib_module_names, f"{name} imports {module}"


def test_importing_labkit_loads_no_heavy_library() -> None:
    """Who imports labkit pays for a library when it is used, not before."""
    heavy = {"aiohttp", "websockets", "matplotlib", "IPython", "nest_asyncio", "nest_asyncio2", "click", "numpy"}
    code = "import sys, labkit; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not heavy & set(out.split())
