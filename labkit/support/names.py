"""Finds what a name such as ``"package.module:attr"`` or ``"file.py:attr"`` leads to."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from labkit.errors import BadValue, UnknownName

__all__ = ["load_name"]


def load_name(target: str, what: str = "handler") -> Any:
    """Import the handler that ``FILE_OR_MODULE:NAME`` names, or something else.

    Args:
        target: the name, such as ``"server.py:echo"`` or ``"package.module:echo"``.
        what: what the message of an error calls it.

    Returns:
        What stands there.

    Raises:
        BadValue: the file or the module cannot be imported, or it does not define this name.
    """
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise BadValue(f"{target!r} does not name a {what}: write server.py:echo, or package.module:echo")
    module = _import_file(Path(where)) if where.endswith(".py") or os.sep in where else _import_module(where)
    try:
        return attrgetter(name)(module)
    except AttributeError:
        own = vars(module).items()
        functions = (key for key, value in own if callable(value) and value.__module__ == module.__name__)
        raise BadValue(f"in {where} {UnknownName(what, name, functions)}") from None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadValue(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise BadValue(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # As when Python runs a file: the file can import its neighbours, and the module is in sys.modules.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _cannot_import(str(path), error) from error
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _cannot_import(name, error) from error


def _cannot_import(what: str, error: BaseException) -> BadValue:
    if isinstance(error, SyntaxError):
        return BadValue(f"cannot import {what}: {type(error).__name__}: {error}")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    ours = Path(__file__).parents[1]
    last = next((frame for frame in reversed(frames) if ours not in Path(frame.filename).parents), None)
    at = f" ({Path(last.filename).name}, line {last.lineno})" if last else ""
    return BadValue(f"cannot import {what}: {type(error).__name__}: {error}{at}")
