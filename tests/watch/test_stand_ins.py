"""Whatever a handler calls on a connection that is lost, the lab sees what the library tells it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import MethodType
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientConnectionResetError, WSMsgType, web
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

import labkit
from labkit.events import Event, LibraryLost
from labkit.timeline import scope
from labkit.verdict import Verdict, judge
from labkit.watch.stand_ins import Method, StandIns
from tests.versions import older

HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

#: More bytes than the buffers between here and a client that does not read.
MUCH = 32_000_000

Call = Callable[[Any], Awaitable[object]]


def ready(event: Event) -> bool:
    return event.kind == "note" and event.text == "ready"


async def struck(handler: Any, on: str, **options: Any) -> tuple[labkit.Timeline, Verdict]:
    """Reset a handler's connection once it says that it is ready; the client answers nothing, no ping either."""
    async with (
        labkit.host(handler, on=on, **options) as server,
        labkit.Wire(server.url, timeline=server.timeline) as wire,
    ):
        url, timeline = urlsplit(wire.url), server.timeline
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(HANDSHAKE.encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await timeline.until(ready)
        timeline.record("wire", "fault", "reset", {"fault": "reset", "knobs": {}})
        wire.reset()
        await timeline.until(lambda event: event.kind == "end")
        await server.settled(1)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return timeline, judge(timeline)


async def gone(_: Any) -> None:
    """Wait until the library knows, without asking a method that would tell the handler."""
    here = scope.get()
    assert here is not None
    await here.timeline.until(lambda event: isinstance(event, LibraryLost))
    await asyncio.sleep(0)  # the event is told first


async def connect(given: Any) -> Any:
    """The handler's connection, of both libraries."""
    if not isinstance(given, web.Request):
        return given
    ws = web.WebSocketResponse()
    await ws.prepare(given)
    return ws


async def iterate(iterator: Any) -> None:
    async for _ in iterator:
        pass


async def fragments() -> AsyncIterator[str]:
    yield "one"
    yield "two"


async def relay(ws: Any) -> None:
    async def chunks() -> AsyncIterator[str]:
        with contextlib.suppress(ConnectionClosed):
            yield await ws.recv()

    await ws.send(chunks())


async def pong(ws: Any) -> None:
    await (await ws.ping())


async def pong_with_a_timeout(ws: Any) -> None:
    await asyncio.wait_for(await ws.ping(), 60)


async def pong_that_is_waited_for(ws: Any) -> None:
    [waiter], _ = await asyncio.wait([await ws.ping()])
    waiter.exception()


async def pong_that_is_gathered(ws: Any) -> None:
    await asyncio.gather(await ws.ping())


async def pong_that_is_shielded(ws: Any) -> None:
    await asyncio.shield(await ws.ping())


async def pong_in_a_task(ws: Any) -> None:
    waiter = await ws.ping()

    async def waits() -> float:
        return float(await waiter)

    await asyncio.create_task(waits())


async def drain(ws: Any) -> None:
    ws._req.transport.write(b"\x82\x7f" + MUCH.to_bytes(8) + bytes(MUCH))  # one binary frame
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        await ws.drain()


#: What a handler may await when the connection is lost already.
AFTERWARDS: list[tuple[str, str, Call]] = [
    ("aiohttp", "receive() gave CLOSED", lambda ws: ws.receive()),
    ("aiohttp", "receive() gave CLOSED", lambda ws: ws.receive_str()),
    ("aiohttp", "receive() gave CLOSED", lambda ws: ws.receive_bytes()),
    ("aiohttp", "receive() gave CLOSED", lambda ws: ws.receive_json()),
    ("aiohttp", "receive() gave CLOSED", iterate),
    ("aiohttp", "send_str()", lambda ws: ws.send_str("text")),
    ("aiohttp", "send_bytes()", lambda ws: ws.send_bytes(b"bytes")),
    ("aiohttp", "send_str()", lambda ws: ws.send_json({})),
    ("aiohttp", "send_bytes()", lambda ws: ws.send_json_bytes({}, dumps=lambda _: b"{}")),
    ("aiohttp", "send_frame()", lambda ws: ws.send_frame(b"text", WSMsgType.TEXT)),
    ("aiohttp", "ping()", lambda ws: ws.ping()),
    ("aiohttp", "pong()", lambda ws: ws.pong(b"data")),
    ("websockets", "recv()", lambda ws: ws.recv()),
    ("websockets", "recv()", lambda ws: ws.recv(decode=False)),
    ("websockets", "recv()", iterate),
    ("websockets", "recv_streaming()", lambda ws: iterate(ws.recv_streaming())),
    ("websockets", "send()", lambda ws: ws.send("text")),
    ("websockets", "send()", lambda ws: ws.send(message=b"bytes", text=True)),
    ("websockets", "send()", lambda ws: ws.send(["one", "two"])),
    ("websockets", "send()", lambda ws: ws.send(iter([b"one", b"two"]))),
    ("websockets", "send()", lambda ws: ws.send(fragments())),
    ("websockets", "recv()", relay),
    ("websockets", "recv_streaming()", lambda ws: ws.send(ws.recv_streaming())),
    ("websockets", "ping()", lambda ws: ws.ping()),
    ("websockets", "pong()", lambda ws: ws.pong()),
    ("websockets", "wait_closed() returned", lambda ws: ws.wait_closed()),
]

#: What a handler may be waiting for when the connection is lost.
MEANWHILE: list[tuple[str, str, Call]] = [
    ("aiohttp", "receive() gave CLOSED", lambda ws: ws.receive()),
    ("aiohttp", "receive() gave CLOSED", iterate),
    ("aiohttp", "send_bytes()", lambda ws: ws.send_bytes(bytes(MUCH))),
    ("aiohttp", "drain()", drain),
    ("websockets", "recv()", lambda ws: ws.recv()),
    ("websockets", "recv_streaming()", lambda ws: iterate(ws.recv_streaming())),
    ("websockets", "send()", lambda ws: ws.send([bytes(MUCH)] * 2)),
    ("websockets", "recv()", relay),
    ("websockets", "wait_closed() returned", lambda ws: ws.wait_closed()),
    ("websockets", "the pong of ping()", pong),
    ("websockets", "the pong of ping()", pong_with_a_timeout),
    ("websockets", "the pong of ping()", pong_that_is_waited_for),
    ("websockets", "the pong of ping()", pong_that_is_gathered),
    ("websockets", "the pong of ping()", pong_that_is_shielded),
    ("websockets", "the pong of ping()", pong_in_a_task),
]


@pytest.mark.parametrize("number", range(len(AFTERWARDS)), ids=lambda number: f"{AFTERWARDS[number][0]}-{number}")
async def test_a_connection_that_is_lost_tells_by_every_method(number: int) -> None:
    """A real RST, and then one call; the handler swallows what it raises."""
    on, how, call = AFTERWARDS[number]
    if "send_json_bytes" in call.__code__.co_names and older("aiohttp", "3.14"):
        pytest.skip("send_json_bytes came with aiohttp 3.14")

    async def handler(given: Any) -> Any:
        connection = await connect(given)
        labkit.note("ready")
        await gone(given)
        with contextlib.suppress(Exception):
            await call(connection)
        return connection

    timeline, verdict = await struck(handler, on)
    notices = timeline.select("handler", "notice")
    assert [event.text.partition(":")[0] for event in notices][:1] == [how]
    assert (verdict.ending, verdict.noticed) == ("returned", "yes")


@pytest.mark.parametrize("number", range(len(MEANWHILE)), ids=lambda number: f"{MEANWHILE[number][0]}-{number}")
async def test_a_method_that_waits_tells_of_the_loss(number: int) -> None:
    """The RST comes while the handler waits."""
    on, how, call = MEANWHILE[number]

    async def handler(given: Any) -> Any:
        connection = await connect(given)
        labkit.note("ready")
        with contextlib.suppress(Exception):
            await call(connection)
        return connection

    timeline, verdict = await struck(handler, on)
    notices = timeline.select("handler", "notice")
    assert [event.text.partition(":")[0] for event in notices][:1] == [how]
    assert (verdict.ending, verdict.noticed) == ("returned", "yes")


async def test_a_pong_that_arrives_is_the_librarys_own() -> None:
    """A future by all that one can ask of it, with its result, its callbacks and its cancel."""
    seen: list[Any] = []
    told: list[Any] = []

    async def handler(websocket: Any) -> None:
        pong = await websocket.ping()
        pong.add_done_callback(told.append)
        pong.add_done_callback(print)
        removed = pong.remove_done_callback(print)
        latency = await pong
        await asyncio.sleep(0)  # the pong may have come before anybody asked: then its callback is called now
        seen.extend([isinstance(pong, asyncio.Future), asyncio.isfuture(pong), removed])
        seen.extend([pong.done(), pong.result() == latency == websocket.latency, pong.exception()])
        seen.append(told == [pong])
        other = await websocket.ping()
        seen.append(other.cancel())
        with pytest.raises(asyncio.CancelledError):
            await other

    run = await labkit.play(handler, on="websockets", fault=None, messages=())
    assert seen == [True, True, 1, True, True, None, True, True]
    assert run.verdict.ending == "returned"
    assert not run.timeline.select("handler", "notice", "print")


class Acme:
    """A connection of a library, whose methods do the least."""

    closed = False

    async def send(self) -> int:
        """Take no turn of the loop."""
        return 3

    async def recv(self) -> None:
        """Tell that the connection is over, without a turn of the loop."""
        raise ConnectionResetError

    async def stream(self) -> AsyncIterator[int]:
        """Give numbers for ever."""
        try:
            while True:
                yield 1
        finally:
            self.closed = True


class Watcher:
    """Notes what a method of a connection tells."""

    task = None

    def __init__(self) -> None:
        self.notices: list[str] = []

    def noticed(self, how: str, _: BaseException) -> None:
        """Note it."""
        self.notices.append(how)

    def take_error(self) -> None:
        """Have no other error."""

    def gave_up(self, method: str, cause: str) -> None:
        """Let it be."""


@contextlib.contextmanager
def watched(connection: Any, **methods: Method) -> Iterator[Watcher]:
    """Watch methods of a connection."""
    watcher = Watcher()
    stand_ins = StandIns(watcher, connection, ConnectionError, methods)
    try:
        yield watcher
    finally:
        stand_ins.release()


async def test_a_method_takes_no_turn_more_than_it_takes() -> None:
    """What returns without a turn of the loop does so with the lab, and a generator is closed when it is closed."""
    connection = Acme()
    with watched(connection, send=Method(), stream=Method(on_item=lambda *_: None)):
        with pytest.raises(StopIteration) as stop:
            connection.send().send(None)  # type: ignore[attr-defined]
        assert stop.value.value == 3
        numbers: Any = connection.stream()
        assert await anext(numbers) == 1
        await numbers.aclose()
    assert connection.closed


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [(("old",), {}), (("old", 7), {}), (("old",), {"times": 7}), ((), {"data": "old"}), ((), {}), (("old", 7, 8), {})],
)
async def test_a_call_is_told_by_the_librarys_names_however_it_is_made(arguments: Any, keywords: Any) -> None:
    """Whatever the user's own class calls its parameters; one that is replaced gets there, and wrong ones raise."""

    class Own(Acme):
        async def send(self, data: str, times: int = 3) -> Any:  # type: ignore[override]
            return data, times

    told: list[Any] = []

    def replace_it(_: Any, given: dict[str, Any]) -> None:
        told.append((given["message"], given["count"]))
        given["message"] = "new"

    method = Method(on_call=replace_it, parameters=("message", "count"))
    with watched(connection := Own(), send=method):
        if arguments == ("old", 7, 8) or not (arguments or keywords):
            with pytest.raises(TypeError):
                await connection.send(*arguments, **keywords)
            assert not told
        else:
            times = 7 if 7 in (*arguments, *keywords.values()) else 3
            assert await connection.send(*arguments, **keywords) == ("new", times)
            assert told == [("old", times)]


