"""The clients of the libraries: what a program written with each is told of the end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import pytest

import labkit
from labkit.clients import make_client
from labkit.errors import BadOption, UnknownName
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from tests import handlers

LIBRARIES = [name for name in labkit.CLIENTS if name != "labkit"]


def told(run: labkit.Run) -> tuple[str | None, int | None]:
    """The class of the exception and the close code that the client was told."""
    exception = (run.verdict.client_exception or "").partition(":")[0].rpartition(".")[2]
    return exception or None, run.verdict.client_close_code


# How the server ends the connection, and what each client is told: an exception's class, and a close code.
ENDS: dict[str, list[tuple[str | None, int | None]]] = {
    #       aiohttp                                 websockets
    "close": [(None, 1000), (None, 1000)],
    "fin": [("ClientConnectionResetError", 1006), ("ConnectionClosedError", 1006)],
    "reset": [("ClientConnectionResetError", 1006), ("ConnectionClosedError", 1006)],
    "shutdown": [(None, 1001), (None, 1001)],
    "handler-error": [(None, 1011), ("ConnectionClosedError", 1011)],
}


@pytest.mark.parametrize(
    ("fault", "client", "expected"),
    [(fault, client, end) for fault, row in ENDS.items() for client, end in zip(LIBRARIES, row, strict=True)],
)
async def test_what_the_client_is_told(fault: str, client: str, expected: tuple[str | None, int | None]) -> None:
    """The verdict has the exception and the close code as the library gives them to its user."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, client=client)
    assert told(run) == expected, run
    assert "the client saw" in run.verdict.sentence


@pytest.mark.parametrize(("client", "exception"), [("aiohttp", None), ("websockets", "ConnectionClosedError")])
async def test_a_code_that_is_no_normal_end(client: str, exception: str | None) -> None:
    """1012: aiohttp says nothing, websockets raises."""

    async def restarts(websocket: Any) -> None:
        await websocket.close(1012, "restart")

    run = await labkit.play(restarts, on="websockets", fault=None, client=client)
    assert told(run) == (exception, 1012)
    assert [event.text for event in run.timeline.select("client", "close-received")] == ["Close 1012 'restart'"]


@pytest.mark.parametrize("client", LIBRARIES)
async def test_a_client_talks_in_text_and_in_binary(client: str) -> None:
    """What it sends is answered, in order."""
    run = await labkit.play(
        handlers.websockets_echo, on="websockets", fault="close", client=client, messages=("a", b"\x00", "c")
    )
    assert [event.text for event in run.timeline.select("client", "recv")] == ["'a'", "b'\\x00'", "'c'"]
    assert run.timeline.select("client", "connect")[0].data == {"client": client}


@pytest.mark.parametrize("client", LIBRARIES)
async def test_a_client_that_closes_sees_the_handshake_through(client: str) -> None:
    """The code is its own, and the server's answer is read."""
    run = await labkit.play(
        handlers.websockets_echo, on="websockets", fault=labkit.Close(code=4001, reason="bye"), client=client
    )
    assert run.verdict.client_close_code == 4001
    assert run.verdict.close_code == 4001


@pytest.mark.parametrize(
    ("client", "options", "sentence"),
    [
        ("websockets", {"ping_intervall": 1}, "no connect option 'ping_intervall'. Did you mean 'ping_interval'?"),
        ("aiohttp", {"heart_beat": 1}, "no ws_connect option 'heart_beat'. Did you mean 'heartbeat'?"),
        ("labkit", {"heartbeat": 1}, "the lab's own client takes no options"),
    ],
)
async def test_options_are_checked(client: str, options: dict[str, Any], sentence: str) -> None:
    """One sentence, before any socket opens."""
    with pytest.raises(BadOption, match=sentence):
        labkit.play(handlers.websockets_echo, on="websockets", client=client, client_options=options).send(None)


