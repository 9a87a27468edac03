"""The wire between raw sockets: what one end does is what the other end sees, and each fault is what it says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from aiohttp import ClientSession, TCPConnector, web
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

import labkit
from labkit.errors import BadValue
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from labkit.wire import Link, Relay
from labkit.wire.end import CHUNK, HIGH_WATER

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"
RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
HELLO = Frame(Opcode.TEXT, b"hello").serialize(mask=True)
CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
BIG = Frame(Opcode.BINARY, bytes(20_000_000)).serialize(mask=True)
LINGER_0 = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Peer:
    """One end: a raw socket, in the running loop."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await soon(self.loop.sock_sendall(self.sock, data))

    async def read(self, n: int = 65_536) -> bytes:
        """Read what is there; b'' is a FIN."""
        return await soon(self.loop.sock_recv(self.sock, n))

    async def read_exactly(self, n: int) -> bytes:
        """Read n bytes."""
        data = bytearray()
        while len(data) < n:
            part = await self.read(n - len(data))
            assert part, f"the connection ended after {len(data)} of {n} bytes"
            data += part
        return bytes(data)

    def finish(self) -> None:
        """Send FIN."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        self.sock.close()

    async def is_silent(self) -> bool:
        """Tell whether nothing has come, neither bytes nor an end."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False


class Pair(SimpleNamespace):
    """A client and a server, each a raw socket, and the wire between them."""

    wire: Relay
    link: Link
    client: Peer
    server: Peer

    def texts(self) -> list[str]:
        """Give the texts of what the wire told, but for the connecting of each end."""
        return [event.text for event in self.wire.timeline.select("wire") if event.kind not in {"link", "tcp"}]

    async def told(self, kind: str) -> dict[str, Any]:
        """Wait for an event of the wire, and give its data."""
        event = await self.wire.timeline.until(lambda e: e.kind == kind, timeout=scaled(5))
        assert event is not None, f"no event {kind!r} in {self.texts()}"
        return dict(event.data)

    async def greet(self) -> None:
        """Pass a handshake through."""
        await self.client.send(REQUEST)
        await self.server.read_exactly(len(REQUEST))
        await self.server.send(RESPONSE)
        await self.client.read_exactly(len(RESPONSE))


async def soon(waited: Awaitable[Any]) -> Any:
    """Wait for something that must happen."""
    async with asyncio.timeout(scaled(5)):
        return await waited


def listening(backlog: int = 5) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    sock.setblocking(False)
    return sock


def url_of(sock: socket.socket, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{sock.getsockname()[1]}/"


def address(url: str) -> tuple[str, int]:
    return "127.0.0.1", int(url.rpartition(":")[2].partition("/")[0])


async def dial(url: str) -> Peer:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await soon(asyncio.get_running_loop().sock_connect(sock, address(url)))
    except BaseException:
        sock.close()
        raise
    return Peer(sock)


@contextlib.asynccontextmanager
async def pair(scheme: str = "ws") -> AsyncIterator[Pair]:
    with listening() as listener:
        async with Relay(url_of(listener, scheme)) as wire:
            client = await dial(wire.url)
            sock, _ = await soon(asyncio.get_running_loop().sock_accept(listener))
            server = Peer(sock)
            try:
                async with asyncio.timeout(scaled(5)):
                    while not wire.links[0].server.writable:  # noqa: ASYNC110 - the wire has no event for it
                        await asyncio.sleep(0)
                yield Pair(wire=wire, link=wire.links[0], client=client, server=server)
            finally:
                client.sock.close()
                server.sock.close()


# What comes in goes out


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.binary(min_size=1, max_size=3000), max_size=8),
    st.lists(st.binary(min_size=1, max_size=3000), max_size=8),
)
async def test_any_bytes_pass_unchanged(up: list[bytes], down: list[bytes]) -> None:
    """Whatever the bytes are and however they are cut, they arrive as they were sent, in both directions."""
    async with pair() as p:
        for chunk in up:
            await p.client.send(chunk)
        for chunk in down:
            await p.server.send(chunk)
        p.client.finish()
        p.server.finish()
        assert await p.server.read_exactly(len(b"".join(up))) == b"".join(up)
        assert await p.client.read_exactly(len(b"".join(down))) == b"".join(down)
        assert await p.server.read() == await p.client.read() == b""
        await soon(p.link.closed())


