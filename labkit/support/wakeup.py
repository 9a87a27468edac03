"""Wakes the event loop at intervals, so that an interrupt takes effect while nothing else happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from labkit.support.autojump import REAL, clock_of

__all__ = ["wakeups"]

#: Seconds between two wake-ups: an interrupt waits at most so long.
_INTERVAL: Final = 0.2


@contextmanager
def wakeups() -> Iterator[None]:
    """Wake the running loop at intervals, while the block runs.

    The Jupyter kernel turns an interrupt into a cancel: its signal handler calls ``loop.call_soon`` (ipykernel 7 with
    tornado 6: ``_cancel_on_sigint``, ``IOLoop.add_callback``). This call does not wake a loop that sleeps until its
    next event. Without wake-ups, a cell that waits for a silent peer could therefore not be interrupted.
    """
    loop = asyncio.get_running_loop()
    if clock_of(loop) is not REAL:  # it runs in a thread of the lab's, which gets no interrupts
        yield
        return
    handles: list[asyncio.TimerHandle] = []

    def wake() -> None:
        handles[:] = [loop.call_later(_INTERVAL, wake)]

    wake()
    try:
        yield
    finally:
        handles[0].cancel()
