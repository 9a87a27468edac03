"""labkit.watch: a pool, a session or a lock on the cleanup lane, though the program has never heard of the lab."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadValue
from labkit.events import CleanupClosing, CleanupOpen, HandlerLine, ResourceEvent


class Pool:
    """A pool as most are: what is acquired must be released."""

    def __init__(self) -> None:
        self.free = [object(), object()]

    async def acquire(self) -> object:
        await asyncio.sleep(0)
        return self.free.pop()

    async def release(self, connection: object) -> None:
        await asyncio.sleep(0.01)
        self.free.append(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[object]:
        connection = await self.acquire()
        try:
            yield connection
        finally:
            await self.release(connection)


class Acquiring:
    """What asyncpg's pool gives: to be awaited, or to be entered."""

    def __init__(self, pool: Both) -> None:
        self.pool = pool
        self.got: object = None

    def __await__(self) -> Any:
        return self.pool.take().__await__()

    async def __aenter__(self) -> object:
        self.got = await self.pool.take()
        return self.got

    async def __aexit__(self, *raised: object) -> None:
        await self.pool.release(self.got)


class Both(Pool):
    def acquire(self) -> Any:  # type: ignore[override]
        return Acquiring(self)

    async def take(self) -> object:
        return await super().acquire()


class Session:
    """What a session maker gives: it is closed by itself, or by its end as a context manager."""

    closed = False

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


class Maker:
    def session(self) -> Session:
        return Session()


class Slots:
    __slots__ = ("taken",)

    def take(self) -> str:
        self.taken = True
        return "it"

    def give(self, thing: str) -> None:
        self.taken = False

    @contextmanager
    def held(self) -> Iterator[str]:
        yield self.take()
        self.give("it")


def handler(use: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
    """A handler of a program that uses something while it serves."""

    async def serve(websocket: Any) -> None:
        async with use():
            async for message in websocket:
                await websocket.send(message)

    return serve


def released(pool: Any) -> Any:
    @asynccontextmanager
    async def use() -> AsyncIterator[None]:
        connection = await pool.acquire()
        try:
            yield
        finally:
            await pool.release(connection)

    return use


def held(slots: Slots) -> Any:
    @asynccontextmanager
    async def use() -> AsyncIterator[None]:
        with slots.held():
            yield

    return use


def named(target: Any, method: str) -> Any:
    """Look the method up when it is called, as a program does."""

    def use() -> Any:
        return getattr(target, method)()

    return use


POOL, BOTH, MAKER, SLOTS, LOCK = Pool(), Both(), Maker(), Slots(), asyncio.Lock()


@pytest.mark.parametrize(
    ("target", "names", "use"),
    [
        (POOL, ("acquire", "release"), released(POOL)),
        (POOL, ("connection", "release"), named(POOL, "connection")),
        (BOTH, ("acquire", "release"), released(BOTH)),
        (BOTH, ("acquire", "release"), named(BOTH, "acquire")),
        (MAKER, ("session", "close"), named(MAKER, "session")),
        (Pool, ("acquire", "release"), released(POOL)),
        (SLOTS, ("take", "give"), held(SLOTS)),
        (LOCK, ("acquire", "release"), lambda: LOCK),
    ],
    ids=["pool", "a context manager", "awaited", "entered", "session", "class", "slots", "lock"],
)
async def test_what_is_opened_and_closed_is_on_the_lane(target: Any, names: tuple[str, str], use: Any) -> None:
    """Each once, whether it is closed by a method or by a context manager, by a coroutine or a plain call."""
    before = dict(vars(type(target))), dict(getattr(target, "__dict__", {}))
    with labkit.watch(target, open=names[0], close=names[1], name="database"):
        run = await labkit.play(handler(use), on="websockets", fault="close")
    events = run.timeline.all(ResourceEvent)
    assert [(event.kind, event.text) for event in events] == [
        ("open", "database"),
        ("closing", "database"),
        ("closed", "database"),
    ]
    assert [event.connection for event in events] == [1, 1, 1]
    assert (run.verdict.cleanup, run.outcome) == ("complete", "clean")
    after = dict(vars(type(target))), dict(getattr(target, "__dict__", {}))
    assert before == after


async def test_a_closing_that_is_cut_short() -> None:
    """As on production's database when aiohttp cancels the handler in its cleanup."""
    from aiohttp import web

    pool = Pool()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        connection = await pool.acquire()
        async for message in ws:
            await ws.send_str(message.data)
        await pool.release(connection)
        return ws

    with labkit.watch(pool, open="acquire", close="release"):
        run = await labkit.play(serve, on="aiohttp-cancel", fault="close")
        lost = await labkit.play(serve, on="aiohttp-cancel", fault="reset")
    assert (run.verdict.cleanup, run.outcome) == ("truncated", "cut")
    assert "cleanup truncated (Pool)" in run.verdict.sentence
    assert (lost.verdict.cleanup, lost.outcome) == ("missing", "missing")


async def test_several_connections_have_their_own() -> None:
    """What the first leaves is not told of the second."""
    pool = Pool()

    async def serve(websocket: Any) -> None:
        connection = await pool.acquire()
        async for message in websocket:
            await websocket.send(message)
        await pool.release(connection)

    with labkit.watch(pool, open="acquire", close="release"):
        run = await labkit.play(serve, on="websockets", fault="reset", clients=2)
    assert [each.verdict.cleanup for each in run.connections] == ["missing", "unknown"]
    assert sorted(event.connection or 0 for event in run.timeline.all(CleanupOpen)) == [1, 2]
    assert run.timeline.until_stop().first(CleanupClosing) is None


async def test_outside_of_an_experiment_nothing_changes() -> None:
    """The program may use the same object meanwhile; and after an error all is as before."""
    pool = Pool()

    async def fails() -> None:
        with labkit.watch(pool, open="acquire", close="release"):
            connection = await pool.acquire()
            await pool.release(connection)
            assert "acquire" in vars(pool)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fails()
    assert list(vars(pool)) == ["free"]
    assert len(pool.free) == 2


async def test_what_fails_to_open_is_not_open() -> None:
    """A lock that is taken, or a pool that is empty."""
    pool, lock = Pool(), threading.Lock()
    pool.free.clear()

    async def serve(websocket: Any) -> None:
        with pytest.raises(IndexError):
            await pool.acquire()
        async for message in websocket:
            await websocket.send(message)

    with labkit.watch(pool, open="acquire", close="release"):
        run = await labkit.play(serve, on="websockets", fault="close")
    assert (run.verdict.cleanup, run.timeline.all(ResourceEvent)) == ("none", [])
    with pytest.raises(BadValue, match=r"^lock.acquire cannot be watched, since Python itself has made the class"):
        labkit.watch(lock, open="acquire", close="release").__enter__()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"open": "aquire", "close": "release"}, "open='aquire' is not a method of Pool"),
        ({"open": "acquire", "close": "give back"}, "close='give back' is not the name of a method"),
        ({"open": 1, "close": "release"}, "open=1 is not a method of Pool"),
    ],
)
def test_what_cannot_be_watched_is_a_sentence(options: dict[str, Any], sentence: str) -> None:
    """Before anything is replaced."""
    with pytest.raises(BadValue, match=sentence):
        labkit.watch(Pool(), **options)


