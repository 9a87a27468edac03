"""Servers that are not the lab's: a URL, or a command; client and wire tell what they did, and the rest is unknown."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from websockets.asyncio.server import serve

import labkit
from labkit.errors import BadOption, BadValue, LabError, NotReached
from labkit.events import HandlerPrint, LoopExit, LoopShutdown, LoopTarget
from labkit.experiment.probing import probe
from labkit.support.clock import scaled

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups of this kind")

#: A server in a process of its own, as somebody would write it.
SERVER = """
import asyncio, os, sys, subprocess
from websockets.asyncio.server import serve

child = subprocess.Popen(["sleep", "1000"])
async def echo(websocket):
    print("asked for", websocket.request.path, flush=True)
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"])):
        print("child", child.pid, file=sys.stderr, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def command(program: str = SERVER, **options: Any) -> Any:
    options = {"url": "ws://127.0.0.1:{port}/ws", "environment": {"PORT": "{port}"}} | options
    return labkit.process([sys.executable, "-c", program], **options)


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


async def never_answers(websocket: Any) -> None:
    async for _ in websocket:
        pass


@asynccontextmanager
async def listening(handler: Any = echo, **options: Any) -> AsyncIterator[str]:
    """The URL of a server that is not the lab's."""
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("close", r"the server had answered; it sent Close 1000 after .* and ended TCP with a FIN after .* ms\.$"),
        ("bad-utf8", r"the server had answered; it sent Close 1007 .* and ended TCP with a FIN after .*\.$"),
        ("half-close", r"the server had answered; it ended TCP with a FIN after .*\.$"),
        ("reset", r"the server had answered\.$"),
        ("blackhole", r"the server had answered; it had not ended the connection .* later\.$"),
        ("handshake-cut", r"the server had answered nothing\.$"),
    ],
)
async def test_what_the_server_does_is_told_and_the_rest_is_unknown(fault: str, told: str) -> None:
    """By the client and the wire; what its handler did, nobody has seen."""
    async with listening() as url:
        run = await labkit.play(url, fault=fault, patience=0.3)
    verdict = run.verdict
    assert verdict.sentence.startswith(f"{fault}: what the server's handler did is unknown; ")
    assert (run.handler, run.on, run.fault, run.outcome) == (f"{url}/", "unknown", fault, "unknown")
    assert (verdict.ending, verdict.noticed, verdict.leaked, verdict.complaints) == ("unknown", "unknown", None, None)
    assert verdict.struck is True
    assert re.search(told, verdict.sentence), verdict.sentence
    assert verdict.reaction is not None
    assert verdict.reaction.answered is (fault != "handshake-cut")


async def test_a_server_that_does_not_answer_leaves_the_conversation_unknown() -> None:
    """The fault strikes when the patience is over, and the verdict says why that may be too early."""
    async with listening(never_answers) as url:
        run = await labkit.play(url, fault="close", patience=0.1)
    assert "the server had answered nothing; it sent Close 1000" in run.verdict.sentence
    assert "whether the conversation was through is unknown: the server had not answered" in run.verdict.sentence


async def test_a_talk_a_library_and_several_clients() -> None:
    """All that a client can do, it can do here; the others are told as still answered, and no handler of theirs."""
    async with listening() as url:

        async def talk(client: Any) -> None:
            await client.send("one")
            assert await client.recv() == "one"

        runs = await asyncio.gather(
            labkit.play(f"{url}/ws?room=1", fault="fin", talk=talk, clients=2, subprotocols=["chat"]),
            labkit.play(url, fault="close", client="aiohttp", path="/ws?room=1"),
            labkit.play(url.replace("ws:", "http:"), fault="sigkill", client="websockets", path="/ws?room=1"),
        )
    for run in runs:
        assert run.timeline.select("wire", "handshake")[0].text == "GET /ws?room=1 → 101"
        assert run.verdict.struck
    assert runs[0].verdict.sentence.endswith("Connection 2 was still answered.")


@pytest.mark.parametrize(
    ("target", "options", "sentence"),
    [
        ("ws://example.org:80/", {}, r"^ws://example.org:80/ is on another machine, which a fault would disturb; .*"),
        ("ws://192.0.2.7:80/", {}, "is on another machine"),
        ("ws://127.0.0.1/", {}, "is not the URL of a server"),
        ("ftp://127.0.0.1:80/", {}, "is not the URL of a server"),
        ("ws://127.0.0.1:80/a", {"path": "/b"}, "path='/b' and a URL with the path '/a': give one of them"),
        ("ws://127.0.0.1:80/", {"when": 0.5}, "when=0.5 is a moment of a handler, which the lab does not see"),
        (
            "ws://127.0.0.1:80/",
            {"fault": "handler-error"},
            "handler-error is done inside a server, and this one is not",
        ),
        ("ws://127.0.0.1:80/", {"fault": "shutdown"}, "shutdown is done inside a server"),
    ],
)
async def test_what_is_out_of_reach_is_refused(target: str, options: dict[str, Any], sentence: str) -> None:
    """Before anybody is asked anything."""
    with pytest.raises(BadValue, match=sentence):
        await labkit.play(target, **options)


