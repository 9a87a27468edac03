"""What ``labkit.watch`` watches, in the workers of an executor too: each thing by its name."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from types import ModuleType
from typing import Any, Final, NamedTuple
from uuid import uuid4

from labkit.errors import BadValue, LabError
from labkit.experiment.attached import active, watch
from labkit.introspection.helpers import find_functions

__all__ = ["Carried", "Name", "carry", "names", "watching"]


class Name(NamedTuple):
    """Where something stands.

    Attributes:
        module: the module's name.
        path: its name in the module; "" for the module itself.
    """

    module: str
    path: str

    def find(self) -> Any:
        """Find what stands there, in this process.

        Raises:
            LabError: there is no such module, or nothing of this name in it.
        """
        try:
            module = importlib.import_module(self.module)
            return attrgetter(self.path)(module) if self.path else module
        except (ImportError, AttributeError) as problem:
            what = ".".join(filter(None, self))
            raise LabError(f"a worker cannot find {what}, which labkit.watch watches: {problem}") from None


class Watch(NamedTuple):
    """A ``labkit.watch`` that other processes can make again; its attributes are those of ``watch``."""

    id: str
    target: Name | None
    words: dict[str, str | None]
    lines: tuple[Name, ...]

    def again(self) -> watch:
        """Make it, in this process."""
        target = None if self.target is None else self.target.find()
        return watch(target, lines=[each.find() for each in self.lines], **self.words)


class Carried(NamedTuple):
    """What is watched while something is sent.

    Attributes:
        sender: the process that sends it.
        watches: those whose blocks run there.
    """

    sender: tuple[str, int]
    watches: tuple[Watch, ...]


#: Tells this process and those that are forked from it from all others, on other machines too.
_HERE: Final = uuid4().hex

#: What is watched in this process for another one, and how many batches need it; and the process that has begun that.
_carried: Final[dict[str, tuple[watch, int]]] = {}
_begun: Final[set[int]] = set()
_lock: Final = threading.Lock()  # a Dask worker has several threads


def carry() -> Carried:
    """Describe what is watched now, for a worker.

    Raises:
        BadValue: a worker could not find something, since no module has it.
    """
    watches = []
    for each in active():
        target = None if each.target is None else _name(each.target)
        watches.append(Watch(each.id, target, each.words, tuple(_name(line, lines=True) for line in each.lines)))
    return Carried((_HERE, os.getpid()), tuple(watches))


def names() -> dict[int, Name]:
    """The names of the objects that are watched now, by their ids: with these they are sent, and not copied."""
    return {id(each.target): _name(each.target) for each in active() if each.target is not None}


@contextmanager
def watching(carried: Carried) -> Iterator[None]:
    """Watch in a worker what is watched where its work comes from, and nothing else.

    Args:
        carried: what ``carry`` returned there.
    """
    if carried.sender == (_HERE, os.getpid()):  # a thread of it, where the blocks run themselves
        yield
        return
    _begin()
    with ExitStack() as undo:
        for each in carried.watches:
            _enter(each)
            undo.callback(_leave, each)
        yield


def _begin() -> None:
    """Forget what this process was forked with: the blocks of its parent, which may be over by now."""
    with _lock:
        if os.getpid() in _begun:
            return
        _begun.clear()
        _begun.add(os.getpid())
        _carried.clear()
        for inherited in active():
            inherited.__exit__(None, None, None)


def _enter(each: Watch) -> None:
    with _lock:
        again, count = _carried.get(each.id) or (each.again().__enter__(), 0)
        _carried[each.id] = again, count + 1


def _leave(each: Watch) -> None:
    with _lock:
        again, count = _carried.pop(each.id)
        if count > 1:
            _carried[each.id] = again, count - 1
        else:
            again.__exit__(None, None, None)


def _name(value: Any, *, lines: bool = False) -> Name:
    """Find a name by which a worker can import something."""
    function = getattr(value, "__func__", value) if lines else value
    candidates = [function]
    if lines and find_functions(value) == find_functions(type(value)):  # an object, for the methods of its class
        candidates.append(type(value))
    for each in candidates:
        if (name := _own_name(each) or _global_name(each)) is not None:
            return name
    what = getattr(function, "__qualname__", None) or f"this {type(value).__name__}"
    raise BadValue(
        f"labkit.watch: the workers of an executor cannot find {what}: it is no global of a module that they can"
        " import; put it there, or play without executor="
    )


def _own_name(value: Any) -> Name | None:
    """The name that a module, a class or a function says itself."""
    if isinstance(value, ModuleType):
        name = Name(value.__name__, "")
    else:
        name = Name(str(getattr(value, "__module__", "")), str(getattr(value, "__qualname__", "")))
    module = sys.modules.get(name.module)
    if module is None or name.module == "__main__" or "<locals>" in name.path:
        return None
    try:
        return name if (attrgetter(name.path)(module) if name.path else module) is value else None
    except AttributeError:
        return None


def _global_name(value: Any) -> Name | None:
    """The name of a global variable that has it."""
    for name, module in [*sys.modules.items()]:
        if name == "__main__" or not isinstance(module, ModuleType):
            continue
        for variable, each in [*vars(module).items()]:
            if each is value:
                return Name(name, variable)
    return None
