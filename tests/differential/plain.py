"""A plain server and a raw socket: the bare library, and a client that does by hand what a fault does.

Nothing here knows the lab.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.asyncio.server import ServerConnection, serve

from tests.differential.peer import BINARY, CLOSE, TEXT, Peer, frame, text, wait
from tests.differential.people import Handler
from tests.differential.story import Seen, Story, seconds

__all__ = ["NotStaged", "play"]

#: Further attempts strike later and later, by turns of the loop and by so many seconds.
MOMENT = 0.005

#: And each in another kind of weather: for how long the loop is blocked then, as on a busy machine, where all that is
#: due comes in one turn; and how late the client is from then on.
WEATHER = ((0.0, 0.0), (0.005, 0.0), (0.04, 0.0), (0.0, 0.02), (0.0, 0.04))

#: How often `stalled-reader` sends its messages again, twice as many each time.
DOUBLINGS = 10


class InducedError(RuntimeError):
    """What `handler-error` raises; the lab calls it the same."""


class NotStaged(Exception):
    """The fault cannot be staged by hand with this handler."""


# --- The server ------------------------------------------------------------------------------------------------------


class Server:
    """A server as people run it."""

    port: int

    async def shut_down(self) -> None:
        """Shut down in the library's own way."""
        raise NotImplementedError

    def drop(self) -> None:
        """Drop the connections that the library has left open."""


class Aiohttp(Server):
    """What ``web.run_app`` sets up."""

    def __init__(self, runner: web.AppRunner) -> None:
        self.port = runner.addresses[0][1]
        self.shut_down = runner.cleanup  # type: ignore[method-assign]


class Websockets(Server):
    """What ``serve`` gives."""

    def __init__(self, server: Any, connections: list[ServerConnection]) -> None:
        self.port = server.sockets[0].getsockname()[1]
        self._server = server
        self._connections = connections

    async def shut_down(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    def drop(self) -> None:
        # The library forgets a connection whose handler is cancelled; if it has paused reading, nothing tells it more.
        for connection in self._connections:
            connection.transport.abort()


class Uvicorn(Server):
    """What ``uvicorn.run`` runs, without its signal handlers: many plays share a process."""

    def __init__(self, app: Any, options: Mapping[str, Any]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, **options))
        self._running = asyncio.create_task(self._server._serve([self._listener]))

    async def start(self) -> None:
        """Wait until it listens."""
        while not self._server.started:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)

    async def shut_down(self) -> None:
        self._server.should_exit = True
        await asyncio.wait([self._running])

    def drop(self) -> None:
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


@asynccontextmanager
async def running(handler: Callable[[Any], Any], on: str, options: Mapping[str, Any]) -> AsyncIterator[Server]:
    """Run a server while the block runs."""
    server: Server
    if on == "websockets":
        connections: list[ServerConnection] = []

        async def call(websocket: ServerConnection) -> None:
            connections.append(websocket)
            await handler(websocket)

        server = Websockets(await serve(call, "127.0.0.1", 0, **options), connections)
    elif on == "asgi":
        server = Uvicorn(Starlette(routes=[WebSocketRoute("/", handler)]), options)
        await server.start()
    else:
        app = web.Application()
        app.router.add_get("/", handler)
        runner = web.AppRunner(app, handler_cancellation=on == "aiohttp-cancel", **options)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server = Aiohttp(runner)
    try:
        yield server
    finally:
        await server.shut_down()
        server.drop()
        await asyncio.sleep(0)  # in which asyncio closes the sockets


# --- What the faults do ----------------------------------------------------------------------------------------------


