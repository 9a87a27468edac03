"""A handler that stops the loop does not end the lab."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import labkit


def at_once() -> None:
    asyncio.get_running_loop().stop()


def by_a_callback() -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.stop)


@pytest.mark.parametrize("clock", ["real", "autojump"])
@pytest.mark.parametrize("stops", [at_once, by_a_callback])
async def test_who_stops_the_loop_is_told_of(stops: Callable[[], None], clock: Any) -> None:
    """It ends the server where the handler runs in earnest; here the experiment goes on to its end."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)
        stops()
        await asyncio.sleep(0)

    run = await labkit.play(handler, on="websockets", fault="close", clock=clock)
    assert (run.verdict.ending, run.verdict.noticed, run.outcome) == ("returned", "yes", "noisy")
    lines = {f"line {stops.__code__.co_firstlineno + 1}", "a handler"}
    assert run.verdict.complaints in {
        (f"loop.stop() in {line}, which ends the server outside the lab",) for line in lines
    }


async def test_a_loop_of_the_handlers_own_is_its_to_stop() -> None:
    """Such as that of a thread."""

    async def handler(websocket: Any) -> None:
        await asyncio.to_thread(asyncio.run, asyncio.sleep(0))
        await websocket.wait_closed()

    run = await labkit.play(handler, on="websockets", fault="close")
    assert run.outcome == "clean", run
