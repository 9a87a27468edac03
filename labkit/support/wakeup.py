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


class _Alarm:
    """Wakes a loop at intervals, for as long as anybody needs it: a hundred experiments may share a loop.

    Args:
        loop: the loop.

    Attributes:
        users: how many need it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.users = 0
        self._loop = loop
        self._ring()

    def _ring(self) -> None:
        self._timer = self._loop.call_later(_INTERVAL, self._ring)

    def stop(self) -> None:
        """Wake it no more."""
        self._timer.cancel()


#: By loop.
_alarms: Final[dict[asyncio.AbstractEventLoop, _Alarm]] = {}


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
    if (alarm := _alarms.get(loop)) is None:
        alarm = _alarms[loop] = _Alarm(loop)
    alarm.users += 1
    try:
        yield
    finally:
        alarm.users -= 1
        if not alarm.users:
            del _alarms[loop]
            alarm.stop()
