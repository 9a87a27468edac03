"""What is seen from outside of a step of a loop that lasts: how long it has kept the loop, and in whose code.

A step that lasts is no proof: on a busy machine, it may just not have had its turn. So the clock of the loop's own CPU
time is looked at, too. What the step has computed counts, and so does the time in which it slept while the looking
thread could run.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any, Final

from labkit.introspection.place import Place
from labkit.timeline import Scope, scope

__all__ = ["TICK", "Seen", "Step", "ThreadClock", "callback_of", "scope_of", "scope_of_handle"]

#: Seconds between two looks.
TICK: Final = 0.01

#: A step that has used less than this share of a time has slept, or has waited for its turn.
_IDLE: Final = 0.1

#: If more events than these come between two looks, recording them takes a good part of the time.
_MUCH: Final = 10


#: One step of a loop: when it began, and the handle that runs or the scope of the code. A plain tuple, for it is made
#: for each step.
Step = tuple[float, asyncio.Handle | Scope]


def scope_of(step: Step) -> Scope | None:
    """The scope of the code that runs.

    Args:
        step: the step.
    """
    _, of = step
    return of if isinstance(of, Scope) else scope_of_handle(of)


def scope_of_handle(handle: object) -> Scope | None:
    """The scope in which a loop runs a callback; None if it is outside every experiment.

    Args:
        handle: the callback's handle, of asyncio; what else is given shows no scope, and so do handles of uvloop.
    """
    context = getattr(handle, "_context", None)  # `get_context` is there from Python 3.12 on
    return context.get(scope) if isinstance(context, Context) else None


def callback_of(step: Step) -> Place | None:
    """The function of C that a step calls as a callback, such as ``time.sleep``: it has no line.

    Args:
        step: the step.
    """
    callback = getattr(step[1], "_callback", None)
    while isinstance(callback, functools.partial):
        callback = callback.func
    # The steps of tasks are functions of C too; those belong to an object, and not to a module.
    module = getattr(callback, "__self__", None)
    if not isinstance(callback, BuiltinFunctionType) or not isinstance(module, ModuleType):
        return None
    return Place("", 0, f"{module.__name__}.{callback.__name__}", own=False)


class ThreadClock:
    """The clock of the running thread's own CPU time, which any thread may read."""

    def __init__(self) -> None:
        self._native: Final = threading.get_native_id()
        clock = getattr(time, "pthread_getcpuclockid", None)
        self._clock: Final[int | None] = None if clock is None else clock(threading.get_ident())

    def used(self) -> float | None:
        """The CPU time of the thread in seconds, or None where it is not known."""
        try:
            return None if self._clock is None else time.clock_gettime(self._clock)
        except OSError:  # the thread has ended
            return None

    def waits_for_its_turn(self) -> bool:
        """Whether the thread could run, and the system does not let it; False where this is not known."""
        try:
            return Path(f"/proc/self/task/{self._native}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"R"
        except (OSError, IndexError):
            return False


class Seen:
    """What has been seen of a step that lasts.

    Args:
        step: the step.
        last: the time of the last look before, or the step's begin if that is later; and the CPU time then.

    Attributes:
        lasted: for how many seconds it has kept the loop, as far as that is certain.
        kept: the same without the time in which the lab had much to record, which makes a handler slower than it is.
        since: when the code began that was found first, in seconds since the timeline began.
        places: how often the code was found at each place.
        last: the time and the CPU time of the last look.
        asked: when it was first asked to end; ``times`` is how often.
        said: whether the lab has said that it cannot end it.
        told: whether it is recorded.
        task: the task that is asked to end.
    """

    def __init__(self, step: Step, last: tuple[float, float | None]) -> None:
        self.step: Final = step
        self.lasted = 0.0
        self.kept = 0.0
        self.events = 0
        self.since: float | None = None
        self.places: Counter[Place] = Counter()
        self.last = last
        self.asked: float | None = None
        self.times = 0
        self.said = False
        self.told = False
        self.task: asyncio.Task[Any] | None = None

    def records_much(self, events: int) -> bool:
        """Tell whether much has been recorded since this was asked before.

        Args:
            events: how many events are recorded by now.
        """
        before, self.events = self.events, events
        return events - before > _MUCH

    def count(
        self, at: float, used: float | None, waits_for_its_turn: Callable[[], bool], *, records_much: bool
    ) -> None:
        """Count the time since the last look, as far as it is certain that the step has kept the loop.

        Args:
            at: the time of this look.
            used: the CPU time of the loop's thread by now, in seconds; None where it is not known.
            waits_for_its_turn: tells whether the thread could run, and the system does not let it.
            records_much: whether recording takes a good part of the time.
        """
        (before, used_before), self.last = self.last, (at, used)
        took = at - before
        if used is not None and used_before is not None and used - used_before >= _IDLE * took:
            self.lasted += min(used - used_before, took)
            self.kept += 0.0 if records_much else min(used - used_before, took)
        elif took < 2 * TICK and not waits_for_its_turn():
            # It sleeps. A late look tells that the machine is busy: then the step may have waited, too.
            self.lasted += took
            self.kept += took