async def test_methods_that_are_not_there_are_left_out() -> None:
    """Another version of the library may not have them."""
    connection = Acme()
    with watched(connection, send_later=Method(), stream_later=Method(on_item=print)):
        assert vars(connection) == {}
        assert not hasattr(Acme, "send_later")


async def test_only_a_connection_that_is_watched_is_told_of() -> None:
    """Others of its class, and one that is no longer watched, work as before; at the end the class is as it was."""
    one, other, before = Acme(), Acme(), vars(Acme).copy()
    with watched(one, recv=Method()) as first:
        with watched(other, recv=Method()) as second:
            for connection in (one, other, Acme()):
                with pytest.raises(ConnectionResetError):
                    await connection.recv()
            assert (first.notices, second.notices) == (["recv()"], ["recv()"])
        with pytest.raises(ConnectionResetError):
            await other.recv()
        assert (len(first.notices), len(second.notices)) == (1, 1)
    assert vars(Acme) == before


async def test_a_method_that_one_connection_alone_has_is_watched_too() -> None:
    """A handler, or a library, may have put it there; and a class may inherit its methods, or have none of its own."""

    class Own(Acme):
        recv_soon = functools.partialmethod(Acme.recv)

    connection = Own()
    vars(connection)["send"] = connection.recv
    with watched(connection, send=Method(), recv=Method(), recv_soon=Method()) as watcher:
        for method in (connection.send, connection.recv, connection.recv_soon):
            with pytest.raises(ConnectionResetError):
                await method()
        assert watcher.notices == ["send()", "recv()", "recv_soon()"]
    assert vars(connection).keys() == {"send"}
    assert set(vars(Own)) & {"send", "recv"} == set()