def test_the_name_stays_public() -> None:
    """Though a room has it too, whose modules are imported at any time."""
    import labkit.watch.host

    assert labkit.watch.__module__ == "labkit.experiment.attached"


ORDERS = """
import asyncio
import labkit

def total(order):
    if order == "nothing":
        return 0
    return len(order)

class Orders:
    async def save(self, order):
        await asyncio.sleep(0)
        labkit.note("waits")
        try:
            await asyncio.sleep(30)
        finally:
            total(order)
        return "saved"

    def never_called(self):
        return 1
"""


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the program's own, in another file than the handler."""
    (tmp_path / "lab_orders.py").write_text(ORDERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lab_orders")
    del sys.modules["lab_orders"]


async def test_lines_in_other_files_are_watched_where_they_are_asked_for(orders: Any) -> None:
    """Each function that ran stands below the handler, with its own numbers; the handler's own findings stay."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await orders.Orders().save(await ws.receive_str())
        return ws

    async def played() -> labkit.Run:
        return await labkit.play(handler, on="aiohttp-cancel", fault="reset", when="note: waits", patience=1)

    plain = await played()
    with labkit.watch(lines=[orders.Orders, orders.total]):
        watched = await played()
    again = await played()
    assert watched.verdict.lines_never_ran == plain.verdict.lines_never_ran
    assert {line.function for run in (plain, again) for line in run.source().lines} == {""}
    states = {(line.function, line.code.strip()): line.state for line in watched.source().lines if line.function}
    save, total = "lab_orders.Orders.save", "lab_orders.total"
    assert {function for function, _ in states} == {save, total}
    assert states[save, "total(order)"] == "after"
    assert states[save, 'return "saved"'] == "never"
    assert states[total, "return 0"] == "never"
    assert f"\n{save}\n" in str(watched.source())
    assert save in watched.source()._repr_mimebundle_()["text/html"]
    assert watched.timeline.all(HandlerLine)[-1].label == "line 8 of lab_orders.total: return len(order)"


async def test_modules_and_objects_name_all_their_functions(orders: Any) -> None:
    """A module names what it defines, not what it imports; what is watched twice is watched once."""

    async def handler(websocket: Any) -> None:
        orders.total("nothing")
        orders.Orders().never_called()
        await websocket.recv()

    for lines in ([orders], [orders.Orders(), orders.total, orders]):
        with labkit.watch(orders.Orders, open="never_called", close="save", lines=lines):
            run = await labkit.play(handler, on="websockets", fault="reset")
        told = [line.code.strip() for line in run.source().lines if line.function and line.state == "ran"]
        assert sorted(told) == ['if order == "nothing":', "return 0", "return 1"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("save", "lines='save' is not a list of functions, such as [orders.save]"),
        (3, "lines=3 is not a list of functions"),
        ([len], "lines: <built-in function len> has no function that is written in Python"),
        ([asyncio.sleep], "has no function that is written in Python"),
        (["save"], "lines: 'save' has no function"),
        ([], "there is nothing to watch"),
    ],
)
def test_what_has_no_lines_is_a_sentence(given: Any, sentence: str) -> None:
    """It is told before anything is watched."""
    with pytest.raises(BadValue, match=re.escape(sentence)):
        labkit.watch(lines=given)
