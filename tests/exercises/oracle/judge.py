"""Says what of an exercise's goal a handler breaks, as a plain server and a raw socket see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from tests.exercises.oracle.goals import GOALS, Look
from tests.exercises.oracle.mutants import build
from tests.exercises.oracle.stage import STUCK, play

__all__ = ["find_faults", "is_wrong"]

#: How many plays at a time.
_MOST = 12


async def is_wrong(name: str, source: str) -> str:
    """Say what a plain server and a raw socket see of a handler that breaks the goal; "" if nothing.

    Args:
        name: the exercise.
        source: the handler's source; it is called ``my_handler``.
    """
    return await find_faults(name, lambda plain: build(name, source, labkit=plain))


async def find_faults(name: str, make: Any) -> str:
    """Say the same of a handler that a function makes, given what stands for ``labkit``."""
    few = asyncio.Semaphore(_MOST)

    async def put(look: Look) -> str:
        async with few:
            options = {} if look.on == "websockets" else {"shutdown_timeout": 0.2}
            seen = await play(make, look.on, look.say, look.act, look.patience, **options)
        fault = next(_faults(look, seen), "")
        return f"{look.on}, {look.what}: {fault}" if fault else ""

    first, *others = GOALS[name]
    found = [await put(first)]
    if STUCK not in found[0]:  # once is enough: each takes the time of the others
        found += await asyncio.gather(*map(put, others))
    return next((fault for fault in found if STUCK in fault), next(filter(None, found), ""))


def _faults(look: Look, seen: Any) -> Iterator[str]:
    if STUCK in seen.left:
        yield STUCK
    for judge in look.judges:
        yield from judge(seen)
