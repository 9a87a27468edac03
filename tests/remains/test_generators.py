"""Asynchronous generators that a handler leaves half-way."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

import labkit

#: What handlers keep beyond their end, and whether it was closed.
kept: list[Any] = []
closed: list[str] = []


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    kept.clear()
    closed.clear()


async def prices() -> AsyncIterator[int]:
    try:
        while True:
            yield 1
    finally:
        closed.append("prices")


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    try:
        yield
    finally:
        closed.append("session")


def line(function: Any, number: int) -> str:
    """So many lines below the first one of a function."""
    return f"line {function.__code__.co_firstlineno + number}"


async def test_a_generator_that_waits_half_way_is_left_behind() -> None:
    """Its `finally` does not run until somebody closes it; the lab does."""

    async def leaves(websocket: Any) -> None:
        kept.append(feed := prices())
        await anext(feed)
        await websocket.wait_closed()

    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.2)
    waits = f"line {prices.__code__.co_firstlineno + 3}"
    assert run.verdict.leaked == (
        f"asynchronous generator prices, begun in {line(leaves, 2)}, which waits at {waits} to be closed",
    )
    assert closed == ["prices"]


async def test_a_context_that_is_entered_and_never_left_is_one() -> None:
    """`asynccontextmanager` makes a generator into a context."""

    async def leaves(websocket: Any) -> None:
        kept.append(entered := session())
        await entered.__aenter__()
        await websocket.wait_closed()

    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.2)
    [told] = run.verdict.leaked or ()
    assert told.startswith(f"asynchronous generator session, begun in {line(leaves, 2)}, which waits at line ")


async def test_one_that_is_closed_or_through_is_not_left() -> None:
    """Nor one that nobody has any more: the loop closes it."""

    async def tidy(websocket: Any) -> None:
        async with aclosing(prices()) as feed, session():
            kept.append(feed)
            await anext(feed)
            await websocket.wait_closed()

    async def drops(websocket: Any) -> None:
        await anext(prices())
        await websocket.wait_closed()

    before = sys.get_asyncgen_hooks()
    for handler in (tidy, drops):
        run = await labkit.play(handler, on="websockets", fault="reset", patience=5)
        assert run.verdict.leaked == ()
    assert sys.get_asyncgen_hooks() == before
    assert closed == ["session", "prices", "prices"]


async def test_one_goes_with_the_task_that_goes_through_it() -> None:
    """The task is what is left."""

    async def polls() -> None:
        async for _ in prices():
            await asyncio.sleep(60)

    async def leaves(websocket: Any) -> None:
        kept.append(asyncio.create_task(polls(), name="poll"))
        await websocket.wait_closed()

    run = await labkit.play(leaves, on="websockets", fault="close", patience=0.2)
    assert [each.partition(" (")[0] for each in run.verdict.leaked or ()] == ["task poll"]