async def test_an_echo_is_told_frame_by_frame() -> None:
    """With a real client and a real server, the timeline reads as the conversation went."""

    async def echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with Relay(f"ws://127.0.0.1:{port}/chat?room=1") as wire:
            async with connect(wire.url, compression=None) as websocket:
                await websocket.send("hello")
                assert await websocket.recv() == "hello"
            await soon(wire.links[0].closed())
    told = [(event.text, event.data.get("source")) for event in wire.timeline]
    assert told[:7] == [
        ("client connected", None),
        ("connected to the server", None),
        ("GET /chat?room=1 → 101", None),
        ("TEXT 'hello'", "client"),
        ("TEXT 'hello'", "server"),
        ("Close 1000", "client"),
        ("Close 1000", "server"),
    ]
    assert told[-1] == ("link closed", None)
    assert {"FIN from the server", "FIN from the client"} == {text for text, _ in told[7:-1]}


async def test_small_frames_are_not_held_back() -> None:
    """TCP_NODELAY is set towards both ends."""
    async with pair() as p:
        for end in (p.link.client, p.link.server):
            assert end.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_what_the_client_sends_before_the_server_is_there_is_kept() -> None:
    """Bytes, and even the FIN, that come before the wire has reached the server are passed on when it has."""
    with listening() as listener:
        async with Relay(url_of(listener)) as wire:
            client = await dial(wire.url)
            await client.send(REQUEST)
            client.finish()
            sock, _ = await soon(asyncio.get_running_loop().sock_accept(listener))
            server = Peer(sock)
            assert await server.read_exactly(len(REQUEST)) == REQUEST
            assert await server.read() == b""
            client.sock.close()
            sock.close()


async def test_a_server_that_cannot_be_reached_is_a_reset() -> None:
    """The client of a server that refuses gets RST, and the timeline says why."""
    with listening() as gone:
        url = url_of(gone)
    async with Relay(url) as wire:
        client = await dial(wire.url)
        with pytest.raises(ConnectionResetError):
            await client.read()
        await soon(wire.links[0].closed())
        client.sock.close()
    [reset] = wire.timeline.select("wire", "reset")
    assert (reset.data["source"], reset.data["to"]) == ("wire", "client")
    assert "cannot be reached" in reset.text


@pytest.mark.parametrize(("ends", "other"), [("client", "server"), ("server", "client")])
async def test_a_half_close_passes_and_the_other_direction_flows(ends: str, other: str) -> None:
    """A FIN from one end reaches the other, which may go on sending, until it ends too."""
    async with pair() as p:
        one, two = getattr(p, ends), getattr(p, other)
        await one.send(b"last words")
        one.finish()
        assert await two.read_exactly(10) == b"last words"
        assert await two.read() == b""
        for _ in range(3):
            await two.send(b"still here")
            assert await one.read_exactly(10) == b"still here"
        assert p.link.live
        two.finish()
        assert await one.read() == b""
        await soon(p.link.closed())
        assert [e.data["source"] for e in p.wire.timeline.select("wire", "fin")] == [ends, other]


