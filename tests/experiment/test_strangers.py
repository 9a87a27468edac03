"""Strangers who connect during an experiment, such as a port scan: they change no verdict, and are named."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import websockets
from aiohttp import web

import labkit
from labkit.events import ClientStranger, LoopStop
from labkit.experiment.run import Run
from labkit.support.clock import scaled
from tests import handlers

Visit = Callable[[socket.socket, threading.Event], None]

#: A handshake, and a text message of two bytes, masked with zeros.
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HI = b"\x81\x82\0\0\0\0hi"
#: Experiments that go on side by side, each with two ports, and a visitor at each.
AT_ONCE = 6


def connect_only(sock: socket.socket, over: threading.Event) -> None:
    """Leave at once."""


def connect_and_stay(sock: socket.socket, over: threading.Event) -> None:
    while not over.is_set():
        with suppress(TimeoutError):
            if not sock.recv(100):
                return


def get(sock: socket.socket, over: threading.Event) -> None:
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    sock.recv(100)


def say_nonsense(sock: socket.socket, over: threading.Event) -> None:
    sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 as TLS begins\r\n\r\n")
    sock.recv(100)


def talk(sock: socket.socket, over: threading.Event) -> None:
    sock.sendall(HANDSHAKE)
    sock.recv(1000)
    sock.sendall(HI)
    sock.recv(100)


def talk_and_stay(sock: socket.socket, over: threading.Event) -> None:
    sock.sendall(HANDSHAKE)
    sock.recv(1000)
    sock.sendall(HI)
    connect_and_stay(sock, over)


VISITS = (connect_only, connect_and_stay, get, say_nonsense, talk, talk_and_stay)


@contextmanager
def scanner(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Visit each port that begins to listen meanwhile, again and again, from a thread a port."""
    ports: list[int] = []
    over = threading.Event()
    listen = socket.socket.listen

    def listen_and_tell(self: socket.socket, *arguments: Any) -> None:
        listen(self, *arguments)
        ports.append(self.getsockname()[1])

    def scan(number: int) -> None:
        while not over.wait(0.05):
            for port in ports[number : number + 1]:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.1) as sock:
                    visit(sock, over)

    # Started before the experiments: a thread that begins during one has been left behind.
    threads = [threading.Thread(target=scan, args=(number,)) for number in range(2 * AT_ONCE)]
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "listen", listen_and_tell)
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


async def echo_with_a_resource(given: Any) -> Any:
    async with labkit.resource("database", closing=0.01):
        if not isinstance(given, web.Request):
            return await handlers.listen(given)
        ws = web.WebSocketResponse()
        await ws.prepare(given)
        async for message in ws:
            await ws.send_str(message.data)
        return ws


def findings(run: Run) -> dict[str, Any]:
    """All that the verdict found, but for what is measured on the clock."""
    verdict = run.verdict
    names = ("ending", "exception", "close_code", "noticed", "lines_never_ran", "cleanup", "leaked", "complaints")
    more = ("client_exception", "client_close_code", "struck", "others")
    return {name: getattr(verdict, name) for name in names + more}


