"""host(): a handler on loopback, with the library's own defaults, for any client at all."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import aiohttp
import psutil
import pytest
import websockets
from aiohttp import web

import labkit
from labkit.errors import BadOption, BadValue
from labkit.support.wakeup import wakeups
from tests import handlers
from tests.versions import older


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_any_client_may_talk_to_it(on: str) -> None:
    """The clients of both libraries, one after the other, through a wire and without one."""
    async with (
        labkit.host(handlers.echo(on), on=on) as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
        aiohttp.ClientSession() as session,
    ):
        for url in (server.url, wire.url):
            async with websockets.connect(url, proxy=None) as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
            async with session.ws_connect(url) as response:
                await response.send_str("hello")
                assert (await response.receive()).data == "hello"
        starts = server.timeline.select("handler", "start")
        assert [event.data["call"] for event in starts] == [1, 2, 3, 4]
        assert server.timeline.select("wire", "frame")


async def test_a_client_that_leaves_by_itself_proves_that_all_is_well() -> None:
    """No fault struck, so there was none to notice."""
    async with labkit.host(handlers.websockets_echo, on="websockets") as server, websockets.connect(server.url) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"
    assert server.run().outcome == "clean"


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_it_listens_on_loopback_alone(on: str) -> None:
    """On 127.0.0.1, on a port of the system's choice."""
    async with labkit.host(handlers.echo(on), on=on) as server:
        listening = [c.laddr for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"]
        assert {address.ip for address in listening} == {"127.0.0.1"}
        assert server.url.startswith("ws://127.0.0.1:")


async def test_aiohttp_is_hosted_with_its_own_default() -> None:
    """Never as TestServer does it, which turns handler_cancellation on."""
    found = {}

    async def handler(request: web.Request) -> web.WebSocketResponse:
        found[on] = request.protocol._manager.handler_cancellation  # type: ignore[union-attr]
        return await handlers.aiohttp_echo(request)

    for on in ("aiohttp", "aiohttp-cancel"):
        await labkit.play(handler, on=on, fault="close")
    assert found == {"aiohttp": False, "aiohttp-cancel": True}


async def test_the_connection_is_the_librarys_own() -> None:
    """Its type is untouched while the handler runs, and its methods are its own again when it has ended."""
    kept: list[Any] = []

    async def handler(websocket: Any) -> None:
        kept.append((type(websocket), websocket))
        assert inspect.signature(websocket.recv) == inspect.signature(type(websocket).recv.__get__(websocket))
        await handlers.websockets_echo(websocket)

    await labkit.play(handler, on="websockets", fault="close")
    [(kind, websocket)] = kept
    assert kind is websockets.asyncio.server.ServerConnection
    assert not {"recv", "send", "close", "wait_closed"} & set(vars(websocket))


async def test_what_the_library_does_to_itself_is_not_the_handlers_doing() -> None:
    """The close that ends every handler, or the one inside aiohttp's receive(), is not told as the handler's."""
    for on in handlers.STACKS:
        run = await labkit.play(handlers.echo(on), on=on, fault="close")
        assert run.timeline.select("handler", "close") == []

    async def closes(websocket: Any) -> None:
        await websocket.close(4000, "done")

    run = await labkit.play(closes, on="websockets", messages=())
    assert [event.data["code"] for event in run.timeline.select("handler", "close")] == [4000]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeline": 5}, "timeline=5; it takes that of a server or a run, such as server.timeline"),
        ({"path": "room"}, "path='room'; it takes a path such as '/chat?room=1'"),
    ],
)
async def test_a_wrong_value_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    """Before any socket opens."""
    with pytest.raises(BadValue) as raised:
        await labkit.host(handlers.websockets_echo, on="websockets", **options).__aenter__()
    assert str(raised.value).startswith(sentence)
    if "timeline" in options:
        with pytest.raises(BadValue, match="timeline=5"):
            labkit.Wire("ws://127.0.0.1:1/", **options)


