"""server.run() and wire.run(): a run of what has happened, with any client, any moment, and any server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect

import labkit
from labkit.errors import BadValue, UnknownName
from labkit.events import HandlerEnd, LoopSoFar, LoopStop, WireFault, WireSpared
from labkit.support.clock import scaled
from tests import handlers
from tests.versions import older

#: The faults for which a wire is enough.
OF_A_WIRE = [name for name, fault in labkit.FAULTS.items() if fault.needs == "wire"]


@asynccontextmanager
async def hosted(handler: Any, on: str, **options: Any) -> AsyncIterator[tuple[Any, labkit.Wire]]:
    """A server of the lab's behind a wire."""
    async with (
        labkit.host(handler, on=on, **options) as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
    ):
        yield server, wire


@asynccontextmanager
async def asked(url: str) -> AsyncIterator[Any]:
    """A client that has had an answer."""
    async with connect(url, proxy=None, close_timeout=scaled(1)) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        yield client


async def ends(server: Any, count: int = 1) -> None:
    """Wait until so many handlers have ended."""
    timeline = server.timeline
    assert await timeline.until(lambda _: len(timeline.all(HandlerEnd)) >= count, scaled(10))


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_the_verdict_is_that_of_play(on: str) -> None:
    """One's own client and one's own moment give what ``play`` gives for the same fault."""
    async with hosted(handlers.echo(on), on) as (server, wire), asked(wire.url):
        await wire.strike("reset")
        await ends(server)
    run, played = server.run(), await labkit.play(handlers.echo(on), on=on, fault="reset")
    assert (run.handler, run.on, run.fault, run.outcome) == (played.handler, on, "reset", played.outcome)
    of = "ending", "exception", "close_code", "noticed", "lines_never_ran", "cleanup", "leaked", "complaints", "struck"
    assert [getattr(run.verdict, name) for name in of] == [getattr(played.verdict, name) for name in of]
    assert [connection.number for connection in run.connections] == [1]


@pytest.mark.parametrize("method", ["reset", "fin", "half_close", "blackhole", "stall"])
async def test_a_method_that_breaks_the_connection_is_the_fault(method: str) -> None:
    """``wire.reset()`` is as much a fault as ``await wire.strike("reset")``; ``slow`` and ``inject`` are none."""
    async with hosted(handlers.aiohttp_echo, "aiohttp") as (server, wire), asked(wire.url):
        wire.slow(0)
        wire.inject(b"\x8a\x80\x00\x00\x00\x00")  # a pong
        assert not server.timeline.all(WireFault)
        getattr(wire, method)()
        wire.reset()
        await ends(server)
        run = server.run()
    names = {"half_close": "half-close", "stall": "stalled-reader"}
    assert run.fault == names.get(method, method)
    assert run.verdict.struck is True


async def test_a_method_tells_which_end_it_was_given() -> None:
    """So that two runs with different ends can be told apart."""
    async with hosted(handlers.aiohttp_echo, "aiohttp") as (server, wire), asked(wire.url):
        wire.reset(to="server")
        await ends(server)
        assert server.run().fault == "reset(to='server')"


@pytest.mark.parametrize("fault", OF_A_WIRE)
@pytest.mark.parametrize("on", ["aiohttp", "websockets"])
async def test_a_wire_carries_out_every_fault_that_needs_no_more(on: str, fault: str) -> None:
    """By name or as an instance, with the same bytes as in ``play``; those of the handshake strike who comes next."""
    if fault == "too-big" and on != "websockets" and older("aiohttp", "3.14.1"):
        pytest.skip("this aiohttp does not end it")
    chosen = labkit.IdleTimeout(seconds=0.01) if fault == "idle-timeout" else labkit.FAULTS[fault]
    async with hosted(handlers.echo(on), on) as (server, wire):
        if chosen.moment == "handshake":
            async with asked(wire.url):
                await wire.strike(fault)
                with pytest.raises((TimeoutError, websockets.InvalidHandshake)):
                    await connect(wire.url, proxy=None, open_timeout=scaled(0.3))
            await ends(server)
            run = server.run()
            first, second = run.connections
            assert (first.verdict.struck, second.verdict.struck) == (None, True)
            assert second.verdict.sentence == f"{fault}: the handler never started."
            return
        async with asked(wire.url):
            await wire.strike(chosen)
            if chosen.ends == "connection" and chosen.demands != "end or stay":
                await ends(server)
            struck = server.run()
    assert (struck.fault, struck.verdict.struck) == (str(chosen), True)
    [told] = struck.timeline.all(WireFault)
    assert (told.fault, told.family, told.knobs, told.connection) == (fault, chosen.family, chosen.knobs(), 1)