@pytest.mark.parametrize(("ends", "other"), [("client", "server"), ("server", "client")])
async def test_a_reset_passes(ends: str, other: str) -> None:
    """A RST from one end is a RST for the other."""
    async with pair() as p:
        await p.greet()
        getattr(p, ends).reset()
        with pytest.raises(ConnectionResetError):
            await getattr(p, other).read()
        await soon(p.link.closed())
        assert p.texts()[-2:] == [f"RST from the {ends}", "link closed"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loopback answers later than the call returns")
async def test_sending_to_an_end_that_has_closed_is_answered_with_reset_at_once() -> None:
    """A client that has closed its socket answers data with RST; the server hears of it as it would directly."""
    async with pair() as p:
        await p.greet()
        p.client.sock.close()
        assert await p.server.read() == b""
        await p.server.send(b"anyone?")
        await p.told("reset")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await p.server.send(b"hello?")
        await soon(p.link.closed())


@pytest.mark.parametrize(("ends", "other"), [("client", "server"), ("server", "client")])
async def test_a_peer_that_does_not_read_stops_the_sender(ends: str, other: str) -> None:
    """The wire holds a bounded number of bytes; the rest waits in the sender, and all arrives in the end."""
    async with pair() as p:
        await p.greet()
        sender, reader = getattr(p, ends), getattr(p, other)
        source, target = getattr(p.link, ends), getattr(p.link, other)
        pattern, sent = bytes(range(256)) * 1024, 0
        # The systems' own buffers take some megabytes, then the wire's, and then nobody takes any more.
        async with asyncio.timeout(scaled(20)):
            while True:
                try:
                    sent += sender.sock.send(pattern[sent % 256 :])
                except BlockingIOError:
                    if not source.transport.is_reading():
                        break
                await asyncio.sleep(0)
        assert 0 < target.transport.get_write_buffer_size() <= HIGH_WATER + CHUNK

        sender.finish()
        arrived = bytearray()
        while data := await reader.read(1 << 20):
            arrived += data
        assert len(arrived) == sent
        assert arrived == (pattern * (sent // len(pattern) + 1))[:sent]


# Faults


async def test_reset_is_an_rst_to_both_ends() -> None:
    """``reset`` breaks the connection as a RST does."""
    async with pair() as p:
        await p.greet()
        p.wire.reset()
        for peer in (p.client, p.server):
            with pytest.raises(ConnectionResetError):
                await peer.read()
        await soon(p.link.closed())
        assert p.texts()[1:] == ["RST to the server", "RST to the client", "link closed"]


async def test_reset_may_spare_an_end_which_then_talks_to_nobody() -> None:
    """With ``to="server"`` the client stays connected, and what it sends is lost."""
    async with pair() as p:
        await p.greet()
        p.link.reset(to="server")
        with pytest.raises(ConnectionResetError):
            await p.server.read()
        await p.client.send(HELLO)
        assert await p.told("lost") == {"link": 0, "source": "client", "length": len(HELLO)}
        assert p.texts()[-2:] == ["TEXT 'hello'", f"{len(HELLO)} bytes from the client lost"]
        assert await p.client.is_silent()
        p.client.finish()
        assert await p.client.read() == b""
        await soon(p.link.closed())


async def test_an_end_that_is_spared_is_heard_again() -> None:
    """Where a full server had stopped the client, the client's end is still seen once the server is gone."""
    async with pair() as p:
        await p.greet()
        p.wire.inject(BIG)
        p.link.reset(to="server")
        assert (await p.told("lost"))["length"] > 0
        p.client.finish()
        assert await p.client.read() == b""
        await soon(p.link.closed())


async def test_a_fault_strikes_once() -> None:
    """A link that is broken already is not broken again, and not told again."""
    async with pair() as p:
        await p.greet()
        for _ in range(2):
            p.wire.fin()
            p.wire.reset()
        await soon(p.link.closed())
        assert p.texts()[1:] == ["FIN to the server", "FIN to the client", "link closed"]


@pytest.mark.parametrize("fault", ["half_close", "fin", "reset"])
async def test_a_fault_may_meet_a_reset_that_is_not_seen_yet(fault: str) -> None:
    """The server's RST may have arrived when the wire strikes: nothing raises, and the link ends."""
    async with pair() as p:
        await p.greet()
        p.server.reset()
        getattr(p.wire, fault)()
        with contextlib.suppress(ConnectionResetError):
            assert await p.client.read() == b""
        await soon(p.link.closed())


async def test_fin_closes_the_sockets() -> None:
    """``fin`` is the FIN of a closed socket: what the server sends later is answered with RST."""
    async with pair() as p:
        await p.greet()
        p.wire.fin()
        assert await p.server.read() == await p.client.read() == b""
        await soon(p.link.closed())
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012 - any of them may be refused
            while True:
                await p.server.send(b"anyone?")
        assert p.texts()[1:] == ["FIN to the server", "FIN to the client", "link closed"]


async def test_fin_is_no_reset_even_where_bytes_are_unread() -> None:
    """A socket closed with unread bytes sends RST; the wire's FIN comes before it, and is what the server reads."""
    async with pair() as p:
        await p.greet()
        p.server.sock.send(b"never read by the wire")
        p.wire.fin()
        assert await p.server.read() == b""


async def test_fin_comes_behind_what_is_on_its_way() -> None:
    """Bytes that the wire had taken before the FIN are delivered."""
    async with pair() as p:
        p.wire.inject(b"x" * 5_000_000)
        p.wire.fin()
        assert await p.server.read_exactly(5_000_000) == b"x" * 5_000_000
        assert await p.server.read() == b""


async def test_half_close_ends_one_direction() -> None:
    """After ``half_close`` the server reads the end, and the client still gets what the server sends."""
    async with pair() as p:
        await p.greet()
        p.wire.half_close()
        assert await p.server.read() == b""
        await p.server.send(b"still flows")
        assert await p.client.read_exactly(11) == b"still flows"
        await p.client.send(b"gone")
        assert (await p.told("lost"))["length"] == 4
        p.server.finish()
        assert await p.client.read() == b""
        await soon(p.link.closed())


async def test_inject_comes_behind_what_was_relayed_and_is_marked() -> None:
    """Injected bytes are decoded with the direction that they join, and their frames say so."""
    async with pair() as p:
        await p.greet()
        await p.client.send(HELLO)
        await p.told("frame")
        p.wire.inject(CLOSE)
        assert await p.server.read_exactly(len(HELLO + CLOSE)) == HELLO + CLOSE
        p.link.inject(b"\x81\x02hi", to="client")
        assert await p.client.read_exactly(4) == b"\x81\x02hi"
        await p.client.send(HELLO)
        await p.server.read_exactly(len(HELLO))
        told = [(e.text, e.data.get("injected", False)) for e in p.wire.timeline.select("wire", "frame")]
        assert told == [
            ("TEXT 'hello'", False),
            ("Close 1000", True),
            ("TEXT 'hi'", True),
            ("TEXT 'hello'", False),
        ]


async def test_a_truncated_frame_is_told_when_the_wire_ends_the_link() -> None:
    """A part of a frame and a FIN: the server gets both, and the timeline says that the frame was cut."""
    async with pair() as p:
        await p.greet()
        p.wire.inject(HELLO[:5])
        p.wire.fin()
        assert await p.server.read_exactly(5) == HELLO[:5]
        assert await p.server.read() == b""
        assert (await p.told("opaque"))["why"] == "the connection ends inside a frame"


async def test_a_truncated_frame_is_told_before_the_fin_that_cut_it() -> None:
    """At once, though the other direction goes on."""
    async with pair() as p:
        await p.greet()
        await p.client.send(HELLO[:5])
        p.client.finish()
        await p.told("fin")
        assert p.texts()[1:] == ["cannot decode: the connection ends inside a frame", "FIN from the client"]


async def test_hold_close_withholds_the_goodbye_and_nothing_else() -> None:
    """Frames pass, Close and FIN do not, and TCP stays open until the server gives up."""
    async with pair() as p:
        await p.greet()
        p.wire.hold_close()
        await p.client.send(HELLO + CLOSE)
        assert (await p.told("lost"))["what"] == "Close"
        await p.client.send(HELLO)
        assert await p.server.read_exactly(2 * len(HELLO)) == HELLO + HELLO
        p.client.finish()
        lost = await p.wire.timeline.until(lambda e: e.data.get("what") == "FIN", timeout=scaled(5))
        assert lost is not None
        assert await p.server.is_silent()
        await p.server.send(b"\x88\x00")
        assert await p.client.read_exactly(2) == b"\x88\x00"
        assert [(e.text, e.data["length"]) for e in p.wire.timeline.select("wire", "lost")] == [
            ("Close from the client withheld", len(CLOSE)),
            ("FIN from the client withheld", 0),
        ]
        p.server.finish()
        assert await p.server.read() == b""
        await soon(p.link.closed())


async def test_hold_close_withholds_a_reset_too() -> None:
    """A client that dies after its goodbye was withheld is not heard of."""
    async with pair() as p:
        await p.greet()
        p.link.hold_close()
        p.client.reset()
        assert (await p.told("lost"))["what"] == "RST"
        assert await p.server.is_silent()
        p.server.finish()
        assert await p.server.read() == b""
        await soon(p.link.closed())


kinds = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.CLOSE, Opcode.CLOSE])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.builds(Frame, kinds, st.binary(max_size=125)), max_size=8), st.lists(st.integers(0, 999), max_size=8)
)
async def test_hold_close_forwards_exactly_the_other_frames(frames: list[Frame], cuts: list[int]) -> None:
    """However the frames are cut, those that are no Close arrive byte by byte, also when it begins in mid-stream."""
    raw = [(frame, frame.serialize(mask=True)) for frame in frames]
    data = REQUEST + HELLO + b"".join(part for _, part in raw)
    begin = len(REQUEST) + 3  # inside the first frame
    places = [0, begin, *sorted(begin + cut % (len(data) - begin + 1) for cut in cuts), len(data)]
    kept = REQUEST + HELLO + b"".join(part for frame, part in raw if frame.opcode is not Opcode.CLOSE)
    lost = sum(len(part) for frame, part in raw if frame.opcode is Opcode.CLOSE)
    async with pair() as p:
        # Straight to the gate: TCP would join pieces that are sent in a row.
        p.link.client.gate.data(data[:begin])
        p.link.hold_close()
        for a, b in pairwise(places[1:]):
            p.link.client.gate.data(data[a:b])
        assert await p.server.read_exactly(len(kept)) == kept
        assert sum(e.data["length"] for e in p.wire.timeline.select("wire", "lost")) == lost
        assert await p.server.is_silent()


