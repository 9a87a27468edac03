"""The Disconnect Lab: what happens to a WebSocket handler when its client goes away.

The public names stand in ``__init__.pyi`` beside this file. ``import labkit`` is light: each name is loaded from its
room when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def _read_stub() -> tuple[dict[str, str], list[str]]:
    """Read which module each public name comes from, and the modules all of whose names are public."""
    modules: dict[str, str] = {}
    whole: list[str] = []
    with open(__file__.removesuffix("c") + "i", encoding="utf-8") as stub:  # noqa: PTH123 - pathlib takes as long as all else here
        for line in stub:
            # Each name has a line of its own: `from labkit.wire import Wire as Wire`.
            match line.split():
                case ["from", module, "import", "*", *_]:
                    whole.append(module)
                case ["from", module, "import", name, *_]:
                    modules[name] = module
    return modules, whole


_modules, _whole = _read_stub()


def __getattr__(name: str) -> Any:
    if name == "__all__":
        value: Any = sorted([*_modules, *(name for module in _whole for name in import_module(module).__all__)])
    elif name in _modules:
        value = getattr(import_module(_modules[name]), name)
    else:
        # A name that Python or a notebook only asks for, such as `__path__` or `_repr_html_`, loads nothing.
        homes = () if name.startswith("_") else map(import_module, _whole)
        home = next((module for module in homes if name in module.__all__), None)
        if home is None:
            raise AttributeError(f"module 'labkit' has no attribute {name!r}")
        value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


class _Door(ModuleType):
    """Keeps a public name, such as ``watch``, where a room has the same: Python would put the room in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _modules or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Travel as modules do, by name: handlers that are sent to another process name this one."""
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Door
