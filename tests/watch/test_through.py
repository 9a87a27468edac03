"""When a conversation is through: each kind of handler by its own cause, and never by the clock."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.events import ClientRecv, HandlerStart, WireFault, WireSpared
from labkit.experiment.run import Run
from labkit.support.clock import scaled
from tests.handlers import STACKS

Send = Callable[[str], Awaitable[None]]


async def enter(given: Any) -> tuple[Any, Send, AsyncIterator[str]]:
    """Open the connection, how to send, and the messages; the same for both libraries."""
    if not isinstance(given, web.Request):
        return given, given.send, aiter(given)
    ws = web.WebSocketResponse()
    await ws.prepare(given)

    async def texts() -> AsyncIterator[str]:
        async for message in ws:
            yield message.data

    return ws, ws.send_str, texts()


async def greets(given: Any) -> Any:
    """It speaks first."""
    ws, send, messages = await enter(given)
    await asyncio.sleep(0.001)
    await send("welcome")
    async for message in messages:
        await asyncio.sleep(0.05)
        await send(message)
    return ws


async def reads_in_a_task(given: Any) -> Any:
    """It waits for what another task reads, and then answers by itself."""
    ws, send, messages = await enter(given)

    async def read() -> str | None:
        return await anext(messages, None)

    while True:
        reading = asyncio.ensure_future(read())
        await asyncio.wait({reading})
        if (message := reading.result()) is None:
            return ws
        await send(message)


async def takes_its_time(given: Any) -> Any:
    """Its answer comes after more than a second."""
    ws, send, messages = await enter(given)
    async for message in messages:
        await asyncio.sleep(1.1)
        await send(message)
    return ws


async def reads_only(given: Any) -> Any:
    ws, _, messages = await enter(given)
    async for _ in messages:
        pass
    return ws


async def sends_in_parts(given: Any) -> Any:
    """Several messages for one."""
    ws, send, messages = await enter(given)
    async for message in messages:
        for number in range(3):
            await send(f"part {number}")
            await asyncio.sleep(0.02)
        await send(message)
    return ws


async def has_a_writer(given: Any) -> Any:
    """One task reads, another one answers, when it has worked for a while."""
    ws, send, messages = await enter(given)
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def write() -> None:
        while True:
            message = await queue.get()
            await asyncio.sleep(0.05)
            await send(message)

    writer = asyncio.create_task(write())
    try:
        async for message in messages:
            await queue.put(message)
    finally:
        writer.cancel()
    return ws


async def starts_tasks(given: Any) -> Any:
    """Each message is answered by a task of its own."""
    ws, send, messages = await enter(given)

    async def answer(message: str) -> None:
        await asyncio.sleep(0.05)
        await send(message)

    async with asyncio.TaskGroup() as group:
        async for message in messages:
            group.create_task(answer(message))
    return ws


async def asks_a_thread(given: Any) -> Any:
    """It waits for its thread."""
    ws, send, messages = await enter(given)

    def work(message: str) -> str:
        time.sleep(0.1)
        return message

    async for message in messages:
        await send(await asyncio.to_thread(work, message))
    return ws


async def leaves_it_to_a_thread(given: Any) -> Any:
    """It does not wait for its thread, which sends the answer by itself."""
    ws, send, messages = await enter(given)
    loop = asyncio.get_running_loop()

    def work(message: str) -> None:
        time.sleep(0.1)
        asyncio.run_coroutine_threadsafe(send(message), loop)  # type: ignore[arg-type]

    async for message in messages:
        threading.Thread(target=work, args=(message,)).start()
    return ws


async def leaves_it_to_a_pool(given: Any) -> Any:
    """The same with the loop's own pool of threads."""
    ws, send, messages = await enter(given)
    loop = asyncio.get_running_loop()

    def work(message: str) -> None:
        time.sleep(0.1)
        asyncio.run_coroutine_threadsafe(send(message), loop)  # type: ignore[arg-type]

    async for message in messages:
        loop.run_in_executor(None, work, message)
    return ws


