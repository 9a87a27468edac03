"""On which clock an experiment runs: the real one, or the one that jumps, in a loop and a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from labkit.errors import BadValue, LabError
from labkit.faults import Fault
from labkit.introspection.clocks import find_clock
from labkit.remains.started import starts_of
from labkit.remains.threads import is_at_work
from labkit.stacks.server import Server
from labkit.support.autojump import CLOCKS, REAL, AutojumpLoop, Clock
from labkit.support.checks import check_choice
from labkit.support.interrupts import cancel_on_interrupt
from labkit.support.loop import finish
from labkit.support.wakeup import wakeups
from labkit.support.wording import describe_exception, describe_seconds
from labkit.timeline import Timeline

__all__ = ["AUTOJUMP", "accounting", "check_clock", "on_autojump", "one_autojump_loop", "why_real"]

T = TypeVar("T")

AUTOJUMP: Final = "autojump"

#: A hold that is shorter than this, in seconds, is not told.
_SHORT: Final = 0.05

#: So many experiments share a loop whose time jumps. None of them waits for anything but the processor; and what each
#: looks for among the tasks and timers of the loop takes as long as there are experiments. Fewer would jump more often.
_AT_ONCE: Final = 24


def check_clock(clock: object) -> None:
    """Refuse what is not a clock, and the clock that jumps where the loop that runs is none of asyncio's own.

    Args:
        clock: what the user gives.

    Raises:
        BadValue: it is not one, or it cannot be had here.
    """
    check_choice("clock", clock, CLOCKS)
    if clock == AUTOJUMP and not isinstance(loop := asyncio.get_running_loop(), asyncio.BaseEventLoop):
        raise BadValue(
            f"clock='autojump' plays on a loop of asyncio's own, and this one is {type(loop).__module__}'s, whose"
            " handlers might see something else; leave clock= out, or run the lab on asyncio's loop"
        )


def why_real(functions: tuple[Callable[..., Any] | None, ...], fault: Fault | None) -> str | None:
    """Tell why an experiment keeps the real clock, though it was to have the one that jumps.

    Args:
        functions: the handler, and the talk if there is one.
        fault: the fault.

    Returns:
        The reason, as a clause; None if it can have the clock that jumps.
    """
    if AutojumpLoop.impossible is not None:
        return AutojumpLoop.impossible
    if fault is not None and fault.needs == "own process":
        return "the client has a process of its own, whose time does not jump"
    if fault is not None and fault.needs == "own loop":
        return "the server has a thread of its own, which the fault blocks for real seconds"
    for function in filter(None, functions):
        if (read := find_clock(function)) is not None:
            return f"{read}, which does not jump"
    return None


class Account:
    """What an experiment has had of its clock.

    Args:
        clock: the clock.

    Attributes:
        server: the experiment's server, once there is one.
    """

    def __init__(self, clock: Clock) -> None:
        self.server: Server | None = None
        self._clock = clock
        self._skipped = clock.skipped
        self._held = dict(clock.held)

    @property
    def words(self) -> str:
        """How much of its time was jumped, and what has held it, for a reader; empty for the real clock."""
        if self._clock is REAL:
            return ""
        skipped = self._clock.skipped - self._skipped
        told = [f"{describe_seconds(skipped)} were jumped" if skipped else "nothing was jumped"]
        held = {what: seconds - self._held.get(what, 0.0) for what, seconds in self._clock.held.items()}
        told += [f"{what} held it for {describe_seconds(took)}" for what, took in held.items() if took >= _SHORT]
        return "; ".join(told)


@contextmanager
def accounting(timeline: Timeline) -> Iterator[Account]:
    """Let what an experiment has outside of the loop hold the time: its threads, and its child processes.

    Args:
        timeline: the experiment's timeline, made in the running loop.

    Yields:
        What it has had of its clock by then.
    """

    def hold() -> str | None:
        if is_at_work(timeline):
            return "a thread of the handler"
        if account.server is not None and account.server.waits_outside:
            return "something outside the lab, for which the handler waits,"
        starts = starts_of(timeline)
        if starts is not None and any(each.what == "process" and each.alive for each in starts.all()):
            return "a process that the handler has started"
        return None

    loop = asyncio.get_running_loop()
    holds = loop.holds if isinstance(loop, AutojumpLoop) else []
    account = Account(timeline.clock)
    holds.append(hold)
    try:
        yield account
    finally:
        holds.remove(hold)


class _Thread:
    """A loop whose time jumps, in a thread of its own.

    Args:
        like: the loop whose debug mode and task factory it takes over.

    Attributes:
        clock: its clock.
    """

    def __init__(self, like: asyncio.AbstractEventLoop) -> None:
        self._like = like
        self._loop = AutojumpLoop()
        self.clock: Final = self._loop.clock
        self._loop.set_task_factory(like.get_task_factory())
        self._ended = asyncio.Event()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._died: BaseException | None = None  # of this, before anybody has ended it
        self._gone: asyncio.Future[None] = like.create_future()
        # A daemon, so that Python can end though an interrupt has broken off the caller's loop.
        self._thread = threading.Thread(target=self._run, name="labkit clock", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with asyncio.Runner(debug=self._like.get_debug(), loop_factory=lambda: self._loop) as runner:
                try:
                    runner.run(self._live())
                except BaseException as error:  # `run` raises it, in the thread that waits
                    self._died = error
        finally:
            self._tell(self._gone)

    async def _live(self) -> None:
        await self._ended.wait()

    def _tell(self, done: asyncio.Future[None]) -> None:
        def tell() -> None:
            if not done.done():
                done.set_result(None)

        with contextlib.suppress(RuntimeError):  # the caller's loop is closed
            self._like.call_soon_threadsafe(tell)

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine there to its end, when there is room for it.

        If the caller is cancelled, so is the coroutine, and it may clean up.

        Args:
            make: makes the coroutine.

        Returns:
            What it returns. What it raises passes through.

        Raises:
            LabError: the loop there has ended before the coroutine; if an exit or an interrupt has ended it, that is
                raised.
        """
        async with self._room:
            return await self._run_there(make)

    async def _run_there(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        done: asyncio.Future[None] = self._like.create_future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(make()))
            tasks[0].add_done_callback(lambda _: self._tell(done))

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        cancelled: asyncio.CancelledError | None = None
        self._call(begin)
        while not (done.done() or self._gone.done()):
            try:
                await asyncio.wait([done, self._gone], return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                cancelled = error
                self._call(cancel)
            except BaseException:  # the caller's loop ends: nobody waits any more
                self._call(cancel)
                raise
        if cancelled is None and (not done.done() or (self._died is not None and tasks[0].cancelled())):
            if isinstance(self._died, SystemExit | KeyboardInterrupt):
                raise self._died
            why = "" if self._died is None else f": {describe_exception(self._died)}"
            raise LabError(f"the loop of the clock that jumps has ended before the experiment{why}") from self._died
        if cancelled is not None and not done.done():
            raise cancelled
        [task] = tasks
        if cancelled is None:
            return task.result()
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it
        raise cancelled

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(function)

    async def stop(self) -> None:
        """End the loop and the thread, and wait for that."""
        self._call(self._ended.set)
        await asyncio.wait([self._gone])
        self._thread.join()


#: The loop that the experiments of a matrix share.
_shared: Final[ContextVar[_Thread | None]] = ContextVar("labkit_autojump", default=None)


@asynccontextmanager
async def one_autojump_loop(clock: object) -> AsyncIterator[Clock]:
    """Let all experiments of the block that have the clock that jumps share one loop; an interrupt cancels the block.

    Args:
        clock: the name of the clock; nothing is done for the real one.

    Yields:
        The clock of the loop.
    """
    with cancel_on_interrupt():
        if clock != AUTOJUMP or AutojumpLoop.impossible is not None:
            yield REAL
            return
        if (shared := _shared.get()) is not None:
            yield shared.clock
            return
        check_clock(clock)
        thread = _Thread(asyncio.get_running_loop())
        token = _shared.set(thread)
        try:
            yield thread.clock
        finally:
            _shared.reset(token)
            await finish(thread.stop)


async def on_autojump(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a loop whose time jumps: the running one if it is such a loop, or one in another thread.

    Args:
        make: makes the coroutine.

    Returns:
        What it returns. What it raises passes through. A cancel of the caller cancels it, and is raised when it has
        ended.
    """
    if isinstance(asyncio.get_running_loop(), AutojumpLoop):
        return await make()
    with wakeups():
        async with one_autojump_loop(AUTOJUMP):
            thread = _shared.get()
            assert thread is not None
            return await thread.run(make)
