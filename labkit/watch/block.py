"""Watches from outside whether a handler keeps the loop to itself, and ends one that never gives it back.

Whoever runs in the loop cannot tell that the loop stands still, so a thread looks on. A step of the loop that lasts is
no proof: on a busy machine, the step may just not have had its turn. So the thread looks at the clock of the loop's own
CPU time, too. What the step has computed counts, and so does the time in which it slept while the thread could run.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from labkit.events import HandlerBlocked, LoopStop
from labkit.support.clock import now, scaled
from labkit.support.interrupts import on_interrupt
from labkit.support.replacing import replace
from labkit.support.wording import describe_seconds
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.stack import Place, bounds, describe_place, find_place, may_be_broken

__all__ = ["Blocks", "Stopped", "begin_step", "end_step", "was_stopped", "watch_blocks"]

#: The shortest time for which a step keeps the loop that is told, in seconds, times ``LABKIT_TIME_SCALE``.
_SHORTEST: Final = 0.05

#: Seconds between two looks; and how old a step is before its time is counted, and before its code is looked at.
_TICK, _NEW, _YOUNG = 0.01, 0.005, 0.015

#: A step that has used less than this share of a time has slept, or has waited for its turn.
_IDLE: Final = 0.1

#: How long a step may last once the lab has ended the experiment, in seconds.
_AFTERWARDS: Final = 0.5

#: Seconds after which the lab says that it cannot end a step.
_SAY: Final = 3.0

#: The signals that break a call of C in the main thread, such as ``time.sleep``. By default, nothing follows from them.
#: Two that come together are raised one after the other: the second one in what has caught the first.
_SIGNALS: Final = [getattr(signal, name) for name in ("SIGURG", "SIGCONT") if hasattr(signal, name)]

#: If more events than these come between two looks, recording them takes a good part of the time.
_MUCH: Final = 10

#: So often a step is asked to end with one signal, before it is asked with two.
_PATIENT: Final = 10

#: A step that lasts too long has kept the loop for at least this share of that time; for the rest, it may have waited.
_SHARE: Final = 0.5

_log = logging.getLogger("labkit")


class Stopped(BaseException):
    """Raised in code of a handler that keeps the loop to itself, when the patience is over."""


def was_stopped(exception: BaseException) -> bool:
    """Tell whether an exception is the lab's own, or a group of which it is a member."""
    if isinstance(exception, BaseExceptionGroup):
        return exception.subgroup(Stopped) is not None
    return isinstance(exception, Stopped)


#: One step of a loop: when it began, and the handle that runs or the scope of the code. A plain tuple, for it is made
#: for each step.
_Step = tuple[float, asyncio.Handle | Scope]


def _scope_of(step: _Step) -> Scope | None:
    """The scope of the code that runs."""
    _, of = step
    if isinstance(of, Scope):
        return of
    context: Context = of._context  # type: ignore[attr-defined] # noqa: SLF001 - public from Python 3.12 on
    return context.get(scope)


