"""Asynchronous generators that a handler leaves half-way: what they have to clean up waits for who closes them."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from labkit.introspection.origin import find_origin, is_users
from labkit.introspection.suspended import parts
from labkit.remains.opened import Opened
from labkit.remains.started import starts_here
from labkit.remains.tasks import tasks_of
from labkit.support.clock import timeout
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["watch_generators", "watch_generators_here"]

#: Seconds that the closing of one may take.
_CLOSING: Final = 1.0


class Generator(Opened):
    """A generator that has begun, and has not come to its end."""

    came = "begun"
    over = "has come to its end"

    def __init__(self, here: Scope, line: str | None, thing: AsyncGenerator[Any, Any]) -> None:
        name: str = getattr(thing, "__qualname__", type(thing).__name__)
        super().__init__(here, "generator", name.replace(".<locals>", ""), line, thing)

    @property
    def title(self) -> str:
        """What it is, and its name."""
        return f"asynchronous generator {self.name}"

    @property
    def text(self) -> str:
        """What it is, its name, where it stands, and the line that has begun it."""
        frame = getattr(self.thing, "ag_frame", None)
        stands = "" if frame is None else f", which waits at line {frame.f_lineno} to be closed"
        return super().text + stands

    def _is_open(self, thing: Any) -> bool:
        # One that a task goes through goes on with it, and is not what is left.
        waits = thing.ag_frame is not None and not thing.ag_running and not self._is_in_use(thing)
        return waits and not _is_kept_by_a_traceback(thing)

    def look(self) -> None:
        """Look whether it has come to its end."""
        if (thing := self.thing) is not None and thing.ag_frame is None:
            self.end()

    def _is_in_use(self, thing: Any) -> bool:
        tasks = tasks_of(self.here.timeline, self.here.number)
        return any(thing in gc.get_referents(part) for task in tasks for part in parts(task.get_coro()))

    async def _close(self, thing: Any) -> None:
        async with timeout(_CLOSING):
            await thing.aclose()


def _is_kept_by_a_traceback(thing: Any) -> bool:
    """Whether a call that is over has it: a log that keeps an exception keeps its frame, which no code goes on with."""
    return any(isinstance(each, FrameType) for each in gc.get_referrers(thing))


@contextmanager
def watch_generators() -> Iterator[None]:
    """Remember the generators that handlers of an experiment begin, in loops that begin to run while the block runs.

    A loop is told of each by a hook of its thread; :func:`watch_generators_here` has that of a loop that runs already.
    """
    undo = replace(asyncio.BaseEventLoop, "_asyncgen_firstiter_hook", _beginning)
    try:
        yield
    finally:
        undo()


def _beginning(begin: Callable[..., None]) -> Callable[..., None]:
    def stand_in(self: asyncio.BaseEventLoop, generator: AsyncGenerator[Any, Any]) -> None:
        begin(self, generator)
        _note(generator)

    return stand_in


class _Hook:
    """The hook of one thread, for as long as anybody needs it."""

    def __init__(self, before: Callable[[AsyncGenerator[Any, Any]], None] | None) -> None:
        self.before = before
        self.users = 0

    def __call__(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self.before is not None:
            self.before(generator)
        _note(generator)


@contextmanager
def watch_generators_here() -> Iterator[None]:
    """Remember the generators that handlers of an experiment begin in this thread, while the block runs."""
    now: Any = sys.get_asyncgen_hooks().firstiter
    hook = now if isinstance(now, _Hook) else _Hook(now)
    if hook is not now:
        sys.set_asyncgen_hooks(firstiter=hook)
    hook.users += 1
    try:
        yield
    finally:
        hook.users -= 1
        # If other code has put its own in front, leave ours in place: it does no harm.
        if not hook.users and sys.get_asyncgen_hooks().firstiter is hook:
            sys.set_asyncgen_hooks(firstiter=hook.before)


def _note(generator: AsyncGenerator[Any, Any]) -> None:
    code = getattr(generator, "ag_code", None)
    if code is None or not is_users(code.co_filename):
        return
    if (found := starts_here()) is None or found[0].number is None:
        return
    here, starts = found
    origin = find_origin(sys._getframe(2), starts.file)  # noqa: SLF001 - who begins it
    starts.add(Generator(here, origin.line, generator))
