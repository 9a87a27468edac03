"""Who reads a clock that does not jump, however the code is written; and who does not."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import pytest
from aiohttp import web
from fastapi import FastAPI, WebSocket

import labkit
from labkit.introspection.clocks import find_clock
from tests import handlers, throttle
from tests.throttle import Bucket, Visit


async def of_another_file(websocket: Any) -> None:
    bucket = Bucket(0.3)
    await asyncio.sleep(0.4)
    labkit.note(f"empty: {bucket.is_empty}")


async def through_its_module(websocket: Any) -> None:
    throttle.Bucket(0.3)


async def of_a_class(websocket: Any) -> None:
    throttle.Throttle.clock()


async def of_a_dataclass(websocket: Any) -> None:
    Visit()


async def by_default(websocket: Any) -> None:
    throttle.age(0)


async def as_a_part(websocket: Any) -> None:
    throttle.stamp()


async def imports_it_itself(websocket: Any) -> None:
    from time import monotonic

    monotonic()


async def imports_the_module_itself(websocket: Any) -> None:
    import datetime  # noqa: ICN001 - what is tested

    datetime.datetime.now(datetime.UTC)


async def asks_the_calendar(websocket: Any) -> None:
    time.localtime()


async def sleeps(websocket: Any) -> None:
    time.sleep(0)  # noqa: ASYNC251 - what is tested
    await asyncio.to_thread(time.sleep, 0)


class Service:
    """A handler with a state of its own."""

    def __init__(self) -> None:
        self.began = 0.0

    async def __call__(self, websocket: Any) -> None:
        self.began = time.time()


def closes_over() -> Any:
    clock = time.monotonic

    async def handler(websocket: Any) -> None:
        clock()

    return handler


def of_aiohttp() -> web.Application:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPGone(text=str(dt.datetime.now(dt.UTC)))

    app, inner = web.Application(), web.Application()
    inner.router.add_get("/ws", handler)
    app.add_subapp("/api", inner)
    return app


def of_fastapi() -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await asyncio.sleep(time.time() % 1)

    return app


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (of_another_file, "Bucket.__init__() reads time.monotonic()"),
        (through_its_module, "Bucket.__init__() reads time.monotonic()"),
        (of_a_class, "Throttle.clock is time.perf_counter()"),
        (of_a_dataclass, "Visit.__init__() reads time.time()"),
        (by_default, "age() reads time.monotonic()"),
        (as_a_part, "a partial function is time.time()"),
        (imports_it_itself, "imports_it_itself() reads time.monotonic()"),
        (imports_the_module_itself, "imports_the_module_itself() reads datetime.now()"),
        (asks_the_calendar, "asks_the_calendar() reads time.localtime()"),
        (Service(), "Service.__call__() reads time.time()"),
        (closes_over(), "handler() reads time.monotonic()"),
        (of_aiohttp(), "handler() reads datetime.now()"),
        (of_fastapi(), "endpoint() reads time.time()"),
        (handlers.websockets_echo, None),
        (sleeps, None),
        (handlers.aiohttp_echo, None),
    ],
    ids=lambda value: "" if value is None or isinstance(value, str) else getattr(value, "__name__", "object"),
)
def test_a_clock_of_the_system_is_found(target: Any, found: str | None) -> None:
    """In the code that a handler names, in any of the user's own files."""
    assert find_clock(target) == found


async def test_a_limit_of_time_in_another_file_is_over_when_its_time_is_over() -> None:
    """On the clock that jumps it would never be."""
    run = await labkit.play(of_another_file, on="websockets", fault=None, clock="autojump")
    assert [event.text for event in run.timeline.select("handler", "note")] == ["empty: True"]
    assert (run.clock, run.clock_words) == ("real", "Bucket.__init__() reads time.monotonic(), which does not jump")