async def test_an_end_that_has_ended_is_not_read_again() -> None:
    """Where bytes pile up behind a withheld FIN, that FIN is still told once."""
    async with pair() as p:
        await p.greet()
        p.link.hold_close()
        p.client.finish()
        await p.told("fin")
        p.wire.inject(BIG)
        await p.server.read_exactly(len(BIG))
        p.server.finish()
        await soon(p.link.closed())
        assert p.texts().count("FIN from the client") == 1


async def test_hold_close_waits_for_the_opcode() -> None:
    """Byte by byte: not even the first byte of a Close gets through."""
    async with pair() as p:
        await p.greet()
        p.link.hold_close()
        for byte in HELLO + CLOSE + HELLO:
            p.link.client.gate.data(bytes([byte]))
        assert await p.server.read_exactly(2 * len(HELLO)) == HELLO + HELLO
        assert (await p.told("lost"))["length"] == len(CLOSE)


async def test_hold_close_passes_what_cannot_be_decoded() -> None:
    """Where frames cannot be told apart nothing is withheld, not even what looked like a Close so far."""
    too_long = b"\x88\xfe\x00\xc8" + bytes(4 + 200)
    async with pair() as p:
        await p.greet()
        p.wire.hold_close()
        await p.client.send(too_long[:7])
        await p.client.send(too_long[7:] + CLOSE)
        assert await p.server.read_exactly(len(too_long + CLOSE)) == too_long + CLOSE
        assert (await p.told("opaque"))["why"] == "control frame too long"