async def test_a_handler_that_asks_for_ever_does_not_keep_the_loop() -> None:
    """After a thousand notices in a row it is asked to wait a moment each time, so that others have their turn."""
    connection = Acme()
    with watched(connection, recv=Method()) as watcher:

        async def asks() -> None:
            while True:
                with contextlib.suppress(ConnectionResetError):
                    await connection.recv()
                if len(watcher.notices) > 5000:
                    raise AssertionError("nobody else had a turn")

        task = asyncio.create_task(asks())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert len(watcher.notices) > 1000


async def test_a_pong_that_nobody_asks_for_tells_nobody() -> None:
    """A ping was sent, its pong never came, and the handler did not look: it did not notice."""

    async def handler(websocket: Any) -> None:
        await websocket.ping()
        labkit.note("ready")
        await gone(websocket)

    timeline, verdict = await struck(handler, "websockets")
    assert not timeline.select("handler", "notice")
    assert (verdict.ending, verdict.noticed) == ("returned", "no")


async def test_the_pings_of_the_library_are_its_own_affair() -> None:
    """Its keepalive finds out by the method that the handler has too, and tells only its log."""

    async def handler(websocket: Any) -> None:
        def fails() -> Any:
            raise ConnectionClosedError(None, None)

        websocket.send_context = fails  # what ping() enters, and fails at
        await asyncio.wait([websocket.keepalive_task])
        labkit.note("ready")
        del websocket.send_context
        await gone(websocket)

    timeline, verdict = await struck(handler, "websockets", ping_interval=0.001)
    assert not timeline.select("handler", "notice")
    assert "keepalive ping failed" in " ".join(verdict.complaints)


