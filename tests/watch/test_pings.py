"""A ping of the handler's own that is not answered is how it notices; where that cannot be seen, it is unknown."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import WSMsgType, web

import labkit
from labkit.events import HandlerNotice
from labkit.watch.pings import OwnPings

ROOT = Path(__file__).parents[2]

# --- a limit for the pong --------------------------------------------------------------------------------------------


async def by_wait_for(websocket: Any) -> None:
    await asyncio.wait_for(await websocket.ping(), 0.1)


async def by_wait_for_of_a_task(websocket: Any) -> None:
    async def ping() -> None:
        await (await websocket.ping())

    await asyncio.wait_for(ping(), 0.1)


async def by_timeout(websocket: Any) -> None:
    async with asyncio.timeout(0.1):
        await (await websocket.ping())


async def by_anyio(websocket: Any) -> None:
    with anyio.fail_after(0.1):
        await (await websocket.ping())


async def by_wait(websocket: Any) -> None:
    _, pending = await asyncio.wait([await websocket.ping()], timeout=0.1)
    if pending:
        raise TimeoutError


async def by_gather(websocket: Any) -> None:
    await asyncio.wait_for(asyncio.gather(await websocket.ping(), await websocket.ping()), 0.1)


@pytest.mark.parametrize(
    "ping",
    [by_wait_for, by_wait_for_of_a_task, by_timeout, by_anyio, by_wait, by_gather],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("beside", ["alone", "TaskGroup", "anyio", "task"])
async def test_a_ping_of_its_own_that_is_not_answered_is_how_it_notices(ping: Any, beside: str) -> None:
    """Whatever sets the limit, and whether the handler pings or a task of its own does."""

    async def pings(websocket: Any) -> None:
        while True:
            await ping(websocket)
            await asyncio.sleep(0.02)

    async def reads(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    async def handler(websocket: Any) -> None:
        match beside:
            case "alone":
                await pings(websocket)
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    group.create_task(pings(websocket))
                    await reads(websocket)
            case "anyio":
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(pings, websocket)
                    await reads(websocket)
            case "task":
                reader = asyncio.create_task(reads(websocket))
                pinger = asyncio.create_task(pings(websocket))
                await asyncio.wait([reader, pinger], return_when=asyncio.FIRST_COMPLETED)
                reader.cancel()
                pinger.exception()

    run = await labkit.play(handler, on="websockets", fault="blackhole", messages=())
    assert run.verdict.noticed == "yes", run
    assert run.timeline.all(HandlerNotice)[0].text == "its own ping was not answered"


async def test_on_aiohttp_the_pong_is_a_message_that_does_not_come() -> None:
    """A handler that takes the pongs itself pings, and reads under a limit."""

    async def handler(request: web.Request, *, by_wait_for: bool) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        with contextlib.suppress(TimeoutError):
            while True:
                await ws.ping()
                pong = await (asyncio.wait_for(ws.receive(), 0.1) if by_wait_for else ws.receive(timeout=0.1))
                assert pong.type is WSMsgType.PONG
                await asyncio.sleep(0.02)
        return ws

    for by_wait_for in (True, False):

        async def bound(request: web.Request, by_wait_for: bool = by_wait_for) -> web.WebSocketResponse:
            return await handler(request, by_wait_for=by_wait_for)

        run = await labkit.play(bound, on="aiohttp", fault="blackhole", messages=())
        assert (run.verdict.noticed, run.verdict.ending) == ("yes", "returned"), run


async def test_a_limit_without_a_ping_is_no_more_than_a_limit() -> None:
    """The same handler, which does not ping, or whose ping was answered."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        await ws.ping()
        assert (await ws.receive()).type is WSMsgType.PONG
        message = await ws.receive()
        await ws.send_str(message.data)
        with contextlib.suppress(TimeoutError):
            await ws.receive(timeout=0.4)
        return ws

    run = await labkit.play(handler, on="aiohttp", fault="blackhole")
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "no"), run


# --- what ends the waiting, and is no limit for the pong -------------------------------------------------------------