async def test_a_fault_of_the_wire_strikes_every_live_link() -> None:
    """The wire's methods act on all links that are live; links are numbered in the order of connecting."""
    with listening() as listener:
        loop = asyncio.get_running_loop()
        async with Relay(url_of(listener)) as wire:
            clients, servers = [], []
            for _ in range(3):
                clients.append(await dial(wire.url))
                servers.append(Peer((await soon(loop.sock_accept(listener)))[0]))
                await clients[-1].send(b"x")
                await servers[-1].read()
            clients[0].reset()
            await soon(wire.links[0].closed())
            wire.inject(HELLO)
            assert [await server.read() for server in servers[1:]] == [HELLO, HELLO]
            assert wire.timeline.select("wire", "lost") == []
            wire.fin()
            assert [await client.read() for client in clients[1:]] == [b"", b""]
            assert [link.number for link in wire.links] == [0, 1, 2]
            assert [e.data["link"] for e in wire.timeline.select("wire", "fin")] == [1, 1, 2, 2]
            for peer in clients[1:] + servers:
                peer.sock.close()


async def test_an_end_that_does_not_exist_is_refused() -> None:
    """A misspelt end is told in one sentence."""
    async with pair() as p:
        with pytest.raises(BadValue, match="'sever' is not an end of a link; the ends are 'client' and 'server'"):
            p.link.reset(to="sever")


