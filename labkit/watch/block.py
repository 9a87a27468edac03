"""Watches from outside whether a handler keeps the loop to itself, and ends one that never gives it back.

Whoever runs in the loop cannot tell that the loop stands still, so a thread looks on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from types import CodeType
from typing import Any, Final

from labkit.events import HandlerBlocked, LoopHeldUp, LoopStop
from labkit.introspection.breaking import Breaker
from labkit.introspection.place import Called, bounds, describe_place, find_place, may_be_broken, stack_of
from labkit.introspection.steps import TICK, Seen, Step, ThreadClock, callback_of, scope_of
from labkit.support.clock import now, scaled
from labkit.support.interrupts import on_interrupt
from labkit.support.replacing import replace
from labkit.support.wording import describe_seconds
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.loop_errors import record_exit

__all__ = [
    "Blocks",
    "begin_step",
    "current_step",
    "end_step",
    "step_began",
    "step_runners",
    "take_part",
    "watch_blocks",
    "when_step_ends",
]

#: The shortest time for which a step keeps the loop that is told, in seconds, times ``LABKIT_TIME_SCALE``.
_SHORTEST: Final = 0.05

#: The shortest time for which a step holds up other experiments that is told, in seconds, times ``LABKIT_TIME_SCALE``:
#: on a busy machine, a loop may well have no turn for so long.
_HELD_UP: Final = 0.1

#: How old a step is before its time is counted, and before its code is looked at, in seconds.
_NEW, _YOUNG = 0.005, 0.015

#: How long a step may last once the lab has ended the experiment, in seconds.
_AFTERWARDS: Final = 0.5

#: Seconds after which the lab says that it cannot end a step.
_SAY: Final = 3.0

#: A step that lasts too long has kept the loop for at least this share of that time; for the rest, it may have waited.
_SHARE: Final = 0.5

_log = logging.getLogger("labkit")


class Blocks:
    """The blocks of the handlers of one experiment.

    Args:
        timeline: where to record.
        file: the file of the handler's code, or None.

    Attributes:
        timeline: where it records.
        file: the file of the handler's code.
        limit: for how many seconds a step may keep the loop before the lab ends it, and with it the experiment; None if
            it may do so for ever.
        ended: whether the lab has ended one.
        threads: the threads whose loops have a part in the experiment: the server's, and that of client and wire.
    """

    def __init__(self, timeline: Timeline, file: str | None) -> None:
        self.timeline = timeline
        self.file = file
        self.limit: float | None = None
        self.ended = False
        self.threads = {threading.get_ident()}
        self._cut: Callable[[], None] = lambda: None

    async def unless_ended(self, coroutine: Coroutine[Any, Any, None], patience: float) -> None:
        """Await a coroutine; but if a step of a handler keeps its loop longer than that, end the step, and the wait.

        Args:
            coroutine: what to await.
            patience: seconds, already scaled.
        """
        task = asyncio.ensure_future(coroutine)
        loop = asyncio.get_running_loop()

        def cut() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        self._cut, self.limit = cut, patience
        try:
            await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if not self.ended or (current is not None and current.cancelling()):
                raise

    def stop(self) -> None:
        """End the experiment, since a step must be ended."""
        self.ended = True
        assert self.limit is not None
        self.timeline.append(LoopStop(self.limit, text="the lab ends the experiment"))
        self.limit = scaled(_AFTERWARDS)
        self._cut()


class _Loop:
    """The loop of one thread, as it is seen from outside.

    Attributes:
        step: the step that runs now, or None.
        seen: what has been seen of a step that runs, or of one that has just ended.
        threshold: the shortest time for which a step keeps the loop that is told.
        breaker: ends a step of it.
        at_end: called once when the step ends that runs now.
        collections: when Python collected garbage in the thread for the last times, and for how many seconds.
    """

    def __init__(self) -> None:
        self.thread: Final = threading.get_ident()
        self.step: Step | None = None
        self.threshold: Final = scaled(_SHORTEST)
        self.users = 0
        self.breaker: Final = Breaker(self._may_be_broken)
        self._clock: Final = ThreadClock()
        self.seen: Seen | None = None
        self.collections: deque[tuple[float, float]] = deque(maxlen=16)
        self._last = now(), self._clock.used()
        self._ordered: Step | None = None
        self.at_end: list[Callable[[], None]] = []

    # In the loop's own thread.

    def enter(self) -> None:
        """Prepare for a step that must be ended."""
        self.users += 1
        if self.users > 1:
            return
        on_interrupt.append(self.order)
        self.breaker.enter()

    def leave(self) -> None:
        """Undo what ``enter`` has done."""
        self.users -= 1
        if not self.users:
            with contextlib.suppress(ValueError):
                on_interrupt.remove(self.order)
            self.breaker.leave()

    def order(self) -> None:
        """Have the step that runs now ended, if it is a handler's and lasts."""
        self._ordered = self.step

    def end(self, step: Step) -> None:
        """Note that a step has ended that somebody has looked at; record it if a handler has kept the loop."""
        for call in self.at_end:
            call()
        self.at_end.clear()
        self.breaker.step_ended()
        seen, self.seen = self.seen, None
        if seen is None or seen.step is not step:
            return
        if (task := seen.task) is not None and task.done() and not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it
        ended = now()
        seen.count(ended, self._clock.used(), lambda: False, records_much=_records_much(seen))
        # Of a copy: a collection may begin, and note itself, at any step of this loop.
        collected = sum(took for at, took in list(self.collections) if at > step[0])
        if seen.kept - collected >= self.threshold and not seen.told:
            self._tell(seen, ended)

    # In the watching thread.

    def look(self) -> None:
        """Look at what runs now."""
        at, used, step = now(), self._clock.used(), self.step
        if step is None:
            self._last = at, used
            return
        seen = self.seen
        if seen is None or seen.step is not step:
            if at - step[0] < _NEW:
                self._last = at, used
                return
            seen = self.seen = Seen(step, self._before(step))
            _records_much(seen)
        seen.count(at, used, self._clock.waits_for_its_turn, records_much=_records_much(seen))
        self._last = at, used
        blocks = _blocks_of(step)
        if blocks is None or at - step[0] < _YOUNG:
            return
        place = find_place(stack_of(self.thread), blocks.file) or callback_of(step)
        if place is None or self.step is not step:
            return
        if seen.since is None:
            recorded = blocks.timeline.recorded(len(blocks.timeline) - 1)
            since = step[0] + blocks.timeline.clock.skipped - blocks.timeline.began  # no step sees a jump
            seen.since = max([since, *(event.at for event in recorded)])
        seen.places[place] += 1
        limit = blocks.limit
        too_long = limit is not None and at - step[0] >= limit and seen.lasted >= _SHARE * limit
        if self._ordered is step or too_long:
            self._end_step(seen, blocks, at)

    def _end_step(self, seen: Seen, blocks: Blocks, at: float) -> None:
        if seen.asked is None:
            seen.asked = at
            if isinstance(seen.step[1], asyncio.Handle):
                seen.task = asyncio.current_task(seen.step[1]._loop)  # type: ignore[attr-defined] # noqa: SLF001
            self._tell(seen, at, ended=True)
            if self._ordered is not seen.step and not blocks.ended:
                blocks.stop()
        elif at - seen.asked > _SAY and not seen.said:
            seen.said = True
            _log.warning(
                "a handler keeps the loop, and cannot be interrupted there: %s; the lab goes on when this is over",
                describe_place(seen.places.most_common(1)[0][0]),
            )
        seen.times += 1
        self.breaker.ask(seen.times)

    def _may_be_broken(self, stack: list[Called]) -> bool:
        """Whether a step runs that is asked to end, and may end in this call; called in either thread."""
        seen = self.seen
        if seen is None or seen.asked is None or seen.step is not self.step:
            return False
        blocks = _blocks_of(seen.step)
        return may_be_broken(stack, None if blocks is None else blocks.file)

    def _before(self, step: Step) -> tuple[float, float | None]:
        """The begin of a step, and the CPU time then at the most, which follows from that of the last look before."""
        at, used = self._last
        if at >= step[0]:
            return self._last
        return step[0], None if used is None else used + max(step[0] - at, 0.0)

    def _tell(self, seen: Seen, at: float, *, ended: bool = False) -> None:
        here, blocks = scope_of(seen.step), _blocks_of(seen.step)
        if here is None or blocks is None:
            return
        place = seen.places.most_common(1)[0][0] if seen.places else None
        if place is None and not isinstance(seen.step[1], Scope):
            return  # nobody has seen whose code it was
        seen.told = True
        seconds = at - seen.step[0]
        where = "" if place is None else f", in {describe_place(place)}"
        until = ", until the lab ends it" if ended else ""
        line = place.line if place is not None and place.own else None
        text = f"blocks the loop for {describe_seconds(seconds)}{where}{until}"
        event = HandlerBlocked(seconds, line, ended=ended, apart=blocks.threads != {self.thread}, text=text)
        timeline = blocks.timeline
        since = seen.step[0] + timeline.clock.skipped if seen.since is None else seen.since + timeline.began
        here.record_at(since, event)
        if seconds >= scaled(_HELD_UP):
            self._tell_others(timeline, since, seconds)

    def _tell_others(self, timeline: Timeline, since: float, seconds: float) -> None:
        """Record in the other experiments of the loop that it stood still for them too."""
        with _lock:
            others = [each.timeline for each in _blocks.values() if self.thread in each.threads]
        text = f"the loop stands still for {describe_seconds(seconds)}, for another experiment"
        for other in others:
            if other is timeline:
                continue
            other.append_at(max(since, other.began), LoopHeldUp(seconds, text=text))


