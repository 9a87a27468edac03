"""Does the matrix find the same every time, on a busy machine, and leave nothing? python benchmarks/steady.py.

Two busy processes run beside it. Times are left out of what is compared: how long is not what happened.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import re
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from handlers import HANDLERS

import labkit

#: A cell of the matrix, by its names; and what was found in it.
Key = tuple[str, str, str]
Finding = tuple[tuple[str, Any], ...]

_DURATION = re.compile(r"\b\d+(\.\d+)? (ms|s)\b")
_NUMBERS = re.compile(r"0x[0-9a-f]+|\bport \d+|:\d{4,5}\b|\bpid \d+")


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep processors busy while the block runs."""
    spin = [sys.executable, "-c", "while True: pass"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen(spin))  # noqa: PERF401 - each counts from the moment that it is there
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def finding(cell: Any) -> Finding:
    """Tell what was found in a cell, without times and numbers that the system gives out."""
    if cell.verdict is None:
        return (("reason", cell.reason),)
    found = dataclasses.asdict(cell.verdict)
    del found["noticed_after"]
    for name, value in found.items():
        if isinstance(value, str):
            found[name] = _NUMBERS.sub("…", _DURATION.sub("…", value))
    return tuple(found.items())


def leftovers() -> dict[str, float]:
    """Count what a round may leave behind: it is the difference between rounds that tells."""
    gc.collect()
    me = psutil.Process()
    return {
        "tasks": len(asyncio.all_tasks()) - 1,
        "descriptors": me.num_fds() if hasattr(me, "num_fds") else me.num_handles(),
        "threads": threading.active_count(),
        "children": len(me.children(recursive=True)),
        "RSS, MB": round(me.memory_info().rss / 2**20, 1),
    }


def differences(seen: dict[Key, Counter[Finding]]) -> list[str]:
    """Tell of each cell in which not all rounds agree: what the rare ones found."""
    lines = []
    for key, findings in seen.items():
        (usual, _), *rare = findings.most_common()
        for other, times in rare:
            parts = [
                f"{name}: {dict(usual).get(name)!r} → {value!r}"
                for name, value in other
                if dict(usual).get(name) != value
            ]
            lines.append(f"{' · '.join(key)} ({times} times): {'; '.join(parts)}")
    return lines


async def measure(rounds: int, spinning: int) -> None:
    seen: dict[Key, Counter[Finding]] = defaultdict(Counter)
    with busy(spinning):
        print("round   wall, s   " + "   ".join(leftovers()))
        for number in range(1, rounds + 1):
            began = time.perf_counter()
            table = await labkit.matrix(HANDLERS, progress=False)
            wall = time.perf_counter() - began
            for cell in table.cells:
                seen[cell.handler, cell.stack, cell.fault][finding(cell)] += 1
            del table
            left = leftovers()
            left["children"] -= spinning
            figures = "   ".join(f"{value:>{len(name)}}" for name, value in left.items())
            print(f"{number:>5}   {wall:>7.1f}   {figures}", flush=True)
    told = differences(seen)
    unsteady = sum(len(findings) > 1 for findings in seen.values())
    print(f"{len(seen)} cells, {rounds} rounds, {spinning} busy processes beside them: {unsteady} cells ever differed")
    print("\n".join(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="how many times the matrix is played (default: 50)")
    parser.add_argument("--busy", type=int, default=2, help="busy processes beside it (default: 2)")
    options = parser.parse_args()
    asyncio.run(measure(options.rounds, options.busy))


if __name__ == "__main__":
    main()
