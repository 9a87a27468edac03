"""Finds what a name such as ``"package.module:attr"`` or ``"file.py:attr"`` leads to."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from labkit.errors import BadValue, LabError, UnknownName
from labkit.support.replacing import replace

__all__ = ["load_name"]


#: The modules of files, by the file as it was read: a handler, a talk and an invariant of one share what it keeps.
_modules: Final[dict[tuple[Path, int, int], ModuleType]] = {}


def load_name(target: str, what: str = "handler", *, anew: bool = False) -> Any:
    """Import the handler that ``FILE_OR_MODULE:NAME`` names, or something else.

    Args:
        target: the name, such as ``"server.py:echo"`` or ``"package.module:echo"``.
        what: what the message of an error calls it.
        anew: whether to run a file again that has been imported.

    Returns:
        What stands there.

    Raises:
        BadValue: the file or the module cannot be imported, or it does not define this name.
    """
    where, _, name = target.rpartition(":")
    if not where or not all(map(str.isidentifier, name.split("."))):
        else_ = "; a server that listens has a URL, such as ws://127.0.0.1:8000/" if where and name else ""
        raise BadValue(f"{target!r} does not name a {what}: write server.py:echo, or package.module:echo{else_}")
    is_file = where.endswith(".py") or os.sep in where or Path(where).is_file()
    module = _import_file(Path(where), anew) if is_file else _import_module(where)
    try:
        return attrgetter(name)(module)
    except AttributeError:
        own = vars(module).items()
        functions = (key for key, value in own if callable(value) and value.__module__ == module.__name__)
        raise BadValue(f"in {where} {UnknownName(what, name, functions)}") from None


def _import_file(path: Path, anew: bool) -> ModuleType:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.py")], n=1)
        raise BadValue(f"there is no file {path}" + "".join(f". Did you mean {path.with_name(name)}?" for name in near))
    file, stat = path.resolve(), path.stat()
    key = file, stat.st_mtime_ns, stat.st_size
    if not anew and (known := _modules.get(key)) is not None and sys.modules.get(path.stem) is known:
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise BadValue(f"{path} is not a Python file, whose name ends with .py")
    module = importlib.util.module_from_spec(spec)
    # As when Python runs a file: the file can import its neighbours, and the module is in sys.modules.
    if sys.path[:1] != [str(file.parent)]:
        sys.path.insert(0, str(file.parent))
    sys.modules[path.stem] = module
    try:
        with _no_server(str(path), path):
            spec.loader.exec_module(module)
    except LabError:
        raise
    except (Exception, SystemExit) as error:
        raise _cannot_import(str(path), error) from error
    if not anew:
        _modules[key] = module
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        with _no_server(name, _file_of(name)):
            return importlib.import_module(name)
    except LabError:
        raise
    except (Exception, SystemExit) as error:
        raise _cannot_import(name, error) from error


class _Serves(BaseException):
    """Raised where a module begins to listen; no `except Exception` of its own keeps it.

    From then on nothing is logged until the module is given up: uvicorn would write a traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        logging.disable()


@contextmanager
def _no_server(what: str, file: Path | None) -> Iterator[None]:
    """Refuse a module that serves while it is imported: it would not come to its end.

    Args:
        what: the file or the module.
        file: the file, where it is known.

    Raises:
        BadValue: it began to listen.
    """
    thread = threading.get_ident()

    def listen(self: socket.socket, *backlog: int) -> None:
        if threading.get_ident() == thread:
            self.close()
            raise _Serves
        super(socket.socket, self).listen(*backlog)

    async def create_server(*_: object, **__: object) -> None:
        raise _Serves

    undo = ExitStack()
    undo.callback(logging.disable, logging.root.manager.disable)
    undo.callback(replace(socket.socket, "listen", lambda _: listen))
    if file is not None and file.is_file() and _names_uvloop(file.read_bytes()):
        # Its sockets are not Python's.
        undo.callback(replace(importlib.import_module("uvloop").Loop, "create_server", lambda _: create_server))
    try:
        yield
    except _Serves as serves:
        frames = [frame for frame in traceback.extract_tb(serves.__traceback__) if frame.name == "<module>"]
        at = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        raise BadValue(
            f"{what} starts a server when it is imported{at}: put that below `if __name__ == '__main__':`,"
            " or play it as a program of its own, with `labkit probe URL --command 'python ...'`"
        ) from None
    finally:
        undo.close()


def _names_uvloop(source: bytes) -> bool:
    """Whether a program may run on uvloop: uvicorn takes it where it is installed."""
    named = any(name in source for name in (b"uvloop", b"uvicorn"))
    return named and importlib.util.find_spec("uvloop") is not None


def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _cannot_import(what: str, error: BaseException) -> BadValue:
    if isinstance(error, SyntaxError):
        return BadValue(f"cannot import {what}: {type(error).__name__}: {error}")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    ours = Path(__file__).parents[1]
    last = next((frame for frame in reversed(frames) if ours not in Path(frame.filename).parents), None)
    at = f" ({Path(last.filename).name}, line {last.lineno})" if last else ""
    return BadValue(f"cannot import {what}: {type(error).__name__}: {error}{at}")
