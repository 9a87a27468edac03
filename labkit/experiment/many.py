"""Plays many experiments: side by side in the running loop, or in batches by the workers of an executor."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import closing, nullcontext
from typing import Any, Final, NamedTuple, TypeVar
from uuid import uuid4

from labkit.clients.template import one_template
from labkit.errors import BadHandler, BadValue, LabError
from labkit.events import HandlerBlocked, LoopHeldUp, LoopMet
from labkit.experiment.carried import Carried, carry, watching
from labkit.experiment.clocks import one_autojump_loop
from labkit.experiment.play import in_company, play
from labkit.experiment.run import Run
from labkit.experiment.shared import keeps_state
from labkit.experiment.travel import Packed, dumps, learn_sources, pack, sources_of, unpack
from labkit.faults import Fault
from labkit.support.collecting import old_garbage_waits
from labkit.support.descriptors import descriptors_for, room_for
from labkit.support.interrupts import cancel_on_interrupt
from labkit.support.loop import check_loop, until_all_done, until_done
from labkit.support.progress_bar import bar
from labkit.support.wakeup import wakeups
from labkit.support.wording import describe_exception
from labkit.watch.handler import name_of

__all__ = ["Job", "Played", "check_executor", "keep", "play_many"]

T = TypeVar("T")

#: The highest number of experiments in a batch. An interrupt has to wait for a batch, so it is small.
_BATCH: Final = 32

_DIED: Final = "its worker died each time while it was played"


class Job(NamedTuple):
    """One of many experiments.

    Attributes:
        target: the handler, or the application.
        on: the stack's name.
        fault: the fault that strikes.
        options: options of :func:`labkit.play` for this one alone.
    """

    target: Any
    on: str
    fault: Fault
    options: Mapping[str, Any] = {}


class Played(NamedTuple):
    """What came of a job.

    Attributes:
        run: the run, or None.
        reason: why there is none.
        seconds: how long it took; None if it was not begun.
    """

    run: Run | None
    reason: str | None = None
    seconds: float | None = None


async def play_many(
    jobs: Sequence[Job],
    options: Mapping[str, Any],
    then: Callable[[int, Played], Awaitable[T]],
    *,
    at_once: int,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[T | None]:
    """Play many experiments, and show how many are done.

    An interrupt ends those that are being played; what is done by then is returned. An executor's batches that have
    begun are waited for, so that nothing of them is left.

    Args:
        jobs: the experiments.
        options: options of :func:`labkit.play` for all of them.
        then: called with the number of each job, from 0, and with what came of it.
        at_once: the highest number that is played in one loop at the same time.
        executor: whose workers play them; the running loop, if None.
        progress: whether to show a progress bar on stderr; if None, only in a terminal and in a notebook.

    Returns:
        What ``then`` returned for each job; None for those that were not done when the interrupt came.
    """
    check_loop()
    with cancel_on_interrupt(), wakeups(), bar(len(jobs), shown=progress) as steps:

        async def take(number: int, played: Played) -> T:
            done = await then(number, played)
            steps.update()
            return done

        if executor is not None:
            return await _play_there(executor, jobs, options, at_once, take)
        async with one_autojump_loop(options.get("clock")):
            return await _play_here(jobs, options, at_once, take)


async def keep(_: int, played: Played) -> Played:
    """Do no more with what came of a job: for ``play_many``, where all of it is looked at in the end."""
    return played


def check_executor(executor: Executor | None, jobs: Sequence[Job], options: Mapping[str, Any]) -> None:
    """Refuse what is no executor, and what cannot be sent to its workers.

    Args:
        executor: whose workers play; None for the running loop.
        jobs: the jobs.
        options: the options for all of them.

    Raises:
        BadValue: it is no executor, or an option cannot be sent; or workers could not find what is watched.
        BadHandler: a handler cannot be sent.
    """
    if executor is None:
        return
    if not isinstance(executor, Executor):
        raise BadValue(
            f"executor={executor!r}; it takes a concurrent.futures.Executor, such as ProcessPoolExecutor(),"
            " or client.get_executor(pure=False) of a Dask client, or None for the running loop"
        )
    carry()
    for target in {id(job.target): job.target for job in jobs}.values():
        try:
            dumps(target, executor)
        except Exception as problem:
            raise BadHandler(
                f"{name_of(target)!r} cannot be sent to another process ({describe_exception(problem)});"
                " define it in a module, and give its name: 'package.module:name'"
            ) from None
    try:
        dumps((options, [(job.fault, job.options) for job in jobs]), executor)
    except Exception as problem:
        raise BadValue(f"the options cannot be sent to another process: {describe_exception(problem)}") from None


def _limit(options: Mapping[str, Any], at_once: int) -> asyncio.Semaphore:
    """Let so many be played at the same time as the files allow that this process may open."""
    return asyncio.Semaphore(room_for(descriptors_for(options.get("clients", 1)), at_once))


async def _play_here(
    jobs: Sequence[Job], options: Mapping[str, Any], at_once: int, then: Callable[[int, Played], Awaitable[T]]
) -> list[T | None]:
    """Play jobs side by side in the running loop; one by one, where a handler keeps something for all its clients.

    A handler that blocks the loop holds up its neighbours. They are played again, side by side, and then each that
    blocks by itself. So is each that has met the clients of others, as in a chat that keeps all of them in one list.
    """
    limit, single = _limit(options, at_once), asyncio.Lock()
    stateful = {key: keeps_state(target) for key, target in {id(job.target): job.target for job in jobs}.items()}
    found: list[T | None] = [None] * len(jobs)
    held_up: dict[int, Played] = {}
    alone: dict[int, Played] = {}

    async def play_first(number: int) -> None:
        asks: list[int] = []
        in_company.set(lambda: asks.append(number))
        async with single if stateful[id(jobs[number].target)] else nullcontext(), limit:
            played = await _play(jobs[number], options)
            if asks or _has_met_others(played) or (_was_held_up(played) and _blocks(played)):
                alone[number] = played
            elif _was_held_up(played):
                held_up[number] = played
            else:
                found[number] = await then(number, played)

    async def play_again(number: int) -> None:
        async with single if stateful[id(jobs[number].target)] else nullcontext(), limit:
            first, played = (held_up | alone)[number], await _play(jobs[number], options)
            # One that blocks at its first call alone, such as for an import, is told as it was.
            again = played.run is not None and (_blocks(played) or _was_held_up(first) or _has_met_others(first))
            found[number] = await then(number, played if again else first)

    async def play_all(numbers: Iterable[int], one: Callable[[int], Coroutine[Any, Any, None]]) -> bool:
        """Whether all is done, and no interrupt came."""
        tasks = [asyncio.create_task(one(number)) for number in numbers]
        await until_all_done(tasks)
        return not any(task.cancelled() for task in tasks)

    with old_garbage_waits():
        async with one_template():
            if await play_all(_in_order(jobs), play_first) and await play_all(held_up, play_again):
                for number in alone:
                    if not await play_all([number], play_again):
                        break
    return found


async def _play_there(
    executor: Executor,
    jobs: Sequence[Job],
    options: Mapping[str, Any],
    at_once: int,
    then: Callable[[int, Played], Awaitable[T]],
) -> list[T | None]:
    """Have jobs played by the workers of an executor, in batches."""
    found: list[T | None] = [None] * len(jobs)

    async def play_batch(batch: Sequence[int]) -> None:
        played = await crew.play([jobs[number] for number in batch])
        done = [await then(number, each) for number, each in zip(batch, played, strict=True)]
        for number, each in zip(batch, done, strict=True):
            found[number] = each

    with closing(_Crew(executor, options, at_once)) as crew:
        size = crew.batch(len(jobs))
        order = _in_order(jobs)
        batches = [order[start : start + size] for start in range(0, len(jobs), size)]
        await until_all_done([asyncio.create_task(play_batch(batch)) for batch in batches])
    return found


def _in_order(jobs: Sequence[Job]) -> list[int]:
    """The numbers of jobs; those first that take real time on any clock: the others have the processor meanwhile."""
    return sorted(range(len(jobs)), key=lambda number: jobs[number].fault.needs not in {"own process", "own loop"})


def _was_held_up(played: Played) -> bool:
    return played.run is not None and bool(played.run.timeline.until_stop().all(LoopHeldUp))


def _blocks(played: Played) -> bool:
    return played.run is not None and bool(played.run.timeline.until_stop().all(HandlerBlocked))


def _has_met_others(played: Played) -> bool:
    met = None if played.run is None else played.run.timeline.until_stop().first(LoopMet)
    return met is not None and not met.earlier  # an earlier one would be met again


async def _play(job: Job, options: Mapping[str, Any]) -> Played:
    """Play one in the running loop."""
    began = time.perf_counter()
    try:
        run = await play(job.target, job.on, job.fault, **{**options, **job.options})
    except LabError as problem:
        return Played(None, str(problem), time.perf_counter() - began)
    except Exception as problem:
        return Played(None, describe_exception(problem), time.perf_counter() - began)
    return Played(run, None, time.perf_counter() - began)


class _Crew:
    """The workers of an executor, and of the pools that take its place when it has lost one of its processes."""

    def __init__(self, executor: Executor, options: Mapping[str, Any], at_once: int) -> None:
        self._executor = executor
        self._options = options
        self._at_once = at_once
        self._own: list[Executor] = []

    def close(self) -> None:
        """End the pools that are not the user's."""
        for pool in self._own:
            pool.shutdown()

    def batch(self, count: int) -> int:
        """The number of jobs in a batch, such that every worker gets one."""
        return max(1, min(_BATCH, -(-count // _workers_of(self._executor))))

    async def play(self, jobs: Sequence[Job], losses: int = 0) -> list[Played]:
        """Play a batch.

        A pool that loses a process breaks, whichever job has killed it. The batch is played again, and if that fails
        too, in halves, so that in the end one is alone with its worker. A Dask cluster does not break: it has tried the
        same batch with other workers.
        """
        executor = self._executor
        try:
            return await self._send(executor, jobs)
        except BrokenExecutor as problem:
            if not isinstance(executor, ProcessPoolExecutor):
                return _all(jobs, describe_exception(problem))
            if executor is self._executor:
                self._executor = _anew(executor)
                self._own.append(self._executor)
            if losses and len(jobs) == 1:
                return await self._play_alone(executor, jobs)
        except Exception as problem:
            if not _is_killed(problem):
                return _all(jobs, describe_exception(problem))
            if len(jobs) == 1:
                return _all(jobs, _DIED)
            losses += 1
        half = len(jobs) // 2 if losses else 0
        parts = [part for part in (jobs[:half], jobs[half:]) if part]
        return [each for part in parts for each in await self.play(part, losses + 1)]

    async def _play_alone(self, pool: ProcessPoolExecutor, jobs: Sequence[Job]) -> list[Played]:
        """Play one job in a pool of its own, where nothing but itself can kill the worker."""
        with _anew(pool, 1) as alone:
            try:
                return await self._send(alone, jobs)
            except BrokenExecutor:
                return _all(jobs, _DIED)
            except Exception as problem:
                return _all(jobs, describe_exception(problem))

    async def _send(self, executor: Executor, jobs: Sequence[Job]) -> list[Played]:
        # With a name of its own: a Dask cluster may take the same work for the same result.
        sources = sources_of(job.target for job in jobs)
        work = dumps((list(jobs), dict(self._options), self._at_once, sources, uuid4()), executor)
        future = executor.submit(_in_worker, work, carry())
        result = asyncio.wrap_future(future)
        try:
            await asyncio.wait([result])
        except asyncio.CancelledError:
            # If the batch has not begun, it never will. If it has, wait for its end, so that nothing is left behind.
            future.cancel()
            await until_done(asyncio.create_task(_wait_for(result)))
            raise
        if result.cancelled():
            raise LabError("the executor has cancelled it")
        return [Played(unpack(packed), reason, seconds) for packed, reason, seconds in result.result()]


def _workers_of(executor: Executor) -> int:
    """How many batches an executor plays at the same time; as many as processors, where that is not known."""
    workers = getattr(executor, "_max_workers", None)
    if workers is None and (client := getattr(executor, "_client", None)) is not None:
        workers = sum(client.nthreads().values())  # Dask
    return workers or os.cpu_count() or 1


def _anew(pool: ProcessPoolExecutor, workers: int | None = None) -> ProcessPoolExecutor:
    """Make a pool like one that is broken: it takes no more work."""
    made_with = vars(pool)
    return ProcessPoolExecutor(
        workers or made_with["_max_workers"],
        made_with["_mp_context"],
        made_with["_initializer"],
        made_with["_initargs"],
    )


def _all(jobs: Sequence[Job], reason: str) -> list[Played]:
    return [Played(None, reason)] * len(jobs)


def _is_killed(problem: Exception) -> bool:
    """Whether Dask says with it that the workers which had the batch have died, one after the other."""
    dask = sys.modules.get("distributed.scheduler")
    return dask is not None and isinstance(problem, dask.KilledWorker)


async def _wait_for(future: asyncio.Future[Any]) -> None:
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # retrieved, so that asyncio does not log it


def _in_worker(work: bytes, carried: Carried) -> list[tuple[Packed | None, str | None, float | None]]:
    """Play jobs in a worker, in a new loop."""
    jobs, options, at_once, sources, _ = pickle.loads(work)  # noqa: S301 - from the process that has started this one
    learn_sources(sources)

    async def keep(_: int, played: Played) -> Played:
        return played

    async def play_all() -> list[Played]:
        with watching(carried):
            async with one_autojump_loop(options.get("clock")):
                found = await _play_here(jobs, options, at_once, keep)
        return [each or Played(None, "interrupted") for each in found]

    try:
        return [(pack(run), reason, seconds) for run, reason, seconds in asyncio.run(play_all())]
    except KeyboardInterrupt:  # a terminal sends Ctrl+C to the worker processes too
        return [(None, "interrupted", None)] * len(jobs)
