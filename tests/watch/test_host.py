"""A handler's call: what is recorded of its life."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import operator
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import labkit
from labkit.events import HandlerCancelled
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from labkit.verdict import judge
from labkit.watch.call import Call
from labkit.watch.host import Host
from labkit.watch.stand_ins import Method


@pytest.mark.parametrize(
    ("raised", "ending", "exception", "text"),
    [
        (None, "returned", None, "returned"),
        (ValueError("no"), "raised", "ValueError: no", "raised ValueError: no"),
        (KeyError(), "raised", "KeyError", "raised KeyError"),
        (asyncio.CancelledError(), "cancelled", None, "cancelled"),
        (KeyboardInterrupt(), "raised", "KeyboardInterrupt", "raised KeyboardInterrupt"),
    ],
)
async def test_a_call_is_recorded_from_its_start_to_its_end(
    raised: BaseException | None, ending: str, exception: str | None, text: str
) -> None:
    """The start says who is called with what; the end says how it ended. What it raises passes."""
    timeline = Timeline()

    async def handler(argument: Any) -> str:
        if raised is not None:
            raise raised
        return "the response"

    host = Host(handler, timeline, stack="aiohttp", library="aiohttp 3.14")
    if raised is None:
        assert await host.call(3) == "the response"
    else:
        with pytest.raises(type(raised)) as caught:
            await host.call(3)
        assert caught.value is raised
    start, end = timeline
    how: dict[str, Any] = {}
    if ending == "cancelled":
        how = {"unasked": f"though nobody cancelled it, in line {handler.__code__.co_firstlineno + 2}", "own": True}
        text = f"cancelled {how['unasked']}"
    assert start.data == {
        "handler": "handler",
        "stack": "aiohttp",
        "library": "aiohttp 3.14",
        "given": "int",
        "call": 1,
    }
    assert (end.kind, end.text) == ("end", text)
    assert end.data == {
        "ending": ending,
        "exception": exception,
        "close_code": None,
        "loss": False,
        "induced": False,
        "call": 1,
        "waits": 0,
        **how,
    }
    assert host.calls == []


async def test_an_exit_ends_the_librarys_task_by_a_cancel() -> None:
    """It would end the process; the lab says so, and the experiment goes on."""
    timeline = Timeline()

    async def handler(argument: Any) -> None:
        raise SystemExit(3)

    host = Host(handler, timeline, stack="aiohttp", library="aiohttp 3.14")
    with pytest.raises(asyncio.CancelledError):
        await host.call(3)
    [complaint] = timeline.select("loop", "exception")
    assert complaint.text == "SystemExit in a handler, which ends the server's process outside the lab"
    assert complaint.data["exception"] == "SystemExit: 3"
    assert [event.text for event in timeline.select("handler", "end")] == ["raised SystemExit: 3"]


async def test_an_interrupt_in_a_handler_interrupts_who_hosts_it() -> None:
    """By a cancel, which closes everything on its way; the loop goes on."""
    tasks: list[asyncio.Task[Any]] = []

    async def handler(argument: Any) -> None:
        raise KeyboardInterrupt

    async def hosts() -> None:
        host = Host(handler, Timeline(), stack="aiohttp", library="aiohttp 3.14")
        tasks.append(asyncio.create_task(host.call(3)))
        await asyncio.Event().wait()

    owner = asyncio.create_task(hosts())
    with pytest.raises(asyncio.CancelledError, match="KeyboardInterrupt in the handler"):
        await owner
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True]


async def test_of_a_call_that_is_over_nothing_is_kept() -> None:
    """What the handler raised is freed at once, and not at some garbage collection."""

    class Mine(Exception):
        pass

    async def handler(argument: Any) -> None:
        error = Mine()
        kept.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    kept: list[weakref.ref[Mine]] = []
    host = Host(handler, Timeline(), stack="aiohttp", library="aiohttp 3.14")
    gc.disable()
    try:
        with contextlib.suppress(Mine):
            await host.call(3)
        assert kept[0]() is None
    finally:
        gc.enable()


class Connection:
    """A connection of some library: its `receive` calls its own `close`, as aiohttp's does."""

    def __init__(self) -> None:
        self.close_code: int | None = None
        self.cleaned_up = False

    async def wait(self) -> None:
        """Wait for a message that never comes, and clean up after a cancel."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cleaned_up = True
            raise

    async def receive(self) -> str:
        """Close, and say so."""
        await self.close(code=1000)
        return "CLOSED"

    async def close(self, code: int = 1000) -> None:
        """Take a turn of the loop."""
        await asyncio.sleep(0)
        self.close_code = code


async def test_stand_ins_tell_of_what_the_handler_does_and_not_of_the_library() -> None:
    """The library's call of its own method is not the handler's; another task's is. At the end they are taken off."""
    timeline, connection = Timeline(), Connection()
    call = Call(timeline, 1, ConnectionError, "here")
    reads = Method(on_return=lambda call, result: call.record_notice(f"receive() gave {result}"))
    call.connect(connection, {"receive": reads, "close": Method(on_call=Call.closing)})
    assert await connection.receive() == "CLOSED"
    assert [event.kind for event in timeline] == ["notice"]
    assert timeline[0].data == {"how": "receive() gave CLOSED", "exception": None, "code": 1000}

    # A handler that receives in one task and closes in another does both itself.
    await asyncio.gather(connection.receive(), connection.close(4000))
    assert sorted(event.text for event in timeline) == ["close(4000)", "receive() gave CLOSED", "receive() gave CLOSED"]

    await connection.close()
    await connection.close("a code that is none")  # type: ignore[arg-type] # the library's to refuse
    assert [event.text for event in timeline.select("handler", "close")] == ["close(4000)", "close(1000)"]

    call.release()
    await connection.close()
    assert len(timeline) == 4


