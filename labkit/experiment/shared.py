"""Whether experiments of a target would share what it keeps, such as a list of who is online."""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from labkit.experiment.travel import is_own
from labkit.introspection.helpers import names_of

__all__ = ["keeps_state"]

#: What people keep their clients in.
_CONTAINERS: Final = (dict, list, set, bytearray, deque)


def keeps_state(target: Any) -> bool:
    """Tell whether a target keeps something for all its clients: in its module, around its function, or in itself.

    This is read off the code, so it may be a constant that nobody changes. Then the experiments of the target are
    played one after the other for nothing, and the runs are the same.

    Args:
        target: a handler, an application, or what makes one.

    Returns:
        Whether what one experiment leaves there can be met by another one. What is kept in a module of a library, or
        deeper than functions and modules of the user's own lead, is not found.
    """
    return _keeps(target, set())


def _keeps(value: Any, seen: set[int]) -> bool:
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, partial):
        return any(_keeps(each, seen) for each in (value.func, *value.args, *value.keywords.values()))
    if isinstance(value, MethodType):
        return _keeps(value.__self__, seen) or _keeps(value.__func__, seen)
    if isinstance(value, FunctionType):
        return _is_users(value.__module__) and any(_keeps(each, seen) for each in _used_by(value))
    if isinstance(value, _CONTAINERS):
        return True
    # Of a class, an instance keeps something; so does an application of a framework.
    return not isinstance(value, type | ModuleType) and (_is_users(type(value).__module__) or _is_application(value))


def _used_by(function: FunctionType) -> Iterator[Any]:
    """What a function's code names outside of it."""
    with_wrapped = inspect.unwrap(function)
    if with_wrapped is not function:
        yield with_wrapped
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    names = names_of(function.__code__)
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        yield value
        if isinstance(value, ModuleType) and _is_users(value.__name__):
            yield from (vars(value)[each] for each in names & vars(value).keys())


def _is_users(module: str) -> bool:
    return module == "__main__" or ((found := sys.modules.get(module)) is not None and is_own(module, found))


def _is_application(value: Any) -> bool:
    return callable(value) and not inspect.isroutine(value)
