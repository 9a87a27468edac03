"""Remembers what code of an experiment has started or opened, until it is over."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, ClassVar, Final, NamedTuple

from labkit.events import LoopEnded
from labkit.introspection.origin import find_line
from labkit.timeline import Scope, Timeline, scope

__all__ = ["Key", "Numbered", "Started", "Starts", "remember", "starts_here", "starts_of", "watch_starts"]


class Key(NamedTuple):
    """What a reader can tell apart: whose something is, what it is, its name, and all of it in words."""

    here: Scope
    what: str
    name: str
    text: str


class Started:
    """Something that code of an experiment has started, and that goes on by itself, such as a thread.

    Args:
        here: the scope of the code that has started it.
        what: what it is, in one word.
        name: its name.
        line: the line of the user's code that has started it, in words; None if that is not known.

    Attributes:
        came: how it came to be, in one word.
        over: how it ends, in words.
    """

    came = "started"
    over = "has ended"

    def __init__(self, here: Scope, what: str, name: str, line: str | None) -> None:
        self.here: Final = here
        self.what: Final = what
        self.name: Final = name
        self.line: Final = line
        self.waited_for = False
        self._ended = False

    @property
    def title(self) -> str:
        """What it is, and its name."""
        return f"{self.what} {self.name!r}"

    @property
    def text(self) -> str:
        """What it is, its name, and the line that has started it."""
        return self.title + ("" if self.line is None else f", {self.came} in {self.line}")

    @property
    def key(self) -> Key:
        """What a reader is told of it."""
        return Key(self.here, self.what, self.name, self.text)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self._ended

    @property
    def thing(self) -> Any:
        """The object that it is, if there is one; as long as somebody has it, Python does not close it."""
        return None

    def look(self) -> None:
        """Look whether it is over, if it does not tell its end."""

    def wait(self) -> None:
        """Have its end recorded from now on."""
        self.waited_for = True

    def end(self) -> None:
        """Note that it has ended, by itself; may be called in any thread."""
        if self._ended:
            return
        self._ended = True
        if self.waited_for:
            self.here.record(LoopEnded(self.what, self.name, text=f"{self.title} {self.over}, after its handler"))
        if (starts := starts_of(self.here.timeline)) is not None:
            starts.forget(self)

    def release(self) -> None:
        """Let go of what it is, since nobody asks for it any more."""

    async def stop(self) -> None:
        """End it, where that is possible."""


class Numbered(Started):
    """Something that the system knows by a number, which is given again when it is over.

    Args:
        here: the scope of the code that has started it.
        what: what it is, in one word.
        name: its name.
        line: the line of the user's code that has started it, in words; None if that is not known.
        number: the number.

    Attributes:
        known: those of its kind that are not over, by their numbers.
    """

    known: ClassVar[dict[int, Any]]

    def __init__(self, here: Scope, what: str, name: str, line: str | None, number: int) -> None:
        super().__init__(here, what, name, line)
        self._number = number

    def end(self) -> None:
        """Note that it is over."""
        super().end()
        self.release()

    def release(self) -> None:
        """Let go of it."""
        if self.known.get(self._number) is self:
            del self.known[self._number]


class Starts:
    """All that an experiment has started, and that is not over.

    Args:
        handler: the handler.
        function: the function that its author wrote.

    Attributes:
        file: the handler's file.
        on_task: told of each task of a connection that starts, by its number, once a handler has ended.
    """

    def __init__(self, handler: Callable[..., Any], function: Callable[..., Any]) -> None:
        self.file: Final[str] = getattr(getattr(function, "__code__", None), "co_filename", "")
        self.on_task: Callable[[int, asyncio.Task[Any]], None] | None = None
        self._owner = getattr(handler, "__self__", handler)
        self._function = function
        # By the number of the connection. Threads and the garbage collector come here in the middle of anything, so
        # each change is one step of the interpreter's.
        self._all: dict[int | None, dict[Started, None]] = {}  # in the order of their starts
        self._lost: dict[int | None, deque[Key]] = {}
        self._keys: dict[Key, Key] = {}  # so that what is lost a million times is kept once

    def add(self, started: Started) -> None:
        """Remember something."""
        self._all.setdefault(started.here.number, {})[started] = None

    def forget(self, started: Started) -> None:
        """Forget something that is over."""
        self._all.get(started.here.number, {}).pop(started, None)

    def lose(self, started: Started) -> None:
        """Note what Python has closed, since nobody did before it was gone."""
        key = started.key
        self._lost.setdefault(key.here.number, deque()).append(self._keys.setdefault(key, key))

    def all(self) -> list[Started]:
        """List all of it."""
        return [each for number in list(self._all) for each in self.of(number)]

    def of(self, number: int | None) -> list[Started]:
        """List what one handler has started.

        Args:
            number: the number of its connection on the server's side; None for what no handler has started.
        """
        return list(self._all.get(number, ()))

    @property
    def numbers(self) -> set[int | None]:
        """The numbers of the connections whose handlers have started something that is not over, or was lost."""
        return {number for found in (self._all, self._lost) for number, each in list(found.items()) if each}

    def take_lost(self, number: int | None) -> Counter[Key]:
        """Count what Python has closed for one handler; then forget that."""
        found, lost = Counter[Key](), self._lost.get(number)
        while lost:
            found[lost.popleft()] += 1
        return found

    def keeps(self, thing: object) -> bool:
        """Tell whether the handler's module has a name for something, or the handler's closure, or an object of theirs.

        That is not for one connection to close: the next one finds it there.
        """
        for _, each in self.named():
            attributes: Any = ()
            if not isinstance(each, ModuleType):
                with contextlib.suppress(Exception):  # an object may make its attributes as it likes
                    attributes = list(each.__dict__.values())
            if each is thing or any(attribute is thing for attribute in attributes):
                return True
        return False

    def named(self) -> Iterator[tuple[str, Any]]:
        """List what the handler can find whenever it is called: by its module, by its closure, and its own object."""
        yield getattr(self._owner, "__name__", type(self._owner).__name__), self._owner
        yield from list(getattr(self._function, "__globals__", {}).items())
        names = getattr(getattr(self._function, "__code__", None), "co_freevars", ())
        for name, cell in zip(names, getattr(self._function, "__closure__", None) or (), strict=False):
            with contextlib.suppress(ValueError):  # it is empty
                yield name, cell.cell_contents


#: What each running experiment has started, by the id of its timeline.
_running: Final[dict[int, Starts]] = {}


@contextmanager
def watch_starts(timeline: Timeline, handler: Callable[..., Any], function: Callable[..., Any]) -> Iterator[None]:
    """Remember what code of an experiment starts, while the block runs.

    Args:
        timeline: the experiment's timeline.
        handler: the handler.
        function: the function that its author wrote.
    """
    starts = _running.setdefault(id(timeline), Starts(handler, function))
    try:
        yield
    finally:
        if _running.get(id(timeline)) is starts:
            del _running[id(timeline)]
            for each in starts.all():
                each.release()


def starts_of(timeline: Timeline) -> Starts | None:
    """Find what an experiment has started; None if it does not run."""
    return _running.get(id(timeline))


def starts_here() -> tuple[Scope, Starts] | None:
    """Find the scope of the code that runs, and what its experiment has started; None for code of no experiment."""
    here = scope.get()
    if here is None or here.lane != "handler" or (starts := starts_of(here.timeline)) is None:
        return None
    return here, starts


def remember(make: Callable[[Scope, str | None], Started], frame: FrameType | None = None) -> Started | None:
    """Remember something that is being started, if the code that does it belongs to an experiment.

    Args:
        make: makes what is remembered, of the scope and the line.
        frame: the frame of the code that starts it; that of who calls this function's caller, if None.

    Returns:
        What is remembered.
    """
    if (found := starts_here()) is None:
        return None
    here, starts = found
    started = make(here, find_line(frame or sys._getframe(2), starts.file))  # noqa: SLF001 - who starts it
    starts.add(started)
    return started
