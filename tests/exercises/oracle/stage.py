"""Plays a handler once: a plain server in a loop and a thread of its own, and a client on a raw socket."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import threading
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

from aiohttp import web

from tests.differential.peer import Peer, wait
from tests.differential.plain import Server, running
from tests.differential.story import seconds
from tests.exercises.oracle.loop import Loop

__all__ = ["STUCK", "Resource", "Seen", "Stage", "play"]

#: A loop that works for so long without a turn for others, in seconds, belongs to a handler that never yields; and so
#: does one that has had none for so long by the clock, which is no matter of a busy machine. What works on for so long
#: after its play swallows its cancels.
_WORKS, _STANDS_STILL = 1.0, 120.0

#: What is said of such a handler.
STUCK = "it cannot be stopped"

#: How long what a handler leaves behind may take to end, in seconds.
REST = seconds(0.5)


def _now() -> float:
    return asyncio.get_running_loop().time()


_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("inside", default=False)


class Resource:
    """What ``labkit.resource`` is to a handler, on a plain server."""

    def __init__(self, seen: Seen, name: str, *, closing: float = 0.0) -> None:
        self.closing = closing
        self.begun: float | None = None
        self.closed: float | None = None
        self.opened: float | None = None
        self.cuts = 0
        self.at_once = False
        self._seen = seen

    async def open(self) -> Self:
        self.opened = _now()
        self._seen.resources.append(self)
        return self

    async def close(self) -> None:
        self.begun = _now()
        self.at_once = self.at_once or self.cuts > 0
        self.cuts += 1
        await asyncio.sleep(seconds(self.closing))
        self.cuts -= 1
        self.closed = _now()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@dataclass
class Seen:
    """What was seen of a handler.

    Attributes:
        notes: what it noted, each with the time.
        resources: what it opened.
        heard: what its client got, in order.
        asked: when it had begun, when the client left, and when it ended; None if it has not.
        end: "" if it returned, else the exception, or that it forgot its response; None if it still runs.
        cancelled: whether somebody cancelled it, and nobody took that back.
        left: what was left behind, and what the loop was told of.
        more: what else the goal of an exercise wants to know.
    """

    began: float = 0.0
    struck: float = 0.0
    ended: float | None = None
    end: str | None = None
    cancelled: bool = False
    notes: list[tuple[str, float]] = field(default_factory=list)
    resources: list[Resource] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def noted(self) -> list[str]:
        """What it noted."""
        return [text for text, _ in self.notes]


class Stage:
    """What an act may use.

    Attributes:
        peer: the client.
        server: the server.
        seen: what was seen so far.
        bell: set whenever something is new.
        task: the handler's task.
        connection: what the handler was called with.
    """

    def __init__(self, on: str, server: Server, seen: Seen, bell: asyncio.Event) -> None:
        self.on = on
        self.server = server
        self.peer = Peer(server.port, bell)
        self.seen = seen
        self.bell = bell
        self.task: asyncio.Task[Any] | None = None
        self.connection: Any = None
        self.acts: list[asyncio.Task[None]] = []

    async def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait for a condition, or for the handler's end."""
        await wait(self.bell, lambda: condition() or self.seen.end is not None, seconds(limit))
        return condition()

    def shut_down(self) -> None:
        """Shut the server down, in its library's own way."""
        self.acts.append(asyncio.create_task(self.server.shut_down()))

    async def cancel(self, times: int) -> None:
        """Cancel the handler so often; each time when it awaits something again."""
        for _ in range(times):
            assert self.task is not None
            before: Any = getattr(self.task, "_fut_waiter")  # noqa: B009 - what a task waits for is asyncio's own affair
            self.task.cancel()
            while not self.task.done() and getattr(self.task, "_fut_waiter") in (before, None):  # noqa: ASYNC110, B009
                await asyncio.sleep(0)
            if self.task.done():
                return


Act = Callable[[Stage], Awaitable[None]]


async def play(
    make: Callable[[Any], Any], on: str, say: Sequence[str], act: Act, patience: float, **options: Any
) -> Seen:
    """Play a handler once.

    Args:
        make: makes the handler, given what stands for ``labkit``.
        on: the stack.
        say: what the client says, one after the other.
        act: what the client does then.
        patience: how long to wait for the handler's end after that, in seconds.
        options: of the library's server.
    """
    seen, beat, over = Seen(), [0.0], list[float]()
    loops, clocks = list[asyncio.AbstractEventLoop](), list[int]()
    done = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def run() -> None:
        clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
        try:
            with asyncio.Runner(loop_factory=Loop) as runner:
                loops.append(runner.get_loop())
                runner.run(_play(make, on, say, act, patience, options, seen, beat, over))
            problem = None
        except BaseException as error:
            problem = error
        clocks.clear()  # nobody ends it any more
        with suppress(Stuck):
            loop.call_soon_threadsafe(done.set_result, problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    last, since = beat[0], time.monotonic()
    while thread.is_alive() and not done.done():
        # Again and again, once it is stuck: what is raised in the middle of a warning, Python tells and forgets.
        await asyncio.wait([done], timeout=0.05 if STUCK in seen.left else 0.5)
        if beat[0] != last:
            last, since = beat[0], time.monotonic()
        works = 0.0
        with suppress(OSError, IndexError):  # it has not begun, or is over
            works = time.clock_gettime(clocks[0])
        if works > min([last, *over]) + _WORKS or time.monotonic() > since + _STANDS_STILL:
            seen.left += [STUCK] if STUCK not in seen.left else []
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stuck))
            with suppress(RuntimeError):  # it is closed
                loops[0].call_soon_threadsafe(lambda: None)  # raised where Python runs, and not in the wait of a loop
    await asyncio.sleep(0)  # in which the thread's last word comes, unless it was ended on its way there
    problem = done.result() if done.done() else None
    if problem is not None and not isinstance(problem, Stuck):
        raise problem
    return seen


