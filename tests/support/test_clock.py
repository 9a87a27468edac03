"""The scale on which the lab waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from labkit.errors import BadValue
from labkit.support.clock import scaled, timeout


def test_waits_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    """LABKIT_TIME_SCALE stretches every wait; without it nothing changes."""
    monkeypatch.delenv("LABKIT_TIME_SCALE", raising=False)
    assert scaled(0.5) == 0.5
    monkeypatch.setenv("LABKIT_TIME_SCALE", "3")
    assert scaled(0.5) == 1.5


@pytest.mark.parametrize("text", ["fast", "0", "-1", "inf", "nan", ""])
def test_a_scale_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """One sentence says what it takes."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", text)
    with pytest.raises(BadValue, match="takes a positive number"):
        scaled(1)


async def test_a_busy_loop_does_not_use_a_timeout_up() -> None:
    """What it waits for gets its turns, though the clock says that the time is long over; asyncio's expires."""

    async def ten_turns() -> str:
        for _ in range(10):
            time.sleep(0.01)  # noqa: ASYNC251 - somebody else in this loop
            await asyncio.sleep(0)
        return "done"

    async with timeout(0.02):
        assert await ten_turns() == "done"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await ten_turns()


async def test_a_timeout_expires() -> None:
    """On a loop that has nothing else to do after its time; without a limit never."""
    before = time.perf_counter()
    with pytest.raises(TimeoutError):
        async with timeout(0.05):
            await asyncio.Event().wait()
    assert time.perf_counter() - before >= 0.05
    async with timeout(None):
        await asyncio.sleep(0)


async def test_a_timeout_leaves_a_cancel_alone() -> None:
    """Who is cancelled from outside gets the cancel, not a TimeoutError."""

    async def waits() -> None:
        async with timeout(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