async def hands_it_to_a_thread(given: Any) -> Any:
    """One that was there before, and waits for what a queue has for it."""
    ws, send, messages = await enter(given)
    loop, jobs = asyncio.get_running_loop(), queue.Queue[str | None]()

    def work() -> None:
        while (message := jobs.get()) is not None:
            time.sleep(0.1)
            asyncio.run_coroutine_threadsafe(send(message), loop)  # type: ignore[arg-type]

    thread = threading.Thread(target=work)
    thread.start()
    try:
        async for message in messages:
            jobs.put(message)
    finally:
        jobs.put(None)
        thread.join()
    return ws


async def leaves_it_to_a_timer(given: Any) -> Any:
    """Nothing but a timer of the loop knows of the answer."""
    ws, send, messages = await enter(given)
    loop, tasks = asyncio.get_running_loop(), set()

    def answer(message: str) -> None:
        tasks.add(asyncio.ensure_future(send(message)))

    async for message in messages:
        loop.call_later(0.1, answer, message)
    return ws


async def has_a_timer_fill_a_queue(given: Any) -> Any:
    """The timer calls a method of asyncio's own, and that wakes the task that answers."""
    ws, send, messages = await enter(given)
    box: asyncio.Queue[str] = asyncio.Queue()

    async def answer() -> None:
        while True:
            await send(await box.get())

    answering = asyncio.create_task(answer())
    try:
        async for message in messages:
            asyncio.get_running_loop().call_later(0.1, box.put_nowait, message)
    finally:
        answering.cancel()
    return ws


async def looks_for_mail(given: Any) -> Any:
    """A second task looks from time to time whether there is something to send."""
    ws, send, messages = await enter(given)
    box: list[str] = []

    async def look() -> None:
        while True:
            while box:
                await send(box.pop(0))
            await asyncio.sleep(0.05)

    looker = asyncio.create_task(look())
    try:
        async for message in messages:
            box.append(message)  # noqa: PERF401 - as people write it
    finally:
        looker.cancel()
    return ws


async def asks_upstream(given: Any) -> Any:
    """It passes messages on to another server, as a proxy does, and answers what comes back."""
    ws, send, messages = await enter(given)

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(0.05)
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

    async def back() -> None:
        while line := await reader.readline():
            await send(line.decode().strip())

    backwards = asyncio.create_task(back())
    try:
        async for message in messages:
            writer.write(message.encode() + b"\n")
    finally:
        writer.close()
        server.close()
        await backwards
    return ws


async def gives_up_waiting(given: Any) -> Any:
    """It waits for an event that nobody sets, and answers when its own limit is over."""
    ws, send, messages = await enter(given)
    async for _ in messages:
        try:
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()
        except TimeoutError:
            await send("hello")
    return ws


def before_the_fault(run: Run) -> list[str]:
    """What the client had received when the fault struck."""
    fault = run.timeline.first(WireFault)
    assert fault is not None, run.verdict.sentence
    return [event.text for event in run.timeline.all(ClientRecv) if event.at <= fault.at]


def struck_after(run: Run) -> float:
    """Seconds from the handler's start to the fault."""
    start, fault = run.timeline.first(HandlerStart), run.timeline.first(WireFault)
    assert start is not None
    assert fault is not None, run.verdict.sentence
    return fault.at - start.at


ANSWERS = (
    greets,
    reads_in_a_task,
    takes_its_time,
    sends_in_parts,
    has_a_writer,
    starts_tasks,
    asks_a_thread,
    leaves_it_to_a_thread,
    leaves_it_to_a_pool,
    hands_it_to_a_thread,
    leaves_it_to_a_timer,
    has_a_timer_fill_a_queue,
    looks_for_mail,
    asks_upstream,
    gives_up_waiting,
)


@pytest.mark.parametrize("on", STACKS)
@pytest.mark.parametrize("handler", ANSWERS)
async def test_the_answer_is_waited_for(handler: Any, on: str) -> None:
    """However it comes, and however long it takes; what comes before it is not taken for it."""
    run = await labkit.play(handler, on=on, fault="reset")
    assert before_the_fault(run)[-1] == "'hello'"
    assert run.timeline.all(WireFault)[0].unknown is None


@pytest.mark.parametrize("on", STACKS)
@pytest.mark.parametrize("handler", ANSWERS)
async def test_each_message_waits_for_the_answer_to_the_last(handler: Any, on: str) -> None:
    """Of two messages the second is sent when the first has been answered."""
    if handler in {takes_its_time, gives_up_waiting}:
        pytest.skip("the same as the others, only slower")
    run = await labkit.play(handler, on=on, fault="reset", messages=("one", "two"))
    said = [event.text for event in run.timeline.select("client", "send", "recv") if event.text in {"'one'", "'two'"}]
    assert said == ["'one'", "'one'", "'two'", "'two'"]