class Stuck(BaseException):
    """Ends a handler that never yields."""


async def _play(
    make: Callable[[Any], Any],
    on: str,
    say: Sequence[str],
    act: Act,
    patience: float,
    options: Any,
    seen: Seen,
    beat: list[float],
    ended: list[float],
) -> None:
    loop, bell, mine = asyncio.get_running_loop(), asyncio.Event(), list[asyncio.Task[Any]]()
    over, gone, given_up = asyncio.Event(), list[bool](), list[bool]()

    def start(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **more)
        if _inside.get():
            mine.append(task)
        return task

    async def tick() -> None:
        while True:
            beat[0] = time.thread_time()
            await asyncio.sleep(0.05)

    def note(text: object, /, **_: Any) -> None:
        seen.notes.append((str(text), _now()))

    ticking = asyncio.create_task(tick())
    loop.set_task_factory(start)
    loop.set_exception_handler(
        lambda _, context: seen.left.append(f"{context['message']}: {context.get('exception')!r}")
    )
    plain = SimpleNamespace(note=note, resource=lambda name, **more: Resource(seen, name, **more))
    handler = make(plain)

    async def call(connection: Any) -> Any:
        if stage.task is not None:  # another client's: it stays until it is told to go
            return await park(connection)
        stage.task, stage.connection = asyncio.current_task(), connection
        assert stage.task is not None
        seen.began = _now()
        _inside.set(True)
        try:
            result = await _until(given_up, handler(connection, *seen.more.get("arguments", ())))
            end = "no response" if on != "websockets" and not isinstance(result, web.StreamResponse) else ""
        except BaseException as error:
            end = type(error).__name__
            raise
        finally:
            _inside.set(False)
            if not over.is_set():
                seen.end, seen.ended, seen.cancelled = end, _now(), stage.task.cancelling() > 0
            gone.append(True)
            bell.set()
        return result

    async def park(connection: Any) -> None:
        seen.more.setdefault("parked", []).append(connection)
        bell.set()
        await connection.wait_closed()

    with _Log(seen.log):
        async with running(call, on, options) as server:
            stage = Stage(on, server, seen, bell)
            try:
                if "prepare" in vars(act):
                    stage.task = ticking
                    await act.prepare(stage)  # type: ignore[attr-defined]
                    stage.task = None
                await stage.peer.connect()
                for message in say:
                    await stage.peer.say(message)
                seen.struck = _now()
                seen.more["before"] = len(stage.peer.heard)
                await act(stage)
                await wait(bell, lambda: seen.end is not None, seconds(patience))
                over.set()
                if seen.end is not None and (rest := [task for task in mine if not task.done()]):
                    await asyncio.wait(rest, timeout=REST)
                    seen.left += [f"{task.get_coro()!r}" for task in rest if not task.done()]
            except AssertionError as error:
                seen.log.append(f"no handshake: {error}")
            finally:
                ended.append(time.thread_time())
                seen.heard = [payload.decode(errors="replace") for payload in stage.peer.heard]
                stage.peer.end()
                if stage.task is not None and seen.end is None:
                    for task in (stage.task, *mine):
                        task.cancel()
                    if not await wait(bell, lambda: bool(gone), REST):
                        seen.left.append(STUCK)
                        given_up.append(True)
                for another in seen.more.get("peers", ()):
                    another.end()
                async with asyncio.timeout(seconds(1)):
                    await asyncio.gather(*stage.acts)
    ticking.cancel()


@types.coroutine
def _until(given_up: list[bool], coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run a handler until it has ended, or takes no cancel: then each of its steps raises."""
    step: Callable[[Any], Any] = coroutine.send
    argument: Any = None
    while True:
        try:
            awaited = step(argument)
        except StopIteration as end:
            return end.value
        try:
            step, argument = coroutine.send, (yield awaited)
        except BaseException as error:
            step, argument = coroutine.throw, error
        if given_up:
            step, argument = coroutine.throw, Stuck()


class _Log(logging.Handler):
    """Keeps what a thread logs from WARNING up, while the block runs."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.append(record.getMessage())

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
