"""The lab's clock, and the scale of its waits."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from labkit.errors import BadValue
from labkit.support.autojump import REAL, clock_of

__all__ = ["now", "scaled", "timeout"]

#: Seconds on a monotonic clock; ``perf_counter`` has the finest grain on every platform.
now: Final = time.perf_counter

#: A timeout is counted in so many steps: more than the turns that the loop needs from a message to its answer.
_STEPS: Final = 40

#: The longest such step where the loop's time jumps, and the limit is over: seconds.
_SHORT: Final = 0.001


def scaled(seconds: float) -> float:
    """Stretch a wait, so that it suits the machine.

    Args:
        seconds: the wait on a quiet machine.

    Returns:
        ``seconds`` times the environment variable ``LABKIT_TIME_SCALE`` (1 if it is not set).

    Raises:
        BadValue: the variable is not a positive number.
    """
    text = os.environ.get("LABKIT_TIME_SCALE", "1")
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise BadValue(f"LABKIT_TIME_SCALE is {text!r}; it takes a positive number, such as 1 or 3")
    return seconds * scale


@asynccontextmanager
async def timeout(seconds: float | None) -> AsyncIterator[None]:
    """Limit a wait as ``asyncio.timeout`` does, but count only the time in which the loop could run.

    A hundred experiments may share a loop, and other programs share the machine. A limit by the clock could then
    expire before the awaited event had its turn. This limit is counted in steps. Each step takes at least its share of
    the time, and at least one turn of the loop, in which everything runs that is due. A late step counts as one step.
    Where the loop's time jumps, and nothing else was due when it jumped to the limit, that is the proof already: then
    the whole limit is one step.

    Args:
        seconds: the limit on a quiet machine (not scaled here); no limit, if None.

    Raises:
        TimeoutError: the block was still running when the time was up.
    """
    async with asyncio.timeout(None) as limit:
        if seconds is None:
            yield
            return
        loop = asyncio.get_running_loop()
        clock = clock_of(loop)
        share, left = seconds / _STEPS, _STEPS
        timer: asyncio.TimerHandle | None = None

        def step() -> None:
            nonlocal left, timer
            left -= 1
            if left >= 0 and not clock.at_rest:
                timer = loop.call_later(share, step)
            else:
                limit.reschedule(loop.time())

        if clock is REAL:
            step()
        else:
            share = min(share, _SHORT)
            timer = loop.call_later(seconds, step)
        try:
            yield
        finally:
            assert timer is not None
            timer.cancel()