async def test_an_option_for_another_process_is_text_or_a_number() -> None:
    """Others cannot be sent there."""
    with pytest.raises(BadOption, match=r"timeout=.* cannot be sent to the client's process; give text or a number"):
        labkit.play(
            handlers.websockets_echo,
            on="websockets",
            fault="sigint",
            client="aiohttp",
            client_options={"timeout": aiohttp.ClientTimeout(total=1)},
        ).send(None)


async def test_an_unknown_client() -> None:
    """The nearest name, and all of them."""
    with pytest.raises(UnknownName, match=r"no client 'websocket'\. Did you mean 'websockets'\?"):
        labkit.play(handlers.websockets_echo, on="websockets", client="websocket").send(None)


@pytest.mark.parametrize(
    ("client", "options"),
    [("websockets", {"max_size": 3}), ("aiohttp", {"max_msg_size": 3, "timeout": aiohttp.ClientTimeout(total=60)})],
)
async def test_options_reach_the_library(client: str, options: dict[str, Any]) -> None:
    """Here: the answer is too big for the client, which closes with 1009."""
    run = await labkit.play(
        handlers.websockets_echo, on="websockets", fault=None, client=client, client_options=options, patience=10
    )
    assert run.verdict.close_code == 1009


async def test_a_library_always_sends_a_code() -> None:
    """So the fault without one needs the lab's own client."""
    with pytest.raises(labkit.LabError, match="no-code cannot be staged: the client of aiohttp always sends a code"):
        labkit.play(handlers.websockets_echo, on="websockets", fault="no-code", client="aiohttp").send(None)


@pytest.mark.parametrize("client", labkit.CLIENTS)
@pytest.mark.parametrize("fault", ["ignore-close", None])
async def test_a_client_that_is_still_there_at_the_end_is_stopped(client: str, fault: str | None) -> None:
    """Without ceremony, and without waiting for a goodbye that nobody will answer."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, client=client, patience=0.1)
    [ended] = run.timeline.select("client", "ended")
    assert ended.data["how"] == "still-open"
    assert run.verdict.client_close_code is None
    assert run.verdict.leaked == ()


async def test_a_client_that_is_stopped_drops_its_connection_at_once() -> None:
    """It does not wait for an answer to a goodbye: the server sees the end of TCP, and no Close."""
    async with labkit.host(handlers.websockets_echo, on="websockets") as server:
        peer = make_client("websockets", server.url, server.timeline, {})
        assert await peer.connect()
        await peer.stop()
        notice = await server.timeline.until(lambda event: event.kind == "notice", scaled(10))
    assert notice is not None
    assert notice.data["code"] == 1006


@pytest.mark.parametrize("client", LIBRARIES)
async def test_nobody_listens(client: str) -> None:
    """A refused connection is told as the library tells it, and the client is over."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    peer = make_client(client, f"ws://127.0.0.1:{port}/", Timeline(), {})
    assert not await peer.connect()
    [refused] = peer.timeline.select("client", "refused")
    assert "refused" in refused.data["exception"] or "Connect" in refused.data["exception"]
    await peer.ended()
    await peer.stop()


@pytest.mark.parametrize("client", LIBRARIES)
async def test_a_send_that_fails_is_told(client: str) -> None:
    """A message for a connection that is over is an error of the client's, not of the lab."""
    async with labkit.host(handlers.websockets_echo, on="websockets") as server:
        peer = make_client(client, server.url, server.timeline, {})
        assert await peer.connect()
        peer.close()
        await peer.ended()
        peer.send("too late")
        peer.close()
        await peer.stop()
    assert [event.kind for event in server.timeline.select("client")][-1] == "ended"


async def test_what_the_library_logs_in_the_client_is_on_its_lane() -> None:
    """And no complaint of the server's."""

    def process(exception: Exception) -> Exception:
        logging.getLogger("mine").warning("never called")
        return exception

    async def closes(websocket: Any) -> None:
        logging.getLogger("mine").warning("the server's")

    run = await labkit.play(
        closes, on="websockets", fault=None, client="websockets", client_options={"process_exception": process}
    )
    assert run.verdict.complaints == ("WARNING mine: the server's",)
