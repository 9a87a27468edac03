"""The memory maps and the epolls that a handler opens, and has to close."""

from __future__ import annotations

import functools
import mmap
import select
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Final

from labkit.introspection.origin import Origin
from labkit.remains.callbacks import forget_descriptor
from labkit.remains.opened import Opened, note
from labkit.remains.started import Started, starts_of
from labkit.support.calling import telling_of
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["watch_mapped"]

#: How many refer to an epoll that nobody else has: what remembers it, and what counts.
_ALONE: Final = 2


class Map(Opened):
    """A memory map. Python closes one that nobody has any more, and does not mind."""

    def __init__(self, here: Scope, line: str | None, thing: Any) -> None:
        super().__init__(here, "memory map", "memory map", line, thing)

    @property
    def title(self) -> str:
        """What it is. The file that it maps may be closed."""
        return self.what

    def _is_open(self, thing: Any) -> bool:
        return not thing.closed

    async def _close(self, thing: Any) -> None:
        thing.close()


class Epoll(Started):
    """An epoll. Nothing can refer to one weakly, so somebody has to look whether anybody else still has it.

    Args:
        here: the scope of the code that has opened it.
        line: the line of the user's code that has opened it, in words; None if that is not known.
        epoll: the epoll.
    """

    came = "opened"
    over = "has been closed"

    def __init__(self, here: Scope, line: str | None, epoll: Any) -> None:
        super().__init__(here, "epoll", "epoll", line)
        self._epoll = epoll
        _epolls.add(self)

    @property
    def title(self) -> str:
        """What it is."""
        return self.what

    @property
    def alive(self) -> bool:
        """Whether it is open, and is not kept for the next connection."""
        self.look()
        starts = starts_of(self.here.timeline)
        return super().alive and (starts is None or not starts.keeps(self._epoll))

    def look(self) -> None:
        """Look whether it is closed, or nobody else has it any more: Python would have closed it, and not mind."""
        if self._epoll is None or self._epoll.closed or sys.getrefcount(self._epoll) <= _ALONE:
            self.end()

    def end(self) -> None:
        """Note that it is closed."""
        super().end()
        self.release()

    def release(self) -> None:
        """Let it go."""
        self._epoll = None
        _epolls.discard(self)

    async def stop(self) -> None:
        """Close it."""
        if self._epoll is not None:
            forget_descriptor(self._epoll.fileno())
            self._epoll.close()


#: The epolls that may be open.
_epolls: Final[set[Epoll]] = set()


@contextmanager
def watch_mapped() -> Iterator[None]:
    """Remember the memory maps and epolls that handlers of an experiment open, while the block runs."""
    with ExitStack() as undo:
        undo.callback(replace(mmap, "mmap", functools.partial(telling_of, _note_map)))
        if hasattr(select, "epoll"):
            undo.callback(replace(select, "epoll", functools.partial(telling_of, _note_epoll)))
        yield


def _note_map(thing: Any, _: tuple[Any, ...], __: dict[str, Any], frame: FrameType) -> None:
    def make(here: Scope, origin: Origin) -> Started | None:
        return Map(here, origin.line, thing) if not origin.modules else None  # a library's own

    note(make, frame)


def _note_epoll(thing: Any, _: tuple[Any, ...], __: dict[str, Any], frame: FrameType) -> None:
    for each in tuple(_epolls):
        each.look()

    def make(here: Scope, origin: Origin) -> Started | None:
        return Epoll(here, origin.line, thing) if not origin.modules else None  # a library's own

    note(make, frame)
