"""The server's own faults: its shutdown, an error in the handler, a blocked loop, and cancels."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadValue
from labkit.events import CleanupClosed, HandlerCancelled
from labkit.faults.server import InducedError
from tests import handlers
from tests.faults.expectations import by_stack


async def busy(given: Any) -> None:
    """Does not listen to its connection: it works until it is done, which the test decides."""
    if isinstance(given, web.Request):
        ws = web.WebSocketResponse()
        await ws.prepare(given)
    await asyncio.Event().wait()


async def test_websockets_tells_an_idle_handler_of_the_shutdown_at_once() -> None:
    """Close 1001 to the client, and the end of `async for`."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="shutdown")
    assert (run.verdict.ending, run.verdict.close_code) == ("returned", 1001)
    assert [event.text for event in run.timeline.select("client", "close-received")] == ["Close 1001"]
    assert run.timeline.select("loop", "shutdown")[-1].data == {"done": True}


async def test_websockets_waits_for_a_busy_handler() -> None:
    """The client is told at once; the handler goes on, and the shutdown with it."""
    run = await labkit.play(busy, on="websockets", fault="shutdown", patience=0.3)
    assert (run.verdict.ending, run.verdict.noticed) == ("running", "no")
    assert [event.data["done"] for event in run.timeline.until_stop().select("loop", "shutdown")] == [False]
    assert [event.text for event in run.timeline.select("client", "close-received")] == ["Close 1001"]


@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel"])
@pytest.mark.parametrize("handler", [handlers.aiohttp_echo, busy])
async def test_aiohttp_waits_and_then_cancels(handler: Any, on: str) -> None:
    """No handler is told anything: it is waited for, twice ``shutdown_timeout``, and cancelled."""
    run = await labkit.play(handler, on=on, fault="shutdown", patience=10, shutdown_timeout=0.1)
    assert run.verdict.ending == "cancelled"
    assert run.verdict.noticed_after is not None
    assert run.verdict.noticed_after >= 0.1
    assert run.timeline.select("client", "close-received") == []


@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel"])
async def test_with_its_default_aiohttp_waits_longer_than_anybody(on: str) -> None:
    """A minute, twice; the lab stops it, and nothing is left."""
    run = await labkit.play(handlers.aiohttp_echo, on=on, fault="shutdown", patience=0.2)
    assert (run.verdict.ending, run.verdict.noticed, run.verdict.leaked) == ("running", "no", ())


@pytest.mark.parametrize(("on", "code"), by_stack({"aiohttp": None, "websockets": 1011}))
async def test_an_error_in_the_handler(on: str, code: int | None) -> None:
    """With websockets the client is told, 1011; aiohttp drops the connection."""
    run = await labkit.play(handlers.echo(on), on=on, fault=labkit.HandlerError("no database"))
    assert run.verdict.exception == "labkit.faults.server.InducedError: no database"
    assert [event.data["code"] for event in run.timeline.select("client", "close-received")] == [code] * bool(code)
    assert len(run.verdict.complaints) == 1
    assert run.timeline.select("handler", "cancelled") == []
    # The exception is the fault's own, so a handler may let it out and still survive.
    assert labkit.FAULTS["handler-error"].demands == "end or raise"


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_handler_may_catch_the_error_and_go_on(on: str) -> None:
    """The library is as it was: the handler receives and answers the next message."""
    caught: list[BaseException] = []

    async def careful(given: Any) -> None:
        if isinstance(given, web.Request):
            ws: Any = web.WebSocketResponse()
            await ws.prepare(given)
            receive, send = ws.receive_str, ws.send_str
        else:
            receive, send = given.recv, given.send
        await send(await receive())
        try:
            await receive()
        except InducedError as error:
            caught.append(error)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        await send("still here")

    run = await labkit.play(careful, on=on, fault="handler-error")
    assert len(caught) == 1
    assert [event.text for event in run.timeline.select("client", "recv")] == ["'hello'", "'still here'"]


async def test_an_error_reaches_a_handler_that_waits_for_something_else() -> None:
    """Wherever it waits, that is where it is raised."""

    async def waits(websocket: Any) -> None:
        try:
            await asyncio.Event().wait()
        except InducedError:
            labkit.note("caught")

    run = await labkit.play(waits, on="websockets", fault="handler-error")
    assert run.timeline.select("handler", "note")
    assert run.verdict.ending == "returned"


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_blocked_loop_answers_late_and_all_at_once(on: str) -> None:
    """Only the server's loop is blocked: meanwhile the client sends, and is answered when the loop runs again."""
    thread: list[threading.Thread] = []

    async def handler(given: Any) -> Any:
        thread.append(threading.current_thread())
        return await handlers.echo(on)(given)

    fault = labkit.BlockedLoop(seconds=0.1)
    run = await labkit.play(handler, on=on, fault=fault, messages=("a", "b"), patience=0.5)
    [blocked], [again] = run.timeline.select("loop", "blocked"), run.timeline.select("loop", "unblocked")
    assert again.at - blocked.at >= 0.1
    during = [e for e in run.timeline.select("client", "send") if blocked.at < e.at < again.at]
    assert [event.text for event in during] == ["'a'", "'b'"]
    answers = [event.at > again.at for event in run.timeline.select("client", "recv")]
    assert answers == [False, False, True, True]
    assert thread != [threading.main_thread()]
    assert not thread[0].is_alive()
    assert run.verdict.lines_never_ran is not None


