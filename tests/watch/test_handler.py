"""A handler: its name, what is refused beforehand, and what the library takes."""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadHandler
from labkit.watch.handler import check_handler, name_of


async def plain(websocket: Any) -> None:
    """A handler."""


async def two(database: Any, websocket: Any) -> None:
    """A handler to be, once somebody gives it a database."""


async def keyword(websocket: Any, *, database: Any) -> None:
    """A handler that lacks something."""


async def generator(websocket: Any) -> Any:
    """A coroutine function, until somebody writes a yield into it."""
    yield


def old_style(websocket: Any) -> Any:
    """A coroutine as one was written before Python had `async def`."""
    message = yield from websocket.recv()
    return message


class Handlers:
    """Handlers as people keep them in classes."""

    async def method(self, websocket: Any) -> None:
        """A handler."""

    async def __call__(self, websocket: Any) -> None:
        """A handler."""


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that is not a coroutine function itself."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (plain, "plain"),
        (Handlers().method, "Handlers.method"),
        (Handlers(), "Handlers.__call__"),
        (functools.partial(two, "database"), "two"),
        (functools.partial(keyword, database=1), "keyword"),
        (logged(plain), "plain"),
        (lambda _: None, "<lambda>"),
    ],
)
def test_a_handler_has_the_name_that_its_author_gave_it(handler: Callable[..., Any], name: str) -> None:
    """Whatever stands around the function."""
    assert name_of(handler) == name
    if name != "<lambda>":
        check_handler(handler, "websocket")


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (lambda _: None, "'<lambda>' is not a coroutine function"),
        (generator, "'generator' has a `yield`, which makes it an async generator"),
        (old_style, "'old_style' is not a coroutine function; write it as: async def old_style\\(websocket\\)"),
        (keyword, r"'keyword' takes \(websocket.*, \*, database.*\), but is called with one argument"),
        (two, r"'two' takes \(database.*, websocket.*\), but is called with one argument, the websocket"),
        (functools.partial(plain, 1), "'plain' takes nothing, but is called with one argument"),
        (Handlers, "'Handlers' is a class"),
        (Handlers.method, r"takes \(self, websocket"),
    ],
)
def test_what_is_no_handler_is_refused_in_one_sentence(handler: Any, sentence: str) -> None:
    """It says what it is, and how to write it."""
    with pytest.raises(BadHandler, match=sentence) as caught:
        check_handler(handler, "websocket")
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_handler_that_has_been_called_already_is_refused() -> None:
    """The usual slip: `play(handler(...))` in place of `play(handler)`."""
    coroutine = plain(None)
    with pytest.raises(BadHandler, match="which cannot be called; give the function itself: async def h"):
        check_handler(coroutine, "websocket")
    coroutine.close()


def lent(handler: Any) -> Any:
    """A decorator that supplies an argument of the handler's."""

    @functools.wraps(handler)
    async def call(websocket: Any) -> None:
        await handler(websocket, "a database")

    return call


@lent
async def with_a_database(websocket: Any, database: str) -> None:
    await websocket.send(f"{database} for {await websocket.recv()}")


async def echo_once(websocket: Any) -> None:
    await websocket.send(await websocket.recv())


class Page(web.View):
    """A view of aiohttp, which is a class."""

    async def get(self) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(self.request)
        await ws.send_str(await ws.receive_str())
        return ws


@pytest.mark.parametrize(
    ("handler", "on", "answer"),
    [
        (with_a_database, "websockets", "'a database for hello'"),
        (lambda websocket: asyncio.wait_for(echo_once(websocket), 60), "websockets", "'hello'"),
        (Page, "aiohttp", "'hello'"),
    ],
    ids=["decorated", "lambda", "view"],
)
async def test_what_the_library_takes_the_lab_takes(handler: Any, on: str, answer: str) -> None:
    """A decorator that supplies an argument, a function that returns a coroutine, a class-based view."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # aiohttp's, of handlers that are no coroutine functions
        run = await labkit.play(handler, on=on, fault=None)
    assert run.verdict.ending == "returned", run
    assert [event.text for event in run.timeline.select("client", "recv")] == [answer]


def forgets_its_async(websocket: Any) -> None:
    """Python does not say that it lacks something."""


async def test_what_cannot_be_awaited_fails_as_it_does_without_the_lab() -> None:
    """A function that returns a coroutine is a handler; what it returned is known only when it was called."""
    handler: Any = lambda websocket: forgets_its_async(websocket)  # noqa: E731, PLW0108 - as people register one
    run = await labkit.play(handler, on="websockets", fault=None)
    assert run.verdict.exception == "TypeError: object NoneType can't be used in 'await' expression", run