@pytest.mark.parametrize("fault", [name for name in labkit.FAULTS if name not in OF_A_WIRE])
async def test_a_fault_that_needs_more_than_a_wire_is_refused(fault: str) -> None:
    """In one sentence, which says what it needs, and who can stage it."""
    async with labkit.Wire("ws://127.0.0.1:80/") as wire:
        with pytest.raises(
            BadValue, match=rf"^{fault} needs (a|the) .+, and a wire has none; labkit.play can stage it$"
        ):
            await wire.strike(fault)
        assert len(wire.timeline) == 0


async def test_what_is_no_fault_is_refused() -> None:
    """An unknown name, a patience that is none, and a wire that is not open."""
    async with labkit.Wire("ws://127.0.0.1:80/") as wire:
        with pytest.raises(UnknownName, match="resett"):
            await wire.strike("resett")
        with pytest.raises(BadValue, match="patience=0"):
            await wire.strike("reset", patience=0)
    with pytest.raises(BadValue, match="only inside its `async with` block"):
        await wire.strike("reset")


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_so_far_what_has_not_happened_may_still_happen(on: str) -> None:
    """Right after the fault nobody knows yet whether the handler notices, ends, or leaves something behind."""
    goes_on = asyncio.Event()

    async def waits(given: Any) -> Any:
        ws = web.WebSocketResponse()
        if isinstance(given, web.Request):
            await ws.prepare(given)
        async with labkit.resource("database"):
            await goes_on.wait()
        return ws

    async with (
        hosted(waits, on, patience=0.05) as (server, wire),
        connect(wire.url, proxy=None, close_timeout=scaled(1)),
    ):
        await server.timeline.until(lambda event: event.kind == "open" and event.lane == "cleanup")
        before = server.run()
        wire.reset()
        after = server.run()
        goes_on.set()
        await ends(server)
        done = server.run()
    over = server.run()
    assert (before.fault, before.verdict.struck, before.outcome) == ("none", None, "unknown")
    verdict = after.verdict
    assert (verdict.ending, verdict.noticed, verdict.cleanup, verdict.leaked) == ("running", "unknown", "unknown", None)
    assert after.outcome == "unknown"
    # Each is a picture of its time: what came later has changed neither.
    assert len(before.timeline) < len(after.timeline) < len(done.timeline)
    assert (done.verdict.ending, done.verdict.leaked, done.outcome) == ("returned", None, "unknown")
    assert (over.verdict.ending, over.verdict.leaked) == ("returned", ())
    assert [type(run.timeline[-1]) for run in (before, after, done)] == [LoopSoFar] * 3
    assert over.timeline.first(LoopSoFar) is None


async def test_the_end_of_the_block_waits_for_the_handlers_whose_connection_is_over() -> None:
    """Whoever does not wait for the end of the handler still gets a verdict on it, and not on a race."""

    async def slow(websocket: Any) -> None:
        try:
            async with labkit.resource("database", closing=0.3):
                await websocket.recv()
        except websockets.ConnectionClosed:
            labkit.note("gone")

    async def gone(wire: labkit.Wire) -> None:
        async with connect(wire.url, proxy=None) as client:
            await wire.strike("fin")
            await client.wait_closed()

    async def says_goodbye(wire: labkit.Wire) -> None:
        async with connect(wire.url, proxy=None):
            pass

    for leave in (gone, says_goodbye):
        async with hosted(slow, "websockets") as (server, wire):
            await leave(wire)
        assert (server.run().verdict.ending, server.run().verdict.cleanup) == ("returned", "complete"), leave.__name__


