"""The public names are a contract: other people's scripts rely on them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import labkit


def test_the_names_are_all_there() -> None:
    """`__all__` has the names of the stub, which stand there once, and every fault's class."""
    faults = {type(fault).__name__ for fault in labkit.FAULTS.values()}
    assert set(labkit.__all__) == set(labkit._modules) | faults | {"ENDING", "FAULTS", "Fault"}
    assert len(labkit.__all__) == len(set(labkit.__all__))
    assert set(labkit.__all__) <= set(dir(labkit))


def test_a_star_brings_the_public_names() -> None:
    """`from labkit import *` is what a workshop types; it brings the public names alone."""
    program = "from labkit import *; print(*sorted(name for name in globals() if not name.startswith('__')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(labkit.__all__)


@pytest.mark.parametrize("name", labkit.__all__)
def test_each_is_found_in_its_room_and_documented(name: str) -> None:
    """A name leads to the object of its room, and the object says what it is."""
    value = getattr(labkit, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__.startswith(labkit._modules.get(name, "labkit.faults"))
        assert inspect.getdoc(value)
    else:
        assert isinstance(value, dict | tuple)
        assert all(isinstance(key, str) for key in value)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'plai'"):
        labkit.plai  # noqa: B018


@pytest.mark.parametrize("name", [name for name in labkit.__all__ if inspect.isclass(getattr(labkit, name))])
def test_the_public_methods_are_documented(name: str) -> None:
    """Whoever presses Shift-Tab in a notebook is told something, and not by a base class of Python's."""
    kind = getattr(labkit, name)
    for method, value in vars(kind).items():
        if not method.startswith("_") and inspect.isroutine(value):
            assert inspect.getdoc(value), f"{name}.{method}"


def test_the_names_are_loaded_when_they_are_used() -> None:
    """`import labkit` loads no room; a name loads its own."""
    program = (
        "import sys, labkit; before = {m for m in sys.modules if m.startswith('labkit.')};"
        "labkit.note; print(sorted(before), 'labkit.resources' in sys.modules, 'aiohttp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True False\n"
