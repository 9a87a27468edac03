"""A handler that ends by itself before its conversation is through has its moments too, up to its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

import labkit


async def answers_first(websocket: Any) -> None:
    """The window that an outbox closes: the client has its answer, and nothing is written."""
    await websocket.recv()
    await websocket.send("accepted")
    await asyncio.sleep(0.001)
    labkit.note("charged")
    await asyncio.sleep(0.001)
    labkit.note("written")


async def answers_once(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.receive()
    await asyncio.sleep(0.001)
    labkit.note("charged")
    await ws.send_str("accepted")
    await asyncio.sleep(0.001)
    labkit.note("written")
    return ws


async def closes_first(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.receive()
    await ws.close()
    await asyncio.sleep(0.001)
    labkit.note("written")
    return ws


def charged_is_written(run: labkit.Run) -> bool:
    notes = [event.text for event in run.timeline.until_stop().select("handler", "note")]
    return "charged" not in notes or "written" in notes


async def test_each_of_its_awaits_is_struck() -> None:
    """A cancel between the two steps leaves the one without the other, on either stack."""
    strip = await labkit.moments(answers_first, "websockets", "cancel", holds=charged_is_written)
    assert [(row["moment"], row["done"], row["outcome"]) for row in strip.rows()] == [
        ("await 1", "", "cancelled"),
        ("await 2", "", "cancelled"),
        ("await 3", "charged", "broken"),
        ("through", "", "unstruck"),
    ]
    assert strip.notices == ()
    strip = await labkit.moments(answers_once, "aiohttp-cancel", "reset", holds=charged_is_written)
    assert [row["moment"] for row in strip.rows() if row["outcome"] == "broken"] == ["await 3"]
    strip = await labkit.moments(answers_once, "aiohttp", "reset", holds=charged_is_written)
    assert [row["moment"] for row in strip.rows() if row["outcome"] == "broken"] == ["await 1", "await 2"]
    assert strip["through"].verdict.struck is False


async def test_awaits_behind_its_own_close_are_unstruck() -> None:
    """There is no connection any more that a fault could strike; but the handler is the same each time."""
    strip = await labkit.moments(closes_first, "aiohttp", "reset")
    assert [row["outcome"] for row in strip.rows()][-2:] == ["unstruck", "unstruck"]
    assert strip.notices == ()


async def takes_it_back(websocket: Any) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


async def returns_in_finally(websocket: Any) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        return  # noqa: B012 - what is tested


class Absorbs:
    """It lets nothing out."""

    async def __aenter__(self) -> None:
        """Do nothing."""

    async def __aexit__(self, *_: object) -> bool:
        """Whatever it is."""
        return True


async def lets_nothing_out(websocket: Any) -> None:
    async with Absorbs():
        async for message in websocket:
            await websocket.send(message)


async def waits_for_a_stubborn_task(websocket: Any) -> None:
    async def pump() -> None:
        while True:
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                labkit.note("not now")

    async with asyncio.TaskGroup() as group:
        group.create_task(pump())
        async for message in websocket:
            await websocket.send(message)


@pytest.mark.parametrize(
    ("handler", "wrong", "mending"),
    [
        (takes_it_back, "so asyncio.timeout around it does not fire", "leave `uncancel()` to who has cancelled"),
        (returns_in_finally, "swallows the cancel", "leave the `return` out of the `finally`"),
        (lets_nothing_out, "swallows the cancel", "what stands in the `with` must let a cancel pass"),
        (waits_for_a_stubborn_task, "waits_for_a_stubborn_task.pump", "let the cancel pass in that task too"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_what_mends_it_is_told(handler: Any, wrong: str, mending: str) -> None:
    """A sentence that fits the code, and not another kind of mistake."""
    strip = await labkit.moments(handler, "websockets", "cancel", patience=0.4)
    [finding] = strip.findings
    assert wrong in finding
    assert mending in finding


async def test_a_limit_of_time_that_does_not_fire_is_in_the_sentence() -> None:
    """Who takes a cancel back that is another's has swallowed nothing, and yet the limit is lost."""
    run = await labkit.play(takes_it_back, "websockets", "cancel")
    assert run.verdict.swallowed == ()
    assert "so the limit of time had no effect" in run.verdict.sentence
