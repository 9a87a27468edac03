"""Carries the scope of an experiment into the threads that its handler starts."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Final

from labkit.events import LoopException
from labkit.introspection.origin import find_origin, is_owned
from labkit.introspection.place import local_of
from labkit.remains.dropped import watch_future
from labkit.remains.started import Started, remember, starts_here
from labkit.support.replacing import replace
from labkit.support.wording import describe_exception
from labkit.timeline import Scope, Timeline, scope

__all__ = ["Work", "carry_scope", "is_at_work", "works_of"]

#: Called in another thread before code of an experiment runs there; what it returns is called behind that code.
Watch = Callable[[], Callable[[], None]]


#: How anyio calls a function in a thread of its pool.
_ANYIO: Final = "run_sync_in_worker_thread"

#: Where a thread waits for another one: queues, events and semaphores are made of it. Who goes on is let in by a lock.
_WAIT: Final = threading.Condition.wait.__code__

#: What threads do for the running experiments, or have still to begin.
_works: Final[set[Work]] = set()


class Work:
    """What one thread does for an experiment: the function that it runs.

    Args:
        here: the scope of the code that has given it the function.

    Attributes:
        here: the scope of the code that has given it the function.
        thread: the thread's number, once it has begun.
    """

    def __init__(self, here: Scope) -> None:
        self.here: Final = here
        self.thread: int | None = None
        _works.add(self)

    @property
    def rests(self) -> bool:
        """Whether its thread waits to be told to go on, such as by a queue, and nobody has told it; or is to begin."""
        if self.thread is None:
            return True
        waiter = local_of(self.thread, _WAIT, "waiter")
        return waiter is not None and bool(waiter.locked())

    def end(self, _: object = None) -> None:
        """Note that it is done."""
        _works.discard(self)


def works_of(here: Scope) -> set[Work]:
    """List what threads do for a handler now, or have still to begin.

    Args:
        here: the scope of the handler's connection.
    """
    return {work for work in tuple(_works) if work.here == here}


def is_at_work(timeline: Timeline) -> bool:
    """Tell whether a thread does something for an experiment now, or has still to begin with it.

    Args:
        timeline: the experiment's timeline.
    """
    return any(work.here.timeline is timeline for work in tuple(_works))


@contextmanager
def carry_scope(watch: Watch) -> Iterator[None]:
    """Let the threads that code of an experiment starts run in its scope, and what it gives to a pool of threads.

    ``asyncio.to_thread`` copies the context by itself; ``run_in_executor`` and ``threading.Thread`` do not.

    Args:
        watch: called in the other thread, before the code runs; what it returns is called behind it. All experiments
            that run at the same time give the same.
    """
    with ExitStack() as undo:
        undo.callback(replace(threading.Thread, "start", lambda start: _start_in_scope(start, watch)))
        undo.callback(replace(ThreadPoolExecutor, "submit", lambda submit: _submit_in_scope(submit, watch)))
        if "anyio" in sys.modules:  # with which Starlette calls what is no coroutine function, such as a dependency
            backend = importlib.import_module("anyio._backends._asyncio").AsyncIOBackend
            undo.callback(replace(backend, _ANYIO, lambda call: classmethod(_call_in_scope(call.__func__, watch))))
        yield


def _start_in_scope(start: Callable[[threading.Thread], None], watch: Watch) -> Callable[[threading.Thread], None]:
    @functools.wraps(start)
    def stand_in(self: threading.Thread) -> None:
        here = scope.get()
        starter = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - who calls start()
        # A thread of a pool outlives the call for which it is started; those of asyncio are its own, and of anyio too.
        if here is None or starter.startswith(("asyncio.", "concurrent.", "anyio.")):
            start(self)
            return
        started, work = _remember(self, sys._getframe(1)), Work(here)  # noqa: SLF001

        def end() -> None:
            work.end()
            if started is not None:
                started.end()

        def fail(error: Exception) -> None:
            message, description = f"Exception in thread {self.name!r}", describe_exception(error)
            here.record(LoopException(description, message, text=f"{message}: {description}"))

        self.run = _within(here, watch, self.run, end, fail, work)  # type: ignore[method-assign]
        try:
            start(self)
        except BaseException:
            end()
            raise

    return stand_in


def _remember(thread: threading.Thread, frame: FrameType) -> Started | None:
    if (found := starts_here()) is None:
        return None
    origin = find_origin(frame, found[1].file)
    if is_owned([thread, *origin.objects]):
        return None  # it goes with the pool, or the connection
    name = _name_of_thread(thread)
    if isinstance(thread, threading.Timer):
        return remember(lambda here, line: Timer(here, name, line, thread), frame)
    return remember(lambda here, line: Started(here, "thread", name, line), frame)


class Timer(Started):
    """A ``threading.Timer``: of all threads the only one that can be ended, as long as it waits.

    Args:
        here: the scope of the code that has started it.
        name: its name.
        line: the line of the user's code that has started it, in words; None if that is not known.
        timer: the thread.
    """

    def __init__(self, here: Scope, name: str, line: str | None, timer: threading.Timer) -> None:
        super().__init__(here, "thread", name, line)
        self._timer = timer

    async def stop(self) -> None:
        """Have it call nothing more."""
        self._timer.cancel()
        await asyncio.sleep(0)  # so that it goes on if it has begun


def _name_of_thread(thread: threading.Thread) -> str:
    """The name that the user has given it; or that of its function, since Python's own has a number in it."""
    name = re.sub(r"^Thread-\d+", "", thread.name).strip(" ()")
    return name or type(thread).__name__


