"""File descriptors that a handler opens by hand, and has to close, such as those of ``os.pipe`` and ``os.open``."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from labkit.introspection.origin import find_line, find_origin
from labkit.remains.callbacks import forget_descriptor
from labkit.remains.started import Numbered, starts_here, starts_of
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["TEMPORARY", "take_over", "watch_descriptors"]

#: The name of a file whose own is another one each time.
TEMPORARY: Final = "a temporary file"

#: How the name of a listing begins.
_LISTING: Final = "a listing of "


#: Those that are open, by their numbers.
_known: Final[dict[int, Descriptor]] = {}


class Descriptor(Numbered):
    """A descriptor. Whoever takes it over may close it in his own way, so somebody has to look what is behind it.

    Args:
        here: the scope of the code that has opened it.
        name: the name of the file; or which end of a pipe it is.
        line: the line of the user's code that has opened it, in words; None if that is not known.
        number: the descriptor.
        given: what the function has given.
    """

    known = _known
    came = "opened"
    over = "has been closed"

    def __init__(self, here: Scope, name: str, line: str | None, number: int, given: object) -> None:
        super().__init__(here, "descriptor", name, line, number)
        self._given = given
        self._file = _file_of(number)

    @property
    def title(self) -> str:
        """What it is."""
        return f"descriptor of {self.name}"

    @property
    def alive(self) -> bool:
        """Whether it is open, and is not kept for the next connection."""
        if not super().alive or not self._is_open:
            return False
        starts = starts_of(self.here.timeline)
        return starts is None or not (starts.keeps(self._given) or starts.keeps(self._number))

    @property
    def _is_open(self) -> bool:
        return self._file is not None and _file_of(self._number) == self._file

    def look(self) -> None:
        """Look whether it is closed."""
        if not self._is_open:
            self.end()

    async def stop(self) -> None:
        """Close it, unless an iterator has it, which would close the number again when somebody else has that."""
        if self._is_open and not self.name.startswith(_LISTING):
            forget_descriptor(self._number)
            with contextlib.suppress(OSError):
                os.close(self._number)


def take_over(number: int) -> int | str:
    """Note that a file has taken over a descriptor, and closes it from now on.

    Args:
        number: the descriptor.

    Returns:
        Its name; or the number, if no handler has opened it.
    """
    if (known := _known.get(number)) is None:
        return number
    known.end()
    return known.name


def _file_of(number: int) -> tuple[int, int, str] | None:
    """Tell apart what may be behind a number at different times."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    link = ""
    with contextlib.suppress(OSError):  # Linux alone has it, and tells by it what kind of a nameless file it is
        link = str(Path(f"/proc/self/fd/{number}").readlink())
    return status.st_dev, status.st_ino, link.removesuffix(" (deleted)")


#: Tells of what a function has given, and of its arguments, which numbers are new, and what they are.
Describe = Callable[[Any, tuple[Any, ...]], dict[int, str]]


@contextmanager
def watch_descriptors() -> Iterator[None]:
    """Remember the descriptors that lines of handlers open, while the block runs."""
    with ExitStack() as undo:
        for name, describe in _OPENING.items():
            if hasattr(os, name):
                undo.callback(replace(os, name, functools.partial(_Opening, describe)))
        undo.callback(replace(os, "dup2", _Duplicating))
        undo.callback(replace(os, "scandir", _Listing))
        undo.callback(replace(os, "close", _Closing))
        yield


def _ends_of_pipe(given: tuple[int, int], _: tuple[Any, ...]) -> dict[int, str]:
    read, write = given
    return {read: "a pipe's end to read", write: "a pipe's end to write"}


def _ends_of_terminal(given: tuple[int, int], _: tuple[Any, ...]) -> dict[int, str]:
    controls, other = given
    return {controls: "a terminal's controlling end", other: "a terminal's other end"}


def _file(given: int, args: tuple[Any, ...]) -> dict[int, str]:
    path = args[0] if args else "?"
    return {given: _name(path)}