class _Seen:
    """What has been seen of a step that lasts.

    Args:
        step: the step.

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

    def __init__(self, step: _Step, last: tuple[float, float | None]) -> None:
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
    """

    def __init__(self, timeline: Timeline, file: str | None) -> None:
        self.timeline = timeline
        self.file = file
        self.limit: float | None = None
        self.ended = False
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
        thrown: whether Python may have been told to raise the exception in the thread.
        collections: when Python collected garbage in the thread for the last times, and for how many seconds.
    """

    def __init__(self) -> None:
        self.thread: Final = threading.get_ident()
        self.native: Final = threading.get_native_id()
        self.step: _Step | None = None
        self.threshold: Final = scaled(_SHORTEST)
        self.users = 0
        clock = getattr(time, "pthread_getcpuclockid", None)
        self._clock: Final[int | None] = None if clock is None else clock(self.thread)
        self.seen: _Seen | None = None
        self.collections: deque[tuple[float, float]] = deque(maxlen=16)
        self._last = now(), self._used()
        self._ordered: _Step | None = None
        self._lock: Final = threading.Lock()
        self._signals: list[signal.Signals] = []
        self._tracer: Any = None
        self.thrown = False

    # In the loop's own thread.

    def enter(self) -> None:
        """Prepare for a step that must be ended."""
        self.users += 1
        if self.users > 1:
            return
        on_interrupt.append(self.order)
        if threading.current_thread() is threading.main_thread():
            self._signals = [each for each in _SIGNALS if signal.getsignal(each) == signal.SIG_DFL]
            for each in self._signals:
                signal.signal(each, self._take_signal)

    def leave(self) -> None:
        """Undo what ``enter`` has done."""
        self.users -= 1
        if not self.users:
            with contextlib.suppress(ValueError):
                on_interrupt.remove(self.order)
            for each in self._signals:
                if signal.getsignal(each) == self._take_signal:
                    signal.signal(each, signal.SIG_DFL)

    def order(self) -> None:
        """Have the step that runs now ended, if it is a handler's and lasts."""
        self._ordered = self.step

    def end(self, step: _Step) -> None:
        """Note that a step has ended that somebody has looked at; record it if a handler has kept the loop."""
        try:
            if self.thrown:
                self._take_back()
        except Stopped:
            self._take_back()
        if self._tracer is not None:
            if sys.gettrace() is None:  # it was raised in what Python calls at each line
                sys.settrace(self._tracer)
            self._tracer = None
        seen, self.seen = self.seen, None
        if seen is None or seen.step is not step:
            return
        if (task := seen.task) is not None and task.done() and not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it
        ended = now()
        _count(seen, ended, self._used(), lambda: False, _records_much(seen))
        collected = sum(took for at, took in self.collections if at > step[0])
        if seen.kept - collected >= self.threshold and not seen.told:
            self._tell(seen, ended)

    def _take_signal(self, _: int, frame: FrameType | None) -> None:
        seen = self.seen
        if seen is not None and seen.asked is not None and seen.step is self.step:
            blocks = _blocks_of(seen.step)
            if may_be_broken(frame, None if blocks is None else blocks.file):
                self._tracer = sys.gettrace() or self._tracer
                raise Stopped

    # In the watching thread.

    def look(self) -> None:
        """Look at what runs now."""
        at, used, step = now(), self._used(), self.step
        if step is None:
            self._last = at, used
            return
        seen = self.seen
        if seen is None or seen.step is not step:
            if at - step[0] < _NEW:
                self._last = at, used
                return
            seen = self.seen = _Seen(step, self._before(step))
            _records_much(seen)
        _count(seen, at, used, self._waits_for_its_turn, _records_much(seen))
        self._last = at, used
        blocks = _blocks_of(step)
        if blocks is None or at - step[0] < _YOUNG:
            return
        place = find_place(sys._current_frames().get(self.thread), blocks.file)  # noqa: SLF001
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

    def _end_step(self, seen: _Seen, blocks: Blocks, at: float) -> None:
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
        if not self._signals:
            self._throw(seen.step, blocks.file)
        for each in self._signals[: 1 if seen.times <= _PATIENT else None]:
            signal.pthread_kill(self.thread, each)

    def _throw(self, step: _Step, file: str | None) -> None:
        """Have the exception raised between two instructions of the loop's thread, unless the step ends before."""
        with self._lock:
            self.thrown = True
            frame = sys._current_frames().get(self.thread)  # noqa: SLF001
            if self.step is step and may_be_broken(frame, file):
                self._raise_soon()

    def _raise_soon(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(Stopped))

    def _take_back(self) -> None:
        """Have the exception raised here, if it has not been raised before."""
        with self._lock:
            self.thrown = False
        # Whether one is pending cannot be told, and Python 3.11 gets into an endless loop where None takes its place.
        # So another one takes its place.
        with contextlib.suppress(Stopped):
            self._raise_soon()
            while True:
                pass

    def _used(self) -> float | None:
        """The CPU time of the loop's thread in seconds, or None where it is not known."""
        try:
            return None if self._clock is None else time.clock_gettime(self._clock)
        except OSError:  # the thread has ended
            return None

    def _before(self, step: _Step) -> tuple[float, float | None]:
        """The begin of a step, and the CPU time then at the most, which follows from that of the last look before."""
        at, used = self._last
        if at >= step[0]:
            return self._last
        return step[0], None if used is None else used + max(step[0] - at, 0.0)

    def _waits_for_its_turn(self) -> bool:
        """Whether the thread could run, and the system does not let it; False where this is not known."""
        try:
            return Path(f"/proc/self/task/{self.native}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"R"
        except (OSError, IndexError):
            return False

    def _tell(self, seen: _Seen, at: float, *, ended: bool = False) -> None:
        here, blocks = _scope_of(seen.step), _blocks_of(seen.step)
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
        event = HandlerBlocked(
            seconds, line, ended=ended, text=f"blocks the loop for {describe_seconds(seconds)}{where}{until}"
        )
        timeline = blocks.timeline
        since = seen.step[0] + timeline.clock.skipped if seen.since is None else seen.since + timeline.began
        here.record_at(since, event)


def _records_much(seen: _Seen) -> bool:
    """Whether much has been recorded since this was asked before."""
    blocks = _blocks_of(seen.step)
    if blocks is None:
        return False
    before, seen.events = seen.events, len(blocks.timeline)
    return seen.events - before > _MUCH


def _count(
    seen: _Seen, at: float, used: float | None, waits_for_its_turn: Callable[[], bool], records_much: bool
) -> None:
    """Count the time since the last look, as far as it is certain that the step has kept the loop."""
    (before, used_before), seen.last = seen.last, (at, used)
    took = at - before
    if used is not None and used_before is not None and used - used_before >= _IDLE * took:
        seen.lasted += min(used - used_before, took)
        seen.kept += 0.0 if records_much else min(used - used_before, took)
    elif took < 2 * _TICK and not waits_for_its_turn():
        # It sleeps. A late look tells that the machine is busy: then the step may have waited, too.
        seen.lasted += took
        seen.kept += took


#: The loops that are watched, by thread; the blocks of the running experiments, by the id of the timeline.
_loops: Final[dict[int, _Loop]] = {}
_blocks: Final[dict[int, Blocks]] = {}
_lock: Final = threading.Lock()


def _blocks_of(step: _Step) -> Blocks | None:
    here = _scope_of(step)
    return None if here is None or here.lane != "handler" else _blocks.get(id(here.timeline))


def _in_step(run: Callable[[asyncio.Handle], None]) -> Callable[[asyncio.Handle], None]:
    """Make the stand-in for the method in which asyncio runs each step."""
    loops, ident = _loops, threading.get_ident

    def stand_in(self: asyncio.Handle) -> None:
        loop = loops.get(ident())
        if loop is None:
            run(self)
            return
        outer = loop.step  # nest-asyncio runs steps within a step
        loop.step = step = (now(), self)
        try:
            run(self)
        finally:
            loop.step = outer
            if loop.seen is not None or loop.thrown:
                loop.end(step)

    bounds.add(stand_in.__code__)
    return stand_in


def begin_step() -> tuple[_Loop, _Step] | None:
    """Note that a step of a handler begins, in a loop that is not asyncio's own.

    Returns:
        What ``end_step`` takes; None if nobody watches, or the step is known already.
    """
    loop = _loops.get(threading.get_ident())
    here = scope.get()
    if loop is None or loop.step is not None or here is None:
        return None
    loop.step = (now(), here)
    return loop, loop.step


def end_step(begun: tuple[_Loop, _Step]) -> None:
    """Note that a step has ended.

    Args:
        begun: what ``begin_step`` returned.
    """
    loop, step = begun
    loop.step = None
    if loop.seen is not None or loop.thrown:
        loop.end(step)


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
        while not self._goes_on.acquire(timeout=_TICK):
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
