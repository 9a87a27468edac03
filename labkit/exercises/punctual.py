"""How late a loop was, so that a machine that is busy is not taken for a handler that is late."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from statistics import median
from typing import Final
from weakref import WeakKeyDictionary

from labkit.events import HandlerBlocked
from labkit.experiment.run import Run
from labkit.support.autojump import REAL, Clock
from labkit.support.clock import now
from labkit.timeline import Timeline

__all__ = ["Turns", "excess", "stood_still", "turn_at", "was_held_up"]

#: Seconds between two looks at the clock.
_EVERY: Final = 0.005
#: The shortest and the longest time without a turn, in seconds, for which a busy machine is blamed.
_HELD_UP: Final = (0.1, 3.0)
#: A loop that has no turn for longer, in seconds, is late for everybody.
_USUAL: Final = 0.05


class Turns:
    """When a loop had its turns: it looks at the clock again and again, by a timer, as a handler's own limit does."""

    _of: Final[WeakKeyDictionary[Timeline, Turns]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._times: list[float] = []

    @asynccontextmanager
    async def watched(self, clock: Clock = REAL) -> AsyncIterator[Turns]:
        """Watch a loop while the block runs; it yields itself.

        Args:
            clock: the clock of the loop; the real one is that of the running loop.
        """
        if clock is not REAL:
            clock.turns = self._times
            yield self
            clock.turns = None
            return
        watching = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([watching])

    async def _watch(self) -> None:
        while True:
            self._times.append(now())
            await asyncio.sleep(_EVERY)

    def stood_still(self, begin: float, end: float) -> float:
        """Tell for how long the loop had no turn, in stretches that are longer than usual.

        Args:
            begin: the beginning of the time that matters, by the clock.
            end: its end.

        Returns:
            Seconds.
        """
        times = [begin, *(time for time in self._times if begin < time < end), end]
        gaps = [after - before for before, after in pairwise(times)]
        return sum(gap for gap in gaps if gap > _USUAL) if self._times else 0.0

    def longest(self, begin: float, end: float) -> float:
        """Tell for how long the loop had no turn at most, in seconds, from one time by the clock to another."""
        times = [time for time in self._times if begin <= time <= end]
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def excess(self, begin: float, end: float) -> float:
        """Tell how much longer a turn of the loop took than on a quiet machine, as a rule.

        Args:
            begin: the beginning of the time that matters, by the clock.
            end: its end.

        Returns:
            Seconds.
        """
        gaps = [after - before for before, after in pairwise(time for time in self._times if begin <= time <= end)]
        return max(0.0, median(gaps) - _EVERY) if gaps else 0.0

    def keep_for(self, *runs: Run) -> None:
        """Keep these turns for the rules that judge some runs."""
        self._of.update({run.timeline: self for run in runs})

    def first(self, at: float) -> float:
        """Find the first turn from a time on, by the clock; if there was none, the time itself."""
        place = bisect_left(self._times, at)
        return self._times[place] if place < len(self._times) else at

    @classmethod
    def of(cls, run: Run) -> Turns:
        """Return the turns that are kept for a run; if there are none, no turn is late."""
        return cls._of.get(run.timeline) or cls()


def was_held_up(run: Run) -> bool:
    """Tell whether the loop had no turn for so long, in a run, that a handler may have taken that for a lost client.

    A loop that stands still for seconds is not held up by a busy machine; then the handler itself blocks it. Nor is
    what the handler itself is known to have kept the loop for.
    """
    turns, began = Turns.of(run), run.timeline.began
    last = run.timeline[-1].at if len(run.timeline) else 0.0
    longest = turns.longest(began, began + last)
    blocked = max((block.seconds for block in run.timeline.all(HandlerBlocked)), default=0.0)
    return longest < _HELD_UP[1] and longest - blocked > _HELD_UP[0]


def stood_still(run: Run, begin: float, end: float) -> float:
    """Tell for how long the loop had no turn between two times of a run, in seconds since the timeline began."""
    began = run.timeline.began
    return Turns.of(run).stood_still(began + begin, began + end)


def excess(run: Run, begin: float, end: float) -> float:
    """Tell how much longer a turn of the loop took between two times of a run, as a rule, in seconds."""
    began = run.timeline.began
    return Turns.of(run).excess(began + begin, began + end)


def turn_at(run: Run, at: float) -> float:
    """Tell when a timer that was due at a time could run.

    Args:
        run: the run.
        at: when it was due, in seconds since the timeline began.

    Returns:
        When the loop had its first turn from then on, in the same seconds; on a quiet machine, some milliseconds later.
    """
    began = run.timeline.began
    return max(at, Turns.of(run).first(began + at) - began)
