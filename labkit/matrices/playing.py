"""Playing a matrix: many cells at once, and what is done when it is interrupted."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final

from labkit.experiment import Run, play
from labkit.faults import Fault
from labkit.matrices.plan import Handlers, Job, check_executor, plan
from labkit.matrices.result import Matrix
from labkit.progress import bar
from labkit.pulse import pulse
from labkit.tasks import until_done
from labkit.timeline import Event, Timeline
from labkit.wording import of_exception

__all__ = ["matrix"]

#: How many cells are played at once at most, and how many file descriptors one of them may hold.
_MOST: Final = 100
_DESCRIPTORS: Final = 12

#: A cell played: the run or None, why there is none, and the seconds that it took.
_Played = tuple[Run | None, str | None, float | None]
_INTERRUPTED: Final[_Played] = (None, "interrupted", None)


async def matrix(
    handlers: Handlers,
    on: str | Iterable[str] | None = None,
    faults: str | Fault | Iterable[str | Fault] | None = None,
    *,
    executor: Executor | None = None,
    progress: bool | None = None,
    **play_options: Any,
) -> Matrix:
    """Play every handler on every stack against every fault, many at once.

    An interrupt (a cancel of the task that awaits this; in a script Ctrl+C, in a notebook the stop button) ends the
    cells that are under way, and the table of what is done is returned: the other cells are unknown. So is a cell
    that breaks; the others go on.

    Args:
        handlers: coroutine functions; or a mapping from names to them, or from names to one for each library, as in
            ``{"echo": {"aiohttp": echo, "websockets": echo_ws}}``: a handler for ``aiohttp`` serves each stack of
            that library that has none of its own, and a stack for which there is none is left out.
        on: the stacks' names; all of ``labkit.STACKS``, if None.
        faults: faults, or names of faults; all of ``labkit.FAULTS``, if None.
        executor: a ``concurrent.futures.ProcessPoolExecutor``, to play the cells in its processes; the handlers must
            be importable there. An interrupt waits for the cells that are under way there. If None, the cells share
            the running loop.
        progress: whether a progress bar is shown on stderr; if None, in a terminal and in a notebook.
        play_options: what :func:`labkit.play` takes, for every cell.

    Returns:
        The table; it shows itself in a notebook and in print.

    Raises:
        UnknownName: there is no such stack, fault or client.
        BadHandler: a handler is not a coroutine function of one argument, or two have one name.
        BadOption: a library does not take an option.
        BadValue: a list is empty, or another value is not what it should be.
    """
    jobs = plan(handlers, on, faults, play_options)
    check_executor(executor, jobs, play_options)
    room = asyncio.Semaphore(_at_once())
    with pulse(), bar(len(jobs), shown=progress) as steps:

        async def one(job: Job) -> _Played:
            async with room:
                played = await (_here(job, play_options) if executor is None else _there(executor, job, play_options))
            steps.update()
            return played

        played = await _all([asyncio.create_task(one(job)) for job in jobs])
    cells = [
        replace(job.cell, verdict=None if run is None else run.verdict, reason=reason, seconds=seconds)
        for job, (run, reason, seconds) in zip(jobs, played, strict=True)
    ]
    return Matrix(tuple(cells), tuple(run for run, _, _ in played), tuple(job.handler for job in jobs))


async def _all(tasks: list[asyncio.Task[_Played]]) -> list[_Played]:
    """Wait for all tasks; if a cancel comes, cancel them, swallow it, and tell what was done by then."""
    me = asyncio.current_task()
    assert me is not None
    done: set[asyncio.Task[_Played]] = set()
    pending, interrupted = set(tasks), False
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError:
            me.uncancel()
            if not interrupted:
                done = {task for task in tasks if task.done()}
                for task in tasks:
                    task.cancel()
            # A second cancel changes nothing: how long a cell takes to end is bounded.
            interrupted = True
    return [_INTERRUPTED if interrupted and task not in done else _result(task) for task in tasks]


def _result(task: asyncio.Task[_Played]) -> _Played:
    return (None, "cancelled, by whom is unknown", None) if task.cancelled() else task.result()


async def _here(job: Job, options: dict[str, Any]) -> _Played:
    """Play a cell in the running loop."""
    began = time.perf_counter()
    try:
        run = await play(job.handler, job.cell.stack, job.fault, **options)
    except Exception as problem:
        return None, of_exception(problem), time.perf_counter() - began
    return run, None, time.perf_counter() - began


async def _there(executor: Executor, job: Job, options: dict[str, Any]) -> _Played:
    """Play a cell in another process."""
    began = time.perf_counter()
    try:
        future = executor.submit(_in_worker, job, options)
    except Exception as problem:
        return None, of_exception(problem), None
    answer = asyncio.wrap_future(future)
    try:
        run, reason, seconds = await asyncio.shield(answer)
    except asyncio.CancelledError:
        # A cell that has not begun never will; one that has comes to its end, and nothing of it is left.
        future.cancel()
        await until_done(asyncio.create_task(_over(answer)))
        raise
    except Exception as problem:
        return None, of_exception(problem), time.perf_counter() - began
    return _unpacked(run), reason, seconds


async def _over(future: asyncio.Future[Any]) -> None:
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # asked for, so that nobody reports it


#: A run on its way between processes.
_Packed = tuple[str, str, str, list[Event]]


def _in_worker(job: Job, options: dict[str, Any]) -> tuple[_Packed | None, str | None, float | None]:
    """Play a cell in this process, which has no loop of its own."""
    try:
        run, reason, seconds = asyncio.run(_here(job, options))
    except KeyboardInterrupt:  # Ctrl+C in a terminal is for every process there
        return None, "interrupted", None
    if run is None:
        return None, reason, seconds
    events = [event._replace(data=dict(event.data)) for event in run.timeline]
    return (run.handler, run.on, run.fault, events), reason, seconds


def _unpacked(packed: _Packed | None) -> Run | None:
    if packed is None:
        return None
    handler, on, fault, events = packed
    return Run(handler, on, fault, Timeline.of(events))


def _at_once() -> int:
    """How many cells may be played at once, by the number of files that this process may open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit on sockets
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    try:
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 - only their number
    except OSError:
        used = 64
    return max(1, min(_MOST, (soft - used) // _DESCRIPTORS))
