"""Stacks: server libraries with their settings, one file for each library.

A new stack is one new file in this folder, with a subclass of :class:`~labkit.stacks.stack.Stack`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from labkit.stacks.stack import Stack, registry
from labkit.support.checks import find

__all__ = ["STACKS", "Stack", "find_stack"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

#: The stacks, by name.
STACKS: Final[dict[str, Stack]] = {name: registry[name]() for name in sorted(registry)}


def find_stack(name: str) -> Stack:
    """Find a stack by its name.

    Args:
        name: the stack's name.

    Returns:
        The stack.

    Raises:
        UnknownName: there is no stack of this name.
    """
    return find("stack", name, STACKS)
