"""The files that a handler opens, and has to close."""

from __future__ import annotations

import _io
import builtins
import contextlib
import functools
import io
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from labkit.introspection.origin import Origin
from labkit.remains.callbacks import forget_descriptor
from labkit.remains.descriptors import TEMPORARY, take_over
from labkit.remains.opened import Opened, is_handlers, note
from labkit.support.calling import telling_of
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["name_of_file", "watch_files"]

#: Modules that open a file for who calls them. One that opens it for itself, such as ``logging``, also closes it.
_OPEN_FILES: Final = frozenset(
    {
        "IPython.core.interactiveshell",
        "bz2",
        "codecs",
        "gzip",
        "io",
        "lzma",
        "os",
        "pathlib",
        "pathlib._local",
        "tempfile",
    }
)


#: The places behind that of `closefd` among the arguments of `open`, and of `io.FileIO`.
_CLOSEFD: Final = 7
_CLOSEFD_OF_RAW: Final = 3


class File(Opened):
    """A file."""

    def __init__(self, here: Scope, name: str, line: str | None, thing: Any) -> None:
        super().__init__(here, "file", name, line, thing)
        _files[thing] = self
        self._raw = _raw_of(thing)
        # A file that Python closes asks the file beneath it to warn. Such a one may have been opened by itself.
        raw = thing if isinstance(thing, io.FileIO) else self._raw
        if raw is not None:
            setattr(raw, "_dealloc_warn", self._warn)  # noqa: B010 - the type checker does not know it

    @property
    def title(self) -> str:
        """What it is, and its name, unless that is different each time."""
        return super().title if self.name else "temporary file"

    def _warn(self, source: Any) -> None:
        raw: Any = self._raw or self.thing
        self.lose()
        if raw is not None:
            type(raw)._dealloc_warn(raw, source)  # noqa: SLF001 - as Python calls it

    def _collected(self, _: object) -> None:
        # The garbage collector comes here first, and then has the file closed.
        if self._raw is not None and not self._raw.closed:
            self.lose()
        super()._collected(_)
        self._raw = None

    def _is_open(self, thing: Any) -> bool:
        return not thing.closed

    async def _close(self, thing: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # a file in memory has no descriptor
            forget_descriptor(thing.fileno())
        thing.close()


#: The files that are open, or were until now.
_files: Final[weakref.WeakKeyDictionary[Any, File]] = weakref.WeakKeyDictionary()


def _raw_of(file: Any) -> Any:
    raw = getattr(getattr(file, "buffer", file), "raw", None)
    return raw if isinstance(raw, io.FileIO) else None


@contextmanager
def watch_files() -> Iterator[None]:
    """Remember the files that handlers of an experiment open, while the block runs."""
    with ExitStack() as undo:
        for module in (builtins, io, _io):
            undo.callback(replace(module, "open", _Open))
        for module in (io, _io):
            undo.callback(replace(module, "FileIO", functools.partial(telling_of, _note_raw)))
        if (closer := getattr(tempfile, "_TemporaryFileCloser", None)) is not None and "__del__" in vars(closer):
            undo.callback(replace(closer, "__del__", _losing_temporary_files))
        if (shell := sys.modules.get("IPython.core.interactiveshell")) is not None and hasattr(shell, "io_open"):
            undo.callback(replace(shell, "io_open", _Open))  # what `open` calls in a notebook's cells
        yield


def _losing_temporary_files(delete: Callable[..., None]) -> Callable[..., None]:
    """What closes a ``NamedTemporaryFile`` that nobody has any more does so by hand, before Python would."""

    @functools.wraps(delete)
    def stand_in(self: Any, *args: Any) -> None:
        file = getattr(self, "file", None)
        if file is not None and not file.closed and (known := _files.get(file)) is not None:
            known.lose()
        delete(self, *args)

    return stand_in


class _Open:
    """A stand-in for ``open``. It is no function, since a class would take that for a method."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        file = self._function(*args, **kwargs)
        if is_handlers():
            _note(file, args, kwargs, sys._getframe(1), _CLOSEFD)  # noqa: SLF001 - who opens it
        return file


def _note_raw(thing: Any, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType) -> None:
    if is_handlers():
        _note(thing, args, kwargs, frame, _CLOSEFD_OF_RAW)


def _note(thing: Any, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType, closefd: int) -> None:
    name = args[0] if args else kwargs.get("file", "?")
    if isinstance(name, int) and all(args[closefd - 1 : closefd] or [kwargs.get("closefd", True)]):
        name = take_over(name)
    note(functools.partial(_make_file, thing, name), frame)


def _make_file(thing: Any, name: Any, here: Scope, origin: Origin) -> File | None:
    if not _OPEN_FILES.issuperset(origin.modules):
        return None
    name = "" if "tempfile" in origin.modules or name == TEMPORARY else name_of_file(name)
    return File(here, name, origin.line, thing)


def name_of_file(name: Any) -> str:
    """Name a file for a reader, by what it was opened with: without its folder, if that is known."""
    return Path(name).name if isinstance(name, str | Path) else repr(name)
