"""Playing a matrix: many cells at the same time, with a useful result even after an interrupt."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final

from labkit.experiment.many import Job, Played, check_executor, keep, play_many
from labkit.faults import Fault
from labkit.matrices.every import EVERY, play_every
from labkit.matrices.plan import Handlers, plan
from labkit.matrices.result import Matrix

__all__ = ["matrix"]

#: The highest number of cells that are played at the same time.
_MOST: Final = 100


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
    notebook.) If a cell raises an exception, that cell is unknown, and the others go on. A handler that blocks the loop
    holds up the other cells; they are played again, and then those that block, each by itself.

    Args:
        handlers: coroutine functions; or a mapping from names to coroutine functions; or a mapping from names to one
            function for each library, as in ``{"echo": {"aiohttp": echo, "websockets": echo_ws}}``. A handler for
            ``aiohttp`` serves each stack of that library that has no handler of its own. A stack without a handler is
            left out.
        on: the names of the stacks. If None, all but those of ASGI, and these where a mapping has their names.
        faults: faults, or names of faults; all of ``labkit.FAULTS`` if None.
        executor: a ``concurrent.futures.Executor`` whose workers play the cells, such as ``ProcessPoolExecutor()``, or
            ``client.get_executor(pure=False)`` of a Dask client. Each worker gets cells in batches, with the handlers'
            code; what a handler changes in its process stays there. The cells of a worker that dies are played again.
            An interrupt waits for the batches that have begun. If None, the running loop plays all cells.
        progress: whether to show a progress bar on stderr; if None, only in a terminal and in a notebook.
        play_options: options of :func:`labkit.play` for every cell. With ``when="every"`` each fault strikes at each
            moment of the handler, as ``labkit.moments`` has it, and the cell tells the worst of them.

    Returns:
        The table; it displays itself in a notebook and in print.

    Raises:
        UnknownName: there is no such stack, fault or client.
        BadHandler: a handler is not a coroutine function of one argument, or two handlers have the same name.
        BadOption: a library does not accept an option.
        BadValue: a list is empty, or another value is wrong.
    """
    every = play_options.get("when") == EVERY
    options = {name: value for name, value in play_options.items() if not (every and name == "when")}
    cells = plan(handlers, on, faults, options)
    jobs = [Job(each.handler, each.cell.stack, each.fault) for each in cells]
    check_executor(executor, jobs, options)

    if every:
        played = await play_every(cells, options, executor=executor, progress=progress)
    else:
        found = await play_many(jobs, options, keep, at_once=_MOST, executor=executor, progress=progress)
        played = [each or Played(None, "interrupted") for each in found]
    return Matrix(
        tuple(
            replace(each.cell, verdict=None if run is None else run.verdict, reason=reason, seconds=seconds)
            for each, (run, reason, seconds) in zip(cells, played, strict=True)
        ),
        tuple(each.run for each in played),
        tuple(each.handler for each in cells),
    )