# URLs


@pytest.mark.parametrize(
    ("path", "userinfo"), [("/", ""), ("/chat/x?room=1&y=%20z", ""), ("", ""), ("/", "user:secret@")]
)
async def test_the_url_is_the_servers_with_another_address(path: str, userinfo: str) -> None:
    """Scheme, path and query stay; a relay needs no other changes at the client."""
    async with Relay(f"ws://{userinfo}localhost:9{path}") as wire:
        assert wire.url == f"ws://{userinfo}127.0.0.1:{address(wire.url.replace(userinfo, ''))[1]}{path}"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1:80/",
        "ws://127.0.0.1/",
        "ws://:80/",
        "ws://127.0.0.1:x/",
        "ws://127.0.0.1:70000/",
        "",
        "ws:",
        None,
    ],
)
def test_a_bad_url_is_told_in_one_sentence(url: Any) -> None:
    """What the wire cannot relay to is refused before anything is opened."""
    with pytest.raises(BadValue, match="is not the URL of a server; the wire takes one such as"):
        Relay(url)


def test_a_url_with_a_fragment_is_refused() -> None:
    """RFC 6455 §3 forbids it."""
    with pytest.raises(BadValue, match="fragment"):
        Relay("ws://127.0.0.1:80/#here")


async def test_a_wire_has_a_url_only_while_it_is_open() -> None:
    """Before and after the block there is nothing to connect to."""
    wire = Relay("ws://127.0.0.1:80/")
    with pytest.raises(BadValue, match="only inside"):
        _ = wire.url
    async with wire:
        assert wire.url
    with pytest.raises(BadValue, match="only inside"):
        _ = wire.url


async def test_tls_is_relayed_and_not_decoded() -> None:
    """With ``wss`` the wire sees bytes only, and says so once for each direction that speaks."""
    async with pair("wss") as p:
        await p.client.send(REQUEST + HELLO)
        assert await p.server.read_exactly(len(REQUEST + HELLO)) == REQUEST + HELLO
        await p.client.send(HELLO)
        await p.server.read_exactly(len(HELLO))
        assert p.texts() == ["cannot decode: TLS"]
        assert p.wire.url.startswith("wss://")


# Nothing left behind


def handles() -> int:
    process = psutil.Process()
    return process.num_handles() if sys.platform == "win32" else process.num_fds()


@pytest.mark.parametrize("ending", ["leaves", "raises", "is cancelled"])
async def test_nothing_is_left_behind(ending: str) -> None:
    """However the block ends, with links live, stuck and half closed: no task, no socket, no listener."""
    with listening() as listener:
        loop = asyncio.get_running_loop()
        tasks, open_before = asyncio.all_tasks(), handles()
        peers: list[Peer] = []
        url = ""

        async def experiment() -> None:
            nonlocal url
            async with Relay(url_of(listener)) as wire:
                for _ in range(3):
                    peers.append(await dial(wire.url))
                    peers.append(Peer((await soon(loop.sock_accept(listener)))[0]))
                peers[0].finish()
                wire.links[1].inject(bytes(20_000_000))
                peers.append(await dial(wire.url))  # accepted by nobody yet
                url = wire.url
                if ending == "raises":
                    raise RuntimeError
                if ending == "is cancelled":
                    asyncio.current_task().cancel()
                    await asyncio.sleep(0)

        task = loop.create_task(experiment())
        await asyncio.wait([task], timeout=scaled(5))
        assert task.done()
        assert asyncio.all_tasks() == tasks
        for peer in peers:
            peer.sock.close()
        assert handles() == open_before
        with pytest.raises(ConnectionRefusedError):
            await dial(url)
        assert task.cancelled() == (ending == "is cancelled")
        assert task.cancelled() or (task.exception() is None) == (ending == "leaves")