def _records_much(seen: Seen) -> bool:
    """Whether much has been recorded since this was asked before."""
    blocks = _blocks_of(seen.step)
    return blocks is not None and seen.records_much(len(blocks.timeline))


#: The loops that are watched, by thread; the blocks of the running experiments, by the id of the timeline.
_loops: Final[dict[int, _Loop]] = {}
_blocks: Final[dict[int, Blocks]] = {}
_lock: Final = threading.Lock()

# In a process that was forked nobody looks at the steps, and the one that runs there may not end.
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_loops.clear)

#: What runs a step, given asyncio's own method and the handle.
StepRunner = Callable[[Callable[[asyncio.Handle], None], asyncio.Handle], None]

#: By thread, what runs each step of its loop in place of asyncio's own method, if anything does.
step_runners: Final[dict[int, StepRunner]] = {}


def _blocks_of(step: Step) -> Blocks | None:
    here = scope_of(step)
    return None if here is None or here.lane != "handler" else _blocks.get(id(here.timeline))


def _in_step(run: Callable[[asyncio.Handle], None]) -> Callable[[asyncio.Handle], None]:
    """Make the stand-in for the method in which asyncio runs each step."""
    loops, runners, ident = _loops, step_runners, threading.get_ident

    def stand_in(self: asyncio.Handle) -> None:
        loop = loops.get(ident())
        if loop is None:
            run(self)
            return
        outer = loop.step  # nest-asyncio runs steps within a step
        loop.step = step = (now(), self)
        try:
            if not runners or (runner := runners.get(loop.thread)) is None:
                run(self)
            else:
                runner(run, self)
        except SystemExit as exception:
            if (here := scope_of(step)) is None or here.lane != "handler":
                raise
            record_exit(here, exception, "a task of a handler")
        finally:
            loop.step = outer
            if loop.seen is not None or loop.breaker.thrown or loop.at_end:
                loop.end(step)

    bounds.add(stand_in.__code__)
    return stand_in


