"""Handlers that no exercise lists as wrong: what a learner writes, or tries to get away with."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import State

import labkit
from labkit.exercises import Report
from labkit.support import clock


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))


async def connected(request: Any, **options: Any) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(**options)
    await ws.prepare(request)
    return ws


async def echo(ws: Any) -> None:
    async for message in ws:
        await ws.send_str(message.data)


def evidence(report: Report, rule: str) -> str:
    assert report.bug is None, report
    return next(result.evidence for result in report.results if result.rule.name == rule)


async def test_another_message_is_no_echo() -> None:
    """Something came back, but not what was sent."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        async for _ in ws:
            await ws.send_str("ok")
        labkit.note("bye" if ws.close_code in (0, 1000, 1001) else "lost")
        return ws

    report = await labkit.check("goodbye", handler)
    assert report.broken == ("echo",)
    assert "'ok' at" in evidence(report, "echo")


async def test_more_than_the_echo_does_no_harm() -> None:
    """A greeting, or a line of the handler's own in its notes, breaks no rule."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        labkit.note("connected")
        await ws.send_str("welcome")
        await echo(ws)
        labkit.note("bye" if ws.close_code in (0, 1000, 1001) else "lost")
        return ws

    report = await labkit.check("goodbye", handler)
    assert report.passed, report


async def test_both_notes_are_not_one() -> None:
    """To note everything, in the hope that the right one is among them."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        await echo(ws)
        labkit.note("bye")
        labkit.note("lost")
        return ws

    assert (await labkit.check("goodbye", handler)).broken == ("bye", "lost")


async def test_a_handler_that_goes_on_may_note_more() -> None:
    """Once is not known while it runs; nor that no exception comes."""

    async def handler(websocket: Any) -> None:
        try:
            while True:
                await websocket.send(await websocket.recv())
        except ConnectionClosedOK:
            labkit.note("left")
        except ConnectionClosedError:
            labkit.note("lost")
        await asyncio.Event().wait()

    report = await labkit.check("recv", handler, clock="autojump")
    assert report.broken == ()
    assert report.unknown == ("left", "lost", "nothing-escapes")
    assert "still ran" in evidence(report, "left")
    assert '"left" is unknown' in str(report).replace("\n", " ")


async def test_a_thousand_notes_are_not_written_out() -> None:
    """The first ones, and how many there are."""

    async def handler(websocket: Any) -> None:
        try:
            while True:
                await websocket.send(await websocket.recv())
        except ConnectionClosed:
            for _ in range(150):
                labkit.note("lost")

    told = evidence(await labkit.check("recv", handler), "lost")
    assert "150 in all" in told
    assert len(told) < 400


async def test_a_database_that_was_closed_before_the_fault_proves_nothing() -> None:
    """Nothing was open when the client vanished."""

    async def before(request: Any) -> Any:
        ws = await connected(request)
        async with labkit.resource("database", closing=0.01):
            pass
        await echo(ws)
        return ws

    async def behind(request: Any) -> Any:
        ws = await connected(request)
        try:
            await echo(ws)
        finally:
            async with labkit.resource("database", closing=0.01):
                pass
        return ws

    for handler in (before, behind):
        report = await labkit.check("unclean-exit", handler)
        assert report.unknown == ("release",), report
        assert "when no resource was open" in evidence(report, "release")
        assert report.run is not None
        assert not report.passed
        assert not labkit.progress().done


async def test_a_close_that_reports_a_failure_is_no_goodbye() -> None:
    """The evidence names its code."""

    async def my_handler(request: Any) -> Any:
        ws = await connected(request)
        await echo(ws)
        labkit.note("bye" if ws.close_code in (0, 1000, 1001, 4000) else "lost")
        return ws

    report = await labkit.check("goodbye", my_handler)
    assert evidence(report, "lost").startswith("the client closed with 4000 at ")


async def test_a_closing_that_nobody_waits_for() -> None:
    """It outlives the handler, whether or not the lab sees its end."""
    closings = []

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        database = await labkit.resource("database", closing=0.05).open()
        try:
            await echo(ws)
        finally:
            closings.append(asyncio.create_task(database.close()))
        return ws

    report = await labkit.check("unclean-exit", handler)
    assert report.broken == ("release",)
    assert "`database` was" in evidence(report, "release")


async def test_a_handler_that_hangs_behind_its_cleanup() -> None:
    """It was to end."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        async with labkit.resource("database", closing=0.01):
            await echo(ws)
        await asyncio.Event().wait()

    report = await labkit.check("unclean-exit", handler)
    assert report.broken == ("release",)
    assert "but your handler still ran" in evidence(report, "release")


async def test_one_resource_is_not_three() -> None:
    """The exercise wants all of them."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        database = await labkit.resource("database", closing=0.05).open()
        try:
            await echo(ws)
        finally:
            closing = asyncio.create_task(database.close())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await closing
                raise
        return ws

    report = await labkit.check("one-cancel", handler)
    assert report.broken == ("release",)
    assert "opened 1 resource, not 3" in evidence(report, "release")