@pytest.mark.parametrize("on", STACKS)
async def test_a_handler_that_reads_only_costs_no_wait(on: str) -> None:
    """It waits for the next message: that is cause enough, a hundred times in less than one fixed wait each."""
    run = await labkit.play(reads_only, on=on, fault="reset", messages=["hello"] * 100)
    assert len(run.timeline.select("handler", "recv")) == 100
    assert struck_after(run) < scaled(100 * 0.05)


@pytest.mark.parametrize("on", STACKS)
async def test_without_messages_the_greeting_still_arrives(on: str) -> None:
    """Then the handler waits for the first message."""
    run = await labkit.play(greets, on=on, fault="reset", messages=())
    assert before_the_fault(run) == ["'welcome'"]


@pytest.mark.parametrize("messages", [(), ("hello",)])
@pytest.mark.parametrize("on", STACKS)
async def test_a_handler_that_only_pushes_is_struck_when_it_has_come_round(on: str, messages: tuple[str, ...]) -> None:
    """It never reads: that shows when it is where it was, and has not read."""

    async def pushes(given: Any) -> Any:
        ws, send, _ = await enter(given)
        for _ in range(1000):
            await send("tick")
            await asyncio.sleep(0.05)
        return ws

    run = await labkit.play(pushes, on=on, fault="reset", messages=messages)
    assert run.timeline.all(WireFault)[0].unknown is None
    assert 2 <= len(before_the_fault(run)) <= 10
    assert run.timeline.select("client", "send") == [] if not messages else True


@pytest.mark.parametrize("messages", [(), ("hello",)])
async def test_a_handler_that_only_asks_for_the_state_is_struck_too(messages: tuple[str, ...]) -> None:
    """Nor does this one ever read."""
    from websockets.protocol import State

    async def polls(websocket: Any) -> None:
        while websocket.state is State.OPEN:  # noqa: ASYNC110 - as people write it
            await asyncio.sleep(0.05)

    run = await labkit.play(polls, on="websockets", fault="reset", messages=messages)
    assert struck_after(run) < scaled(1.0)
    assert run.verdict.ending == "returned"


@pytest.mark.parametrize("on", STACKS)
async def test_tasks_of_their_own_are_not_waited_for_when_there_is_an_answer(on: str) -> None:
    """A tick, a heartbeat and a farewell that is due later have nothing to do with the message."""
    going: set[asyncio.Task[None]] = set()

    async def busy(given: Any) -> Any:
        ws, send, messages = await enter(given)

        async def tick() -> None:
            while True:
                await send("tick")
                await asyncio.sleep(0.02)

        async def beat() -> None:
            while True:
                await asyncio.sleep(20)
                await send("beat")

        async def kick() -> None:
            await asyncio.sleep(1.0)
            await ws.close(code=4001)

        going.update(map(asyncio.create_task, (tick(), beat(), kick())))
        try:
            async for message in messages:
                await send(message)
        finally:
            for task in going:
                task.cancel()
        return ws

    run = await labkit.play(busy, on=on, fault="reset")
    assert "'hello'" in before_the_fault(run)
    assert struck_after(run) < scaled(0.9)


@pytest.mark.parametrize("on", STACKS)
async def test_a_rare_heartbeat_does_not_hold_up_a_handler_that_only_reads(on: str) -> None:
    """It is due when the patience is long over."""

    async def beats(given: Any) -> Any:
        ws, send, messages = await enter(given)

        async def beat() -> None:
            while True:
                await asyncio.sleep(20)
                await send("beat")

        beating = asyncio.create_task(beat())
        try:
            async for _ in messages:
                pass
        finally:
            beating.cancel()
        return ws

    run = await labkit.play(beats, on=on, fault="reset")
    assert struck_after(run) < scaled(1.0)


