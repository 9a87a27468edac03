"""File descriptors that a handler opens by hand, and has to close: those of ``os.pipe`` and ``os.open``."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from labkit.support.replacing import replace
from labkit.timeline import Scope
from labkit.watch.origin import find_origin
from labkit.watch.started import Started, starts_here, starts_of

__all__ = ["watch_descriptors"]


class Descriptor(Started):
    """A descriptor. Whoever takes it over may close it in his own way, so somebody has to look what is behind it.

    Args:
        here: the scope of the code that has opened it.
        name: the name of the file; or which end of a pipe it is.
        line: the line of the user's code that has opened it, in words; None if that is not known.
        number: the descriptor.
        given: what the function has given.
    """

    came = "opened"
    over = "has been closed"

    def __init__(self, here: Scope, name: str, line: str | None, number: int, given: object) -> None:
        super().__init__(here, "descriptor", name, line)
        self._number = number
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

    def end(self) -> None:
        """Note that it is closed."""
        super().end()
        self.release()

    def release(self) -> None:
        """Let go of it."""
        if _known.get(self._number) is self:
            del _known[self._number]

    async def stop(self) -> None:
        """Close it."""
        if self._is_open:
            with contextlib.suppress(OSError):
                os.close(self._number)


#: Those that are open, by their numbers.
_known: Final[dict[int, Descriptor]] = {}


def _file_of(number: int) -> tuple[int, int] | None:
    """Tell apart what may be behind a number at different times."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def watch_descriptors() -> Iterator[None]:
    """Remember the descriptors that lines of handlers open, while the block runs."""
    with ExitStack() as undo:
        for name, describe in (("pipe", _ends_of_pipe), ("pipe2", _ends_of_pipe), ("open", _file)):
            if hasattr(os, name):
                undo.callback(replace(os, name, functools.partial(_Opening, describe)))
        yield


def _ends_of_pipe(given: tuple[int, int], _: tuple[Any, ...]) -> dict[int, str]:
    read, write = given
    return {read: "a pipe's end to read", write: "a pipe's end to write"}


def _file(given: int, args: tuple[Any, ...]) -> dict[int, str]:
    path = args[0] if args else "?"
    return {given: Path(os.fsdecode(path)).name if isinstance(path, str | bytes | os.PathLike) else repr(path)}


class _Opening:
    """A stand-in for a function. It is no function, since a class would take that for a method."""

    def __init__(
        self, describe: Callable[[Any, tuple[Any, ...]], dict[int, str]], function: Callable[..., Any]
    ) -> None:
        functools.update_wrapper(self, function)
        self._describe = describe
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self._function(*args, **kwargs)
        if (found := starts_here()) is not None and found[0].number is not None:
            here, starts = found
            origin = find_origin(sys._getframe(1), starts.file)  # noqa: SLF001 - who calls it
            if origin.by_users and not origin.modules:
                for number, name in self._describe(given, args).items():
                    if (before := _known.get(number)) is not None:
                        before.end()  # its number is given again
                    _known[number] = opened = Descriptor(here, name, origin.line, number, given)
                    starts.add(opened)
        return given