async def test_every_stand_in_is_taken_off() -> None:
    """Also those of a connection before the last, where a handler made two."""
    call, connections = Call(Timeline(), 1, ConnectionError, "here"), (Connection(), Connection())
    before = Connection.close
    for connection in connections:
        call.connect(connection, {"close": Method()})
        assert Connection.close is not before
    call.release()
    assert Connection.close is before
    assert [set(vars(connection)) for connection in connections] == [{"close_code", "cleaned_up"}] * 2


# What the lab does to a handler that runs


@contextlib.asynccontextmanager
async def hosted(handler: Callable[[Any], Any]) -> AsyncIterator[tuple[Host, asyncio.Task[Any], Connection]]:
    """A host that has called a handler, which waits; its task; and its connection, of which `wait` is watched."""
    host = Host(handler, Timeline(), stack="acme", library="acme 1.0")
    connection = Connection()
    task = asyncio.create_task(
        host.call(connection, prepare=lambda call: call.connect(connection, {"wait": Method()})), name="library"
    )
    while not host.calls:  # noqa: ASYNC110 - it begins in the loop's next turns
        await asyncio.sleep(0)
    await host.calls[0].waits.wait()
    yield host, task, connection
    task.cancel()
    await asyncio.wait([task])


async def forever(_: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("where", [forever, Connection.wait], ids=["a bare await", "a method of the connection"])
async def test_an_error_of_the_fault_is_raised_where_the_handler_waits(where: Callable[[Any], Any]) -> None:
    """Once, and nobody has cancelled; a library's method cleans up after what it takes for a cancel."""
    lived: list[object] = []

    async def handler(connection: Connection) -> None:
        try:
            await (connection.wait() if where is Connection.wait else forever(None))
        except ValueError as error:
            lived.extend([str(error), error.__suppress_context__, asyncio.current_task().cancelling()])  # type: ignore[union-attr]
        try:
            await forever(None)
        except asyncio.CancelledError:
            lived.append("cancelled")

    async with hosted(handler) as (host, task, connection):
        host.throw(ValueError("no"))
        for _ in range(3):
            await asyncio.sleep(0)
        inside = where is Connection.wait
        assert lived == ["no", inside, 0]
        assert connection.cleaned_up is inside
        task.cancel()
        await asyncio.wait([task])
        assert lived[3:] == ["cancelled"]
        told = [(event.kind, event.text) for event in host.timeline if event.kind not in ("start", "swallowed")]
        by = "test_an_error_of_the_fault_is_raised_where_the_handler_waits (tests)"
        assert told == [
            ("error", "the fault raises ValueError: no"),
            ("cancelled", f"cancelled by {by}"),
            ("end", "returned"),
        ]


async def test_a_cancel_by_the_fault_is_over_when_the_handler_waits_again() -> None:
    """It is the lab's; the next one, by somebody else, is theirs."""
    lived: list[str] = []

    async def handler(connection: Connection) -> None:
        for _ in range(2):
            try:
                await forever(None)
            except asyncio.CancelledError:
                lived.append("swallowed")
        await forever(None)

    async with hosted(handler) as (host, task, _):
        await host.cancel("the fault")
        assert lived == ["swallowed"]
        task.cancel()
        asyncio.get_running_loop().call_soon(operator.methodcaller("cancel"), task)
        await asyncio.wait([task])
        who = "test_a_cancel_by_the_fault_is_over_when_the_handler_waits_again"
        assert [(event.text, event.data["package"]) for event in host.timeline.select("handler", "cancelled")] == [
            ("cancelled by the fault", "labkit"),
            (f"cancelled by {who} (tests)", "tests"),
            ("cancelled by a callback (asyncio)", "asyncio"),
        ]


@pytest.mark.parametrize("waits", [True, False], ids=["where it waits", "where it only yields"])
async def test_two_cancels_that_come_to_the_handler_as_one_are_both_named(*, waits: bool) -> None:
    """It gets one exception for both; which of the two words it reads in it depends on where it stands."""
    got: list[str] = []

    async def handler(connection: Connection) -> None:
        try:
            if waits:
                await forever(None)
            while True:  # noqa: ASYNC110 - it shall not wait for anything
                await asyncio.sleep(0)
        except asyncio.CancelledError as cancel:
            got.append(str(cancel))
            raise

    def kicks(task: asyncio.Task[Any]) -> None:
        task.cancel("kicked")

    def shuts_down(task: asyncio.Task[Any]) -> None:
        task.cancel("closing")

    async with hosted(handler) as (host, task, _):
        kicks(task)
        shuts_down(task)
        await asyncio.wait([task])
        here = "test_two_cancels_that_come_to_the_handler_as_one_are_both_named"
        assert [(event.by, event.again) for event in host.timeline.all(HandlerCancelled)] == [
            (f"{here}.kicks (tests)", False),
            (f"{here}.shuts_down (tests)", True),
        ]
        assert got == ["kicked" if waits else "closing"]
        both = f"cancelled by {here}.kicks (tests) and, before that came to it, by {here}.shuts_down (tests)"
        assert f"was {both};" in judge(host.timeline).sentence


async def test_a_cancel_by_the_fault_is_over_when_the_handler_has_ended() -> None:
    """Where it ends at once, there is nothing to wait for."""
    async with hosted(forever) as (host, task, _):
        await host.cancel("the fault")
        assert host.calls == []
        await asyncio.wait([task])
        assert task.cancelled()


@pytest.mark.parametrize(("swallows", "leaked"), [(1, []), (100, ["handler 'handler', which swallowed 2 cancels"])])
async def test_a_handler_is_stopped_whatever_it_swallows(
    swallows: int, leaked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cancel may be swallowed; after two the handler is told as left behind, and closed where it stands."""
    monkeypatch.setattr(sys.modules[Host.__module__], "_WAIT", 0.02)

    async def handler(connection: Connection) -> None:
        for _ in range(swallows):
            with contextlib.suppress(asyncio.CancelledError):
                await forever(None)
        await forever(None)

    async with hosted(handler) as (host, task, _):
        await host.stop()
        assert host.calls == []
        assert task.done()
        left = host.timeline.select("loop", "leaked")
        assert [event.text for event in left] == leaked
        assert [(event.data["name"], event.data["stubborn"]) for event in left] == [("handler", True)] * len(leaked)
        by = {(event.data["by"], event.data["package"]) for event in host.timeline.select("handler", "cancelled")}
        assert by == {("the lab", "labkit")}


async def test_a_handler_that_cleans_up_is_waited_for_no_longer_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the lab would wait; and who cancels it meanwhile is told as who it is."""
    monkeypatch.setattr(sys.modules[Host.__module__], "_WAIT", 60)

    async def handler(connection: Connection) -> None:
        try:
            await forever(None)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await forever(None)

    async with hosted(handler) as (host, task, _):
        async with asyncio.timeout(scaled(5)):
            await host.stop()
        assert task.cancelled()
        by = [(event.data["by"], event.data["package"]) for event in host.timeline.select("handler", "cancelled")]
        assert by == [("the lab", "labkit"), ("Timeout._on_timeout (asyncio)", "asyncio")]


async def test_the_methods_in_which_a_handler_is_are_known() -> None:
    """Of each of its connections, and in each of its tasks, as long as it is in them."""
    call, connections = Call(Timeline(), 1, ConnectionError, "here"), (Connection(), Connection())
    for connection in connections:
        call.connect(connection, {"wait": Method(), "close": Method()})
    waiting = [asyncio.create_task(connection.wait()) for connection in connections]
    closing = asyncio.create_task(connections[1].close())
    await asyncio.sleep(0)
    assert call.inside == ["wait()", "wait()", "close()"]
    await closing
    assert call.inside == ["wait()", "wait()"]
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert call.inside == []


async def test_it_is_settled_when_the_library_has_dealt_with_the_end() -> None:
    """What it does in the handler's task, and in a task that waited for it; who asks is not waited for."""
    did: list[str] = []
    host = Host(asyncio.sleep, Timeline(), stack="acme", library="acme 1.0")

    async def handler_task() -> None:
        await host.call(0)
        await asyncio.sleep(0.01)
        did.append("the handler's task")

    async def connection_task() -> None:
        await asyncio.create_task(handler_task())
        for _ in range(2):
            await asyncio.sleep(0)
        did.append("the connection's task")

    task = asyncio.create_task(connection_task())
    while not host.calls:  # noqa: ASYNC110 - it begins in the loop's next turns
        await asyncio.sleep(0)
    await host.aftermath.settled(60)
    assert did == ["the handler's task", "the connection's task"]
    await task

    async with asyncio.timeout(scaled(5)):
        await host.call(0)
        await host.aftermath.settled(60)
    assert [event.data["call"] for event in host.timeline.select("handler", "start")] == [1, 2]


async def test_a_group_that_a_handler_raises_is_named_member_by_member() -> None:
    """A TaskGroup says only how many failed; which loss it was is in the verdict and in the sentence."""

    async def grouped(websocket: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(websocket.recv())
            group.create_task(asyncio.sleep(60))

    run = await labkit.play(grouped, on="websockets", fault="reset", messages=())
    assert run.verdict.exception is not None
    assert "[websockets.exceptions.ConnectionClosedError: no close frame received or sent]" in run.verdict.exception
    assert "[ConnectionClosedError: no close frame received or sent]" in run.verdict.sentence
    assert run.verdict.noticed == "yes"
