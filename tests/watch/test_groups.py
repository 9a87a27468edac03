"""A fault that raises in a handler whose work is done by the tasks of a group: one of them fails, as in life."""

from __future__ import annotations

import asyncio
from typing import Any

import labkit
from labkit.events import HandlerEnd


async def read(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


async def of_asyncio(websocket: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(read(websocket))


async def test_the_group_ends_its_other_tasks() -> None:
    """The handler raises the group with the fault's exception in it, and leaves no task behind."""
    run = await labkit.play(of_asyncio, on="websockets", fault="handler-error")
    assert run.verdict.ending == "raised"
    assert "InducedError: a step of the handler fails" in str(run.verdict.exception)
    assert run.verdict.leaked == ()
    end = run.timeline.first(HandlerEnd)
    assert end is not None
    assert end.induced


async def test_an_exception_around_the_faults_own_comes_from_it() -> None:
    """As a cause; and one that has nothing to do with it does not."""

    async def wraps(websocket: Any) -> None:
        try:
            await read(websocket)
        except RuntimeError as error:
            raise ValueError("the work is lost") from error

    async def has_its_own(websocket: Any) -> None:
        await websocket.recv()
        raise ValueError("by itself")

    for handler, induced in ((wraps, True), (has_its_own, False)):
        end = (await labkit.play(handler, on="websockets", fault="handler-error")).timeline.first(HandlerEnd)
        assert end is not None
        assert end.ending == "raised"
        assert end.induced is induced
