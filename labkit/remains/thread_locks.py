"""The locks of ``threading`` that a handler leaves held, where others look for them: the next one waits for ever.

Nobody can hear of a lock that Python has in C. So those that the handler's module keeps, or its closure, or an object
of theirs, are looked at when a handler has ended. One that nobody else has, nobody waits for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from labkit.introspection.origin import runs_users_code
from labkit.remains.started import Started, starts_of
from labkit.timeline import Scope, Timeline

__all__ = ["watch_thread_locks"]

_LOCK: Final = type(threading.Lock())
_RLOCK: Final = type(threading.RLock())


class LeftHeld(Started):
    """A lock that was free when the experiment began.

    Args:
        here: the scope of the experiment.
        name: the name under which it is kept.
        lock: the lock.
        free: how many may take it at once.
    """

    def __init__(self, here: Scope, name: str, lock: Any, free: int) -> None:
        super().__init__(here, "lock", name, None)
        self._lock = lock
        self._free = free

    @property
    def title(self) -> str:
        """What it is, and its name."""
        kind = "Lock" if isinstance(self._lock, _LOCK) else type(self._lock).__name__
        return f"{kind} {self.name!r} of threading"

    @property
    def text(self) -> str:
        """What it is, and its name."""
        return f"{self.title}, acquired and not released"

    @property
    def alive(self) -> bool:
        """Whether it is held, and by no thread that is at work and may release it yet."""
        return super().alive and _places(self._lock) < self._free and not _others_are_at_work()

    async def stop(self) -> None:
        """Release it, for the next experiment."""
        with contextlib.suppress(RuntimeError):  # another thread holds it, which is the only one that can
            for _ in range(self._free - _places(self._lock)):
                self._lock.release()


@contextmanager
def watch_thread_locks(timeline: Timeline) -> Iterator[None]:
    """Remember the locks that are free now, and that a handler can find, while the block runs.

    Args:
        timeline: the experiment's timeline, whose handler is known already.
    """
    if (starts := starts_of(timeline)) is not None:
        known: set[int] = set()
        for name, lock in _find(starts.named()):
            if id(lock) not in known and (free := _places(lock)):
                known.add(id(lock))
                starts.add(LeftHeld(Scope(timeline, "handler"), name, lock, free))
    yield


def _find(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for name, each in named:
        yield from _if_lock(name, each)
        if not isinstance(each, ModuleType | type):
            with contextlib.suppress(Exception):  # an object may make its attributes as it likes
                for inner, attribute in list(each.__dict__.items()):
                    yield from _if_lock(f"{name}.{inner}", attribute)


def _if_lock(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, _LOCK | _RLOCK | threading.Semaphore):
        yield name, thing


def _places(lock: Any) -> int:
    """How many could take it now. To try it would be to hold it, for a moment in which others may try."""
    if isinstance(lock, threading.Semaphore):
        return lock._value  # noqa: SLF001 - it has no public way to ask this
    if isinstance(lock, _LOCK):
        return int(not lock.locked())
    return int(repr(lock).startswith("<unlocked"))  # nothing else tells it before Python 3.14


def _others_are_at_work() -> bool:
    own = threading.get_ident()
    return any(runs_users_code(each.ident) for each in threading.enumerate() if each.ident not in {None, own})
