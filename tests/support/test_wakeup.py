"""A loop is woken at intervals while somebody waits, so that an interrupt takes effect."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

from labkit.support.wakeup import wakeups


def timers() -> list[asyncio.TimerHandle]:
    loop: Any = asyncio.get_running_loop()
    return [each for each in loop._scheduled if not each.cancelled() and "_Alarm" in repr(each)]


async def test_a_hundred_blocks_wake_the_loop_once() -> None:
    """The first begins, and the last ends it, in whichever order they leave."""
    blocks = [ExitStack() for _ in range(100)]
    for block in blocks:
        block.enter_context(wakeups())
    assert len(timers()) == 1
    for block in blocks[:-1]:
        block.close()
    assert len(timers()) == 1
    blocks[-1].close()
    assert timers() == []


async def test_it_goes_on_waking() -> None:
    """Each time sets the next."""
    with wakeups():
        [first] = timers()
        while timers() == [first]:  # noqa: ASYNC110 - nothing else tells that a timer has fired
            await asyncio.sleep(0.01)
        assert len(timers()) == 1