async def compare(on: str, faults: Iterable[str], visit: Visit, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Play each fault with strangers and without: the same findings."""

    async def play_all() -> list[Run]:
        plays = [labkit.play(echo_with_a_resource, on=on, fault=fault, patience=0.5) for fault in faults]
        return await asyncio.gather(*plays)

    alone = await play_all()
    with scanner(visit, monkeypatch):
        scanned = await play_all()
    for one, other in zip(alone, scanned, strict=True):
        assert findings(other) == findings(one), f"{one.fault}: {other.verdict.sentence}"
        assert other.connections[0].number == 1
        assert all(connection.stranger for connection in other.connections[1:])
    return scanned


@pytest.mark.parametrize("on", ["aiohttp", "websockets"])
@pytest.mark.parametrize("visit", VISITS)
async def test_no_finding_is_a_stranger_s(visit: Visit, on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of its call, not of its resources and lines, not of what the library logs of it."""
    for run in await compare(on, ("close", "blackhole", "second-cancel"), visit, monkeypatch):
        strangers = run.timeline.all(ClientStranger)
        assert {event.connection for event in strangers} == {c.number for c in run.connections if c.stranger}
        assert "Connection " not in run.verdict.sentence
        if visit in (talk, talk_and_stay) and any(event.called for event in strangers):
            assert "connected too, and the handler was called for" in run.verdict.sentence


@pytest.mark.soak
@pytest.mark.parametrize("on", handlers.STACKS)
@pytest.mark.parametrize("visit", VISITS)
async def test_no_verdict_differs(visit: Visit, on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault, on each stack, whatever the stranger does."""
    faults = list(labkit.FAULTS)
    for few in (faults[at : at + AT_ONCE] for at in range(0, len(faults), AT_ONCE)):
        await compare(on, few, visit, monkeypatch)


async def test_a_stranger_is_named_with_where_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the wire or to the server; at the time when it came; and whether the handler was called for it."""
    visited: list[int] = []

    async def handler(websocket: Any) -> None:
        if websocket.request.path != "/stranger":
            server, wire = websocket.local_address[1], int(websocket.request.headers["Host"].rpartition(":")[2])
            for port in (wire, server):
                async with websockets.connect(f"ws://127.0.0.1:{port}/stranger", proxy=None) as client:
                    visited.append(client.local_address[1])
            with socket.create_connection(("127.0.0.1", server)):
                pass
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(handler, on="websockets", fault="reset")
    told = [(event.connection, event.to_wire, event.called) for event in run.timeline.all(ClientStranger)]
    assert told == [(2, True, True), (3, False, True), (4, False, False)]
    assert "2 strangers connected too, and the handler was called for them." in run.verdict.sentence
    times = [event.at for event in run.timeline]
    assert times == sorted(times)
    for connection in run.connections[1:]:
        [stranger] = connection.timeline.all(ClientStranger)
        assert stranger.text.startswith("a stranger connects to the ")
        own = [event for event in connection.timeline if event.connection == connection.number]
        assert stranger.at == own[0].at
    assert [connection.verdict.ending for connection in run.connections] == [
        "raised",
        "returned",
        "returned",
        "unknown",
    ]


async def test_a_stranger_who_comes_first_is_not_the_client() -> None:
    """The wire's first link and the server's first connection are the stranger's; the ports tell."""
    before: list[int] = []

    class Early(labkit.Wire):
        async def __aenter__(self) -> Any:
            entered = await super().__aenter__()
            async with websockets.connect(self.url, proxy=None) as client:
                await client.send("hello")
                before.append(client.local_address[1])
                assert await client.recv() == "hello"
            return entered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labkit.experiment.play.Relay", Early)
        run = await labkit.play(handlers.websockets_echo, on="websockets", fault=labkit.Close(code=4000))
    client, stranger = run.connections
    assert (client.verdict.close_code, stranger.verdict.close_code) == (4000, 1000)
    assert run.verdict.close_code == 4000
    assert [link.data["link"] for link in client.timeline.select("wire", "link")] == [1]
    assert [start.data["call"] for start in client.timeline.select("handler", "start")] == [2]
    assert stranger.stranger


async def test_nobody_waits_for_a_stranger() -> None:
    """Neither for its handler nor for its handshake, at the end of the experiment: it is dropped."""
    opened: list[socket.socket] = []

    async def handler(websocket: Any) -> None:
        if not opened:
            at = websocket.local_address[:2]
            # In a context of their own: a handler that opens them has left them behind.
            opened.extend(contextvars.Context().run(socket.create_connection, at) for _ in range(2))
            opened[0].sendall(HANDSHAKE)
        async for message in websocket:
            await websocket.send(message)

    loop = asyncio.get_running_loop()
    began = loop.time()
    run = await labkit.play(handler, on="websockets", fault="close", patience=30)
    took = loop.time() - began
    for each in opened:
        each.close()
    assert run.verdict.leaked == ()
    assert took < scaled(1.0)  # the library's own shutdown would wait for both, and so would the lab's patience


async def test_a_handler_that_is_called_while_the_lab_stops_is_not_blamed() -> None:
    """A stranger may connect while the lab cancels the handlers: no handler is called any more."""
    port: list[int] = []

    async def refuses_to_end(websocket: Any) -> None:
        port.append(websocket.local_address[1])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with suppress(EOFError, websockets.WebSocketException):
                async with websockets.connect(f"ws://127.0.0.1:{port[0]}/", proxy=None, open_timeout=scaled(5)):
                    pass
            raise

    run = await labkit.play(refuses_to_end, on="websockets", fault="blackhole", patience=0.1)
    assert run.verdict.leaked == ()
    assert len(port) == 1
    assert run.timeline.all(LoopStop)
