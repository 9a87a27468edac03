"""Handlers out of people's own programs, and what is right to say of each; ``steady.py`` plays them again and again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import websockets
from aiohttp import web
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

import labkit


class Case(NamedTuple):
    """A handler, how it is played, and what must hold of the run."""

    handler: Callable[[Any], Any]
    on: str
    fault: str | None
    right: Callable[[labkit.Run], bool]
    options: Mapping[str, Any] = {}


async def accept(request: web.Request, **options: Any) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(**options)
    await ws.prepare(request)
    return ws


# --- The connection is already over, or has not come so far ----------------------------------------------------------


async def turns_away(websocket: ServerConnection) -> None:
    if await websocket.recv() != "token":
        await websocket.close(4401, "unauthorized")
        return
    async for message in websocket:
        await websocket.send(message)


async def answers_once(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request, timeout=1.0)
    await ws.send_str(await ws.receive_str())
    await ws.close(code=4001)
    return ws


async def greets(websocket: ServerConnection) -> None:
    await websocket.send("welcome")
    async for message in websocket:
        await asyncio.sleep(0.05)
        await websocket.send(message)


async def rpc(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(json.dumps({"id": json.loads(message)["id"], "result": "x" * 1000}))


# --- What is left behind ---------------------------------------------------------------------------------------------

background: set[asyncio.Task[None]] = set()


async def saves(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    async for message in ws:
        await ws.send_str(message.data)
    task = asyncio.create_task(asyncio.sleep(0.3), name="save")
    background.add(task)
    task.add_done_callback(background.discard)
    return ws


async def forgets_task(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)

    async def feed() -> None:
        while True:
            await ws.send_str("tick")
            await asyncio.sleep(0.002)

    asyncio.create_task(feed(), name="feed")  # noqa: RUF006 - as people forget it
    async for _ in ws:
        pass
    return ws


async def forgets_process(websocket: ServerConnection) -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(30)")
    async for message in websocket:
        await websocket.send(message)


#: Set when a round is over; the thread then ends.
enough = threading.Event()


async def forgets_thread(websocket: ServerConnection) -> None:
    threading.Thread(target=enough.wait, name="pump", daemon=True).start()
    async for message in websocket:
        await websocket.send(message)


async def two_tasks(websocket: ServerConnection) -> None:
    async def reader() -> None:
        async for message in websocket:
            await websocket.send(message)

    async def writer() -> None:
        while True:
            await websocket.send("tick")
            await asyncio.sleep(0.02)

    await asyncio.gather(reader(), writer())


# --- The loop is blocked ---------------------------------------------------------------------------------------------


async def blocks(websocket: ServerConnection) -> None:
    await websocket.send(await websocket.recv())
    time.sleep(1.0)  # noqa: ASYNC251 - as people write it
    await websocket.send("result")
    async for _ in websocket:
        pass


async def never_awaits(websocket: ServerConnection) -> None:
    await websocket.recv()
    while True:
        pass


async def asks_for_ever(websocket: ServerConnection) -> None:
    while True:
        with contextlib.suppress(websockets.ConnectionClosed):
            await websocket.send(await websocket.recv())


# --- Who noticed, and who did not ------------------------------------------------------------------------------------


async def polls(websocket: ServerConnection) -> None:
    while websocket.state is State.OPEN:  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.05)


async def polls_transport(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    while not request.transport.is_closing():  # type: ignore[union-attr]  # noqa: ASYNC110 - as people write it
        await asyncio.sleep(0.05)
    return ws


async def pings(websocket: ServerConnection) -> None:
    with contextlib.suppress(TimeoutError):
        while True:
            await asyncio.wait_for(await websocket.ping(), 1)
            await asyncio.sleep(0.05)


async def closes(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request, timeout=0.5)

    async def kick() -> None:
        await asyncio.sleep(1)
        await ws.close(code=4001)

    kicking = asyncio.create_task(kick())
    async for message in ws:
        await ws.send_str(message.data)
    await kicking
    return ws


async def cancels_itself(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(1, task.cancel)
    async for message in ws:
        await ws.send_str(message.data)
    return ws


async def limited(websocket: ServerConnection) -> None:
    with anyio.move_on_after(1):
        async for message in websocket:
            await websocket.send(message)


async def pushes(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    while True:
        await ws.send_str("tick")
        await asyncio.sleep(0.1)


# --- Which lines ran, and what is complained of ----------------------------------------------------------------------


async def works_in_thread(websocket: ServerConnection) -> None:
    def work() -> str:
        return "answer"

    async for _ in websocket:
        await websocket.send(await asyncio.to_thread(work))


members: set[ServerConnection] = set()


@contextlib.asynccontextmanager
async def membership(websocket: ServerConnection) -> AsyncIterator[None]:
    members.add(websocket)
    yield
    members.discard(websocket)  # without a `finally`


async def joins(websocket: ServerConnection) -> None:
    async with membership(websocket):
        async for message in websocket:
            await websocket.send(message)


quiet = logging.getLogger("benchmarks.app")
quiet.propagate = False


async def logs_quietly(websocket: ServerConnection) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    except websockets.ConnectionClosed:
        quiet.error("lost a client")


async def grouped(websocket: ServerConnection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(websocket.recv())
        group.create_task(asyncio.sleep(60))


class Own(ServerConnection):
    """A connection class of the user's own, with other names for the parameters."""

    async def send(self, obj: Any) -> None:  # type: ignore[override]
        """Send an object as JSON, and text as it is."""
        await super().send(obj if isinstance(obj, str) else json.dumps(obj))

    async def close(self, status: int = 1000, why: str = "") -> None:
        """Close the connection."""
        await super().close(status, why)