def _name(path: Any) -> str:
    return Path(os.fsdecode(path)).name if isinstance(path, str | bytes | os.PathLike) else repr(path)


def _of(what: str) -> Describe:
    return lambda given, _: {given: what}


#: Functions of ``os`` that open descriptors.
_OPENING: Final[dict[str, Describe]] = {
    "pipe": _ends_of_pipe,
    "pipe2": _ends_of_pipe,
    "openpty": _ends_of_terminal,
    "open": _file,
    "dup": _of("a copy of another descriptor"),
    "eventfd": _of("an eventfd"),
    "memfd_create": _of("a file in memory"),
    "pidfd_open": _of("a process"),
    "timerfd_create": _of("a timer"),
}


class _StandIn:
    """A stand-in for a function. It is no function, since a class would take that for a method."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


class _Opening(_StandIn):
    def __init__(self, describe: Describe, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._describe = describe

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self._function(*args, **kwargs)
        _note(sys._getframe(1), given, lambda: self._describe(given, args))  # noqa: SLF001 - who calls it
        return given


class _Duplicating(_StandIn):
    """For ``os.dup2``, which puts a copy in the place of what may have been open before: then it is no new one."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        number = args[1] if len(args) > 1 else kwargs.get("fd2")
        new = isinstance(number, int) and _file_of(number) is None
        given = self._function(*args, **kwargs)
        if new:
            _note(sys._getframe(1), given, lambda: {given: "a copy of another descriptor"})  # noqa: SLF001 - who calls it
        return given


class _Listing(_StandIn):
    """For ``os.scandir``, whose iterator tells nobody its number, and closes it when it has come to its end."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _is_by_hand(frame := sys._getframe(1)):  # noqa: SLF001 - who calls it
            return self._function(*args, **kwargs)
        before = _numbers()
        given = self._function(*args, **kwargs)
        path = args[0] if args else kwargs.get("path", ".")
        with contextlib.suppress(OSError):
            listed = os.stat(path if path is not None else ".")  # noqa: PTH116 - it may be a descriptor
            new = [each for each in sorted(_numbers() - before) if _is_file(each, listed)]
            # Not the iterator: Python closes that when nobody has it any more.
            _note(frame, new, lambda: {each: f"{_LISTING}{_name(path or '.')}" for each in new[:1]})
        return given


class _Closing(_StandIn):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        number = args[0] if args else kwargs.get("fd")
        if (known := _known.get(number)) is not None:  # type: ignore[arg-type] # whatever it was given
            known.end()
        return super().__call__(*args, **kwargs)


def _numbers() -> set[int]:
    """All that are open."""
    # The listing has one of its own, which is closed by now.
    return {number for number in map(int, os.listdir("/dev/fd")) if _file_of(number) is not None}  # noqa: PTH208


def _is_file(number: int, status: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(number), status)
    return False


def _is_by_hand(frame: FrameType) -> bool:
    """Whether a line of the handler's own code asks for a descriptor, or has ``tempfile.mkstemp`` ask."""
    if (found := starts_here()) is None or found[0].number is None:
        return False
    origin = find_origin(frame, found[1].file)
    return origin.by_users and (not origin.modules or _is_mkstemp(frame))


def _is_mkstemp(frame: FrameType | None) -> bool:
    """Whether ``tempfile.mkstemp`` opens a file, for who calls it."""
    while frame is not None and frame.f_globals.get("__name__") == "tempfile":
        if frame.f_code.co_name == "mkstemp":
            return True
        frame = frame.f_back
    return False


def _note(frame: FrameType, given: object, describe: Callable[[], dict[int, str]]) -> None:
    """Remember what has been opened, if it is the handler's to close."""
    if not _is_by_hand(frame) or (found := starts_here()) is None:
        return
    here, starts = found
    opened: dict[Any, str] = {given: TEMPORARY} if _is_mkstemp(frame) else describe()
    for number, name in opened.items():
        if (before := _known.get(number)) is not None:
            before.end()  # its number is given again
        _known[number] = each = Descriptor(here, name, find_line(frame, starts.file), number, given)
        starts.add(each)
