"""An event of asyncio that costs nothing until somebody waits for it."""

from __future__ import annotations

import asyncio

from labkit.support.flag import Flag


async def test_whoever_waits_goes_on_when_it_is_set() -> None:
    """Whether it is set before or later; taken back, it makes the next one wait."""
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    flag.set()
    await asyncio.gather(*waiting)
    await flag.wait()
    flag.clear()
    assert not flag.is_set()
    again = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    assert not again.done()
    flag.set()
    await again