async def test_a_wire_that_is_cancelled_while_it_opens_leaves_nothing() -> None:
    """At whatever turn of the loop: it listens, or no socket is open."""
    ended: list[bool] = []
    for turns in range(4):
        open_before = handles()
        wire = Relay("ws://127.0.0.1:80/")
        opening = asyncio.create_task(wire.__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        ended.append(opening.cancelled())
        if not opening.cancelled():
            await wire.__aexit__(None, None, None)
        assert handles() == open_before
    assert ended == [True, True, False, False]


@pytest.mark.parametrize("turns", range(8))
async def test_a_client_that_comes_as_the_wire_closes_is_not_left_behind(turns: int) -> None:
    """At whatever turn of the loop between the client's connecting and the link's start the block is left."""
    with listening() as listener:
        tasks, open_before = asyncio.all_tasks(), handles()
        wire = Relay(url_of(listener))
        for _ in range(2):  # a wire may be opened again
            with socket.socket() as client:
                async with wire:
                    client.connect(address(wire.url))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                assert not any(link.live for link in wire.links)
                assert asyncio.all_tasks() == tasks
            assert handles() == open_before


async def test_a_server_that_never_accepts_holds_nothing_up() -> None:
    """The block can be left, and links be reset, while the wire is still connecting to the server."""
    if sys.platform != "linux":
        pytest.skip("a full accept queue refuses elsewhere")
    with listening(backlog=0) as listener:
        filler = [socket.socket() for _ in range(3)]
        for sock in filler:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        tasks, open_before = asyncio.all_tasks(), handles()
        async with Relay(url_of(listener)) as wire:
            one, two = await dial(wire.url), await dial(wire.url)
            for number in (0, 1):
                await soon(wire.timeline.until(lambda e, n=number: e.data["link"] == n))
            await one.send(b"kept")
            wire.links[0].reset()
            with pytest.raises(ConnectionResetError):
                await one.read()
            await soon(wire.links[0].closed())
            wire.links[1].reset(to="server")
            await two.send(b"to nobody")
            await soon(wire.timeline.until(lambda e: e.kind == "lost"))
        assert not wire.links[1].live
        assert await two.read() == b""
        assert asyncio.all_tasks() == tasks
        for peer in (one, two):
            peer.sock.close()
        assert handles() == open_before
        for sock in filler:
            sock.close()


async def test_events_go_to_the_timeline_that_is_given() -> None:
    """Several parts of an experiment record on one timeline."""
    timeline = Timeline()
    async with Relay("ws://127.0.0.1:80/", timeline=timeline) as wire:
        assert wire.timeline is timeline


async def test_a_link_that_is_closed_holds_next_to_nothing() -> None:
    """A wire keeps its links, and may have thousands: what stays of one is a few small objects, and no buffer."""
    async with pair() as p:
        await p.greet()
        while_open = sys.getsizeof(p.link.client._buffer)
        p.wire.reset()
        await soon(p.link.closed())
        for end in (p.link.client, p.link.server):
            assert sys.getsizeof(end._buffer) < 100 < while_open
            assert end.transport is None
        # Breaking it once more is no mistake, and does nothing.
        p.link.reset()
        p.link.fin()
        p.link.inject(b"x")
        assert not p.link.live


async def test_frames_are_seen_behind_another_request_on_the_same_connection() -> None:
    """A page that is fetched first, and then the handshake, as sessions do it: the wire sees both, and every frame."""

    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="hello")

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
        return ws

    app = web.Application()
    app.add_routes([web.get("/page", page), web.get("/ws", echo)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with labkit.Wire(f"ws://127.0.0.1:{runner.addresses[0][1]}/") as wire:
        address = wire.url.removeprefix("ws")
        # Without compression, so that the wire can show what is said.
        connector = TCPConnector(limit=1)
        async with ClientSession(connector=connector) as session:
            async with session.get(f"http{address}page") as response:
                assert await response.text() == "hello"
            async with session.ws_connect(f"ws{address}ws", compress=0) as ws:
                await ws.send_str("over the wire")
                await ws.receive_str()
        assert len(wire.links) == 1
        texts = [event.text for event in wire.timeline.select("wire", "handshake", "frame")][:4]
    await runner.cleanup()
    said = "TEXT 'over the wire'"
    assert texts == ["GET /page → 200", "GET /ws → 101", said, said]