def take_part(timeline: Timeline) -> None:
    """Note that the running loop has a part in an experiment: it is that of client and wire.

    Args:
        timeline: the experiment's timeline.
    """
    if (blocks := _blocks.get(id(timeline))) is not None:
        blocks.threads.add(threading.get_ident())


def begin_step() -> tuple[_Loop, Step] | None:
    """Note that a step of a handler begins, in a loop that is not asyncio's own.

    Returns:
        What ``end_step`` takes; None if nobody watches, or the step is known already.
    """
    loop = _loops.get(threading.get_ident())
    if loop is None or loop.step is not None or (here := scope.get()) is None:
        return None
    loop.step = (now(), here)
    return loop, loop.step


def end_step(begun: tuple[_Loop, Step]) -> None:
    """Note that a step has ended.

    Args:
        begun: what ``begin_step`` returned.
    """
    loop, step = begun
    loop.step = None
    if loop.seen is not None or loop.breaker.thrown or loop.at_end:
        loop.end(step)


def current_step() -> object:
    """Tell the steps of this thread's loop apart.

    Returns:
        The step that runs now; None if no step is known to run in this thread.
    """
    loop = _loops.get(threading.get_ident())
    return None if loop is None else loop.step


def step_began() -> float | None:
    """Tell when the step of this thread's loop began that runs now; None if no step is known to run."""
    loop = _loops.get(threading.get_ident())
    return None if loop is None or loop.step is None else loop.step[0]