class Scene:
    """One play: the server, the client, and what the handler sees."""

    def __init__(
        self, server: Server, peer: Peer, seen: Seen, messages: Sequence[str | bytes], patience: float, turns: int
    ) -> None:
        self.server = server
        self.peer = peer
        self.seen = seen
        self.messages = messages
        self.patience = patience
        self.turns = turns
        self.shutdown: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Whether there is nothing left to break."""
        return self.peer.over or self.seen.ended or self.seen.closing


async def close(scene: Scene, code: int = 1000) -> None:
    await scene.peer.close(struct.pack("!H", code))


async def no_code(scene: Scene) -> None:
    await scene.peer.close(b"")


async def close_at_once(scene: Scene) -> None:
    await scene.peer.send(*map(text, scene.messages[-1:]), frame(CLOSE, b"\x03\xe8"))


async def closed_tab(scene: Scene) -> None:
    await close(scene, 1001)
    scene.peer.fin()


async def close_then_reset(scene: Scene) -> None:
    await close(scene)
    scene.peer.reset()


async def ignore_close(scene: Scene) -> None:
    scene.peer.holds_close = True


async def fin(scene: Scene) -> None:
    scene.peer.fin()


async def half_close(scene: Scene) -> None:
    scene.peer.half_close()


async def reset(scene: Scene) -> None:
    scene.peer.reset()


async def truncated(scene: Scene, then: str = "fin") -> None:
    await scene.peer.send(frame(TEXT, b"?" * 10, announced=100))
    await (fin if then == "fin" else reset)(scene)


async def silence(scene: Scene) -> None:
    scene.peer.stop_reading()


async def stalled_reader(scene: Scene) -> None:
    scene.peer.stop_reading()
    once = b"".join(map(text, scene.messages))
    for doubled in range(DOUBLINGS):
        sending = asyncio.ensure_future(scene.peer.send(once * 2**doubled))
        sending.add_done_callback(lambda _: scene.seen.bell.set())
        if not await wait(scene.seen.bell, sending.done, seconds(1.0)):  # the server has stopped reading
            sending.cancel()
            return


async def bad_opcode(scene: Scene) -> None:
    await scene.peer.send(frame(0x3, b"what is this?"))


async def bad_utf8(scene: Scene) -> None:
    await scene.peer.send(frame(TEXT, b"caf\xe9"))


async def too_big(scene: Scene) -> None:
    await scene.peer.send(frame(BINARY, bytes(16 * 1024), announced=8 * 1024 * 1024))


async def unmasked(scene: Scene) -> None:
    await scene.peer.send(frame(TEXT, b"no mask", mask=False))


async def idle_timeout(scene: Scene, then: str = "reset") -> None:
    def quiet() -> bool:
        return time.monotonic() - scene.peer.moved >= seconds(0.2)

    await wait(scene.seen.bell, lambda: quiet() or scene.seen.ended, scene.patience)
    if quiet() and not scene.over:
        await (fin if then == "fin" else reset)(scene)


async def slow_link(scene: Scene) -> None:
    scene.peer.slow_down(seconds(0.04))
    for message in scene.messages:
        before = scene.peer.answers
        await scene.peer.send(text(message))
        if not await wait(scene.seen.bell, lambda before=before: scene.peer.answers > before, scene.patience):  # type: ignore[misc]
            return


async def shutdown(scene: Scene) -> None:
    scene.shutdown = asyncio.create_task(scene.server.shut_down())


async def handler_error(scene: Scene) -> None:
    task = scene.seen.task
    if task is None or not scene.seen.inside:
        raise NotStaged("the handler's own task does not wait in a method of its connection")
    scene.seen.error = InducedError("a step of the handler fails")
    task.cancel()


async def cancel(scene: Scene, times: int = 1) -> None:
    for _ in range(times):
        task = scene.seen.task
        assert task is not None
        waits_for: Any = getattr(task, "_fut_waiter")  # noqa: B009 - what a task waits for is asyncio's own affair
        task.cancel()
        # The next cancel comes when it waits for something else, or a few turns of the loop later.
        while not task.done() and getattr(task, "_fut_waiter") in (waits_for, None):  # noqa: ASYNC110, B009
            await asyncio.sleep(0)
        for _ in range(scene.turns):
            await asyncio.sleep(0)
        if task.done():
            return


async def blocked_loop(scene: Scene) -> None:
    await scene.peer.send(*map(text, scene.messages))
    time.sleep(seconds(0.5))  # noqa: ASYNC251 - to block the loop is the point


def _with(act: Callable[..., Awaitable[None]], **knobs: Any) -> Callable[[Scene], Awaitable[None]]:
    return lambda scene: act(scene, **knobs)


async def nothing(_: Scene) -> None:
    pass


#: What each fault does, by its name in the lab.
ACTS: Mapping[str | None, Callable[[Scene], Awaitable[None]]] = {
    None: nothing,
    "close": close,
    "close(code=1011)": _with(close, code=1011),
    "close(code=4000)": _with(close, code=4000),
    "going-away": _with(close, code=1001),
    "no-code": no_code,
    "close-at-once": close_at_once,
    "closed-tab": closed_tab,
    "close-then-reset": close_then_reset,
    "ignore-close": ignore_close,
    "fin": fin,
    "half-close": half_close,
    "reset": reset,
    "truncated-frame": truncated,
    "truncated-frame(then='reset')": _with(truncated, then="reset"),
    "blackhole": silence,
    "blackhole(direction='to-server')": silence,
    "stalled-reader": stalled_reader,
    "frozen-process": silence,
    "sigint": fin,
    "sigkill": fin,
    "bad-opcode": bad_opcode,
    "bad-utf8": bad_utf8,
    "too-big": too_big,
    "unmasked-frame": unmasked,
    "idle-timeout": idle_timeout,
    "idle-timeout(then='fin')": _with(idle_timeout, then="fin"),
    "slow-link(delay=0.04)": slow_link,
    "shutdown": shutdown,
    "handler-error": handler_error,
    "blocked-loop": blocked_loop,
    "cancel": _with(cancel, times=1),
    "second-cancel(times=1)": _with(cancel, times=1),
    "second-cancel": _with(cancel, times=2),
}


# --- One play --------------------------------------------------------------------------------------------------------


async def play(
    handler: Handler,
    on: str,
    fault: str | None,
    messages: Sequence[str | bytes],
    patience: float,
    options: Mapping[str, Any],
    *,
    after: int = 0,
    attempt: int = 0,
) -> Story:
    """Play a handler on a plain server against a raw socket, and tell what it saw.

    Args:
        handler: the handler.
        on: the stack, by its name in the lab.
        fault: the fault, by its name in the lab, with its knobs.
        messages: what the client sends.
        patience: how long the handler may take after the fault, in seconds.
        options: keyword arguments for the library's own function.
        after: the fault strikes when the handler has seen so much, in lines of its story, and the messages are sent.
        attempt: which attempt it is: each further one strikes at another moment.

    Returns:
        What the handler saw.

    Raises:
        NotStaged: the fault cannot be staged by hand with this handler.
    """
    if fault == "blocked-loop" and threading.current_thread() is threading.main_thread():
        return await asyncio.to_thread(
            lambda: asyncio.run(play(handler, on, fault, messages, patience, options, after=after, attempt=attempt))
        )  # only its own loop is to be blocked
    seen = Seen()
    async with running(seen.record(handler), on, options) as server:
        peer = Peer(server.port, seen.bell)
        scene = Scene(server, peer, seen, messages, patience, attempt)
        try:
            await peer.connect()
            # In the lab it strikes at the latest just before the handler closes, and nobody notices it before that.
            peer.holds_close = fault == "ignore-close" and after > 0
            await wait(seen.bell, lambda: seen.task is not None, patience)
            for message in messages:
                await peer.say(message)
            await wait(seen.bell, lambda: seen.so_far() >= after or scene.over, 2 * patience)
            blocked, late = WEATHER[attempt % len(WEATHER)]
            for _ in range(attempt):
                await asyncio.sleep(0)  # a turn of the loop later each time: what is awaited may just have come
            if attempt:
                await asyncio.sleep(attempt // len(WEATHER) * MOMENT)
            if not scene.over:
                peer.slow_down(late)
                await ACTS[fault](scene)
                time.sleep(blocked)  # noqa: ASYNC251 - to block the loop is the point
            await wait(seen.bell, lambda: seen.ended, patience)
            enough = time.perf_counter()
        finally:
            peer.end()
            for _ in range(3):  # some handlers swallow one
                if left := [task for task in (seen.task, *seen.tasks) if task is not None and not task.done()]:
                    for task in left:
                        task.cancel()
                    await asyncio.wait(left, timeout=1)
            if scene.shutdown is not None:
                await asyncio.wait([scene.shutdown])
    return seen.story(enough)
