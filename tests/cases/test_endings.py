"""Handlers out of people's programs that end in an unusual way; what the lab says of who has ended them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import labkit
from labkit.support.clock import scaled


async def rests() -> None:
    await asyncio.sleep(60)


# --- As cancelled, though nobody has cancelled it --------------------------------------------------------------------


async def stops_its_writer(websocket: ServerConnection) -> None:
    """The usual two lines at the end, of which the second raises what the first has caused."""
    writer = asyncio.create_task(rests())
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        writer.cancel()
        await writer


async def stops_one_of_two(websocket: ServerConnection) -> None:
    keeper, writer = asyncio.create_task(rests(), name="keeper"), asyncio.create_task(rests(), name="writer")
    async for message in websocket:
        await websocket.send(message)
    writer.cancel()
    try:
        await asyncio.gather(keeper, writer)
    finally:
        keeper.cancel()


async def asks_for_a_result(websocket: ServerConnection) -> None:
    writer = asyncio.create_task(rests())
    async for message in websocket:
        await websocket.send(message)
    writer.cancel()
    done, _ = await asyncio.wait([writer])
    done.pop().result()  # here


async def says_so_itself(websocket: ServerConnection) -> None:
    """A limit of time has fired before, and is over: it has nothing to do with the end."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(scaled(0.05)):
            await rests()
    async for message in websocket:
        await websocket.send(message)
    raise asyncio.CancelledError  # here


def line_of(function: Any, text: str) -> int:
    import inspect

    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, line in enumerate(lines, first) if text in line]
    return number


@pytest.mark.parametrize(
    ("handler", "how"),
    [
        (stops_its_writer, "with the task rests, which it awaited"),
        (stops_one_of_two, "with the task writer (rests), which it awaited"),
        (asks_for_a_result, "though nobody cancelled it, in line {line}"),
        (says_so_itself, "though nobody cancelled it, in line {line}"),
    ],
)
async def test_a_cancel_that_nobody_has_asked_of_the_handler_is_told_as_that(handler: Any, how: str) -> None:
    """Its task ends as cancelled; where that comes from is in the handler."""
    run = await labkit.play(handler, on="websockets", fault="close")
    if "{line}" in how:
        how = how.format(line=line_of(handler, "# here"))
    assert run.verdict.ending == "cancelled"
    assert f"and ended as cancelled, {how};" in run.verdict.sentence, run.verdict.sentence


async def test_who_ends_itself_so_has_not_noticed() -> None:
    """Its own code alone can be behind it, so that is no reason to doubt."""

    async def gives_up(_: ServerConnection) -> None:
        writer = asyncio.create_task(rests())
        await asyncio.sleep(scaled(0.3))
        writer.cancel()
        await writer

    run = await labkit.play(gives_up, on="websockets", fault="blackhole", messages=(), when=0.1)
    assert (run.verdict.ending, run.verdict.noticed) == ("cancelled", "no"), str(run)


async def test_a_cancel_that_was_swallowed_before_that_is_told_too() -> None:
    """It is another one; only one that is held back, and passed on later, is none that was swallowed."""

    async def swallows_and_stops(websocket: ServerConnection) -> None:
        writer = asyncio.create_task(rests())
        with contextlib.suppress(asyncio.CancelledError):
            async for message in websocket:
                await websocket.send(message)
        writer.cancel()
        await writer

    async def holds_it_back(websocket: ServerConnection) -> None:
        stopped = False
        try:
            async for message in websocket:
                await websocket.send(message)
        except asyncio.CancelledError:
            stopped = True
        await asyncio.sleep(0)
        if stopped:
            raise asyncio.CancelledError

    run = await labkit.play(swallows_and_stops, on="websockets", fault="cancel")
    assert len(run.verdict.swallowed or ()) == 1
    assert "ended as cancelled, with the task rests, which it awaited" in run.verdict.sentence
    run = await labkit.play(holds_it_back, on="websockets", fault="cancel")
    assert run.verdict.swallowed == ()
    assert "was cancelled by Timeout._on_timeout (asyncio)" in run.verdict.sentence


# --- As a program ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["websockets", "asgi"])
async def test_a_task_that_leaves_the_program_ends_no_lab(on: str) -> None:
    """In production it ends the server, handlers of others and all; the lab says so, and the experiment goes on."""

    async def leaves_in_a_task(websocket: Any) -> None:
        async def leave() -> None:
            sys.exit(3)

        if on == "asgi":
            await websocket.accept()
        tasks.append(asyncio.create_task(leave()))
        await (websocket.receive_text() if on == "asgi" else websocket.recv())
        await (websocket.receive_text() if on == "asgi" else websocket.recv())

    tasks: list[asyncio.Task[None]] = []
    run = await labkit.play(leaves_in_a_task, on=on, fault="reset")
    told = "SystemExit in a task of a handler, which ends the server's process outside the lab"
    assert told in (run.verdict.complaints or ())
    assert (run.verdict.noticed, run.verdict.ending) == ("yes", "raised"), str(run)
    assert isinstance(tasks[0].exception(), SystemExit)