def _submit_in_scope(submit: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    @functools.wraps(submit)
    def stand_in(self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        here = scope.get()
        if here is None:
            return submit(self, function, *args, **kwargs)
        work = Work(here)
        try:
            future: Future[Any] = submit(self, _within(here, watch, function, work=work), *args, **kwargs)
        except BaseException:
            work.end()
            raise
        future.add_done_callback(work.end)
        name = _name_of(function, args)
        if (started := remember(lambda here, line: Job(here, name, line, future))) is not None:
            future.add_done_callback(lambda _: started.end())
        return watch_future(future, f"{name}() in a thread")

    return stand_in


def _call_in_scope(call: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    @functools.wraps(call)
    async def stand_in(
        backend: Any, function: Callable[..., Any], args: tuple[Any, ...], *more: Any, **options: Any
    ) -> Any:
        here = scope.get()
        if here is None:
            return await call(backend, function, args, *more, **options)
        future, work = Future[None](), Work(here)
        future.add_done_callback(work.end)
        name = _name_of(function, args)
        if (started := remember(lambda here, line: Job(here, name, line, future))) is not None:
            future.add_done_callback(lambda _: started.end())

        def run(*args: Any) -> Any:
            return function(*args) if future.set_running_or_notify_cancel() else None

        def end() -> None:
            if future.running():
                future.set_result(None)

        try:
            return await call(backend, _within(here, watch, run, end), args, *more, **options)
        finally:
            future.cancel()  # if no thread has begun with it; nobody will

    return stand_in


class Job(Started):
    """A call of a function in a thread of a pool, as ``asyncio.to_thread`` makes it.

    Args:
        here: the scope of the code that makes it.
        name: the function's name.
        line: the line of the user's code that makes it, in words; None if that is not known.
        future: the pool's future for the call.
    """

    def __init__(self, here: Scope, name: str, line: str | None, future: Future[Any]) -> None:
        super().__init__(here, "thread", name, line)
        self._future = future

    @property
    def title(self) -> str:
        """What it is, and the function's name."""
        return f"call of {self.name} in a thread"

    async def stop(self) -> None:
        """Take it back, if no thread has begun with it."""
        self._future.cancel()


def _name_of(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """The name of a function; of the one that ``asyncio.to_thread`` was given, which runs in a copy of the context."""
    while True:
        if isinstance(function, functools.partial):
            args, function = (*function.args, *args), function.func
        elif isinstance(getattr(function, "__self__", None), contextvars.Context) and args:
            function, args = args[0], args[1:]
        else:
            name: str = getattr(function, "__qualname__", type(function).__name__)
            return name.replace(".<locals>", "")


def _within(
    here: Scope,
    watch: Watch,
    function: Callable[..., Any],
    at_end: Callable[[], None] | None = None,
    fail: Callable[[Exception], None] | None = None,
    work: Work | None = None,
) -> Callable[..., Any]:
    """Make the function run in a scope, and be watched; ``fail`` is told of an exception that nobody will get."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        token, leave = scope.set(here), watch()
        if work is not None:
            work.thread = threading.get_ident()
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if fail is not None:
                fail(error)
            raise
        finally:
            leave()
            scope.reset(token)
            if at_end is not None:
                at_end()

    return run
