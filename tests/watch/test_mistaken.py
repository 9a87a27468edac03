"""A handler that is written for another library than the one that calls it, and handlers that only look so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

import labkit


async def iterates(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


async def receives(websocket: Any) -> None:
    await websocket.send(await websocket.recv())


async def prepares(request: Any) -> None:
    await web.WebSocketResponse().prepare(request)


async def matches(request: Any) -> None:
    labkit.note(request.match_info["room"])


async def accepts(websocket: Any) -> None:
    await websocket.accept()  # Starlette's


@pytest.mark.parametrize(
    ("handler", "on", "other"),
    [
        (iterates, "aiohttp", "websockets"),
        (receives, "aiohttp-cancel", "websockets"),
        (prepares, "websockets", "aiohttp"),
        (matches, "websockets", "aiohttp"),
        (accepts, "aiohttp", "asgi"),
        (accepts, "websockets", "asgi"),
        (iterates, "asgi", "websockets"),
    ],
)
async def test_the_other_library_is_named(handler: Callable[[Any], Any], on: str, other: str) -> None:
    """By the object that lacks the name, or by the function that was given it."""
    run = await labkit.play(handler, on=on, fault=None)
    assert run.verdict.sentence.endswith(f"is it written for {other}?"), run


async def asks_username(websocket: Any) -> None:
    await websocket.send(websocket.username)  # there only with basic_auth


async def asks_path(websocket: Any) -> None:
    await websocket.send(websocket.path)  # as the older websockets had it, and as aiohttp's request has it


async def asks_the_message(websocket: Any) -> None:
    (await websocket.recv()).recv()


async def adds(websocket: Any) -> None:
    websocket + 1


async def asks_the_request(request: Any) -> None:
    request.session["user"]


async def asks_the_answer(request: Any) -> None:
    (await request.text()).recv()


async def iterates_what_it_got(request: Any) -> None:
    async for _ in list(request.query):
        pass


async def answers_a_page(websocket: Any) -> None:
    web.Response(text=5)  # type: ignore[arg-type]


async def answers_with_its_argument(websocket: Any) -> None:
    web.json_response(websocket, text="hello")  # a ValueError: one of the two


async def fails_in_the_library(request: Any) -> None:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.send_str(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("handler", "on"),
    [
        (asks_username, "websockets"),
        (asks_path, "websockets"),
        (asks_the_message, "websockets"),
        (adds, "websockets"),
        (asks_the_request, "aiohttp"),
        (fails_in_the_library, "aiohttp"),
        (asks_the_answer, "aiohttp"),
        (iterates_what_it_got, "aiohttp"),
        (answers_a_page, "websockets"),
        (answers_with_its_argument, "websockets"),
    ],
)
async def test_a_bug_of_the_handlers_own_is_no_other_library(handler: Callable[[Any], Any], on: str) -> None:
    """An AttributeError or a TypeError says nothing by itself."""
    run = await labkit.play(handler, on=on, fault=None)
    assert run.verdict.ending == "raised", run
    assert "written for" not in run.verdict.sentence