def when_step_ends(call: Callable[[], None]) -> bool:
    """Have something called, in this thread, when the step of its loop ends that runs now.

    Args:
        call: what is called once.

    Returns:
        Whether it will be called: not where no step is known to run in this thread.
    """
    loop = _loops.get(threading.get_ident())
    if loop is None or loop.step is None:
        return False
    loop.at_end.append(call)
    return True


class _Watchdog:
    """The thread that looks on, while anybody needs it."""

    def __init__(self) -> None:
        self._goes_on = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="labkit watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look on."""
        self._goes_on.acquire()
        Context().run(self._thread.start)  # it is no handler's

    def stop(self) -> None:
        """End the thread."""
        self._goes_on.release()
        self._thread.join()

    def _run(self) -> None:
        while not self._goes_on.acquire(timeout=TICK):
            for loop in tuple(_loops.values()):
                loop.look()


_watchdog: list[_Watchdog] = []


class _Collector:
    """Notes how long Python collects garbage of the whole process, which it does in whatever step comes."""

    def __init__(self) -> None:
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Take the begin or the end of a collection (``gc.callbacks``)."""
        if info["generation"] < 2:
            return
        loop = _loops.get(threading.get_ident())
        if phase == "start":
            self._began = now()
        elif loop is not None:
            loop.collections.append((now(), now() - self._began))


_collector: Final = _Collector()


@contextmanager
def watch_blocks(timeline: Timeline, code: object) -> Iterator[Blocks]:
    """Record when a handler of an experiment keeps the running loop to itself, while the block runs.

    Args:
        timeline: the experiment's timeline.
        code: the handler's code, if it has some.

    Yields:
        The blocks, which may be limited.
    """
    blocks = Blocks(timeline, code.co_filename if isinstance(code, CodeType) else None)
    ident = threading.get_ident()
    with _lock:
        _blocks[id(timeline)] = blocks
        loop = _loops.setdefault(ident, _Loop())
        loop.enter()
        leave = replace(asyncio.Handle, "_run", _in_step)
        if not _watchdog:
            gc.callbacks.append(_collector)
            _watchdog.append(_Watchdog())
            _watchdog[0].start()
    try:
        yield blocks
    finally:
        idle = None
        with _lock:
            leave()
            loop.leave()
            if not loop.users:
                del _loops[ident]
            del _blocks[id(timeline)]
            if not _blocks:
                idle = _watchdog.pop()
                gc.callbacks.remove(_collector)
        if idle is not None:
            idle.stop()