async def test_a_handler_that_does_not_end_hangs_when_the_patience_is_over() -> None:
    """The lab then stops it, and tells that this is the lab's doing; what it has left is told too."""
    left: list[asyncio.Task[Any]] = []

    async def hangs(websocket: Any) -> None:
        left.append(asyncio.create_task(asyncio.Event().wait(), name="ticker"))
        await websocket.send("hello")
        await asyncio.Event().wait()

    async with hosted(hangs, "websockets", patience=0.1) as (server, wire), connect(wire.url, proxy=None) as client:
        await client.recv()
        wire.reset()
        await client.wait_closed()
    run = server.run()
    assert (run.verdict.ending, run.verdict.noticed, run.outcome) == ("running", "no", "leaked")
    assert run.timeline.all(LoopStop)[0].patience == scaled(0.1)
    [task] = run.verdict.leaked or ()
    assert task.startswith("task ticker (Event.wait)")
    assert left[0].cancelled()


async def test_a_timeline_that_was_given_may_go_on() -> None:
    """Two servers, one after the other, on one timeline: the end of the first does not end what is told."""
    timeline = labkit.Timeline()
    for number in (1, 2):
        async with labkit.host(handlers.websockets_echo, on="websockets", timeline=timeline) as server:
            async with asked(server.url):
                pass
            await ends(server, number)
    assert [each.verdict.ending for each in server.run().connections] == ["returned", "returned"]
    assert timeline.first(LoopStop) is None


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_each_connection_has_its_own_verdict(on: str) -> None:
    """A fault strikes all that are live; who left before, and who comes later, has none."""
    async with hosted(handlers.echo(on), on) as (server, wire):
        async with asked(wire.url):
            pass
        await ends(server, 1)
        async with asked(wire.url), asked(wire.url):
            await wire.strike("reset")
            await ends(server, 3)
        async with asked(wire.url):
            run = server.run()
    assert [each.verdict.struck for each in run.connections] == [None, True, True, None]
    assert [each.verdict.ending for each in run.connections] == ["returned", *[run.verdict.ending] * 2, "running"]
    assert [event.connection for event in run.timeline.all(WireFault)] == [2, 3]
    assert run.verdict.sentence.startswith(run.connections[1].verdict.sentence)


async def test_a_connection_that_is_over_is_spared() -> None:
    """The handler has closed, and the client has not answered: there is nothing left for a fault to break."""

    async def closes(websocket: Any) -> None:
        await websocket.close(4000)

    async with hosted(closes, "websockets", close_timeout=scaled(0.3)) as (server, wire):
        wire.hold_close("client")
        client = await connect(wire.url, proxy=None, close_timeout=0)
        await server.timeline.until(lambda event: event.kind == "close")
        await wire.strike("fin")
        wire.reset()
        run = server.run()
        await client.wait_closed()
    assert run.verdict.struck is False
    assert run.outcome == "unstruck"
    assert [event.why for event in run.timeline.all(WireSpared)] == ["the handler had called close(4000)"]


async def test_without_a_client_there_is_nothing_to_strike() -> None:
    """It is told, and no exception: a script may strike in a loop."""
    async with labkit.Wire("ws://127.0.0.1:80/") as wire:
        await wire.strike("reset")
        run = wire.run()
    assert run.verdict.struck is False
    assert run.timeline.all(WireSpared)[0].text == "reset does not strike, since no client was connected"


