"""The lab's own client records what it sees, and leaves as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.server import ServerProtocol

import labkit
from labkit.clients.own import OwnClient
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from tests.segments import needs_tcp_info, segments


async def test_a_conversation() -> None:
    """Connect, handshake, a message each way, goodbye, end."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    async with labkit.host(handler, on="websockets") as server:
        client = OwnClient(server.url, Timeline())
        assert await client.connect()
        client.send("hello")
        await client.timeline.until(lambda event: event.kind == "recv", scaled(5))
        client.close(4000, "bye")
        await client.ended()
    assert [(event.kind, event.text) for event in client.timeline] == [
        ("connect", f"connect {server.url}"),
        ("tcp", "TCP connection made"),
        ("open", "handshake complete"),
        ("send", "'hello'"),
        ("recv", "'hello'"),
        ("close-sent", "Close 4000 'bye'"),
        ("close-received", "Close 4000 'bye'"),
        ("ended", "connection ended: FIN"),
    ]


async def test_a_refusal_is_told() -> None:
    """HTTP 503 in place of the handshake."""

    async def handler(websocket: Any) -> None:
        """Never called."""

    def refuse(connection: Any, request: Any) -> Any:
        return connection.respond(503, "not today")

    async with labkit.host(handler, on="websockets", process_request=refuse) as server:
        client = OwnClient(server.url, Timeline())
        assert not await client.connect()
        await client.stop()
    assert [event.text for event in client.timeline.select("client", "refused")] == ["HTTP 503"]


async def test_a_connection_that_is_cut_in_the_handshake() -> None:
    """No answer at all: told as what it is, and nobody waits for ever."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.abort()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = OwnClient(f"ws://127.0.0.1:{port}/", Timeline())
    assert not await client.connect()
    server.close()
    await server.wait_closed()
    assert client.timeline.select("client", "refused")[0].data == {"status": None, "exception": None}


async def test_after_the_end_nothing_is_sent() -> None:
    """A message and a goodbye that come too late are told, not raised."""

    async def handler(websocket: Any) -> None:
        await websocket.close()

    async with labkit.host(handler, on="websockets") as server:
        client = OwnClient(server.url, Timeline())
        await client.connect()
        await client.ended()
        client.send("too late")
        client.close()
    assert client.timeline[-1].kind == "error"
    assert not client.timeline.select("client", "close-sent")


async def test_messages_of_both_kinds_and_in_fragments() -> None:
    """Text, bytes, and one that comes in pieces with a ping between them; the ping is answered."""
    answered: list[float] = []

    async def handler(websocket: Any) -> None:
        assert await websocket.recv() == b"\x00\x01"
        await websocket.send(["in ", "three ", "pieces"])
        answered.append(await (await websocket.ping()))
        await websocket.send(b"bytes")

    async with labkit.host(handler, on="websockets") as server:
        client = OwnClient(server.url, Timeline())
        await client.connect()
        client.send(b"\x00\x01")
        await client.ended()
    told = [(event.text, event.data["opcode"]) for event in client.timeline.select("client", "send", "recv")]
    assert told == [("b'\\x00\\x01'", "BINARY"), ("'in three pieces'", "TEXT"), ("b'bytes'", "BINARY")]
    assert len(answered) == 1


async def test_a_client_that_is_stopped_says_so() -> None:
    """It was there to the end; once is enough, and a second stop does nothing."""

    async def handler(websocket: Any) -> None:
        await websocket.wait_closed()

    async with labkit.host(handler, on="websockets") as server:
        client = OwnClient(server.url, Timeline())
        await client.connect()
        await client.stop()
        await client.stop()
    [end] = client.timeline.select("client", "ended")
    assert (end.text, end.data["how"]) == ("still open when the lab stopped it", "still-open")


@asynccontextmanager
async def shaken() -> AsyncIterator[tuple[OwnClient, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that is connected to a raw socket, where all but the handshake is still to do."""
    arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        [request] = protocol.events_received()
        protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
        writer.writelines(protocol.data_to_send())
        arrived.put_nowait((reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = OwnClient(f"ws://127.0.0.1:{port}/", Timeline())
    assert await client.connect()
    reader, writer = await arrived.get()
    try:
        async with asyncio.timeout(scaled(5)):
            yield client, reader, writer
    finally:
        await client.stop()
        writer.transport.abort()
        server.close()
        await server.wait_closed()


@needs_tcp_info
@pytest.mark.parametrize("together", [True, False])
async def test_frames_in_one_write_come_in_one_segment(together: bool) -> None:
    """As the server's system counts them; as a rule each frame is sent by itself."""
    async with shaken() as (client, reader, writer):
        before = segments(writer.transport)
        if together:
            with client.in_one_write():
                client.send("last words")
                client.close()
        else:
            client.send("last words")
            client.close()
        await reader.readexactly(6 + len("last words") + 6 + 2)
        assert segments(writer.transport) - before == (1 if together else 2)
    told = client.timeline.select("client", "send", "close-sent")
    assert [event.text for event in told] == ["'last words'", "Close 1000"]


async def test_a_client_that_closes_its_socket_waits_for_nobody() -> None:
    """The server reads a Close and then FIN, though data were on their way; the client has been told nothing."""
    async with shaken() as (client, reader, writer):
        writer.write(b"\x81\x02hi")  # which is in the client's socket when it closes
        client.close(1001)
        client.close_socket()
        assert len(await reader.read()) == 6 + 2
        await client.ended()
        client.send("too late")
    assert [(event.kind, event.text) for event in client.timeline][3:] == [
        ("close-sent", "Close 1001"),
        ("ended", "connection closed"),
        ("error", "cannot send: the connection is over"),
    ]
    assert client.timeline.select("client", "ended")[0].data == {"how": "closed", "code": None, "exception": None}


async def test_what_breaks_the_protocol_is_told() -> None:
    """A server that masks its frames: the client says what is wrong and fails the connection with 1002."""
    async with shaken() as (client, reader, writer):
        writer.write(b"\x81\x82\x00\x00\x00\x00hi")
        frame = await reader.readexactly(8)
        writer.close()
        await client.ended()
    assert "incorrect masking" in client.timeline.select("client", "error")[0].text
    code = bytes(byte ^ mask for byte, mask in zip(frame[6:8], frame[2:4], strict=True))
    assert (frame[0], code) == (0x88, b"\x03\xea")