async def own_class(websocket: Own) -> None:
    async for message in websocket:
        await websocket.send({"echo": message})
    await websocket.close(4001)


async def asks_username(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(websocket.username + message)  # type: ignore[attr-defined]


def make_chat() -> Callable[[web.Request], Any]:
    """Make a room, which no two plays share."""
    sockets: list[web.WebSocketResponse] = []

    async def chat(request: web.Request) -> web.WebSocketResponse:
        ws = await accept(request)
        sockets.append(ws)
        async with labkit.resource("membership", closing=0.01):
            async for message in ws:
                for other in tuple(sockets):
                    with contextlib.suppress(ConnectionError):
                        await other.send_str(message.data)
        sockets.remove(ws)
        return ws

    return chat


# --- What is right ---------------------------------------------------------------------------------------------------


def is_unstruck(run: labkit.Run) -> bool:
    return run.outcome == "unstruck" and run.verdict.struck is False


def left(start: str) -> Callable[[labkit.Run], bool]:
    """Exactly one thing is left behind, and it is this one."""
    return lambda run: [name.startswith(start) for name in run.verdict.leaked or ()] == [True]


def noticed(run: labkit.Run) -> bool:
    return run.verdict.noticed == "yes"


def not_noticed(run: labkit.Run) -> bool:
    return run.verdict.noticed == "no" and run.verdict.ending in ("returned", "cancelled")


def fails_with(text: str) -> Callable[[labkit.Run], bool]:
    return lambda run: text in (run.verdict.exception or "") and "is it written for" not in run.verdict.sentence


def texts(run: labkit.Run, *kinds: tuple[str, str]) -> list[str]:
    return [event.text for event in run.timeline if (event.lane, event.kind) in kinds]


def line_of(text: str) -> int:
    """The number of the one line of this file that begins with the text."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    [number] = [number for number, line in enumerate(lines, 1) if line.strip().startswith(text)]
    return number


def blocked_at(text: str, least: float) -> Callable[[labkit.Run], bool]:
    line = line_of(text)
    return lambda run: run.verdict.blocked >= least and run.verdict.blocked_line == line


SILENT: Mapping[str, Any] = {"messages": ()}
#: More than enough for what ends by itself after a second.
LONG: Mapping[str, Any] = {"patience": 10}
CASES = (
    *(
        Case(turns_away, "websockets", fault, is_unstruck)
        for fault in ("close", "reset", "bad-opcode", "stalled-reader", "ignore-close")
    ),
    Case(answers_once, "aiohttp", "ignore-close", lambda run: run.verdict.close_code == 1006),
    Case(
        greets,
        "websockets",
        "reset",
        lambda run: texts(run, ("client", "recv"), ("wire", "fault")) == ["'welcome'", "'hello'", "reset"],
    ),
    Case(
        rpc,
        "websockets",
        "stalled-reader",
        lambda run: run.verdict.ending == "running" and "in send()" in run.verdict.sentence,
        {"messages": ('{"id": 1}',)},
    ),
    Case(saves, "aiohttp", "close", lambda run: run.verdict.leaked == () and run.outcome == "clean", {"patience": 5}),
    Case(
        forgets_task,
        "aiohttp",
        "reset",
        lambda run: (
            [each.startswith("Task exception was never retrieved") for each in run.verdict.complaints or ()] == [True]
        ),
    ),
    Case(forgets_process, "websockets", "close", left("process ")),
    Case(forgets_thread, "websockets", "close", left("thread 'pump'")),
    Case(two_tasks, "websockets", "reset", left("task two_tasks.writer, ")),
    Case(
        blocks,
        "websockets",
        None,
        lambda run: (
            blocked_at("time.sleep(1.0)", 0.9)(run)
            and "sent 1011 (internal error) keepalive ping timeout" in (run.verdict.client_exception or "")
        ),
        {"client": "websockets", "client_options": {"ping_interval": 0.2, "ping_timeout": 0.2}},
    ),
    Case(never_awaits, "websockets", "reset", lambda run: run.verdict.blocked >= 0.9, {"patience": 1}),
    Case(
        asks_for_ever,
        "websockets",
        "reset",
        lambda run: "asked again" in run.verdict.sentence and len(str(run).splitlines()) < 120,
    ),
    *(Case(polls, "websockets", fault, noticed, SILENT) for fault in ("close", "reset")),
    *(Case(polls_transport, "aiohttp", fault, noticed, SILENT) for fault in ("fin", "reset")),
    Case(pings, "websockets", "blackhole", noticed, {**SILENT, **LONG}),
    Case(closes, "aiohttp", "blackhole", not_noticed, LONG),
    Case(cancels_itself, "aiohttp", "blackhole", not_noticed, LONG),
    Case(limited, "websockets", "blackhole", not_noticed, LONG),
    Case(pushes, "aiohttp", "closed-tab", fails_with("ClientConnectionResetError"), {"messages": (), "patience": 3}),
    Case(works_in_thread, "websockets", "close", lambda run: run.verdict.lines_never_ran == ()),
    Case(
        joins,
        "websockets",
        "reset",
        lambda run: run.verdict.lines_never_ran == (line_of("members.discard"),),
    ),
    Case(
        logs_quietly,
        "websockets",
        "reset",
        lambda run: run.verdict.complaints == ("ERROR benchmarks.app: lost a client",),
    ),
    Case(grouped, "websockets", "reset", fails_with("ConnectionClosedError"), SILENT),
    Case(
        own_class,
        "websockets",
        "close",
        lambda run: run.verdict.exception is None and texts(run, ("handler", "close")) == ["close(4001)"],
        {"create_connection": Own},
    ),
    Case(asks_username, "websockets", "close", fails_with("AttributeError")),
    Case(
        make_chat(),
        "aiohttp",
        "reset",
        lambda run: (
            [each.verdict.ending for each in run.connections] == ["returned", "running"]
            and "outlived" not in run.verdict.sentence
        ),
        {"clients": 2},
    ),
)
#: Played by themselves: while they keep the loop, nobody else's times are true.
ALONE = frozenset({blocks, never_awaits, asks_for_ever})
