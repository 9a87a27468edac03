"""The process and its signals: what the wire sees of a real program, and what the handler is told."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import psutil
import pytest

import labkit
from labkit.errors import BadValue
from labkit.events import Event
from tests import handlers
from tests.versions import older

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def goodbye(run: labkit.Run) -> list[str]:
    """What passed the wire from the client, after the fault and before the lab's own end."""
    events = list(run.timeline)
    [fault], [stop] = run.timeline.select("wire", "fault"), run.timeline.select("loop", "stop")
    after = events[events.index(fault) : events.index(stop)]
    return [event.text for event in after if event.kind in {"frame", "fin", "reset"} and from_client(event)]


def from_client(event: Event) -> bool:
    return event.lane == "wire" and event.data["source"] == "client"


@pytest.mark.parametrize("on", handlers.STACKS)
@pytest.mark.parametrize("client", labkit.CLIENTS)
async def test_no_program_says_goodbye_when_it_is_killed(client: str, on: str) -> None:
    """SIGKILL: the system closes the socket, and there is no Close frame, whatever the program was written with."""
    run = await labkit.play(handlers.echo(on), on=on, fault="sigkill", client=client)
    assert goodbye(run) == ["FIN from the client"]
    [gone] = run.timeline.select("client", "exit")
    assert gone.data == {"how": "SIGKILL", "status": -signal.SIGKILL}
    assert run.verdict.noticed == "yes"
    assert run.verdict.close_code in {1006, None}


# What Ctrl+C does to a program that was written with a library, and to one that takes no care.
CTRL_C = {
    "labkit": ["FIN from the client"],
    "websockets": ["Close 1000" if older("websockets", "17.2") else "Close 1011"],
    "aiohttp": ["Close 1000"],
}


@pytest.mark.parametrize("client", labkit.CLIENTS)
async def test_ctrl_c_ends_a_program_as_its_library_ends_it(client: str) -> None:
    """The one of websockets says goodbye with 1011, aiohttp's with 1000; then the process ends by the signal."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="sigint", client=client)
    assert [text for text in goodbye(run) if text.startswith(("Close", "FIN"))][:1] == CTRL_C[client]
    [gone] = run.timeline.select("client", "exit")
    assert gone.data == {"how": "SIGINT", "status": -signal.SIGINT}


async def test_ctrl_c_ends_a_program_though_the_lab_ignores_it() -> None:
    """As a shell's script has it for what it starts in the background; a child inherits it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = await labkit.play(handlers.websockets_echo, on="websockets", fault="sigint", patience=1.0)
    finally:
        signal.signal(signal.SIGINT, before)
    [gone] = run.timeline.select("client", "exit")
    assert gone.data == {"how": "SIGINT", "status": -signal.SIGINT}
    assert run.verdict.noticed == "yes"


@pytest.mark.parametrize("on", handlers.STACKS)
async def test_a_frozen_program_says_nothing(on: str) -> None:
    """TCP is in perfect health, so nobody notices."""
    run = await labkit.play(handlers.echo(on), on=on, fault="frozen-process", patience=0.3)
    assert goodbye(run) == []
    assert (run.verdict.ending, run.verdict.noticed) == ("running", "no")


async def test_a_ping_tells_of_a_frozen_program() -> None:
    """After the interval and the timeout of the server's keepalive."""
    keepalive = {"ping_interval": 0.1, "ping_timeout": 0.1, "close_timeout": 0.1}
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="frozen-process", patience=10, **keepalive)
    assert run.verdict.exception is not None
    assert "sent 1011 (internal error) keepalive ping timeout; no close frame received" in run.verdict.exception
    assert run.verdict.noticed_after is not None
    assert run.verdict.noticed_after >= 0.1


@pytest.mark.parametrize("fault", ["sigint", "sigkill", "frozen-process"])
async def test_the_process_is_real_and_gone_afterwards(fault: str) -> None:
    """Its id is in the timeline; a frozen one is killed."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, patience=0.2)
    [sent] = run.timeline.select("client", "signal")
    assert sent.data["pid"] != os.getpid()
    assert not psutil.pid_exists(sent.data["pid"])


async def test_a_ctrl_c_in_the_terminal_is_not_the_childs() -> None:
    """It goes to a whole group of processes; the child has one of its own, so that only the fault reaches it."""
    groups: list[int] = []
    before = psutil.Process().children()  # multiprocessing keeps one of its own

    async def looks(websocket: Any) -> None:
        groups.extend(os.getpgid(child.pid) for child in psutil.Process().children() if child not in before)
        await handlers.websockets_echo(websocket)

    await labkit.play(looks, on="websockets", fault="sigkill")
    assert len(groups) == 1
    assert groups[0] != os.getpgid(0)


async def test_the_events_of_the_process_stand_where_they_happened() -> None:
    """The child tells its own time: what it sends is sent before the wire sees it, and received before it is read."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="sigkill", messages=("a", "b"))
    talk = [
        (event.lane, event.kind)
        for event in run.timeline
        if event.kind in {"send", "recv"} or (event.kind == "frame" and event.data["opcode"] == "TEXT")
    ]
    there = [("client", "send"), ("wire", "frame"), ("handler", "recv")]
    back = [("handler", "send"), ("wire", "frame"), ("client", "recv")]
    # Where bytes are on their way from the kernel to two processes, either may be the first to say so.
    assert sorted(talk) == sorted((there + back) * 2)
    assert talk.index(("client", "send")) < talk.index(("handler", "recv"))
    assert [event.at for event in run.timeline] == sorted(event.at for event in run.timeline)


async def test_a_long_message_reaches_the_process() -> None:
    """The command that carries it is one line, however long."""
    messages = ("x" * 300_000, bytes(300_000))
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="sigkill", messages=messages)
    assert [event.data["length"] for event in run.timeline.select("client", "recv")] == [300_000, 300_000]


async def test_where_there_are_no_signals_the_fault_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence, before any socket opens."""
    monkeypatch.delattr(signal, "SIGSTOP")
    with pytest.raises(BadValue, match="frozen-process cannot be staged: this platform has no SIGSTOP"):
        labkit.play(handlers.websockets_echo, on="websockets", fault="frozen-process").send(None)