async def test_a_job_that_was_not_done() -> None:
    """An answer before its time, whether the job was short or long, and the wrong answer."""

    async def at_once(websocket: Any) -> None:
        async with labkit.resource("worker"):
            async for _ in websocket:
                await websocket.send("done")

    async def cut_short(websocket: Any) -> None:
        async with labkit.resource("worker"):
            async for seconds in websocket:
                await asyncio.sleep(min(float(seconds), 0.15))
                await websocket.send("done")

    async def another_word(websocket: Any) -> None:
        async with labkit.resource("worker"):
            async for seconds in websocket:
                try:
                    await asyncio.wait_for(websocket.wait_closed(), float(seconds))
                except TimeoutError:
                    await websocket.send("ready")

    told = evidence(await labkit.check("busy", at_once), "done")
    assert re.search(r"a job of 0\.0?1 s came at \S+ ms; its answer came \S+ ms later", told), told
    assert re.search(r"a job of (2\.2|30) s", evidence(await labkit.check("busy", cut_short), "done"))
    report = await labkit.check("busy", another_word)
    assert report.broken == ("done",)
    assert "'ready'" in evidence(report, "done")


async def test_a_job_ended_by_the_end_of_the_connection() -> None:
    """Another way than the solution's: to wait for the end, for as long as the job takes."""

    async def handler(websocket: Any) -> None:
        async with labkit.resource("worker"):
            async for seconds in websocket:
                try:
                    await asyncio.wait_for(websocket.wait_closed(), float(seconds))
                except TimeoutError:
                    await websocket.send("done")

    assert (await labkit.check("busy", handler)).passed


@pytest.mark.parametrize("seconds", [0.1, 1.7])
async def test_one_second_is_one_second(seconds: float) -> None:
    """The limit is not the learner's to move."""

    async def handler(request: Any) -> Any:
        ws = await connected(request)
        async with labkit.resource("database"):
            try:
                async with asyncio.timeout(seconds * clock.scaled(1.0) if seconds > 1 else seconds):
                    try:
                        await echo(ws)
                    except asyncio.CancelledError:
                        labkit.note("interrupted")
                        raise
            except TimeoutError:
                labkit.note("time is up")
        return ws

    report = await labkit.check("catch-cancelled", handler)
    assert "limit" in report.broken
    assert "not one second" in evidence(report, "limit")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.01, "every"), (0.35, f"every {clock.scaled(350):,.0f}"[:-1]), (2.5, "once")],
    ids=["always", "now and then", "once"],
)
async def test_every_100_ms_is_every_100_ms(seconds: float, told: str) -> None:
    """Neither a flood of questions nor one now and then."""

    async def handler(websocket: Any) -> None:
        try:
            while True:
                try:
                    async with asyncio.timeout(clock.scaled(seconds) if seconds > 0.1 else seconds):
                        message = await websocket.recv()
                except TimeoutError:
                    message = "still there?"
                await websocket.send(message)
        except ConnectionClosed:
            pass

    # To ask all the time is to work, which is no quicker where the time jumps.
    report = await labkit.check("receive-timeout", handler, clock="real" if seconds < 0.1 else "autojump")
    assert "asks" in report.broken
    assert told in evidence(report, "asks")


async def test_a_heartbeat_of_one_second_is_in_time() -> None:
    """The library takes one and a half of it; the bound is not beside that."""

    async def handler(request: Any) -> Any:
        ws = await connected(request, heartbeat=1.0)
        async with labkit.resource("database"):
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await ws.send_str(message.data)
        return ws

    report = await labkit.check("heartbeat", handler)
    assert report.passed, report


async def test_a_receive_timeout_is_no_heartbeat_however_long_it_is() -> None:
    """It ends in time after the silence, and throws out the quiet as well."""

    async def handler(request: Any) -> Any:
        ws = await connected(request, receive_timeout=1.8)
        async with labkit.resource("database"):
            with contextlib.suppress(TimeoutError):
                await echo(ws)
        return ws

    if clock.scaled(1.0) == 1.0:
        assert (await labkit.check("heartbeat", handler)).broken == ("keeps",)


async def test_all_members_are_all() -> None:
    """Neither all others, nor a set that was emptied first, nor a round that the dead one ends."""

    async def all_others(websocket: Any, members: Any) -> None:
        members.add(websocket)
        with contextlib.suppress(ConnectionClosed):
            async for message in websocket:
                broadcast(members - {websocket}, message)
        members.remove(websocket)

    async def empties_it(websocket: Any, members: Any) -> None:
        members.clear()
        members.add(websocket)
        with contextlib.suppress(ConnectionClosed):
            async for message in websocket:
                broadcast(members, message)
        members.remove(websocket)

    async def dead_first(websocket: Any, members: Any) -> None:
        members.add(websocket)
        with contextlib.suppress(ConnectionClosed):
            async for message in websocket:
                with contextlib.suppress(ConnectionClosed):
                    for member in sorted(members, key=lambda member: member.state is State.OPEN):
                        await member.send(message)
        members.remove(websocket)

    reports = [await labkit.check("members", handler) for handler in (all_others, empties_it, dead_first)]
    assert all("reaches" in report.broken for report in reports), reports
    assert "nothing came back" in evidence(reports[0], "reaches")
    assert "another live member heard nothing" in evidence(reports[1], "reaches")


async def test_members_one_after_the_other() -> None:
    """Or all at once, without the library's function."""

    async def one_by_one(websocket: Any, members: Any) -> None:
        members.add(websocket)
        try:
            async for message in websocket:
                for member in list(members):
                    with contextlib.suppress(ConnectionClosed):
                        await member.send(message)
        except ConnectionClosed:
            pass
        finally:
            members.discard(websocket)

    async def at_once(websocket: Any, members: Any) -> None:
        members |= {websocket}
        try:
            while True:
                message = await websocket.recv()
                await asyncio.gather(*(member.send(message) for member in members), return_exceptions=True)
        except ConnectionClosed:
            pass
        finally:
            members -= {websocket}

    for handler in (one_by_one, at_once):
        report = await labkit.check("members", handler)
        assert report.passed, report
