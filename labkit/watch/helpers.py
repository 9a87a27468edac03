"""Finds the functions of a handler's own file that the handler may call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, Final

__all__ = ["find_helpers", "with_nested"]

#: At most so many functions are followed; a handler's own file seldom has more.
_MOST: Final = 500


def with_nested(code: CodeType) -> Iterator[CodeType]:
    """Go through a function's code and the codes of all functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from with_nested(constant)


def find_helpers(handler: Callable[..., Any], function: Callable[..., Any]) -> list[FunctionType]:
    """Find the helpers: what the handler's code names, what those name in turn, and the methods of such classes.

    Args:
        handler: the handler, as the library calls it.
        function: the function that its author wrote, inside of wrappers.

    Returns:
        The other functions that stand in the same file or cell. A function that is made inside another one is part of
        that one.
    """
    code = getattr(function, "__code__", None)
    found: dict[CodeType, FunctionType] = {}
    waiting: list[Any] = [function, *_wrappers(handler)]
    seen: set[int] = set()
    while waiting and isinstance(code, CodeType) and len(found) < _MOST:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        for inner in _functions(each):
            if inner.__code__.co_filename == code.co_filename and inner.__code__ not in found:
                found[inner.__code__] = inner
                waiting += _named(inner)
    nested = {inner for each in found for inner in with_nested(each) if inner is not each}
    return [each for its_code, each in found.items() if its_code is not code and its_code not in nested]


def _wrappers(handler: Any) -> Iterator[Any]:
    """The handler, and each function that it wraps."""
    seen: set[int] = set()
    while handler is not None and id(handler) not in seen:
        seen.add(id(handler))
        yield handler
        handler = handler.func if isinstance(handler, functools.partial) else getattr(handler, "__wrapped__", None)


def _functions(value: Any) -> Iterator[FunctionType]:
    """The functions behind a value: itself and what it wraps; or the methods of a class, or of an object's class."""
    if isinstance(value, functools.partial):
        value = value.func
    found = list(_unwrapped(value))
    yield from found
    if found:
        return
    kind = value if inspect.isclass(value) else type(value)
    for base in kind.__mro__[:-1]:
        for member in list(vars(base).values()):
            for part in (member.fget, member.fset) if isinstance(member, property) else (member,):
                yield from _unwrapped(part)


def _unwrapped(value: Any) -> Iterator[FunctionType]:
    """A function or a method, and each function that it wraps (``functools.wraps``)."""
    for each in _wrappers(getattr(value, "__func__", value)):
        if isinstance(each, FunctionType):
            yield each


def _named(function: FunctionType) -> Iterator[Any]:
    """The values that the code of a function names: globals, and what it closes over."""
    for name in {name for code in with_nested(function.__code__) for name in code.co_names}:
        if name in function.__globals__:
            yield function.__globals__[name]
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
