"""Playing a matrix: many cells at the same time, with a useful result even after an interrupt."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final

from labkit.errors import LabError
from labkit.events import Event
from labkit.experiment.clocks import one_autojump_loop
from labkit.experiment.play import play
from labkit.experiment.run import Run
from labkit.faults import Fault
from labkit.matrices.plan import Handlers, Job, check_executor, plan
from labkit.matrices.result import Matrix
from labkit.support.descriptors import descriptors_for, room_for
from labkit.support.interrupts import cancel_on_interrupt
from labkit.support.loop import check_loop, until_all_done, until_done
from labkit.support.progress_bar import bar
from labkit.support.wakeup import wakeups
from labkit.support.wording import describe_exception
from labkit.timeline import Timeline

__all__ = ["matrix"]

#: The highest number of cells that are played at the same time.
_MOST: Final = 100

#: The result of a cell: the run or None, the reason if there is none, and the duration in seconds.
_Played = tuple[Run | None, str | None, float | None]
_INTERRUPTED: Final[_Played] = (None, "interrupted", None)

#: The highest number of cells in a batch for another process. An interrupt has to wait for a batch, so it is small.
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
    """Play every handler on every stack against every fault, many at the same time.

    An interrupt ends the cells that are being played, and the function returns the table so far; the other cells are
    unknown. (An interrupt is a cancel of the task that awaits this function: Ctrl+C in a script, the stop button in a
    notebook.) If a cell raises an exception, that cell is unknown, and the others go on.

    Args:
        handlers: coroutine functions; or a mapping from names to coroutine functions; or a mapping from names to one
            function for each library, as in ``{"echo": {"aiohttp": echo, "websockets": echo_ws}}``. A handler for
            ``aiohttp`` serves each stack of that library that has no handler of its own. A stack without a handler is
            left out.
        on: the names of the stacks. If None, all but those of ASGI, and these where a mapping has their names.
        faults: faults, or names of faults; all of ``labkit.FAULTS`` if None.
        executor: a ``concurrent.futures.ProcessPoolExecutor`` whose processes play the cells; they must be able to
            import the handlers. Each process gets cells in batches, and an interrupt waits for the batches that have
            begun. If None, all cells are played in the running loop.
        progress: whether to show a progress bar on stderr; if None, only in a terminal and in a notebook.
        play_options: options of :func:`labkit.play` for every cell.

    Returns:
        The table; it displays itself in a notebook and in print.

    Raises:
        UnknownName: there is no such stack, fault or client.
        BadHandler: a handler is not a coroutine function of one argument, or two handlers have the same name.
        BadOption: a library does not accept an option.
        BadValue: a list is empty, or another value is wrong.
    """
    jobs = plan(handlers, on, faults, play_options)
    check_executor(executor, jobs, play_options)
    check_loop()
    limit = _limit(play_options)
    size = 1 if executor is None else _batch(len(jobs), executor)
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    with cancel_on_interrupt(), wakeups(), bar(len(jobs), shown=progress) as steps:

        async def play_batch(batch: list[Job]) -> list[_Played]:
            if executor is None:
                played = [await _play_here(batch[0], play_options, limit)]
            else:
                played = await _play_there(executor, batch, play_options)
            steps.update(len(batch))
            return played

        async with one_autojump_loop(play_options.get("clock")):
            results = await until_all_done([asyncio.create_task(play_batch(batch)) for batch in batches])
    played = [
        cell for result, batch in zip(results, batches, strict=True) for cell in (result or [_INTERRUPTED] * len(batch))
    ]
    cells = [
        replace(job.cell, verdict=None if run is None else run.verdict, reason=reason, seconds=seconds)
        for job, (run, reason, seconds) in zip(jobs, played, strict=True)
    ]
    return Matrix(tuple(cells), tuple(run for run, _, _ in played), tuple(job.handler for job in jobs))


def _limit(options: Mapping[str, Any]) -> asyncio.Semaphore:
    """Let so many cells be played at the same time as the files allow that this process may open."""
    return asyncio.Semaphore(room_for(descriptors_for(options.get("clients", 1)), _MOST))


async def _play_here(job: Job, options: dict[str, Any], limit: asyncio.Semaphore) -> _Played:
    """Play a cell in the running loop."""
    async with limit:
        began = time.perf_counter()
        try:
            run = await play(job.handler, job.cell.stack, job.fault, **options)
        except LabError as problem:
            return None, str(problem), time.perf_counter() - began
        except Exception as problem:
            return None, describe_exception(problem), time.perf_counter() - began
        return run, None, time.perf_counter() - began


async def _play_there(executor: Executor, batch: list[Job], options: dict[str, Any]) -> list[_Played]:
    """Play cells in another process."""
    try:
        future = executor.submit(_in_worker, batch, options)
    except Exception as problem:
        return [(None, describe_exception(problem), None)] * len(batch)
    result = asyncio.wrap_future(future)
    try:
        played = await asyncio.shield(result)
    except asyncio.CancelledError:
        # If the batch has not begun, it never will. If it has, wait for its end, so that nothing is left behind.
        future.cancel()
        await until_done(asyncio.create_task(_wait_for(result)))
        raise
    except Exception as problem:
        return [(None, describe_exception(problem), None)] * len(batch)
    return [(_unpacked(packed), reason, seconds) for packed, reason, seconds in played]


async def _wait_for(future: asyncio.Future[Any]) -> None:
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # retrieved, so that asyncio does not log it


#: A run in a form that can be sent between processes.
_Packed = tuple[str, str, str, list[Event], str, str]


def _in_worker(batch: list[Job], options: dict[str, Any]) -> list[tuple[_Packed | None, str | None, float | None]]:
    """Play cells in a worker process, in a new loop."""

    async def play_all() -> list[_Played]:
        limit = _limit(options)
        async with one_autojump_loop(options.get("clock")):
            return await asyncio.gather(*(_play_here(job, options, limit) for job in batch))

    try:
        return [(_packed(run), reason, seconds) for run, reason, seconds in asyncio.run(play_all())]
    except KeyboardInterrupt:  # a terminal sends Ctrl+C to the worker processes too
        return [(None, "interrupted", None)] * len(batch)


def _packed(run: Run | None) -> _Packed | None:
    if run is None:
        return None
    return run.handler, run.on, run.fault, list(run.timeline), run.clock, run.clock_words


def _unpacked(packed: _Packed | None) -> Run | None:
    if packed is None:
        return None
    handler, on, fault, events, *clock = packed
    return Run(handler, on, fault, Timeline.of(events), *clock)


def _batch(count: int, executor: Executor) -> int:
    """The number of cells in a batch, such that every process gets a batch."""
    workers = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
    return max(1, min(_BATCH, -(-count // workers)))