async def test_its_own_timer_says_nothing_about_the_ping() -> None:
    """The timer would have cancelled it with a pong, too."""

    async def waits(websocket: Any) -> None:
        me = asyncio.current_task()
        assert me is not None
        asyncio.get_running_loop().call_later(0.1, me.cancel)
        await (await websocket.ping())
        await asyncio.sleep(60)

    run = await labkit.play(waits, on="websockets", fault="blackhole", messages=())
    assert run.verdict.noticed == "no", run
    assert "cancelled by a timer (asyncio)" in run.verdict.sentence


async def reads_with_timeout(websocket: Any) -> None:
    async with asyncio.timeout(0.2):
        await websocket.recv()


async def reads_with_wait_for(websocket: Any) -> None:
    await asyncio.wait_for(websocket.recv(), 0.2)


async def reads_with_anyio(websocket: Any) -> None:
    with anyio.fail_after(0.2):
        await websocket.recv()


@pytest.mark.parametrize(
    "reads",
    [reads_with_timeout, reads_with_wait_for, reads_with_anyio],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("patient", [True, False], ids=["with a long limit", "without a limit"])
@pytest.mark.parametrize("beside", ["task", "TaskGroup", "anyio"])
async def test_a_limit_for_something_else_that_ends_the_pinger_too(reads: Any, patient: bool, beside: str) -> None:
    """The handler ends since no message came; that its ping is unanswered has not told it anything yet."""

    async def pings(websocket: Any) -> None:
        while True:
            pong = await websocket.ping()
            await (asyncio.wait_for(pong, 60) if patient else pong)
            await asyncio.sleep(0.02)

    async def handler(websocket: Any) -> None:
        match beside:
            case "task":
                pinger = asyncio.create_task(pings(websocket))
                try:
                    await reads(websocket)
                finally:
                    pinger.cancel()
                    await asyncio.wait([pinger])
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    group.create_task(pings(websocket))
                    group.create_task(reads(websocket))
            case "anyio":
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(pings, websocket)
                    await reads(websocket)

    run = await labkit.play(handler, on="websockets", fault="blackhole", messages=())
    assert (run.verdict.ending, run.verdict.noticed) == ("raised", "no"), run


async def test_a_limit_for_all_that_the_handler_does_is_no_limit_for_its_ping() -> None:
    """A whole group is given up, the pinger with it."""

    async def handler(websocket: Any) -> None:
        async def pings() -> None:
            while True:
                await (await websocket.ping())
                await asyncio.sleep(0.02)

        with anyio.move_on_after(0.2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pings)
                await websocket.recv()

    run = await labkit.play(handler, on="websockets", fault="blackhole", messages=())
    assert run.verdict.noticed == "no", run


async def test_a_pinger_that_outlives_its_handler_tells_it_nothing() -> None:
    """The handler has returned before the limit of the pong."""

    async def handler(websocket: Any) -> None:
        async def pings() -> None:
            with contextlib.suppress(TimeoutError):
                while True:
                    await asyncio.wait_for(await websocket.ping(), 0.3)
                    await asyncio.sleep(0.01)

        pinger = asyncio.create_task(pings())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(websocket.recv(), 0.1)
        labkit.note(pinger.get_name())

    run = await labkit.play(handler, on="websockets", fault="blackhole", messages=())
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "no"), run


# --- what cannot be seen ---------------------------------------------------------------------------------------------


async def by_looking(websocket: Any) -> bool:
    pong = await websocket.ping()
    await asyncio.sleep(0.1)
    return bool(pong.done())


async def by_shield(websocket: Any) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(await websocket.ping()), 0.1)
        return True
    return False


async def by_event(websocket: Any) -> bool:
    answered, pong = asyncio.Event(), await websocket.ping()
    pong.add_done_callback(lambda _: answered.set())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(answered.wait(), 0.1)
    return answered.is_set()


async def by_task(websocket: Any) -> bool:
    async def ping() -> None:
        await (await websocket.ping())

    _, pending = await asyncio.wait([asyncio.create_task(ping())], timeout=0.1)
    for each in pending:
        each.cancel()
    return not pending


