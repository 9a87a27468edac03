"""A loop whose time passes only as it works, and jumps to the next timer when nothing else can happen.

So what a busy machine makes of a limit changes nothing: all sockets are this loop's own, and all on loopback.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Any

__all__ = ["Loop"]

#: Two looks of so many seconds show that nothing is on its way, since the system delivers on loopback at once.
_LOOK = 0.002


class Loop(asyncio.SelectorEventLoop):
    """The loop; it belongs to the thread that makes it."""

    def __init__(self) -> None:
        self.skipped = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """The time for which this thread has worked, and what it has skipped; both in seconds."""
        return time.thread_time() + self.skipped


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[Any] = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            return super().select(None)
        for _ in range(2):
            if ready := super().select(_LOOK):
                return ready
        self._loop.skipped += timeout
        return ready