async def test_what_only_a_host_can_do_is_refused() -> None:
    """Each door says what to do instead."""
    url = "ws://127.0.0.1:80/"
    with pytest.raises(BadOption, match="'ping_interval' is an option of a server that the lab starts"):
        await labkit.play(url, ping_interval=1)
    with pytest.raises(BadValue, match=r"is a server of its own; put labkit.Wire in front of it"):
        async with labkit.host(url):
            pass
    with pytest.raises(BadValue, match="does not see the moments"):
        await labkit.moments(url)
    with pytest.raises(BadValue, match="`labkit probe URL` plays the faults against it"):
        await labkit.matrix([url])


async def test_nobody_listens() -> None:
    """Then there is nothing to play, and it is told what to do."""
    with pytest.raises(NotReached, match=r"^ws://127.0.0.1:9/: the server cannot be reached: .*; start it first, or "):
        await labkit.play("ws://127.0.0.1:9/", fault="reset", patience=0.2)


async def test_a_probe_tells_that_a_fault_has_ended_the_server() -> None:
    """The rows before are kept."""

    async def the_last(websocket: Any) -> None:
        """Let nobody else connect, once both clients of the first row are there."""
        if len(websocket.server.connections) == 2:
            websocket.server.server.close()
        await echo(websocket)

    async with listening(the_last) as url:
        reset, close = [each.row for each in await probe(url, ["reset", "close"], patience=0.3)]
    assert (reset["answered"], reset["the other client"]) == ("yes", "still answered")
    assert (close["fault"], close["Close"]) == ("close", "the server is gone")


async def test_tls_that_does_not_begin_is_told() -> None:
    """Nobody listens, or there is no TLS: each is told as what it is."""
    with pytest.raises(NotReached, match=r"^wss://127.0.0.1:9/: the server cannot be reached: .*; start it first, or "):
        await labkit.play("wss://127.0.0.1:9/")
    async with listening() as url:
        with pytest.raises(NotReached, match=r": TLS could not begin: .*; perhaps it is ws:// without TLS$"):
            await labkit.play(url.replace("ws://", "wss://"), patience=1)


def admitting(count: float) -> Any:
    """The hook of a server that admits so many clients and refuses the others."""
    numbers = itertools.count(1)
    return lambda connection, _: None if next(numbers) <= count else connection.respond(403, "not you")


async def test_a_server_that_refuses_the_client_is_told_so() -> None:
    """With the status: a wrong path is no fault's work, and nobody has been dropped."""
    async with listening(process_request=admitting(0)) as url:
        run = await labkit.play(url, fault="reset", clients=2, patience=0.3)
        with pytest.raises(NotReached, match="refused the client: HTTP 403; is this the path of its WebSocket"):
            await probe(url, ["reset", "close"], patience=0.3)
    assert "; the server refused the client: HTTP 403; it ended TCP with a FIN" in run.verdict.sentence
    assert "Connection 2 was refused: HTTP 403." in run.verdict.sentence


async def test_a_probe_tells_whom_the_server_refuses_later_on() -> None:
    """First the other client of the second fault, and then everybody."""
    async with listening(process_request=admitting(3)) as url:
        rows = [each.row for each in await probe(url, ["reset", "close", "fin"], patience=0.3)]
    assert [row["the other client"] for row in rows] == ["still answered", "refused: HTTP 403", "–"]
    assert [row["Close"].partition(" after")[0] for row in rows] == ["cannot be seen", "1000", "refused: HTTP 403"]


async def test_a_wire_takes_http() -> None:
    """As a server's own message tells its URL; the client then has the same scheme."""
    async with (
        listening() as url,
        labkit.Wire(url.replace("ws:", "http:")) as wire,
        aiohttp.ClientSession() as session,
        session.ws_connect(wire.url) as ws,
    ):
        assert wire.url.startswith("http://127.0.0.1:")
        await ws.send_str("hello")
        assert (await ws.receive()).data == "hello"


def child_of(run: Any) -> int:
    [told] = [event.text for event in run.timeline.all(HandlerPrint) if event.text.startswith("child ")]
    return int(told.removeprefix("child "))


