"""Running something to its end: a coroutine for synchronous callers, and a task in spite of cancels."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, Final, TypeVar

from labkit.errors import BadValue, LabError
from labkit.support.interrupts import interrupts

__all__ = ["check_loop", "finish", "run", "until_all_done", "until_done"]

T = TypeVar("T")

#: How often work that must not be left half done is begun.
_TRIES: Final = 5


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, for synchronous callers.

    In a script this is ``asyncio.run``. If a loop is already running (in a widget's callback, or under ``%run`` in a
    notebook), nest-asyncio makes that loop re-entrant. The loop stays re-entrant, because nest-asyncio cannot undo
    it. The cells of a notebook do not need this function: they can ``await``.

    Args:
        coroutine: what to run, such as ``labkit.play(handler)``.

    Returns:
        What the coroutine returns. What it raises passes through.

    Raises:
        KeyboardInterrupt: somebody has interrupted it. First the coroutine is cancelled, and may clean up.
        BadValue: the argument is not a coroutine.
        LabError: a loop is running and nest-asyncio is not installed, or cannot patch this loop.
    """
    # A variable, since mypy would otherwise call the next line unreachable.
    is_coroutine = inspect.iscoroutine(coroutine)
    if not is_coroutine:
        raise BadValue(f"labkit.run takes a coroutine, such as labkit.play(handler); this is {coroutine!r}")
    loop = _running_loop()
    if loop is None:
        with interrupts() as interrupted:
            return asyncio.run(interrupted.guard(coroutine))
    try:
        _make_reentrant(loop)
    except LabError:
        coroutine.close()
        raise
    with interrupts() as interrupted:
        task = loop.create_task(interrupted.guard(coroutine))
        try:
            return loop.run_until_complete(task)
        except BaseException:
            # An interrupt that came as an exception has only stopped the waiting. The task must not go on alone.
            while not task.done():
                task.cancel()
                loop.run_until_complete(asyncio.wait([task]))
            raise


def check_loop() -> None:
    """Refuse to begin where no loop of asyncio runs the caller.

    Raises:
        LabError: another framework runs it, such as trio; or nothing does.
    """
    if _running_loop() is None or asyncio.current_task() is None:
        raise LabError(
            "the lab works in a task of asyncio, and this is none; under trio, run it in a thread:"
            " await trio.to_thread.run_sync(labkit.run, labkit.play(handler))"
        )


async def finish(work: Callable[[], Coroutine[Any, Any, T]], context: Context | None = None) -> T:
    """Do some work to its end, even if the caller or all tasks of the loop are cancelled meanwhile.

    At its end ``asyncio.run`` cancels all tasks, as programs do that end a loop by hand. Then the work begins again.

    Args:
        work: makes the coroutine; it may be called again for work that is half done.
        context: the context in which the work runs; a copy of the caller's, if None.

    Returns:
        What the work returns. What it raises passes through. A cancel of the caller is raised when the work is done.
    """
    loop, cancel, tries = asyncio.get_running_loop(), None, 0
    while True:
        task = loop.create_task(work(), context=context)
        cancel = await _outlast(task) or cancel
        tries += 1
        if not task.cancelled() or tries == _TRIES:
            return _result(task, cancel)


async def until_done(task: asyncio.Task[T]) -> T:
    """Wait until a task is done, even if the caller is cancelled meanwhile; then raise that cancel.

    Args:
        task: the task, which must not be left half done.

    Returns:
        What the task returns. What it raises passes through.
    """
    return _result(task, await _outlast(task))


async def until_all_done(tasks: Sequence[asyncio.Task[T]]) -> list[T | None]:
    """Wait until all tasks are done; a cancel of the caller ends them, and what is done by then is returned.

    Args:
        tasks: the tasks, which must not raise.

    Returns:
        What each task returns, in order; None for those that were not done when the cancel came.
    """
    this_task = asyncio.current_task()
    assert this_task is not None
    pending, done = set(tasks), None
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError:
            this_task.uncancel()
            # A second cancel changes nothing: a run that is cancelled ends within a limited time anyway.
            if done is None:
                done = {task for task in tasks if task.done()}
                for task in tasks:
                    task.cancel()
    return [task.result() if (done is None or task in done) and not task.cancelled() else None for task in tasks]


async def _outlast(task: asyncio.Task[Any]) -> asyncio.CancelledError | None:
    """Wait until a task is done; return the last cancel of the caller meanwhile."""
    cancel = None
    while not task.done():
        try:
            # Unlike `await task`, `asyncio.wait` does not cancel the task when the caller is cancelled.
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancel = error
    return cancel


def _result(task: asyncio.Task[T], cancel: asyncio.CancelledError | None) -> T:
    if cancel is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not log it
    raise cancel


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _make_reentrant(loop: asyncio.AbstractEventLoop) -> None:
    # nest-asyncio breaks asyncio.current_task on Python 3.14; its maintained fork has the same interface.
    name = "nest_asyncio2" if sys.version_info >= (3, 14) else "nest_asyncio"
    try:
        nest = __import__(name)
    except ImportError:
        package = name.replace("_", "-")
        raise LabError(f"a loop is running here; install {package}, or await the coroutine instead") from None
    try:
        nest.apply(loop)
    except ValueError as problem:
        raise LabError(f"a loop is running here that cannot be made re-entrant ({problem}); await instead") from None
