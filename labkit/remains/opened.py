"""What a handler opens, and has to close; each kind of it has a file of its own."""

from __future__ import annotations

import contextlib
import weakref
from abc import abstractmethod
from collections.abc import Callable
from types import FrameType
from typing import Any

from labkit.introspection.origin import Origin, find_origin
from labkit.remains.started import Started, starts_here, starts_of
from labkit.timeline import Scope, scope

__all__ = ["Opened", "is_handlers", "note"]


class Opened(Started):
    """Something that stays open until it is closed, or until nobody refers to it any more.

    Args:
        here: the scope of the code that has opened it.
        what: what it is, in one word.
        name: its name.
        line: the line of the user's code that has opened it, in words; None if that is not known.
        thing: the object; it is not kept alive.
    """

    came = "opened"
    over = "has been closed"

    def __init__(self, here: Scope, what: str, name: str, line: str | None, thing: Any) -> None:
        super().__init__(here, what, name, line)
        self._thing: Callable[[], Any] = weakref.ref(thing, self._collected)

    @property
    def alive(self) -> bool:
        """Whether it is open, and is not kept for the next connection."""
        if (thing := self._thing()) is None or not super().alive or not self._is_open(thing):
            return False
        starts = starts_of(self.here.timeline)
        return starts is None or not starts.keeps(thing)

    @property
    def thing(self) -> Any:
        """The object; None if it is gone."""
        return self._thing()

    def look(self) -> None:
        """Look whether it is closed."""
        if (thing := self._thing()) is not None and not self._is_open(thing):
            self.end()

    def lose(self) -> None:
        """Note that Python closes it, since nobody refers to it any more."""
        if super().alive and (starts := starts_of(self.here.timeline)) is not None:
            starts.lose(self)
        self.waited_for = False
        self.end()

    def end(self) -> None:
        """Note that it is closed."""
        super().end()
        self.release()

    def release(self) -> None:
        """Hear no more of the object, which may live until Python itself ends."""
        self._thing = _nothing

    async def stop(self) -> None:
        """Close it."""
        if (thing := self._thing()) is not None:
            with contextlib.suppress(Exception):  # it is the user's object, and may be in any state
                await self._close(thing)

    @abstractmethod
    def _is_open(self, thing: Any) -> bool: ...

    @abstractmethod
    async def _close(self, thing: Any) -> None: ...

    def _collected(self, _: object) -> None:
        """Forget what is gone; if it was open, Python says so before that, or after it."""
        if (starts := starts_of(self.here.timeline)) is not None:
            starts.forget(self)


def _nothing() -> None:
    return None


def is_handlers() -> bool:
    """Whether the code that runs belongs to a handler."""
    return (here := scope.get()) is not None and here.lane == "handler" and here.number is not None


def note(make: Callable[[Scope, Origin], Started | None], frame: FrameType) -> None:
    """Remember what is being opened, for the handler whose code runs.

    Args:
        make: makes what remembers it, from the scope and the origin; or returns None where somebody else closes it.
        frame: the frame that opens it.
    """
    if (found := starts_here()) is None:
        return
    here, starts = found
    origin = find_origin(frame, starts.file)
    # A pool of connections that the module keeps opens them when they are first needed.
    if not any(map(starts.keeps, origin.objects)) and (opened := make(here, origin)) is not None:
        starts.add(opened)