async def test_a_command_is_started_waited_for_and_stopped_with_its_children() -> None:
    """Its output is on the timeline; each play starts it anew, at a port of its own, several side by side."""
    server = command()
    first, second = await asyncio.gather(labkit.play(server, fault="close"), labkit.play(server, fault="reset"))
    for run in (first, second):
        assert "asked for /ws" in [event.text for event in run.timeline.all(HandlerPrint)]
        assert not psutil.pid_exists(child_of(run)) or psutil.Process(child_of(run)).status() == "zombie"
    [told], [other] = first.timeline.all(LoopTarget), second.timeline.all(LoopTarget)
    assert told.url != other.url
    assert first.verdict.reaction is not None
    assert first.verdict.reaction.close_code == 1000
    assert first.handler.startswith(sys.executable)


async def test_a_shutdown_is_sigterm() -> None:
    """As a process manager ends a server; the end of the process is told."""
    run = await labkit.play(command(SERVER.replace("asyncio.run(main())", GOODBYE)), fault="shutdown")
    assert run.verdict.reaction is not None
    assert (run.verdict.reaction.close_code, run.verdict.reaction.tcp) == (1001, "FIN")
    assert [event.done for event in run.timeline.all(LoopShutdown)] == [False, True]
    assert [event.status for event in run.timeline.all(LoopExit)] == [0]
    assert run.verdict.sentence.endswith("the server's process has ended: exit status 0.")


GOODBYE = """
async def until_told():
    import signal
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"])):
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        print("child", child.pid, file=sys.stderr, flush=True)
        await told.wait()
    child.kill()

asyncio.run(until_told())
"""


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        (
            {"program": "print('one'); raise SystemExit('no database')"},
            r"ended before it listened, with exit status 1: one \| no database$",
        ),
        (
            {"program": "print('Error: no ws'); print('    at main', flush=True); raise SystemExit('}')"},
            r"ended before it listened, with exit status 1: Error: no ws \| }$",
        ),
        (
            {"program": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"},
            "ended before it listened, with SIGKILL, and printed nothing$",
        ),
        (
            {"program": "import time; print('thinking', flush=True); time.sleep(1000)", "ready": 1.0},
            r"does not listen at ws://127.0.0.1:\d+/ws after .* s(: thinking|, and printed nothing)$",
        ),
    ],
)
async def test_a_command_that_does_not_listen_is_one_sentence(described: dict[str, Any], sentence: str) -> None:
    """With its last output; and nothing of it is left."""
    with pytest.raises(LabError, match=sentence):
        await labkit.play(command(**described))


async def test_a_command_that_cannot_be_described_or_started() -> None:
    """One sentence each."""
    for given, options, sentence in [
        ("node 'server.js", {}, "cannot be read: No closing quotation"),
        ("", {}, "names no program"),
        ("node server.js", {"url": "ws://example.org:80/"}, "is on another machine"),
        ("node server.js", {"environment": {"PORT": 1}}, "it takes a mapping of text"),
        ("node server.js", {"ready": 0}, "ready=0; it takes a number of seconds"),
    ]:
        with pytest.raises(BadValue, match=sentence):
            labkit.process(given, **{"url": "ws://127.0.0.1:80/", **options})
    with pytest.raises(LabError, match=r"^no-such-program x cannot be started: there is no no-such-program$"):
        await labkit.play(labkit.process("no-such-program x", url="ws://127.0.0.1:{port}"))
    async with listening() as url:
        with pytest.raises(LabError, match=r"somebody listens at .* already; stop that first, or take {port}"):
            await labkit.play(labkit.process("node server.js", url=url))


@pytest.mark.parametrize("stubborn", [False, True])
async def test_an_interrupt_leaves_nothing(stubborn: bool, tmp_path: Path) -> None:
    """At whatever moment, also where the server and its children do not listen to SIGTERM."""
    told = tmp_path / "pids"
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    noted = f"open({str(told)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\nasync def echo"
    server = command(ignore + SERVER.replace("async def echo", noted))
    playing = asyncio.create_task(labkit.play(server, fault=None, patience=1000))
    while not (told.exists() and told.read_text()):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.01)
    pids = [int(word) for word in told.read_text().split()]
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert [pid for pid in pids if runs(pid)] == []


def runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_an_interrupt_of_a_script_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl+C reaches the lab, which ends the server with its children."""
    server = tmp_path / "server.py"
    server.write_text(SERVER)
    script = (
        "import labkit, os, sys\n"
        f"server = labkit.process([sys.executable, {str(server)!r}], url='ws://127.0.0.1:{{port}}/',"
        " environment={'PORT': '{port}'})\n"
        "async def talk(client):\n"
        "    await client.send('hello')\n"
        "    os.write(1, (await client.recv()).encode())\n"  # `print` in a talk goes to the timeline
        "    await client.recv()\n"
        "labkit.run(labkit.play(server, talk=talk, patience=1000))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.read(5) == "hello"
        children = psutil.Process(running.pid).children(recursive=True)
        assert len(children) == 2
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=scaled(30))
        assert "KeyboardInterrupt" in said
        assert [child.pid for child in children if runs(child.pid)] == []