async def test_a_handler_that_nobody_has_called_never_started() -> None:
    """Of a server of the lab's that is known, though it has recorded nothing."""
    async with hosted(handlers.websockets_echo, "websockets") as (server, wire):
        before = server.run()
        await wire.strike("handshake-cut")
        with pytest.raises(websockets.InvalidHandshake):
            await connect(wire.url, proxy=None)
        after = server.run()
    assert (before.verdict.sentence, before.outcome) == ("The handler never started.", "unknown")
    assert after.verdict.sentence == "handshake-cut: the handler never started."
    assert (server.run().verdict.leaked, server.run().outcome) == ((), "unstarted")


SERVERS = {
    "websockets": """
import asyncio, websockets

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
""",
    "aiohttp": """
import asyncio
from aiohttp import web

async def echo(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws

async def main():
    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
""",
}


@contextmanager
def running(library: str) -> Iterator[str]:
    """A server of somebody else's, in a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", SERVERS[library]], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"ws://user:secret@127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("library", SERVERS)
async def test_of_a_server_that_is_not_ours_the_wire_tells_what_it_saw(library: str, tmp_path: Path) -> None:
    """The server's answer to the fault, and when; how its handler took it, and what it left, is unknown."""
    with running(library) as url:
        async with labkit.Wire(url) as wire:
            async with asked(wire.url) as client:
                await wire.strike("bad-opcode")
                await client.wait_closed()
            await wire.links[0].closed()
            run = wire.run()
    verdict = run.verdict
    assert (verdict.struck, verdict.ending, verdict.noticed, verdict.cleanup) == (True, *["unknown"] * 3)
    assert (verdict.leaked, verdict.complaints, verdict.lines_never_ran, run.outcome) == (None, None, None, "unknown")
    assert re.fullmatch(
        r"bad-opcode: what the server's handler did is unknown; the server sent Close 1002 .*after .* ms"
        r"(, | and )ended TCP with a (FIN|RST) after .* ms\.",
        verdict.sentence,
    )
    assert (run.on, "secret" in run.handler) == ("unknown", False)
    found = dict(re.findall(r"^(\w[\w ]+?)  +(\w+)$", str(run), re.MULTILINE))
    assert found == dict.fromkeys(
        ("ending", "exception", "close code", "noticed", "never ran", "cleanup", "leaked", "complaints"), "unknown"
    )
    assert run.plot().axes
    run.save(tmp_path / "run.json")
    assert labkit.load(tmp_path / "run.json").verdict == verdict


async def test_a_server_that_keeps_its_connection_is_told_so() -> None:
    """After a blackhole nothing comes of the server, and nothing shows that it has noticed."""
    with running("websockets") as url:
        async with labkit.Wire(url) as wire, asked(wire.url):
            assert wire.run().verdict.sentence.startswith("No fault struck: what the server's handler did is unknown; ")
            await wire.strike("blackhole")
            run = wire.run()
    assert re.search(r"unknown; the server had not ended the connection .* ms later\.$", run.verdict.sentence)


@pytest.mark.parametrize("fault", labkit.ENDING)
@pytest.mark.parametrize("on", handlers.STACKS)
async def test_the_faults_that_must_end_a_handler_end_the_plain_echo(on: str, fault: str) -> None:
    """What ``labkit.ENDING`` promises to a test that is parametrised with it."""
    if fault == "too-big" and on != "websockets" and older("aiohttp", "3.14.1"):
        pytest.skip("this aiohttp does not end it")
    run = await labkit.play(handlers.echo(on), on=on, fault=fault)
    assert run.verdict.ending != "running", str(run)
    assert labkit.FAULTS[fault].ends in {"connection", "handler"}


def test_the_other_faults_need_not_end_a_handler() -> None:
    """They leave the connection open, no handler starts, or the library's shutdown may wait for the handler."""
    others = {name: fault for name, fault in labkit.FAULTS.items() if name not in labkit.ENDING}
    assert {fault.ends for fault in others.values()} == {"nothing", "handshake", "server", "connection"}
    assert {name for name, fault in others.items() if fault.ends == "connection"} == {"idle-timeout", "unmasked-frame"}
