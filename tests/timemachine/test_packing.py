"""A handler is packed into a module of its own, with what it names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web import WebSocketResponse as Answer

from labkit.errors import BadHandler
from labkit.timemachine.packing import pack

LIMIT, WORDS, THINGS = 0.1, b"bye", [1, 2]


async def helper(ws: Answer) -> None:
    async with asyncio.timeout(LIMIT):
        await ws.close(message=WORDS)


async def whole(request: web.Request) -> Answer:
    ws = Answer()
    await ws.prepare(request)
    await helper(ws)
    return ws


async def again(request: web.Request) -> Any:
    return await again(request) if request else whole


async def with_a_list(request: web.Request) -> Any:
    return THINGS


async def plain(request):  # type: ignore[no-untyped-def]
    return await helper(request)


def inner() -> Any:
    limit = 3

    async def handler(request: web.Request) -> Any:
        return limit

    return handler


def test_what_it_names_comes_along() -> None:
    """Modules, names of modules under the name that they have here, helpers, values; and nothing else."""
    namespace: dict[str, Any] = {}
    exec(compile(pack(whole), "packed", "exec", dont_inherit=True), namespace)
    assert namespace["web"] is web
    assert namespace["Answer"] is Answer
    assert (namespace["LIMIT"], namespace["WORDS"]) == (0.1, b"bye")
    assert asyncio.iscoroutinefunction(namespace["helper"])
    assert asyncio.iscoroutinefunction(namespace["whole"])
    assert "THINGS" not in namespace


def test_a_function_may_name_itself() -> None:
    """It is packed once."""
    assert pack(again).count("async def again") == 1


def test_its_lines_have_the_numbers_that_they_have_here() -> None:
    """Else "line 7 never ran" would name another line; but what it names when it is defined must come before it."""
    namespace: dict[str, Any] = {}
    exec(compile(pack(plain), "packed", "exec", dont_inherit=True), namespace)
    assert namespace["plain"].__code__.co_firstlineno == plain.__code__.co_firstlineno
    assert asyncio.iscoroutinefunction(namespace["helper"])


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (with_a_list, "with_a_list uses THINGS, 'list', which the time machine cannot take along"),
        (inner(), "handler uses limit of the function around it"),
        (lambda request: None, "takes functions under their own names"),
        (Answer, "takes functions under their own names"),
    ],
)
def test_what_cannot_come_along_is_told_in_one_sentence(handler: Any, sentence: str) -> None:
    """With its name."""
    with pytest.raises(BadHandler) as raised:
        pack(handler)
    assert sentence in str(raised.value)
