"""A handler's call: what is refused beforehand, and what is recorded of its life."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from labkit.errors import BadHandler
from labkit.servers.call_events import Call
from labkit.servers.calls import Host, check_handler, name_of
from labkit.timeline import Timeline


async def plain(websocket: Any) -> None:
    """A handler."""


async def two(database: Any, websocket: Any) -> None:
    """A handler to be, once somebody gives it a database."""


async def keyword(websocket: Any, *, database: Any) -> None:
    """A handler that lacks something."""


async def generator(websocket: Any) -> Any:
    """A coroutine function, until somebody writes a yield into it."""
    yield


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
        (generator, "'generator' is not a coroutine function; write it as: async def generator\\(websocket\\)"),
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


@pytest.mark.parametrize(
    ("raised", "ending", "exception", "text"),
    [
        (None, "returned", None, "returned"),
        (ValueError("no"), "raised", "ValueError: no", "raised ValueError: no"),
        (KeyError(), "raised", "KeyError", "raised KeyError"),
        (asyncio.CancelledError(), "cancelled", None, "cancelled"),
        (KeyboardInterrupt(), "raised", "KeyboardInterrupt", "raised KeyboardInterrupt"),
    ],
)
async def test_a_call_is_recorded_from_its_start_to_its_end(
    raised: BaseException | None, ending: str, exception: str | None, text: str
) -> None:
    """The start says who is called with what; the end says how it ended. What it raises passes."""
    timeline = Timeline()

    async def handler(argument: Any) -> str:
        if raised is not None:
            raise raised
        return "the response"

    host = Host(handler, timeline, stack="aiohttp", library="aiohttp 3.14")
    if raised is None:
        assert await host.call(3) == "the response"
    else:
        with pytest.raises(type(raised)) as caught:
            await host.call(3)
        assert caught.value is raised
    start, end = timeline
    assert start.data == {
        "handler": "handler",
        "stack": "aiohttp",
        "library": "aiohttp 3.14",
        "given": "int",
        "call": 1,
    }
    assert (end.kind, end.text) == ("end", text)
    assert end.data == {"ending": ending, "exception": exception, "close_code": None, "loss": False, "call": 1}
    assert host.calls == []


class Connection:
    """A connection of some library: its `receive` calls its own `close`, as aiohttp's does."""

    def __init__(self) -> None:
        self.close_code: int | None = None

    async def receive(self) -> str:
        """Close, and say so."""
        await self.close(code=1000)
        return "CLOSED"

    async def close(self, code: int = 1000) -> None:
        """Take a turn of the loop."""
        await asyncio.sleep(0)
        self.close_code = code


async def test_stand_ins_tell_of_what_the_handler_does_and_not_of_the_library() -> None:
    """The library's call of its own method is not the handler's; another task's is. At the end they are taken off."""
    timeline, connection = Timeline(), Connection()
    call = Call(timeline, 1, ConnectionError)
    stand_ins = call.connect(connection)
    stand_ins.observe("receive", done=lambda result: call.noticed(f"receive() gave {result}"))
    stand_ins.observe("close", began=call.closing)
    assert await connection.receive() == "CLOSED"
    assert [event.kind for event in timeline] == ["notice"]
    assert timeline[0].data == {"how": "receive() gave CLOSED", "exception": None, "code": 1000}

    # A handler that receives in one task and closes in another does both itself.
    await asyncio.gather(connection.receive(), connection.close(4000))
    assert sorted(event.text for event in timeline) == ["close(4000)", "receive() gave CLOSED", "receive() gave CLOSED"]

    call.release()
    assert set(vars(connection)) == {"close_code"}
    await connection.close()
    assert len(timeline) == 3


async def test_every_stand_in_is_taken_off() -> None:
    """Also those of a connection before the last, where a handler made two."""
    call, connections = Call(Timeline(), 1, ConnectionError), (Connection(), Connection())
    for connection in connections:
        call.connect(connection).observe("close")
        assert "close" in vars(connection)
    call.release()
    assert [set(vars(connection)) for connection in connections] == [{"close_code"}] * 2
