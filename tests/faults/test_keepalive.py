"""Keepalive: how long until somebody notices a connection on which nothing arrives any more."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

import labkit
from tests import handlers

SILENT = ["blackhole", "frozen-process"]


@pytest.mark.parametrize("fault", SILENT)
async def test_websockets_notices_after_interval_timeout_and_close_timeout(fault: str) -> None:
    """A ping every 0.2 s, 0.1 s for its pong, 0.1 s for the answer to its Close; then 1011 in the exception."""
    options = {"ping_interval": 0.2, "ping_timeout": 0.1, "close_timeout": 0.1}
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, patience=20, **options)
    assert run.verdict.exception is not None
    assert "sent 1011 (internal error) keepalive ping timeout; no close frame received" in run.verdict.exception
    assert run.verdict.close_code == 1006
    assert "keepalive" in str(run.verdict.sentence)
    # From the last ping that was answered, at most an interval before the fault, or from the start of the connection.
    assert run.verdict.noticed_after is not None
    assert run.verdict.noticed_after >= (0.1 + 0.1) * 0.99


async def test_from_the_first_ping_on_the_time_is_the_formulas() -> None:
    """Where no ping has been sent before the fault, all of the interval passes from the opening of the connection."""
    options = {"ping_interval": 0.3, "ping_timeout": 0.1, "close_timeout": 0.1}
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="blackhole", patience=20, **options)
    [start], [notice] = run.timeline.select("handler", "start"), run.timeline.select("handler", "notice")
    assert notice.at - start.at >= (0.3 + 0.1 + 0.1) * 0.99


def with_heartbeat(seconds: float) -> Any:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(heartbeat=seconds)
        await ws.prepare(request)
        async for message in ws:
            if message.type is web.WSMsgType.TEXT:
                await ws.send_str(message.data)
        return ws

    return handler


@pytest.mark.parametrize("fault", SILENT)
@pytest.mark.parametrize("heartbeat", [0.1, 0.4])
async def test_aiohttp_notices_after_one_and_a_half_heartbeats(heartbeat: float, fault: str) -> None:
    """A ping after a heartbeat without data, half a heartbeat for its pong; then 1006 and an ERROR message."""
    run = await labkit.play(with_heartbeat(heartbeat), on="aiohttp", fault=fault, patience=20)
    assert (run.verdict.ending, run.verdict.noticed, run.verdict.close_code) == ("returned", "yes", 1006)
    [last], [notice, *_] = run.timeline.select("handler", "recv"), run.timeline.select("handler", "notice")
    assert "TimeoutError" in str(notice.data["exception"])
    # aiohttp rounds its timers down to the loop's clock, and counts from the last data that came.
    assert notice.at - last.at >= 1.5 * heartbeat * 0.95


async def test_with_handler_cancellation_the_heartbeat_cancels() -> None:
    """The library drops the connection, and with it the handler."""
    run = await labkit.play(with_heartbeat(0.1), on="aiohttp-cancel", fault="blackhole", patience=20)
    assert run.verdict.noticed == "yes"
    assert run.verdict.ending in {"cancelled", "returned"}


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_no_heartbeat_frees_a_blocked_send(on: str) -> None:
    """The handler stays in send() long after the heartbeat's time; whether the library knows is another matter."""
    handler = handlers.websockets_echo if on == "websockets" else with_heartbeat(0.1)
    options: dict[str, Any] = {"ping_interval": 0.1, "ping_timeout": 0.1} if on == "websockets" else {}
    long = "a long message " * 7_000
    run = await labkit.play(handler, on=on, fault="stalled-reader", messages=(long,), patience=1, **options)
    assert run.verdict.ending == "running"
    assert ", in send" in run.verdict.sentence


async def test_a_ping_keeps_a_quiet_connection_open() -> None:
    """More often than the middlebox's timeout; without it the connection is cut."""
    fault = labkit.IdleTimeout(seconds=0.4)
    spared = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, patience=1.2, ping_interval=0.05)
    assert (spared.verdict.ending, spared.timeline.select("wire", "fault")) == ("running", [])
    assert spared.verdict.sentence.startswith("No fault struck")
    cut = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, patience=10, ping_interval=None)
    assert (cut.verdict.noticed, cut.verdict.close_code) == ("yes", 1006)
    # So a handler may be right whether it ends or stays.
    assert fault.demands == "end or stay"
