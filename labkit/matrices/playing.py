"""Playing a matrix: many cells at once, and what is done when it is interrupted."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final

from labkit.bar import bar
from labkit.errors import LabError
from labkit.experiment import Run, play
from labkit.faults import Fault
from labkit.matrices.plan import Handlers, Job, check_executor, plan
from labkit.matrices.result import Matrix
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

#: How many cells are sent to another process at once: few enough that an interrupt need not wait long for them.
_BATCH: Final = 32


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
            be importable there. They are sent in batches, and an interrupt waits for the batches that are under way.
            If None, the cells share the running loop.
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
    size = 1 if executor is None else _batch(len(jobs), executor)
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    with pulse(), bar(len(jobs), shown=progress) as steps:

        async def some(batch: list[Job]) -> list[_Played]:
            if executor is None:
                played = [await _here(batch[0], play_options, room)]
            else:
                played = await _there(executor, batch, play_options)
            steps.update(len(batch))
            return played

        answers = await _all([asyncio.create_task(some(batch)) for batch in batches])
    played = [
        cell for answer, batch in zip(answers, batches, strict=True) for cell in (answer or [_INTERRUPTED] * len(batch))
    ]
    cells = [
        replace(job.cell, verdict=None if run is None else run.verdict, reason=reason, seconds=seconds)
        for job, (run, reason, seconds) in zip(jobs, played, strict=True)
    ]
    return Matrix(tuple(cells), tuple(run for run, _, _ in played), tuple(job.handler for job in jobs))


async def _all(tasks: list[asyncio.Task[list[_Played]]]) -> list[list[_Played] | None]:
    """Wait for all tasks. If a cancel comes, cancel them, swallow it, and give None for what was not done by then."""
    me = asyncio.current_task()
    assert me is not None
    pending, done = set(tasks), None
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError:
            me.uncancel()
            # A second cancel changes nothing: how long a cell takes to end is bounded.
            if done is None:
                done = {task for task in tasks if task.done()}
                for task in tasks:
                    task.cancel()
    return [task.result() if (done is None or task in done) and not task.cancelled() else None for task in tasks]


async def _here(job: Job, options: dict[str, Any], room: asyncio.Semaphore) -> _Played:
    """Play a cell in the running loop."""
    async with room:
        began = time.perf_counter()
        try:
            run = await play(job.handler, job.cell.stack, job.fault, **options)
        except LabError as problem:
            return None, str(problem), time.perf_counter() - began
        except Exception as problem:
            return None, of_exception(problem), time.perf_counter() - began
        return run, None, time.perf_counter() - began


async def _there(executor: Executor, batch: list[Job], options: dict[str, Any]) -> list[_Played]:
    """Play cells in another process."""
    try:
        future = executor.submit(_in_worker, batch, options)
    except Exception as problem:
        return [(None, of_exception(problem), None)] * len(batch)
    answer = asyncio.wrap_future(future)
    try:
        played = await asyncio.shield(answer)
    except asyncio.CancelledError:
        # A batch that has not begun never will; one that has comes to its end, and nothing of it is left.
        future.cancel()
        await until_done(asyncio.create_task(_over(answer)))
        raise
    except Exception as problem:
        return [(None, of_exception(problem), None)] * len(batch)
    return [(_unpacked(packed), reason, seconds) for packed, reason, seconds in played]


async def _over(future: asyncio.Future[Any]) -> None:
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # asked for, so that nobody reports it


#: A run on its way between processes.
_Packed = tuple[str, str, str, list[Event]]


def _in_worker(batch: list[Job], options: dict[str, Any]) -> list[tuple[_Packed | None, str | None, float | None]]:
    """Play cells in this process, which has no loop of its own."""

    async def everything() -> list[_Played]:
        room = asyncio.Semaphore(_at_once())
        return await asyncio.gather(*(_here(job, options, room) for job in batch))

    try:
        return [(_packed(run), reason, seconds) for run, reason, seconds in asyncio.run(everything())]
    except KeyboardInterrupt:  # Ctrl+C in a terminal is for every process there
        return [(None, "interrupted", None)] * len(batch)


def _packed(run: Run | None) -> _Packed | None:
    if run is None:
        return None
    return run.handler, run.on, run.fault, [event._replace(data=dict(event.data)) for event in run.timeline]


def _unpacked(packed: _Packed | None) -> Run | None:
    if packed is None:
        return None
    handler, on, fault, events = packed
    return Run(handler, on, fault, Timeline.of(events))


def _batch(count: int, executor: Executor) -> int:
    """How many cells to send at once: so many that each process gets some."""
    workers = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
    return max(1, min(_BATCH, -(-count // workers)))


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