async def test_options_that_would_lead_off_loopback_are_refused() -> None:
    """The lab sets host and port."""
    for on in handlers.STACKS:
        for option in ("host", "port", "sock"):
            with pytest.raises(BadOption, match="is the lab's to set"):
                async with labkit.host(handlers.echo(on), on=on, **{option: 1}):
                    pass


async def test_leaving_the_block_stops_the_handlers() -> None:
    """After an error in the block too."""

    async def hangs(websocket: Any) -> None:
        await asyncio.Event().wait()

    timeline = labkit.Timeline()

    async def fails() -> None:
        async with labkit.host(hangs, on="websockets", timeline=timeline) as server:
            kept.append(await websockets.connect(server.url, proxy=None))
            await timeline.until(lambda event: event.kind == "start")
            raise ValueError("mine")

    kept: list[Any] = []
    with pytest.raises(ValueError, match="mine"):
        await fails()
    assert timeline.select("handler", "end")[0].data["ending"] == "cancelled"
    await kept[0].wait_closed()


async def first_message(given: Any) -> None:
    """Wait for one, on either library's connection."""
    if isinstance(given, web.Request):
        ws = web.WebSocketResponse()
        await ws.prepare(given)
        await ws.receive()
    else:
        await given.recv()


@pytest.mark.parametrize("leaves", [SystemExit(3), web.GracefulExit()], ids=repr)
@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_handler_that_leaves_the_program_leaves_the_lab_alive(on: str, leaves: SystemExit) -> None:
    """The library ends the connection as it does in production; what would end the process is told."""

    async def quits(given: Any) -> None:
        await first_message(given)
        raise leaves

    run = await labkit.play(quits, on=on, fault=None)
    assert (run.verdict.ending, run.verdict.leaked) == ("raised", ())
    [complaint] = run.verdict.complaints
    assert complaint == "SystemExit in a handler, which ends the server's process outside the lab"
    assert type(leaves).__name__ in str(run.verdict.exception)
    [ended] = run.timeline.select("client", "ended", "close-received")[:1]
    # Since 17.2 websockets says goodbye also where a handler ends by what is no Exception.
    says_goodbye = on == "websockets" and not older("websockets", "17.2")
    assert (ended.kind == "close-received") is says_goodbye
    if on != "websockets" or says_goodbye:
        assert ended.at < run.timeline.select("loop", "stop")[0].at


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_an_interrupt_in_a_handler_interrupts_the_lab(on: str) -> None:
    """Somebody wants it to end: whoever plays is cancelled, and everything is closed."""

    async def interrupted(given: Any) -> None:
        await first_message(given)
        raise KeyboardInterrupt

    play = asyncio.ensure_future(labkit.play(interrupted, on=on, fault="reset", patience=1000))
    await asyncio.wait([play])
    assert play.cancelled()

    timeline = labkit.Timeline()

    async def hosts() -> None:
        async with (
            labkit.host(interrupted, on=on, timeline=timeline) as server,
            websockets.connect(server.url, proxy=None) as ws,
        ):
            await ws.send("hello")
            await asyncio.Event().wait()

    hosting = asyncio.ensure_future(hosts())
    await asyncio.wait([hosting])
    assert hosting.cancelled()
    [end] = timeline.select("handler", "end")
    assert end.data["exception"] == "KeyboardInterrupt"


async def test_the_loop_wakes_now_and_then() -> None:
    """So that an interrupt is heard which a signal handler passes on by call_soon; and it ends with the block."""
    loop = asyncio.get_running_loop()

    def beats() -> list[Any]:
        timers = loop._scheduled  # type: ignore[attr-defined]
        return [timer for timer in timers if not timer.cancelled() and "_Alarm" in repr(timer)]

    with wakeups():
        assert len(beats()) == 1
    assert not beats()
    async with labkit.host(handlers.websockets_echo, on="websockets"):
        assert len(beats()) == 1
    assert not beats()
