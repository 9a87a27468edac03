"""The locks and semaphores of asyncio that a handler acquires, and has to release: the next one waits for them."""

from __future__ import annotations

import asyncio
import functools
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from labkit.introspection.origin import find_origin
from labkit.remains.started import Started, starts_here
from labkit.remains.tasks import tasks_of
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["watch_locks"]

#: Modules that acquire a lock for who calls them. A library has locks of its own.
_FOR_OTHERS: Final = frozenset({"asyncio.locks", "contextlib", __name__})


class Held(Started):
    """A lock that is held, or one place of a semaphore.

    Args:
        here: the scope of the code that has acquired it.
        line: the line of the user's code that has acquired it, in words; None if that is not known.
        lock: the lock; it is not kept alive.
        task: the task that has acquired it.
    """

    came = "acquired"
    over = "has been released"

    def __init__(self, here: Scope, line: str | None, lock: Any, task: asyncio.Task[Any] | None) -> None:
        super().__init__(here, "lock", type(lock).__name__, line)
        self._lock: Callable[[], Any] = weakref.ref(lock, lambda _: self.end())
        self._task = task

    @property
    def title(self) -> str:
        """What it is."""
        return f"{self.name} of asyncio"

    @property
    def text(self) -> str:
        """What it is, and the line that has acquired it."""
        return f"{super().text} and not released"

    @property
    def alive(self) -> bool:
        """Whether it is held, and not by a task that goes on: that is what is left, and may release it yet."""
        if not super().alive or self._lock() is None:
            return False
        return self._task is None or self._task not in tasks_of(self.here.timeline, self.here.number)

    async def stop(self) -> None:
        """Release it, for the next experiment."""
        if (lock := self._lock()) is not None:
            lock.release()


#: Who holds each lock, in order; and how many places of a semaphore have been given back before they were taken.
_held: Final[weakref.WeakKeyDictionary[Any, deque[Held]]] = weakref.WeakKeyDictionary()
_given: Final[weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()


@contextmanager
def watch_locks() -> Iterator[None]:
    """Remember what handlers of an experiment acquire, while the block runs."""
    with ExitStack() as undo:
        for kind in (asyncio.Lock, asyncio.Semaphore):
            undo.callback(replace(kind, "acquire", _acquiring))
            undo.callback(replace(kind, "release", _releasing))
        yield


def _acquiring(acquire: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(acquire)
    async def stand_in(self: Any) -> Any:
        acquired = await acquire(self)
        if credit := _given.get(self, 0):  # somebody else gives places, as a producer does that counts what there is
            _given[self] = credit - 1
        elif (found := starts_here()) is not None and found[0].number is not None:
            here, starts = found
            origin = find_origin(sys._getframe(0), starts.file)  # noqa: SLF001 - who acquires it
            if origin.by_users and _FOR_OTHERS.issuperset(origin.modules):
                held = Held(here, origin.line, self, asyncio.current_task())
                _held.setdefault(self, deque()).append(held)
                starts.add(held)
        return acquired

    return stand_in


def _releasing(release: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(release)
    def stand_in(self: Any) -> None:
        release(self)
        _released(self)

    return stand_in


def _released(lock: Any) -> None:
    holders = _held.get(lock)
    if not holders:
        if not isinstance(lock, asyncio.Lock):
            _given[lock] = _given.get(lock, 0) + 1
        return
    found = starts_here()
    # Each gives back its own, as far as that can be told; another may do it in its place.
    own = next((each for each in holders if found is not None and each.here == found[0]), holders[0])
    holders.remove(own)
    own.end()
