"""Handlers that leave the same thing behind, or fail in the same way, again and again: a reader is told once."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection

import labkit


async def test_what_is_left_or_complained_of_many_times_is_one_line() -> None:
    """A worker for each message, of which some wait for ever and the others fail; the verdict has each of them."""

    async def works_for_each(websocket: ServerConnection) -> None:
        async def waits() -> None:
            await asyncio.Event().wait()

        async def fails() -> None:
            raise LookupError("no such room")

        async for message in websocket:
            for _ in range(30):
                asyncio.create_task(waits())  # noqa: RUF006 - as people forget it
                asyncio.create_task(fails())  # noqa: RUF006
            await websocket.send(message)

    run = await labkit.play(works_for_each, on="websockets", fault="close", patience=0.2)
    assert (len(run.verdict.leaked or ()), len(run.verdict.complaints or ())) == (30, 30)
    assert run.verdict.sentence.count("waits") == 1
    assert f"{works_for_each.__code__.co_firstlineno + 9}, 30 times; 30 complaints." in run.verdict.sentence
    table = str(run).rpartition("\nleaked ")[2]
    assert (table.count("waits"), table.count("no such room"), table.count(", 30 times")) == (1, 1, 2)
