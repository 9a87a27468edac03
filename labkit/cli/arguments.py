"""Reading the arguments of the command line: a handler, a fault, or an option."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from labkit.errors import BadValue, UnknownName

__all__ = ["load_handler", "read_fault", "read_header", "read_option", "read_when"]

#: The exceptions that ``ast.literal_eval`` raises, according to its documentation.
_NO_LITERAL = (MemoryError, RecursionError, SyntaxError, TypeError, ValueError)


def load_handler(target: str, what: str = "handler") -> Any:
    """Import the handler that ``FILE_OR_MODULE:HANDLER`` names, or another function.

    Args:
        target: the argument, such as ``"server.py:echo"`` or ``"package.module:echo"``.
        what: what the message of an error calls the function.

    Returns:
        The handler.

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
        functions = (key for key, value in vars(module).items() if inspect.iscoroutinefunction(value))
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


def read_option(text: str) -> tuple[str, Any]:
    """Read ``name=value``. The value is a Python literal if it can be read as one, and otherwise text.

    Args:
        text: the argument, such as ``"ping_interval=3"``.

    Returns:
        The name and the value.

    Raises:
        BadValue: the text does not have this form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise BadValue(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except _NO_LITERAL:
        return name, value


def read_header(text: str) -> tuple[str, str]:
    """Read a header as it stands in a request.

    Args:
        text: the argument, such as ``"Authorization: Bearer abc"``.

    Returns:
        The name and the value.

    Raises:
        BadValue: the text has no colon.
    """
    name, colon, value = text.partition(":")
    if not colon:
        raise BadValue(f"{text!r} is not a header, such as 'Authorization: Bearer abc'")
    return name.strip(), value.strip()


def read_when(text: str) -> Any:
    """Read a moment.

    Args:
        text: the argument: ``"through"``, ``"note: TEXT"``, a number of seconds, or ``"Await(7)"``.

    Returns:
        The moment, as ``labkit.play`` takes it; a text that is none of these as it is.
    """
    from labkit import Await

    with suppress(ValueError):
        return float(text)
    if (found := re.fullmatch(r"(?:labkit\.)?Await\((\d+)\)", text.strip())) is not None:
        return Await(int(found[1]))
    return text


def read_fault(text: str) -> Any:
    """Read a fault as a run prints it.

    Args:
        text: the argument, such as ``"reset"``, or with knobs, such as ``"close(code=4000, reason='bye')"``.

    Returns:
        The fault; if the text has no knobs, only its name.

    Raises:
        BadValue: the text has neither of these forms.
        UnknownName: there is no such fault, or it has no such knob.
    """
    name, bracket, _ = text.partition("(")
    if not bracket:
        return text
    from labkit.faults.fault import find_fault

    fault = find_fault(name)
    try:
        call = ast.parse(f"fault{text.removeprefix(name)}", mode="eval").body
        assert isinstance(call, ast.Call)
        knobs = {knob.arg or "**": ast.literal_eval(knob.value) for knob in call.keywords}
    except (AssertionError, *_NO_LITERAL):
        raise BadValue(f'{text!r} is not a fault with knobs, such as "close(code=4000)"') from None
    known = list(fault.knobs())
    if call.args or not known:
        raise BadValue(f"the knobs of {name} are given by name: {', '.join(known) or 'it has none'}")
    for knob in knobs:
        if knob not in known:
            raise UnknownName(f"{name} knob", knob, known)
    return type(fault)(**knobs)
