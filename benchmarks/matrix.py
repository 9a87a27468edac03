"""How long does the matrix take, beside its slowest cell and beside the processor time that it needs?

python benchmarks/matrix.py [--processes 2] [--clock autojump]

On the clock that jumps, only frozen clients and blocked loops wait, so the whole takes what it computes: 450 cells, on
a slow machine with two cores and nothing else to do, 7.5 s of processor time on Python 3.11, and 7.7 s on the wall; two
workers that are forked take 6.4 s on the wall.

- 375 plain cells, 18,000 calls of functions each. They were 30,000, of which 12,000 stood in another thread than the
  loop's, where nobody had looked: what can be read off a handler's code was read off in each cell. The stand-ins for
  Python's own functions were put in place one by one, each recorded event woke a loop that was awake, and Python looked
  through the whole heap twenty times. What is left is the loop's own steps, 130 for each cell, and what looks at each.
- 15 cells with stalled readers. Since their clients stop after 63 messages, and not after 1,023, where the answers are
  too short to fill the system's buffers, they take a quarter of what they took, which was a fifth of the whole.
- 45 cells whose client is a process, a tenth of it. On Linux clients are forked from one that has imported their
  program; elsewhere each is an interpreter of its own, which takes 0.14 s.

Worker processes pay where cores are free. Where they are forked, as on Linux up to Python 3.13, they import nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from handlers import HANDLERS

import labkit

#: How many rows of a list are shown.
TOP = 8


def processor() -> float:
    """Seconds of processor time of this process, and of those that it started and that have ended."""
    return sum(os.times()[:4])


async def timed(clock: str, executor: Executor | None = None, **options: Any) -> tuple[Any, float, float]:
    began, used = time.perf_counter(), processor()
    table = await labkit.matrix(HANDLERS, executor=executor, progress=False, clock=clock, **options)
    return table, time.perf_counter() - began, processor() - used


def top(figures: dict[str, float], unit: str) -> Iterable[str]:
    for name, value in sorted(figures.items(), key=lambda item: -item[1])[:TOP]:
        yield f"  {name:<24}{value:8.2f} {unit}"


@contextlib.contextmanager
def pool(processes: int) -> Iterator[Executor | None]:
    if not processes:
        yield None
        return
    forks = "fork" in multiprocessing.get_all_start_methods()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork" if forks else "spawn")) as executor:
        yield executor


async def measure(processes: int, clock: str) -> None:
    await timed(clock, faults=["close"])  # what is imported and compiled once
    used = processor()
    with pool(processes) as executor:
        table, wall, cpu = await timed(clock, executor)
    cpu = max(cpu, processor() - used)  # processes count when they have ended
    rows = table.rows()
    slowest = max(rows, key=lambda row: row["seconds"] or 0)
    where = f"in {processes} processes" if processes else "in one loop"
    print(f"{len(rows)} cells {where}: {wall:.1f} s on the wall, {cpu:.1f} s of processor time")
    names = f"{slowest['handler']} on {slowest['stack']} against {slowest['fault']}"
    print(f"the slowest cell took {slowest['seconds']:.1f} s: {names}")
    print(f"wall / slowest cell   {wall / slowest['seconds']:6.2f}")
    print(f"wall / processor time {wall / cpu:6.2f}")
    print(f"one after the other they would take {sum(row['seconds'] or 0 for row in rows):.0f} s")

    longest: dict[str, float] = {}
    for row in rows:
        longest[row["fault"]] = max(longest.get(row["fault"], 0), row["seconds"] or 0)
    print("the longest cell of each fault", *top(longest, "s"), sep="\n")
    if processes > 1:
        with pool(1) as executor:
            _, alone_wall, _ = await timed(clock, executor)
        print(f"{processes} workers / one worker {wall / alone_wall:6.2f}")
    if processes:
        return
    alone = {fault: await timed(clock, faults=[fault]) for fault in labkit.FAULTS}
    print("each fault alone, on the wall", *top({fault: wall for fault, (_, wall, _) in alone.items()}, "s"), sep="\n")
    print("each fault alone, processor", *top({fault: cpu for fault, (_, _, cpu) in alone.items()}, "s"), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=0, help="worker processes; 0 for one loop (default)")
    parser.add_argument("--clock", default="real", help="real (default) or autojump")
    given = parser.parse_args()
    asyncio.run(measure(given.processes, given.clock))


if __name__ == "__main__":
    main()
