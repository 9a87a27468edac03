"""A token: one short string from which an experiment can be played again, by somebody else, somewhere else."""

from __future__ import annotations

import ast
import base64
import binascii
import inspect
import sys
import zlib
from collections.abc import Mapping
from os.path import relpath
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from labkit.errors import BadValue
from labkit.experiment.play import play
from labkit.experiment.run import Run
from labkit.experiment.when import THROUGH, Await, Frame, When
from labkit.faults import Fault
from labkit.faults.fault import find_fault
from labkit.support.names import load_name

__all__ = ["import_name", "make_token", "replay"]

#: The format, which a token begins with; tokens of another one are refused.
_FORMAT: Final = "lab1-"

#: What tokens have in common need not stand in them. It belongs to the format: who changes it, counts that up.
_COMMON: Final = (
    b"'subprotocols': ('client': 'websockets', 'client_options': {'headers': {'patience': 1.0, 'clients': 2, 'clock':"
    b" 'autojump', 'path': '/', 'messages': ('hello',), 'messages': ['talk': 'tests.test_server.py:client', 'missing':"
    b" ['target'], 'note: ', 'fault': ['second-cancel', {'times': 'close', {'code': 4000, 'cancel', {}], 'reset', {}],"
    b" 'when': 'through'}, {'target': 'server.py:', 'on': 'websockets', 'aiohttp-cancel', 'when': ["
)


def make_token(target: Any, on: str, fault: str | Fault | None, when: When = THROUGH, **options: Any) -> str:
    """Write down an experiment.

    Args:
        target: the handler, the application, or what :func:`import_name` gives for it.
        on: the stack's name.
        fault: the fault.
        when: when it strikes.
        options: other options of ``labkit.play``.

    Returns:
        The token. What it cannot carry, such as a function that another program cannot import, it names as missing.
    """
    chosen = None if fault is None else find_fault(fault)
    said: dict[str, Any] = {"target": import_name(target), "on": on, "talk": import_name(options.get("talk"))}
    said["fault"] = chosen and [chosen.name, chosen.changed()]
    said["when"] = _write_when(when)
    said |= {name: _plain(value) for name, value in options.items() if name != "talk"}
    missing = sorted(name for name, value in said.items() if value is _MISSING)
    default = {name: parameter.default for name, parameter in inspect.signature(play).parameters.items()}
    kept = {
        name: value for name, value in said.items() if value is not _MISSING and value != default.get(name, _MISSING)
    }
    if missing:
        kept["missing"] = missing
    packer = zlib.compressobj(9, zdict=_COMMON)
    return _FORMAT + base64.urlsafe_b64encode(packer.compress(repr(kept).encode()) + packer.flush()).decode().rstrip(
        "="
    )


async def replay(token: str, **given: Any) -> Run:
    """Play an experiment again.

    Args:
        token: what a strip has printed for a moment; its handler is imported by its name.
        given: what to play in place of what the token says, or what it could not carry: options of ``labkit.play``,
            and ``target``, for a handler that has no name that can be imported.

    Returns:
        The run.

    Raises:
        BadValue: it is not a token, or not a whole one; or something is missing.
        LabError: as for ``labkit.play``.
    """
    said = _read(token)
    missing = [name for name in said.pop("missing", []) if name not in given]
    if missing:
        raise BadValue(
            f"the token does not carry {' and '.join(missing)}, which no other program can import;"
            f" give it: labkit.replay(token, {', '.join(f'{name}=…' for name in missing)})"
            + ("; or in a terminal: labkit replay TOKEN FILE:HANDLER" * (missing == ["target"]))
        )
    match said.get("fault"):
        case [str() as name, dict() as knobs]:
            said["fault"] = type(find_fault(name))(**knobs)
    match said.get("when"):
        case [int() as number]:
            said["when"] = Await(number)
        case ["frame", int() as number]:
            said["when"] = Frame(number)
    options = said | given
    if isinstance(talk := options.get("talk"), str):
        options["talk"] = load_name(talk, "talk")
    return await play(**options)


def _write_when(when: When) -> str | float | list[int | str]:
    match when:
        case Await(number):
            return [number]
        case Frame(number):
            return ["frame", number]
        case _:
            return when


def _read(token: object) -> dict[str, Any]:
    if not isinstance(token, str) or not token.strip().startswith(_FORMAT):
        raise BadValue(f"{token!r} is not a token of this labkit; a token begins with {_FORMAT}")
    text = token.strip().removeprefix(_FORMAT)
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj(zdict=_COMMON)
        said = ast.literal_eval((unpacker.decompress(packed, 1 << 20) + unpacker.flush()).decode())
        if unpacker.eof and isinstance(said, dict):
            return said
    except (binascii.Error, zlib.error, ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    raise BadValue(f"the token {token.strip()!r} is damaged; copy the whole of it")


class _Missing:
    """What a token cannot carry."""


_MISSING: Final = _Missing()


def import_name(thing: Any) -> Any:
    """Find the name by which another program can import a thing.

    Args:
        thing: a handler, an application, a talk; or its name; or None.

    Returns:
        The name, or None; or, where there is no name, what :func:`make_token` then notes as missing.
    """
    thing = getattr(thing, "named", thing)
    if thing is None or isinstance(thing, str | _Missing):
        return thing
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    found = sys.modules.get(module or "")
    if name is None:  # no function and no class: an application, which knows the module of its class alone
        found, name = _whose(thing)
    if found is None or name is None:
        return _MISSING
    inside: Any = found
    for part in name.split("."):
        inside = getattr(inside, part, None)
    if inside is not thing:
        return _MISSING  # it stands inside of another function, or something else has its name now
    if "." in found.__name__:
        return f"{found.__name__}:{name}"
    file = getattr(found, "__file__", None)
    if file is None:
        return _MISSING  # a notebook
    near = Path(file).resolve().is_relative_to(Path.cwd())
    return f"{Path(relpath(file)).as_posix() if near else file}:{name}"


def _whose(thing: Any) -> tuple[ModuleType | None, str | None]:
    """The module that has a thing as a global, and its name there. Who defines it is loaded before who imports it."""
    # The program itself stands first of all, and may have imported it.
    for module in sorted([*sys.modules.values()], key=lambda module: module is sys.modules["__main__"]):
        for name, value in [*getattr(module, "__dict__", {}).items()]:
            if value is thing:
                return module, name
    return None, None


def _plain(value: Any) -> Any:
    """A value that can be written as a literal."""
    if isinstance(value, Mapping):
        value = dict(value)
    try:
        return value if ast.literal_eval(repr(value)) == value else _MISSING
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _MISSING
