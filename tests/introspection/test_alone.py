"""What of a library's steps is watched: all in which code of the user's runs, wherever the library calls it from."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.events import HandlerLine, HandlerNotice
from labkit.watch import lines_tool


def says(run: labkit.Run, function: Callable[..., Any]) -> bool:
    """Whether the run has seen each line of a function's body."""
    source, first = inspect.getsourcelines(function)
    ran = {event.line for event in run.timeline.all(HandlerLine)}
    return ran >= set(range(first + 1, first + len(source)))


def helper() -> int:
    return 1 + 1


async def later() -> None:
    await asyncio.sleep(0)
    helper()


async def test_what_a_handler_starts_is_watched() -> None:
    """A task, a callback and a timer of the handler's run in steps of their own, in none of which it is called."""

    def called() -> None:
        helper()

    async def handler(websocket: Any) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(later())
        loop.call_soon(called)
        async for _ in websocket:
            await task

    run = await labkit.play(handler, on="websockets")
    assert says(run, helper)
    assert says(run, later)
    assert says(run, called)


async def test_what_outlives_the_handler_is_watched() -> None:
    """Its task goes on when the library has the handler's own for itself again."""
    tasks: list[asyncio.Task[None]] = []

    async def handler(websocket: Any) -> None:
        async for _ in websocket:
            pass
        tasks.append(asyncio.create_task(later()))

    run = await labkit.play(handler, on="websockets", fault="close")
    assert says(run, later)


def may_enter(connection: Any, request: Any) -> None:
    helper()


async def test_a_hook_that_the_library_calls_before_the_handler_is_watched() -> None:
    """A library with more of the user's than a handler may run it at any time."""

    async def handler(websocket: Any) -> None:
        async for _ in websocket:
            pass
        may_enter  # noqa: B018 - it names it, so it is a helper

    run = await labkit.play(handler, on="websockets", process_request=may_enter)
    assert says(run, may_enter)


class Own(web.WebSocketResponse):
    """A response of the user's."""

    async def write_eof(self, data: bytes = b"") -> None:
        helper()
        await super().write_eof(data)


async def test_a_method_that_the_library_calls_after_the_handler_is_watched() -> None:
    """What a handler returns may be of the user's own class, and the library calls its methods."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = Own()
        await ws.prepare(request)
        async for _ in ws:
            pass
        return ws

    run = await labkit.play(handler, on="aiohttp")
    assert says(run, helper)


class NotFoundHere(LookupError):
    """An error of the user's."""

    def __str__(self) -> str:
        helper()
        return "not here"


async def test_an_error_that_the_library_logs_after_the_handler_is_watched() -> None:
    """What a handler raises may be of the user's own class, and the library writes it to its log."""

    async def handler(websocket: Any) -> None:
        async for _ in websocket:
            raise NotFoundHere

    run = await labkit.play(handler, on="websockets")
    assert says(run, helper)


async def test_a_method_that_takes_the_place_of_the_librarys_is_watched() -> None:
    """A handler may replace what asyncio calls when the connection is lost."""

    async def handler(websocket: Any) -> None:
        lost = websocket.connection_lost

        def replaced(error: Exception | None) -> None:
            helper()
            lost(error)

        websocket.connection_lost = replaced
        async for _ in websocket:
            pass

    run = await labkit.play(handler, on="websockets", fault="reset")
    assert says(run, helper)


async def test_what_an_object_does_that_is_called_as_a_handler_is_watched() -> None:
    """It may do something before there is a coroutine."""

    class Handler:
        def __call__(self, websocket: Any) -> Any:
            helper()
            return self.run(websocket)

        async def run(self, websocket: Any) -> None:
            async for _ in websocket:
                pass

    run = await labkit.play(Handler(), on="websockets")
    assert says(run, helper)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from Python 3.12 on, calls of functions are not told")
@pytest.mark.parametrize("on", ["websockets", "aiohttp"])
async def test_where_a_library_has_the_handler_alone_its_own_calls_cost_nothing(
    on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python tells of the calls in the handler's own steps, and of none of the library's and the lab's around them."""
    told: list[str] = []
    trace = lines_tool.Tool._trace

    def trace_too(self: Any, frame: Any, event: str, argument: Any) -> Any:
        told.append(frame.f_code.co_qualname)
        return trace(self, frame, event, argument)

    monkeypatch.setattr(lines_tool.Tool, "_trace", trace_too)
    from labkit.watch.lines import _tool

    monkeypatch.setattr(_tool, "_mine", _tool._trace)

    async def on_websockets(websocket: Any) -> None:
        async for _ in websocket:
            pass

    async def on_aiohttp(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for _ in ws:
            pass
        return ws

    async with labkit.host(on_websockets if on == "websockets" else on_aiohttp, on=on) as server:
        async with labkit.Wire(server.url, timeline=server.timeline) as wire:
            import websockets

            async with websockets.connect(wire.url) as client:
                await client.send("hello")
                wire.reset()
        run = server.run()
    assert run.verdict.ending in {"returned", "running", "raised"}
    assert not {"Host.call", "tell_cancels", "Tap.connection_lost"} & set(told)
    assert any("on_" in name for name in told)


async def test_what_a_method_in_the_librarys_place_asks_and_starts_is_the_users() -> None:
    """It runs among the library's own steps, and counts as the handler's code all the same."""

    async def handler(websocket: Any) -> None:
        lost, over = websocket.connection_lost, asyncio.Event()

        def replaced(error: Exception | None) -> None:
            lost(error)
            if websocket.close_code is not None:
                over.set()
            asyncio.get_running_loop().create_task(asyncio.Event().wait())

        websocket.connection_lost = replaced
        await over.wait()

    run = await labkit.play(handler, on="websockets", fault="reset")
    assert run.verdict.noticed == "yes"
    assert [event.how for event in run.timeline.all(HandlerNotice)] == ["close_code is ABNORMAL_CLOSURE"]
    started = inspect.getsourcelines(handler)[1] + 7
    assert run.verdict.leaked == (f"task Event.wait, started in line {started}",)
