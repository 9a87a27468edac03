"""A matrix over every moment: each cell tells the worst of its moments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from itertools import groupby
from typing import Any, Final

from labkit.errors import LabError
from labkit.experiment.many import Job, Played, keep, play_many
from labkit.experiment.moments import moments
from labkit.experiment.strip import Strip
from labkit.matrices.plan import Planned

__all__ = ["EVERY", "play_every"]

#: The value of ``when`` for this matrix.
EVERY: Final = "every"

_INTERRUPTED: Final = "interrupted"


async def play_every(
    cells: Sequence[Planned], options: Mapping[str, Any], *, executor: Executor | None, progress: bool | None
) -> list[Played]:
    """Play each cell at each of its moments, and once where its fault strikes in the handshake.

    Args:
        cells: the cells.
        options: options of :func:`labkit.play` for all of them, without ``when``.
        executor: whose workers play the moments; the running loop, if None.
        progress: whether to show a progress bar for each handler on each stack.

    Returns:
        For each cell the run of its worst moment, the first of several.
    """
    found: list[Played] = []
    for _, group in groupby(cells, key=lambda each: (each.cell.handler, each.cell.stack)):
        same = list(group)
        interrupted = any(played.reason == _INTERRUPTED for played in found)
        found += (
            [Played(None, _INTERRUPTED)] * len(same)
            if interrupted
            else await _play(same, options, executor=executor, progress=progress)
        )
    return found


async def _play(
    cells: Sequence[Planned], options: Mapping[str, Any], *, executor: Executor | None, progress: bool | None
) -> list[Played]:
    """Play the cells of one handler on one stack."""
    target, stack = cells[0].handler, cells[0].cell.stack
    swept = [each.fault for each in cells if each.fault.moment != "handshake"]
    once = [each.fault for each in cells if each.fault.moment == "handshake"]

    by_fault: dict[str, Played] = {}
    try:
        if swept:
            strips = await moments(target, [stack], swept, executor=executor, progress=progress, **options)
            by_fault |= {strip.fault: _worst(strip) for strip in strips}
        jobs = [Job(target, stack, fault) for fault in once]
        found = await play_many(jobs, options, keep, at_once=len(jobs) or 1, executor=executor, progress=False)
        by_fault |= {str(fault): played for fault, played in zip(once, found, strict=True) if played is not None}
    except asyncio.CancelledError:
        if (this_task := asyncio.current_task()) is not None:
            this_task.uncancel()
    except LabError as problem:
        return [by_fault.get(str(each.fault), Played(None, str(problem))) for each in cells]
    return [by_fault.get(str(each.fault), Played(None, _INTERRUPTED)) for each in cells]


def _worst(strip: Strip) -> Played:
    """The run of the worst moment; without one, if not every moment was played."""
    if any(strike.reason == _INTERRUPTED for strike in strip.strikes):
        return Played(None, _INTERRUPTED)
    strike = strip.outcomes[0].strikes[0]
    run = strip.runs[strip.strikes.index(strike)]
    return Played(run, strike.reason or None if run is None else None)
