"""What is to be mended in a handler is told in one sentence each, with the line and the moments."""

from __future__ import annotations

import asyncio
from typing import Any

import labkit


async def naive(websocket: Any) -> None:
    """Three mistakes."""
    try:
        async for message in websocket:
            await websocket.send(message)
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    try:
        await asyncio.sleep(0)
        asyncio.create_task(asyncio.Event().wait(), name="heart")  # noqa: RUF006 - nobody keeps it
        await websocket.wait_closed()
    finally:
        await asyncio.Event().wait()


async def careful(websocket: Any) -> None:
    """None."""
    async with labkit.resource("database"):
        try:
            async for message in websocket:
                await websocket.send(message)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise


async def test_a_cancel_at_each_await_shows_what_to_mend() -> None:
    """A lint for handlers: of a handler that keeps its promises it says nothing."""
    bad, good = await asyncio.gather(
        labkit.moments(naive, "websockets", labkit.Cancel(), patience=0.3),
        labkit.moments(careful, "websockets", "cancel"),
    )
    line = naive.__code__.co_firstlineno + 6
    assert bad.findings[0].startswith(f"Line {line} swallows the cancel, so the handler does not end (at await 1")
    assert bad.findings[0].endswith("through): end the clause with `raise`, after the cleanup.")
    assert bad.findings[0] in str(bad).replace("\n", " ")
    assert good.findings == ()
    assert {row["outcome"] for row in good.rows()} == {"clean"}


async def test_a_cleanup_without_a_limit_and_an_error_in_place_of_the_cancel() -> None:
    """Nothing is swallowed; but the end does not come, or something else than the cancel does."""

    async def endless(websocket: Any) -> None:
        try:
            await websocket.recv()
            await websocket.wait_closed()
        finally:
            await asyncio.Event().wait()

    async def fails(websocket: Any) -> None:
        task = asyncio.create_task(asyncio.Event().wait(), name="heart")
        try:
            await websocket.recv()
            await websocket.wait_closed()
        finally:
            raise LookupError(task.get_name())

    hangs, raises = await asyncio.gather(
        labkit.moments(endless, "websockets", "cancel", patience=0.3),
        labkit.moments(fails, "websockets", "cancel", patience=0.3),
    )
    line = endless.__code__.co_firstlineno + 3
    assert hangs.findings[-1] == (
        f"Cancelled at line {line}, the handler did not end while the patience lasted (at await 2, through):"
        " give its cleanup a limit, such as `asyncio.timeout`."
    )
    assert any("raised LookupError in place of the cancel" in finding for finding in raises.findings)
    assert any("left behind: task heart" in finding for finding in raises.findings)
