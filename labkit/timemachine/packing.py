"""Packs a handler into a module of its own, with what its source names, for another interpreter to import."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from labkit.errors import BadHandler

__all__ = ["pack"]


def pack(handler: Callable[..., Any]) -> str:
    """Write the source of a module in which a handler stands.

    Args:
        handler: a function whose source is known, as of a file or of a notebook's cell. It may use modules, what can be
            imported from one, numbers and texts, and functions of the same kind.

    Returns:
        The source; the handler has its own name in it, and the lines that it has in its file, if it names nothing
        before it is called.

    Raises:
        BadHandler: it cannot be packed, and why.
    """
    parts: dict[str, str] = {}
    name = getattr(handler, "__name__", "the handler")
    _pack_function(name, handler, parts)
    blank = ""
    if _names_nothing_yet(parts[name]):
        # In front of all that it uses: what is told of its lines is true of those that a person has before them.
        blank = "\n" * (handler.__code__.co_firstlineno - 1)
        parts = {name: parts[name], **parts}
    return blank + "\n\n".join(parts.values()) + "\n"


def _names_nothing_yet(source: str) -> bool:
    """Tell whether a function can stand before what it names: no decorator, default or annotation names anything."""
    [function] = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    function.body = []
    return not any(isinstance(node, ast.Name) for node in ast.walk(function))


def _pack_function(name: str, function: Any, parts: dict[str, str]) -> None:
    if not isinstance(function, FunctionType) or function.__name__ != name or not name.isidentifier():
        raise BadHandler(f"{name} is {function!r}; the time machine takes functions under their own names")
    if function.__closure__:
        inner = ", ".join(function.__code__.co_freevars)
        raise BadHandler(f"{name} uses {inner} of the function around it; the time machine takes a function by itself")
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise BadHandler(f"the source of {name} is not known; define it in a file or in a cell") from None
    parts[name] = ""  # known from now on, since functions may name each other
    for used in sorted({node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}):
        if used not in parts and used in function.__globals__:
            _pack_name(function, used, function.__globals__[used], parts)
    del parts[name]
    parts[name] = source


def _pack_name(by: FunctionType, name: str, value: Any, parts: dict[str, str]) -> None:
    if isinstance(value, ModuleType):
        parts[name] = f"import {value.__name__} as {name}"
    elif _is_importable(value) and value.__module__ != by.__module__:
        parts[name] = f"from {value.__module__} import {value.__qualname__} as {name}"
    elif isinstance(value, FunctionType):
        _pack_function(name, value, parts)
    elif isinstance(value, str | bytes | int | float | bool | None):
        parts[name] = f"{name} = {value!r}"
    else:
        raise BadHandler(
            f"{by.__name__} uses {name}, {type(value).__name__!r}, which the time machine cannot take along"
        )


def _is_importable(value: Any) -> bool:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if not isinstance(module, str) or module == "__main__":
        return False
    return getattr(sys.modules.get(module), name, None) is value
