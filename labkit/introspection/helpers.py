"""Finds the functions of a handler's own file that the handler may call."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Final

__all__ = [
    "belongs_to_no_loop",
    "find_functions",
    "find_helpers",
    "named",
    "names_of",
    "unwrapped",
    "with_nested",
]

#: What has no state, or none that a loop of asyncio could hold.
_STATELESS: Final = (FunctionType, BuiltinFunctionType, type, ModuleType, str, bytes, int, float, bool, type(None))

#: At most so many functions are followed; a handler's own file seldom has more.
_MOST: Final = 500


def with_nested(code: CodeType) -> Iterator[CodeType]:
    """Go through a function's code and the codes of all functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from with_nested(constant)


@functools.lru_cache(maxsize=1024)  # asked for again in each experiment
def names_of(code: CodeType) -> frozenset[str]:
    """The names of globals and attributes in a function's code, and in the codes of all functions inside it."""
    return frozenset(name for each in with_nested(code) for name in each.co_names)


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
                waiting += named(inner)
    nested = {inner for each in found for inner in with_nested(each) if inner is not each}
    return [each for its_code, each in found.items() if its_code is not code and its_code not in nested]


def find_functions(value: Any) -> list[FunctionType]:
    """Find the functions of something that a program has.

    Args:
        value: a function or a method; a class, or an object of one; or a module.

    Returns:
        The function, and those that it wraps; or the methods; or all that the module itself defines. Those of the
        standard library are left out.
    """
    values = [value]
    if isinstance(value, ModuleType):
        members = vars(value).values()
        values = [each for each in members if getattr(each, "__module__", None) == value.__name__]
        values = [each for each in values if inspect.isclass(each) or isinstance(each, FunctionType)]
    found = {each.__code__: each for part in values for each in _functions(part)}
    return [each for each in found.values() if each.__module__.partition(".")[0] not in sys.stdlib_module_names]


def belongs_to_no_loop(function: Callable[..., Any]) -> bool:
    """Tell whether a function can run in any loop, and more than once: nothing that it names has a state.

    Args:
        function: the function. What it names are the globals, and what it closes over; of its helpers too.

    Returns:
        Whether these are functions, classes, modules, text and numbers alone.
    """
    if not isinstance(function, FunctionType) or function.__defaults__ or function.__kwdefaults__:
        return False
    each = [function, *find_helpers(function, function)]
    return all(isinstance(value, _STATELESS) for one in each for value in named(one))


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
    found = list(unwrapped(value))
    yield from found
    if found:
        return
    kind = value if inspect.isclass(value) else type(value)
    for base in kind.__mro__[:-1]:
        for member in list(vars(base).values()):
            for part in (member.fget, member.fset) if isinstance(member, property) else (member,):
                yield from unwrapped(part)


def unwrapped(value: Any) -> Iterator[FunctionType]:
    """A function or a method, and each function that it wraps (``functools.wraps``)."""
    for each in _wrappers(getattr(value, "__func__", value)):
        if isinstance(each, FunctionType):
            yield each


def _dependencies(function: FunctionType) -> Iterator[Any]:
    """What FastAPI calls for a function: the `Depends(user)` of its parameters, as defaults or in `Annotated`."""
    if "fastapi" not in sys.modules:
        return
    given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    with contextlib.suppress(Exception):  # names that are not there yet, as FastAPI itself would find
        for hint in inspect.get_annotations(function, eval_str=True).values():
            given += getattr(hint, "__metadata__", ())
    for each in given:
        if type(each).__module__.startswith("fastapi.") and (called := getattr(each, "dependency", None)) is not None:
            yield called


def named(function: FunctionType) -> Iterator[Any]:
    """The values that the code of a function names: globals, and what it closes over."""
    for name in names_of(function.__code__) & function.__globals__.keys():
        yield function.__globals__[name]
    yield from _dependencies(function)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