async def test_what_is_streamed_is_told_fragment_by_fragment() -> None:
    """What the library gives and takes, and nothing else; what it refuses it refuses in its own words."""
    refused: list[str] = []

    async def handler(websocket: Any) -> None:
        await websocket.send(["one", "two"])
        await websocket.send(iter([b"three"]))
        await websocket.send(fragments())
        await websocket.send(bytearray(b"four"))
        await websocket.send("five", text=False)
        await websocket.send([])
        for wrong in ({"a": 1}, 6):
            with pytest.raises(TypeError) as caught:
                await websocket.send(wrong)
            refused.append(str(caught.value))
        with pytest.raises(TypeError, match="unexpected keyword"):
            await websocket.send("seven", txt=True)
        async for _ in websocket.recv_streaming():
            pass

    run = await labkit.play(handler, on="websockets", fault=None)
    assert refused == ["data is a dict-like object", "data must be str, bytes, iterable, or async iterable"]
    assert [(e.kind, e.text, e.data["opcode"]) for e in run.timeline.select("handler", "send", "recv")] == [
        ("send", "'one'", "TEXT"),
        ("send", "'two'", "TEXT"),
        ("send", "b'three'", "BINARY"),
        ("send", "'one'", "TEXT"),
        ("send", "'two'", "TEXT"),
        ("send", "b'four'", "BINARY"),
        ("send", "'five'", "BINARY"),
        ("recv", "'hello'", "TEXT"),
    ]
    received = "".join(event.text for event in run.timeline.select("client", "recv"))
    assert received == "'onetwo'b'three''onetwo'b'four'b'five'"
    assert run.verdict.ending == "returned"  # the stream of the received message has ended, as the library's does


