"""Does the lab find the same every time, on a busy machine, and leave nothing? python benchmarks/steady.py.

It plays five handlers against the whole matrix, and those of ``cases.py``, of which it is known what is right. Two busy
processes run beside it. Times are left out of what is compared: how long is not what happened.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import re
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import psutil
from cases import ALONE, CASES, Case, enough
from handlers import HANDLERS

import labkit

#: A cell of the matrix, by its names; and what was found in it.
Key = tuple[str, str, str]
Finding = tuple[tuple[str, Any], ...]

#: So many of the cases are played at the same time.
AT_ONCE = 8

_DURATION = re.compile(r"\b\d+(\.\d+)? (ms|s)\b")
_NUMBERS = re.compile(r"0x[0-9a-f]+|\bport \d+|:\d{4,5}\b|\bpid \d+")


@contextlib.contextmanager
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


def finding(verdict: labkit.Verdict) -> Finding:
    """Tell what was found, without times and numbers that the system gives out."""
    return tuple(
        (field.name, steady(getattr(verdict, field.name)))
        for field in dataclasses.fields(verdict)
        if field.name not in {"noticed_after", "blocked"}
    )


def steady(value: Any) -> Any:
    """Take the times and the numbers out of a finding, or out of those of other connections."""
    if isinstance(value, str):
        return _NUMBERS.sub("…", _DURATION.sub("…", value))
    if isinstance(value, labkit.Verdict):
        return finding(value)
    return tuple(map(steady, value)) if isinstance(value, tuple) else value


async def play_matrix() -> Iterable[tuple[Key, Finding]]:
    """Play the five handlers on every stack against every fault."""
    table = await labkit.matrix(HANDLERS, progress=False)
    return [
        (
            (cell.handler, cell.stack, cell.fault),
            (("reason", cell.reason),) if cell.verdict is None else finding(cell.verdict),
        )
        for cell in table.cells
    ]


async def play_cases() -> Iterable[tuple[Key, Finding]]:
    """Play the cases, some side by side, and those that keep the loop one after the other."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def play(case: Case) -> tuple[Key, Finding]:
        async with limit:
            run = await labkit.play(case.handler, case.on, case.fault, **case.options)
        key = case.handler.__name__, case.on, case.fault or "none"
        return key, (("right", case.right(run)), *finding(run.verdict))

    enough.clear()
    found = await asyncio.gather(*(play(case) for case in CASES if case.handler not in ALONE))
    found += [await play(case) for case in CASES if case.handler in ALONE]
    enough.set()
    return found


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


#: What is played; what each round finds.
PLAYS: Mapping[str, Callable[[], Awaitable[Iterable[tuple[Key, Finding]]]]] = {
    "matrix": play_matrix,
    "cases": play_cases,
}


async def measure(what: str, rounds: int, spinning: int) -> None:
    seen: dict[Key, Counter[Finding]] = defaultdict(Counter)
    done = 0
    try:
        with busy(spinning):
            print(f"{what:<6}   wall, s   " + "   ".join(leftovers()))
            await PLAYS[what]()  # what the libraries import late is there from now on
            for number in range(1, rounds + 1):
                began = time.perf_counter()
                found = await PLAYS[what]()
                wall = time.perf_counter() - began
                for key, each in found:
                    seen[key][each] += 1
                del found
                done = number
                left = leftovers()
                left["children"] -= spinning
                figures = "   ".join(f"{value:>{len(name)}}" for name, value in left.items())
                print(f"{number:>6}   {wall:>7.1f}   {figures}", flush=True)
    finally:
        report(what, seen, done, spinning)


def report(what: str, seen: dict[Key, Counter[Finding]], rounds: int, spinning: int) -> None:
    """Print what differed in the rounds that were played, all or those before an interrupt."""
    told = differences(seen)
    unsteady = sum(len(findings) > 1 for findings in seen.values())
    wrong = {key: times for key, findings in seen.items() if (times := count_wrong(findings))}
    print(f"{len(seen)} plays, {rounds} rounds, {spinning} busy processes beside them: {unsteady} ever differed")
    print("\n".join(told))
    if what == "cases":
        print(f"not right: {sum(wrong.values())} of {len(seen) * rounds}")
        print("\n".join(f"{' · '.join(key)}: {times} times" for key, times in wrong.items()))


def count_wrong(findings: Counter[Finding]) -> int:
    """Count the rounds in which what was found was not right."""
    return sum(times for each, times in findings.items() if dict(each).get("right") is False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="how many times all is played (default: 50)")
    parser.add_argument("--busy", type=int, default=2, help="busy processes beside it (default: 2)")
    parser.add_argument("--only", choices=PLAYS, help="play the matrix alone, or the cases alone")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        for what in [options.only] if options.only else PLAYS:
            asyncio.run(measure(what, options.rounds, options.busy))


if __name__ == "__main__":
    main()
