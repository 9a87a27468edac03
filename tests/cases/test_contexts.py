"""Handlers that start tasks in a context of their own, as those do that keep what they know out of a job."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import labkit
from labkit.support.clock import scaled

Starts = Callable[[Any], "asyncio.Task[None]"]


def in_an_empty_one(job: Any) -> asyncio.Task[None]:
    return asyncio.create_task(job, context=contextvars.Context())


def from_an_empty_one(job: Any) -> asyncio.Task[None]:
    return contextvars.Context().run(asyncio.create_task, job)


@pytest.mark.parametrize("start", [in_an_empty_one, from_an_empty_one])
async def test_a_task_in_an_empty_context_is_its_handlers_all_the_same(start: Starts) -> None:
    """It is left behind, its lines ran, and the lab ends it."""
    word: contextvars.ContextVar[str] = contextvars.ContextVar("word")
    heard: list[str | None] = []
    tasks: list[asyncio.Task[None]] = []

    async def polls(websocket: ServerConnection) -> None:
        async def job() -> None:
            heard.append(word.get(None))
            while True:  # noqa: ASYNC110 - as people poll
                await asyncio.sleep(scaled(0.02))

        word.set("secret")
        tasks.append(start(job()))
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(polls, on="websockets", fault="close", patience=0.2)
    [left] = run.verdict.leaked or ()
    assert "polls.job, started in line " in left
    assert run.verdict.lines_never_ran == ()
    assert (heard, tasks[0].done()) == ([None], True)