@pytest.mark.parametrize("on", ["aiohttp", "websockets"])
async def test_the_stand_ins_come_off(on: str) -> None:
    """Type and methods are the library's own, and the methods keep their names and signatures."""
    kept: list[Any] = []

    async def handler(given: Any) -> Any:
        connection = await connect(given)
        kept.extend([connection, connection.ping.__func__, connection.ping.__name__])
        labkit.note("ready")
        return connection

    await struck(handler, on)
    connection, stood_in, name = kept
    assert connection.ping.__func__ is not stood_in
    assert inspect.signature(connection.ping) == inspect.signature(MethodType(stood_in, connection))
    assert name == "ping"
    assert type(connection) in {web.WebSocketResponse, ServerConnection}
    assert not {name for name in vars(connection) if callable(getattr(type(connection), name, None))}


async def test_a_loss_by_a_way_that_nobody_watches_is_seen_when_it_ends_the_handler() -> None:
    """It passed through a method of this connection: the handler was told."""

    async def handler(websocket: Any) -> None:
        labkit.note("ready")
        await gone(websocket)
        async with websocket.send_context():
            pass

    timeline, verdict = await struck(handler, "websockets")
    [notice] = timeline.select("handler", "notice")
    assert notice.text.startswith("the handler raised: ConnectionClosedError")
    assert (verdict.ending, verdict.noticed) == ("raised", "yes")


async def test_a_loss_that_a_method_has_told_is_told_once() -> None:
    """The same exception ends the handler; the notice has it, with the code that the connection reports then."""

    async def handler(websocket: Any) -> None:
        labkit.note("ready")
        await websocket.recv()

    timeline, verdict = await struck(handler, "websockets")
    [notice] = timeline.select("handler", "notice")
    lost = "websockets.exceptions.ConnectionClosedError: no close frame received or sent"
    assert notice.data == {"how": "recv()", "exception": lost, "code": 1006}
    assert verdict.exception == lost


def from_another(on: str) -> Exception:
    return ClientConnectionResetError("another") if on == "aiohttp" else ConnectionClosedError(None, None)


@pytest.mark.parametrize("on", ["aiohttp", "websockets"])
@pytest.mark.parametrize("way", ["raised", "wrapped", "in a group"])
async def test_a_loss_of_who_knows_which_connection_leaves_it_unknown(on: str, way: str) -> None:
    """The library's exception, but nobody saw it come: it may be of another connection that the handler holds."""

    async def handler(given: Any) -> None:
        await connect(given)
        labkit.note("ready")
        await gone(given)
        loss = from_another(on)
        if way == "wrapped":
            raise ValueError("mine") from loss
        raise loss if way == "raised" else BaseExceptionGroup("mine", [loss])

    timeline, verdict = await struck(handler, on)
    assert not timeline.select("handler", "notice")
    assert (verdict.ending, verdict.noticed) == ("raised", "unknown")
    assert "may or may not have noticed" in verdict.sentence


async def test_an_error_of_the_handlers_own_is_no_loss() -> None:
    """A database that refuses it says nothing of the connection to the client."""

    async def handler(request: web.Request) -> None:
        await connect(request)
        labkit.note("ready")
        await gone(request)
        raise ConnectionRefusedError("the database")

    _, verdict = await struck(handler, "aiohttp")
    assert (verdict.ending, verdict.noticed) == ("raised", "no")
