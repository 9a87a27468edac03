"""Finds out whether code reads a clock of the system, which knows nothing of a loop whose time jumps."""

from __future__ import annotations

import datetime as dt
import dis
import functools
import inspect
import sys
import time
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from labkit.introspection.helpers import named, names_of, unwrapped, with_nested
from labkit.introspection.origin import is_users

__all__ = ["find_clock"]

#: What of the module ``time`` reads the time of day, or counts seconds.
_CLOCKS: Final = frozenset(
    {name for kind in ("monotonic", "perf_counter", "time", "clock_gettime") for name in (kind, f"{kind}_ns")}
    | {"localtime", "gmtime", "ctime"}
)
_READ: Final = {getattr(time, name): name for name in _CLOCKS if hasattr(time, name)}
_NOW: Final = frozenset({"now", "today", "utcnow"})
_DATES: Final = (dt.datetime, dt.date)

#: Packages that run handlers, on the time of their loop. What else of theirs reads a clock, such as for a header with
#: the date, decides nothing.
_RUN_HANDLERS: Final = frozenset(
    {"aiohttp", "anyio", "asgiref", "fastapi", "hypercorn", "labkit", "pydantic", "starlette", "uvicorn", "websockets"}
)

#: At most so many functions and classes are looked at.
_MOST: Final = 1000


def find_clock(target: Any) -> str | None:
    """Find a function of the user's, or of a package that it names, that reads a clock of the system.

    Followed is what the code names, from function to function through all of the user's own files; of a package, what
    the user's code names itself.

    Args:
        target: a handler, or a function of another kind; or an application.

    Returns:
        Which function reads which clock, as a clause; or None.
    """
    waiting, seen = [target, *_endpoints(target)], set[int]()
    while waiting and len(seen) < _MOST:
        each = waiting.pop(0)
        while isinstance(each, functools.partial):
            each = each.func
        if (read := _clock(each)) is not None:
            return f"a partial function is {read}"
        if id(each) in seen or _is_left_out(each):
            continue
        seen.add(id(each))
        for name, part in _parts(each):
            if isinstance(part, FunctionType):
                if (read := _reads(part)) is not None:
                    return f"{name}() reads {read}"
                if is_users(part.__code__.co_filename):
                    waiting += _followed(part)
            elif (read := _clock(part)) is not None:
                return f"{name} is {read}"
    return None


def _endpoints(app: Any) -> list[Any]:
    """The handlers of an application that is an object."""
    if inspect.isroutine(app) or inspect.isclass(app):
        return []
    routes: Any = getattr(getattr(app, "router", app), "routes", ())
    try:
        routes = routes() if callable(routes) else routes
        return [
            found for each in routes for found in [getattr(each, "handler", None) or getattr(each, "endpoint", None)]
        ]
    except Exception:  # something else that has routes
        return []


def _is_left_out(value: Any) -> bool:
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if not isinstance(module, str):
        module = type(value).__module__
    package = module.partition(".")[0]
    return (package in sys.stdlib_module_names and package != "__main__") or package in _RUN_HANDLERS


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The functions behind a value, and what else may be a clock, each with its name: those of a class, or its own."""
    found = list(unwrapped(value))
    for each in found:
        yield each.__name__, each
    if found or isinstance(value, ModuleType):
        return
    kind = value if inspect.isclass(value) else type(value)
    for base in kind.__mro__:
        if not _is_left_out(base):
            for name, member in list(vars(base).items()):
                whole = f"{base.__name__}.{name}"
                for part in (member.fget, member.fset) if isinstance(member, property) else (member,):
                    yield from ((whole, each) for each in unwrapped(part))
                yield whole, getattr(member, "__func__", member)


def _followed(function: FunctionType) -> Iterator[Any]:
    """What a function names: values, and those that it takes from a module, also from one that it imports itself."""
    names = names_of(function.__code__)
    values = [*named(function), *(sys.modules.get(name) for name in names)]
    for value in values:
        if isinstance(value, ModuleType) and _is_left_out(value):
            continue  # `time.sleep` names `time` as well, which `time` has too
        if isinstance(value, ModuleType):
            yield from (vars(value)[name] for name in names & vars(value).keys())
        elif value is not None:
            yield value


def _reads(function: FunctionType) -> str | None:
    """The clock that a function reads, in words; as a global, of a module, or as what an argument is by default."""
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        if (read := _clock(value)) is not None:
            return read
    known = {cell for code in with_nested(function.__code__) for cell in code.co_freevars}
    closed = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    for code in with_nested(function.__code__):
        if (read := _reads_by_name(code, function.__globals__)) is not None:
            return read
    for name in known & closed.keys():
        try:
            if (read := _clock(closed[name].cell_contents)) is not None:
                return read
        except ValueError:  # not filled yet
            continue
    return None


def _reads_by_name(code: CodeType, names: dict[str, Any]) -> str | None:
    if _CLOCKS.isdisjoint(code.co_names) and _NOW.isdisjoint(code.co_names):
        return next(filter(None, (_clock(names.get(name)) for name in code.co_names)), None)
    imported = {step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME"}
    value: Any = None
    for step in dis.get_instructions(code):
        owner, value = value, None
        if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            value = names.get(step.argval)
        elif step.opname in {"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"}:
            if any(owner is each for each in (time, dt, *_DATES)):
                value = getattr(owner, step.argval, None)
                if isinstance(owner, type) and step.argval in _NOW:
                    return f"datetime.{step.argval}()"
            elif "time" in imported and step.argval in _CLOCKS:
                return f"time.{step.argval}()"
            elif "datetime" in imported and step.argval in _NOW:
                return f"datetime.{step.argval}()"
        if (read := _clock(value)) is not None:
            return read
    return None


def _clock(value: Any) -> str | None:
    try:
        name = _READ.get(value)
    except TypeError:  # it cannot be hashed
        return None
    return None if name is None else f"time.{name}()"
