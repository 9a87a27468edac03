"""Handlers of signals that a handler sets, and does not set back."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

import labkit

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has few signals")


def ignore(*_: Any) -> None:
    """Of a name in the module: it is set for the whole process all the same."""


async def test_a_handler_of_a_signal_that_is_not_set_back_is_left_behind() -> None:
    """The lab sets it back, also where it was set twice."""

    async def leaves(websocket: Any) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, ignore)
        await websocket.wait_closed()

    before = signal.getsignal(signal.SIGUSR1)
    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.2)
    assert run.verdict.leaked == (f"handler of SIGUSR1, set in line {leaves.__code__.co_firstlineno + 2}",)
    assert signal.getsignal(signal.SIGUSR1) == before


async def test_one_that_is_set_back_is_not_left() -> None:
    """By what `signal.signal` has returned; and asyncio sets its own back by itself."""

    async def sets_back(websocket: Any) -> None:
        before = signal.signal(signal.SIGUSR1, ignore)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, ignore)
        try:
            await websocket.wait_closed()
        finally:
            signal.signal(signal.SIGUSR1, before)
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)

    before = signal.getsignal(signal.SIGUSR1)
    run = await labkit.play(sets_back, on="websockets", fault="reset")
    assert run.verdict.leaked == ()
    assert signal.getsignal(signal.SIGUSR1) == before
