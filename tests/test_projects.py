"""Whole projects in examples/, played as their pages say: an aiohttp application, a token, and a server of node."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

import labkit
from labkit.cli import main
from labkit.events import CleanupClosed, HandlerPrint
from labkit.support.names import load_name

EXAMPLES = Path(__file__).parents[1] / "examples"
APP, TOKEN = str(EXAMPLES / "aiohttp_app.py"), str(EXAMPLES / "websockets_token.py")
ANN: dict[str, Any] = {"path": "/rooms/lobby", "cookies": {"user": "ann"}}


@pytest.mark.parametrize(
    ("fault", "outcome"), [("close", "clean"), ("reset", "clean"), ("shutdown", "clean"), ("blackhole", "unaware")]
)
async def test_the_rooms_of_the_application(fault: str, outcome: str) -> None:
    """Its own middleware, store and goodbye; the store is on the cleanup lane, though it has never heard of the lab."""
    make_app = load_name(f"{APP}:make_app")
    with labkit.watch(make_app.__globals__["Presence"], open="enter", close="leave", name="seat"):
        run = await labkit.play(make_app, fault=fault, patience=0.5, **ANN)
    assert (run.handler, run.outcome) == ("room", outcome)
    assert "'ann: hello'" in [event.text for event in run.timeline.select("client", "recv")]
    # Whoever is cut off without a word is there until the heartbeat finds out, or the lab ends it.
    assert [event.text for event in run.timeline.all(CleanupClosed)] == ["seat"]
    assert "left in the rooms: {'lobby': []}" in [event.text for event in run.timeline.all(HandlerPrint)]


@asynccontextmanager
async def plain() -> AsyncIterator[tuple[str, web.Application]]:
    """The same application on a plain server."""
    app = load_name(f"{APP}:make_app")()
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", app
    finally:
        await runner.cleanup()


async def test_the_application_does_the_same_on_a_plain_server() -> None:
    """What the client gets, who is refused, and what is left in the rooms."""
    async with plain() as (url, app), aiohttp.ClientSession(cookies={"user": "ann"}) as session:
        async with session.ws_connect(f"{url}/rooms/lobby") as ws:
            await ws.send_str("hello")
            assert (await ws.receive()).data == "ann: hello"
        async with aiohttp.ClientSession() as nobody:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await nobody.ws_connect(f"{url}/rooms/lobby")
        assert refused.value.status == 401
        [presence] = [value for value in app.values() if type(value).__name__ == "Presence"]
        while presence.rooms["lobby"]:  # noqa: ASYNC110 - the application tells nobody
            await asyncio.sleep(0.01)
    run = await labkit.play(load_name(f"{APP}:make_app"), path="/rooms/lobby")
    assert "HTTP 401" in run.verdict.sentence


def test_the_application_from_the_command_line() -> None:
    """As its page says."""
    done = CliRunner().invoke(main, ["play", f"{APP}:make_app", "--path", "/rooms/lobby", "--cookie", "user=ann"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("reset: room on aiohttp noticed after")


@pytest.mark.parametrize(("fault", "code"), [("close", 1000), ("reset", 1006), ("bad-utf8", 1007)])
async def test_the_token(fault: str, code: int) -> None:
    """A client that knows it gets its notes kept, and whatever ends it, nothing of them stays."""
    handler, talk = load_name(f"{TOKEN}:notes"), load_name(f"{TOKEN}:ann")
    run = await labkit.play(handler, on="websockets", fault=fault, talk=talk, subprotocols=["notes.v1"])
    assert (run.verdict.ending, run.outcome) == ("returned", "clean")
    assert run.verdict.close_code in {code, 1006}
    assert handler.__globals__["NOTES"] == {}


async def test_a_wrong_token_is_refused_as_on_a_plain_server() -> None:
    """With 1008; the fault has nothing left to break, and the verdict says why."""
    handler = load_name(f"{TOKEN}:notes")
    wrong = json.dumps({"token": "a-guess"})
    async with serve(handler, "127.0.0.1", 0) as server:
        async with connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy=None) as client:
            await client.send(wrong)
            await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1008, "wrong token")
    run = await labkit.play(handler, on="websockets", messages=[wrong])
    assert run.outcome == "unstruck"
    assert [event.text for event in run.timeline.select("client", "close-received")] == ["Close 1008 'wrong token'"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the node server, with what npm installs for it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "server.js"):
        shutil.copy(EXAMPLES / "node" / name, folder)
    quiet = ["--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=0", "--prefer-offline"]
    try:
        done = subprocess.run(
            [npm, "install", *quiet],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry does not answer")
    if done.returncode:
        pytest.skip(f"npm cannot install ws: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups of this kind")
async def test_a_server_of_node(node: Path) -> None:
    """Its process is started for each fault, side by side; what it prints tells the same story as the wire."""
    server = labkit.process(
        "node server.js",
        url="ws://127.0.0.1:{port}/chat",
        folder=node,
        environment={"PORT": "{port}", "PING_EVERY": "100"},
    )
    faults = ("close", "reset", "bad-utf8", "shutdown", "blackhole")
    runs = await asyncio.gather(*(labkit.play(server, fault=fault) for fault in faults))
    story = {}
    for fault, run in zip(faults, runs, strict=True):
        reaction = run.verdict.reaction
        assert reaction is not None
        assert reaction.answered
        printed = [event.text for event in run.timeline.all(HandlerPrint)]
        assert printed[0] == "connected /chat, 1 here"
        story[fault] = (reaction.close_code, reaction.tcp, printed[-1].partition(",")[0])
    assert story["close"] == (1000, "FIN", "closed 1000")
    assert story["reset"] == (None, None, "closed 1006")
    assert story["bad-utf8"][::2] == (1007, "closed 1006")
    assert story["shutdown"] == (1001, "FIN", "closed 1001")
    # The ping that nobody answers: it is terminated, which is a FIN or a RST.
    assert story["blackhole"][2] == "closed 1006"