async def test_the_length_of_a_block_is_stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    """With LABKIT_TIME_SCALE=2, a block of 0.1 s takes 0.2 s."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", "2")
    fault = labkit.BlockedLoop(seconds=0.1)
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, patience=0.1)
    [blocked], [again] = run.timeline.select("loop", "blocked"), run.timeline.select("loop", "unblocked")
    assert again.at - blocked.at >= 0.2


async def test_a_loop_that_is_blocked_for_too_long_misses_its_own_pong() -> None:
    """The keepalive's time is up before the loop reads the pong: 1011, though the network is in perfect health."""
    run = await labkit.play(
        handlers.websockets_echo,
        on="websockets",
        fault=labkit.BlockedLoop(seconds=0.6),
        client="websockets",
        client_options={"ping_interval": 0.1, "ping_timeout": 0.1},
        patience=10,
    )
    assert run.verdict.client_exception is not None
    assert "1011 (internal error) keepalive ping timeout" in run.verdict.client_exception


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_second_cancel_cuts_the_cleanup_that_is_in_flight(on: str) -> None:
    """Of three resources in a stack the first to close is cut short; the others close in full."""
    run = await labkit.play(handlers.three_resources, on=on, fault="second-cancel")
    assert run.verdict.ending == "cancelled"
    assert [e.data["by"] for e in run.timeline.select("handler", "cancelled")] == ["the fault", "the fault"]
    assert [e.kind for e in run.timeline.select("cleanup", "closed", "truncated")] == ["truncated", "closed", "closed"]
    assert run.verdict.cleanup == "truncated"
    assert "cleanup truncated (cache)" in run.verdict.sentence


async def test_no_resource_is_closed_before_the_last_cancel() -> None:
    """However little the closing takes, and however slow the loop is."""

    async def holds(websocket: Any) -> None:
        database = await labkit.resource("database").open()
        try:
            await websocket.wait_closed()
        finally:
            closing = asyncio.create_task(database.close())
            while not closing.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([closing])

    run = await labkit.play(holds, on="websockets", fault=labkit.SecondCancel(times=25))
    kinds = [event.kind for event in run.timeline.all(HandlerCancelled, CleanupClosed)]
    assert kinds == ["cancelled"] * 25 + ["closed"]


async def test_a_cancel_is_that_of_a_limit_of_time_which_fires() -> None:
    """The cancel of `asyncio.timeout` around the handler: it comes out, or the limit has had no effect."""

    async def passes(websocket: Any) -> None:
        async with labkit.resource("database"):
            await websocket.wait_closed()

    async def returns(websocket: Any) -> None:
        try:
            await websocket.wait_closed()
        except asyncio.CancelledError:
            return

    async def goes_on(websocket: Any) -> None:
        await returns(websocket)
        await asyncio.Event().wait()

    async def fails(websocket: Any) -> None:
        try:
            await websocket.wait_closed()
        finally:
            raise TimeoutError("of its own")

    told = await asyncio.gather(
        *(
            labkit.play(each, "websockets", "cancel", when=labkit.Await(1), patience=0.5)
            for each in (passes, returns, goes_on, fails)
        )
    )
    first = returns.__code__.co_firstlineno
    assert [(run.verdict.ending, run.verdict.timed_out, run.verdict.swallowed) for run in told] == [
        ("cancelled", True, ()),
        ("returned", False, (first + 3,)),
        ("running", None, (first + 3,)),
        ("raised", False, ()),
    ]
    assert told[0].outcome == "clean"
    assert f"line {first + 3} swallowed the cancel by Timeout._on_timeout (asyncio), so the limit" in str(
        told[2].verdict
    )
    assert all(run.verdict.struck for run in told)


async def test_a_handler_that_does_not_wake_up_is_cancelled_once() -> None:
    """It waits for a task that does not heed the cancel; after the fault's patience there is no second one."""

    async def heedless() -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                labkit.note("not heeded")
        await asyncio.Event().wait()

    async def waits(_: Any) -> None:
        await asyncio.create_task(heedless())

    run = await labkit.play(waits, on="websockets", fault="second-cancel", patience=0.2)
    [stop] = run.timeline.select("loop", "stop")
    assert len([event for event in run.timeline.select("handler", "note") if event.at < stop.at]) == 1


@pytest.mark.parametrize(("times", "cut"), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 3)])
async def test_each_further_cancel_cuts_the_next(times: int, cut: int) -> None:
    """One cancel and all exits finish; each one more truncates one more."""
    fault = labkit.SecondCancel(times=times)
    run = await labkit.play(handlers.three_resources, on="websockets", fault=fault)
    assert len(run.timeline.select("cleanup", "truncated")) == cut
    assert run.verdict.cleanup == ("truncated" if cut else "complete")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: labkit.BlockedLoop(seconds=0), "seconds=0; it takes a number of seconds above 0"),
        (lambda: labkit.SecondCancel(times=0), "times=0; it takes a whole number from 1"),
        (lambda: labkit.SecondCancel(times=True), "times=True; it takes a whole number"),
        (lambda: labkit.HandlerError(message=3), "the message is 3; it takes text"),
    ],
)
def test_knobs_are_checked(make: Any, sentence: str) -> None:
    """One sentence says what would do."""
    with pytest.raises(BadValue, match=sentence):
        make()
