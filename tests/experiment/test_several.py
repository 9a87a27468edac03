"""Several connections of one server: each event names the connection to which it belongs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import websockets
from aiohttp import web

import labkit
from labkit.events import HandlerLog, LibraryTcp, WireLink, WireTcp
from labkit.support.clock import scaled
from tests import handlers

GREETED = "greeted"


async def greet(given: Any) -> None:
    """Do everything that leaves an event, by the name that the client sends."""

    async def later(name: str) -> None:
        await asyncio.sleep(0)
        print("later", name)  # noqa: T201 - what a handler prints is an event

    if isinstance(given, web.Request):
        ws: Any = web.WebSocketResponse()
        await ws.prepare(given)
        name, send = await ws.receive_str(), ws.send_str
    else:
        name, send = await given.recv(), given.send
    labkit.note(name)
    async with labkit.resource(name, closing=0.01):
        logging.getLogger("app").warning(name)
        await asyncio.create_task(later(name))
        await send(name)
    await (ws.close() if isinstance(given, web.Request) else given.close())


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_each_event_of_a_handler_names_its_connection(on: str) -> None:
    """What it notes, prints, logs and opens, in tasks of its own too, when two run at the same time."""
    async with labkit.host(greet, on=on) as server, labkit.Wire(server.url, timeline=server.timeline) as wire:

        async def talk(name: str) -> None:
            async with websockets.connect(wire.url, proxy=None) as client:
                await client.send(name)
                assert await client.recv() == name
                await client.wait_closed()

        await asyncio.gather(talk("Ann"), talk("Ben"))
        ended = lambda _: len(server.timeline.select("handler", "end")) == 2  # noqa: E731
        assert await server.timeline.until(ended, scaled(5))
    of = {event.text.strip("'"): event.served for event in server.timeline.select("handler", "recv")}
    assert sorted(of.values()) == [1, 2]  # type: ignore[type-var]
    for event in server.timeline:
        if any(name in event.text for name in of):
            name = next(name for name in of if name in event.text)
            assert event.served == (None if event.lane == "wire" else of[name]), event
    named = [event for event in server.timeline if event.lane in ("handler", "cleanup", "library")]
    assert {event.served for event in named if event.kind != "lines"} == {1, 2}
    lines = [(event.served, event.data["line"]) for event in server.timeline.select("handler", "line")]
    assert {line for number, line in lines if number == 1} == {line for number, line in lines if number == 2}
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_the_ports_tell_which_link_is_which_connection_of_the_server(on: str) -> None:
    """Not the order: here a client that goes around the wire comes first."""
    async with labkit.host(handlers.echo(on), on=on) as server, labkit.Wire(server.url, server.timeline) as wire:
        for url in (server.url, wire.url, wire.url):
            async with websockets.connect(url, proxy=None) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
                port = client.local_address[1]
            if url == wire.url:
                assert server.timeline.all(WireLink)[-1].ports == (port, int(wire.url.split(":")[-1].strip("/")))
        accepted = {event.ports: event.served for event in server.timeline.all(LibraryTcp)}
        assert sorted(accepted.values()) == [1, 2, 3]  # type: ignore[type-var]
        assert [accepted[event.ports] for event in server.timeline.all(WireTcp)] == [2, 3]


@pytest.mark.parametrize("on", ["aiohttp", "aiohttp-cancel"])
async def test_what_the_library_logs_of_a_connection_that_never_reached_the_handler_names_it(on: str) -> None:
    """Such as a port scan, whose request aiohttp refuses."""
    async with labkit.host(handlers.echo(on), on=on) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[-1].strip("/")))
        try:
            writer.write(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
            async with websockets.connect(server.url, proxy=None):
                assert await server.timeline.until(lambda event: isinstance(event, HandlerLog), scaled(5))
        finally:
            writer.close()
    assert {event.served for event in server.timeline.all(HandlerLog) if event.levelno >= logging.ERROR} == {1}
    assert {event.served for event in server.timeline.select("handler", "start")} == {2}


async def test_a_resource_belongs_to_the_connection_whose_handler_opens_it() -> None:
    """Whoever has made it, and whoever closes it."""
    shared = labkit.resource("pool")

    async def handler(websocket: Any) -> None:
        if (await websocket.recv()) == "open":
            await shared.open()
        else:
            await shared.close()

    async with labkit.host(handler, on="websockets") as server:
        for message in ("open", "close"):
            async with websockets.connect(server.url, proxy=None) as client:
                await client.send(message)
                await client.wait_closed()
    assert [(event.kind, event.served) for event in server.timeline.select("cleanup")] == [
        ("open", 1), ("closing", 1), ("closed", 1),
    ]  # fmt: skip


async def test_what_one_handler_does_on_the_connection_of_another() -> None:
    """It belongs to the connection on which it happens, and says whose handler has done it."""
    members: list[Any] = []
    over = asyncio.Event()

    async def replaces(websocket: Any) -> None:
        members.append(websocket)
        if len(members) == 1:
            await over.wait()
            await websocket.wait_closed()
            return
        await members[0].send("another has come")
        await members[0].close(4000)
        with pytest.raises(websockets.ConnectionClosed):
            await members[0].send("are you there?")
        over.set()

    async with (
        labkit.host(replaces, on="websockets") as server,
        websockets.connect(server.url, proxy=None) as first,
        websockets.connect(server.url, proxy=None),
    ):
        assert await first.recv() == "another has come"
        await first.wait_closed()
        assert await server.timeline.until(lambda event: (event.kind, event.served) == ("end", 1), scaled(5))
    told = [(event.kind, event.served, event.data.get("by")) for event in server.timeline.select("handler")]
    assert ("send", 1, 2) in told
    assert ("close", 1, 2) in told
    assert [event for event in told if event[0] == "notice"] == [
        ("notice", 1, 2),  # the second handler is told of the first connection's end
        ("notice", 1, None),  # and then the first, by wait_closed()
    ]
