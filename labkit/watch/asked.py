"""Observes what a handler asks its connection: properties such as ``closed``, which may tell it of a loss."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType, MemberDescriptorType
from typing import Any, Final

from labkit.introspection.alone import runs_alone
from labkit.support.replacing import MISSING, replace

__all__ = ["IsOver", "Told", "asked_by_user", "observe_properties"]

#: Called with what the handler was told, in words, such as ``"closed is True"``.
Told = Callable[[str], None]

#: Whether a value tells that the connection is over.
IsOver = Callable[[Any], bool]

#: For each observed object, by its id: whom to tell. The objects live as long as they are observed.
_told: Final[dict[int, Told]] = {}


def asked_by_user(libraries: Collection[str] = (), depth: int = 2) -> bool:
    """Tell whether code of the user's has called the function that calls this one.

    Args:
        libraries: packages whose own questions do not count.
        depth: how many calls lie between.

    Returns:
        Whether the caller's module belongs to none of the packages, nor to asyncio, anyio or the lab.
    """
    frame = sys._getframe(depth)  # noqa: SLF001 - each question comes here, and inspect.stack() takes milliseconds
    return _is_users(frame.f_globals.get("__name__", ""), libraries)


def _is_users(module: object, libraries: Collection[str]) -> bool:
    package = _package(module)
    return package not in libraries and package not in _OTHERS


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

#: Packages whose questions are nobody's, besides those of the library.
_OTHERS: Final = frozenset({"asyncio", "anyio", "labkit"})


@functools.lru_cache
def _package(module: object) -> str:
    return str(module).partition(".")[0]


def observe_properties(
    target: Any,
    tests: Mapping[str, IsOver],
    told: Told,
    libraries: Collection[str],
    identity: Callable[[Any], Any] = lambda target: target,
) -> Callable[[], None]:
    """Observe what code of the user's reads from an object of a library.

    The object keeps its type. While any object of its class is observed, stand-ins take the place of the properties of
    the class; they act for the observed objects alone.

    Args:
        target: the object.
        tests: for each property or attribute, or method without arguments, which of its values tell that the connection
            is over.
        told: called with each such value that the user's code reads, in words.
        libraries: packages whose own questions do not count.
        identity: gives what an object shares with its copies, if the copies count too.

    Returns:
        Call it to end the observation.
    """
    kind, own = type(target), _own(target)
    names = tuple(name for name in tests if hasattr(kind, name) or name in own)
    known_by = id(identity(target))
    with _lock:
        group = _groups.get((kind, names))
        if group is None:
            group = _groups[kind, names] = _Group((kind, names))
            for name in names:
                make = partial(_observed, name, tests[name], frozenset(libraries), identity)
                group.undo.append(replace(_owner(target, name), name, make))
        group.count += 1
    _told[known_by] = told
    return _Release(known_by, group)


class _Group:
    """What is replaced for the observed objects of one class.

    Args:
        key: the class, and the names of what is observed.
    """

    def __init__(self, key: tuple[type, tuple[str, ...]]) -> None:
        self.key: Final = key
        self.count = 0
        self.undo: list[Callable[[], None]] = []


#: By the class, and the names of what is observed.
_groups: Final[dict[tuple[type, tuple[str, ...]], _Group]] = {}
_lock: Final = threading.Lock()  # a server may run in a thread of its own


class _Release:
    """Ends one observation, when it is called."""

    __slots__ = ("_group", "_known_by")

    def __init__(self, known_by: int, group: _Group) -> None:
        self._known_by = known_by
        self._group = group

    def __call__(self) -> None:
        _told.pop(self._known_by, None)
        group = self._group
        with _lock:
            group.count -= 1
            if group.count:
                return
            del _groups[group.key]
            for leave in group.undo:
                leave()


def _own(target: Any) -> dict[str, Any]:
    """The attributes of an object itself, where it can have some."""
    return getattr(target, "__dict__", {})


def _owner(target: Any, name: str) -> type:
    """Find the class that defines a member; the object's own class for an attribute that only the object has."""
    kind = type(target)
    return next((each for each in kind.__mro__ if name in vars(each)), kind)


def _observed(
    name: str, is_over: IsOver, libraries: frozenset[str], identity: Callable[[Any], Any], member: Any
) -> Any:
    """Make the stand-in for one property, slot, method or plain attribute."""
    read, write, delete = _access(name, member)

    # The library itself asks a dozen times for each connection that ends: first comes what is cheap and rules out most.
    others: set[object] = set()  # modules that have asked, and whose questions are nobody's

    def ask(target: Any) -> Any:
        value = read(target)
        if runs_alone():
            return value
        module = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - as in `asked_by_user`
        if module in others:
            return value
        if not _is_users(module, libraries):
            others.add(module)
        elif is_over(value) and (told := _told.get(id(identity(target)))) is not None:
            told(f"{name} is {_shown(value)}")
        return value

    if inspect.isfunction(member):
        return functools.wraps(member)(ask)
    return property(ask, write, delete, getattr(member, "__doc__", None))


def _access(name: str, member: Any) -> tuple[Callable[[Any], Any], Any, Any]:
    """How the library's own member is read, written and deleted."""
    if isinstance(member, property) and member.fget is not None:
        return member.fget, member.fset, member.fdel
    if isinstance(member, MemberDescriptorType):  # of a class with slots
        return member.__get__, member.__set__, member.__delete__
    if inspect.isfunction(member):
        return member, None, None

    def read(target: Any) -> Any:
        value = getattr(target, "__dict__", _NOTHING).get(name, member)
        if value is MISSING:
            raise AttributeError(f"{type(target).__name__!r} object has no attribute {name!r}", name=name, obj=target)
        return value

    def write(target: Any, value: Any) -> None:
        target.__dict__[name] = value

    def delete(target: Any) -> None:
        del target.__dict__[name]

    return read, write, delete


def _shown(value: Any) -> str:
    """Write a value as the handler's author thinks of it; an enumeration's member by its name."""
    if isinstance(value, asyncio.Future):
        return "done"
    return str(getattr(value, "name", None) or repr(value))