@pytest.mark.parametrize("answered", [by_looking, by_shield, by_event, by_task])
async def test_whether_it_acted_on_a_ping_without_an_answer_is_unknown(answered: Any) -> None:
    """The ping is unanswered, the handler may know, and it ends; why it does so stands only in its code."""

    async def handler(websocket: Any) -> None:
        while await answered(websocket):
            labkit.note("answered")

    run = await labkit.play(handler, on="websockets", fault="blackhole", messages=())
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "unknown"), run


@pytest.mark.parametrize("answered", [by_looking, by_shield, by_event, by_task])
async def test_pings_that_were_answered_leave_no_doubt(answered: Any) -> None:
    """It has looked, and all was well; then it ends by itself."""

    async def handler(websocket: Any) -> None:
        message = await websocket.recv()
        for _ in range(3):
            assert await answered(websocket)
        await websocket.send(message)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(websocket.recv(), 0.5)

    run = await labkit.play(handler, on="websockets", fault="blackhole")
    assert (run.verdict.ending, run.verdict.noticed) == ("returned", "no"), run


# --- a pong is the library's own future ------------------------------------------------------------------------------


async def test_an_answered_ping_wakes_the_handler_as_without_the_lab() -> None:
    """The pong's future gives the latency, to every way of waiting."""
    latencies: list[float] = []

    async def pings(websocket: Any) -> None:
        latencies.append(await (await websocket.ping()))
        latencies.append(await asyncio.wait_for(await websocket.ping(), 5))
        latencies.append(await asyncio.shield(await websocket.ping()))
        latencies.extend(await asyncio.gather(await websocket.ping()))
        done, _ = await asyncio.wait([await websocket.ping()])
        latencies.extend(pong.result() for pong in done)

    run = await labkit.play(pings, on="websockets", fault=None, messages=())
    assert run.verdict.ending == "returned", run
    assert len(latencies) == 5
    assert all(0 < latency < 5 for latency in latencies)


async def test_what_a_pong_is_asked_it_asks_the_librarys() -> None:
    """Its result, its exception, its cancel with the words of it, its callbacks in the context that is given."""
    told: list[str] = []
    pings = OwnPings(lambda: pytest.fail("no limit of time ended the waiting"), lambda: 0)

    def report(exception: BaseException | None) -> None:
        told.append(repr(exception))

    loop, word = asyncio.get_running_loop(), contextvars.ContextVar("word", default="none")
    own, failed, lost = loop.create_future(), loop.create_future(), loop.create_future()
    stood_in, other, third = (pings.observe(future, report) for future in (own, failed, lost))

    called: list[str] = []
    context = contextvars.copy_context()
    context.run(word.set, "given")
    stood_in.add_done_callback(lambda _: called.append(word.get()), context=context)
    stood_in.add_done_callback(called.append)
    assert stood_in.remove_done_callback(called.append) == 1
    assert stood_in.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await own
    assert stood_in.cancelled()
    await asyncio.sleep(0)  # callbacks have a turn of their own
    assert called == ["given"]

    other.set_exception(ValueError("no loss"))
    assert str(failed.exception()) == str(other.exception()) == "no loss"
    lost.set_exception(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        third.result()
    assert told == ["ValueError('no loss')", "ConnectionResetError()"]

    done = pings.observe(loop.create_future(), report)
    done.set_result(3)
    assert await done == 3


#: Plays some of the above where Python's own tasks and futures, and not those in C, run the loop.
NESTED = """
import asyncio
import labkit
from tests.watch import test_pings as pings

async def main():
    labkit.run(asyncio.sleep(0))  # inside of a loop, this applies nest-asyncio
    for ping in (pings.by_wait_for_of_a_task, pings.by_timeout, pings.by_anyio):
        await pings.test_a_ping_of_its_own_that_is_not_answered_is_how_it_notices(ping, "alone")
    await pings.test_pings_that_were_answered_leave_no_doubt(pings.by_event)

asyncio.run(main())
"""


def test_where_nest_asyncio_is_applied_the_same_is_found() -> None:
    """In a process of its own, since that has no way back."""
    done = subprocess.run([sys.executable, "-c", NESTED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