@pytest.mark.parametrize(
    "wait",
    [lambda: asyncio.Event().wait(), lambda: asyncio.Queue().get(), asyncio.Future],
    ids=["event", "queue", "future"],
)
async def test_a_handler_whom_nobody_will_wake_is_struck_at_once(wait: Any) -> None:
    """It waits to be told something, and no task of its own can tell it."""

    async def hangs(websocket: Any) -> None:
        await wait()

    run = await labkit.play(hangs, on="websockets", fault="reset")
    assert struck_after(run) < scaled(1.0)
    assert run.timeline.all(WireFault)[0].unknown is None


@pytest.mark.parametrize("on", STACKS)
async def test_the_end_of_a_stream_is_unknown_and_the_verdict_says_so(on: str) -> None:
    """Nobody can know whether it goes on for ever: it is waited for as long as the patience lasts."""

    async def streams(given: Any) -> Any:
        ws, send, messages = await enter(given)
        await anext(messages)
        for _ in range(1000):
            await send("tick")
            await asyncio.sleep(0.02)
        return ws

    run = await labkit.play(streams, on=on, fault="reset", patience=0.3)
    assert struck_after(run) > scaled(0.25)
    assert "whether the conversation was through is unknown: " in run.verdict.sentence
    assert "streams() was busy at line " in run.verdict.sentence


async def test_what_was_waited_for_in_vain_is_not_waited_for_again() -> None:
    """Ten messages to a handler that never comes back cost the patience once, not ten times."""

    async def works(websocket: Any) -> None:
        async for _ in websocket:
            await asyncio.to_thread(never.wait)

    never = threading.Event()
    began = time.monotonic()
    try:
        run = await labkit.play(works, on="websockets", fault=None, patience=0.2, messages=["hello"] * 10)
    finally:
        never.set()
    assert len(run.timeline.select("client", "send")) == 10
    assert time.monotonic() - began < scaled(10 * 0.2)


async def test_a_handler_that_gives_others_their_turn_has_the_loop_to_itself() -> None:
    """Nobody looks at it at each turn: it tells when it waits for something, though nothing else tells that."""
    others = []

    async def spins(websocket: Any) -> None:
        await websocket.recv()
        for turn in range(200):
            others.append(len(asyncio.get_running_loop()._ready))  # type: ignore[attr-defined]
            await (asyncio.sleep(0) if turn < 199 else asyncio.Event().wait())  # no line is new that would tell it

    run = await labkit.play(spins, on="websockets", fault="reset", patience=2.0)
    assert run.timeline.first(WireFault) is not None
    assert "is unknown" not in run.verdict.sentence
    assert sum(others) < 100


@pytest.mark.parametrize("on", STACKS)
async def test_a_close_that_is_on_its_way_is_not_overtaken(on: str) -> None:
    """The answer and the handler's Close follow each other: twenty times of twenty the fault finds nothing to break."""

    async def answers_and_closes(given: Any) -> Any:
        ws, send, messages = await enter(given)
        await send(await anext(messages))
        await ws.close(code=4001)
        return ws

    runs = await asyncio.gather(*(labkit.play(answers_and_closes, on=on, fault="reset") for _ in range(20)))
    assert {run.timeline.first(WireFault) for run in runs} == {None}
    assert {run.timeline.all(WireSpared)[0].why for run in runs} == {"the handler had called close(4001)"}


@pytest.mark.parametrize("client", ["aiohttp", "websockets"])
@pytest.mark.parametrize("handler", [greets, has_a_writer, reads_only])
async def test_other_clients_too(handler: Any, client: str) -> None:
    """What counts is what the client has received, whoever it is."""
    run = await labkit.play(handler, on="websockets", fault="reset", client=client)
    assert before_the_fault(run)[-1:] == ([] if handler is reads_only else ["'hello'"])


@pytest.mark.parametrize("handler", [greets, has_a_writer, reads_only])
async def test_and_one_in_a_process_of_its_own(handler: Any) -> None:
    """It reports late what it has received, and is waited for."""
    run = await labkit.play(handler, on="aiohttp", fault="sigkill")
    assert before_the_fault(run)[-1:] == ([] if handler is reads_only else ["'hello'"])


@pytest.mark.parametrize("handler", [greets, has_a_writer, leaves_it_to_a_thread])
async def test_and_a_server_in_a_loop_of_its_own(handler: Any) -> None:
    """Its tasks are looked at in that loop."""
    run = await labkit.play(handler, on="websockets", fault=labkit.BlockedLoop(seconds=0.05))
    assert before_the_fault(run)[-1] == "'hello'"
