"""The loop whose time jumps: to the next timer, and only when nothing else can happen."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from labkit.support.autojump import REAL, AutojumpLoop, clock_of
from labkit.support.clock import scaled, timeout

pytestmark = pytest.mark.skipif(AutojumpLoop.impossible is not None, reason=str(AutojumpLoop.impossible))

#: Seconds of the loop's time that nothing here takes on the real clock; if the time jumps too early, it comes to this.
FAR = 1000.0


def play(main: Callable[[AutojumpLoop], Awaitable[Any]]) -> tuple[Any, AutojumpLoop]:
    """Run a coroutine function in such a loop; return its result and the loop."""
    loop = AutojumpLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop)), loop  # type: ignore[arg-type]


def test_a_sleep_takes_no_time() -> None:
    """An hour passes for the loop at once, to the millisecond, in one jump."""

    async def main(loop: AutojumpLoop) -> float:
        began = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - began

    began = time.monotonic()
    slept, loop = play(main)
    assert slept == pytest.approx(3600, abs=scaled(1))
    assert time.monotonic() - began < scaled(10)
    assert loop.clock.jumps == 1


def test_timers_fire_in_their_order_each_at_its_time() -> None:
    """No jump passes over a timer."""

    async def main(loop: AutojumpLoop) -> list[tuple[int, int]]:
        began, fired = loop.time(), []
        done = asyncio.Event()
        for due in (300, 20, 7, 40):
            loop.call_later(due, lambda due=due: fired.append((due, round(loop.time() - began))))
        loop.call_later(301, done.set)
        await done.wait()
        return fired

    fired, _ = play(main)
    assert fired == [(due, due) for due in (7, 20, 40, 300)]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_what_is_on_its_way_between_sockets_comes_before_any_timer() -> None:
    """A thousand answers, and a megabyte: no limit is over before they have come."""

    async def main(loop: AutojumpLoop) -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server, asyncio.timeout(FAR):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(1000):
                writer.write(b"x")
                await reader.readexactly(1)
            writer.write(b"x" * 1_000_000)
            await reader.readexactly(1_000_000)
            writer.close()
            await reader.read()

    _, loop = play(main)
    assert loop.clock.jumps == 0


def test_a_peer_that_does_not_read_holds_the_time_for_a_moment_only() -> None:
    """The buffers are full, and nothing moves: then the time jumps, as for any other silence."""

    async def main(loop: AutojumpLoop) -> float:
        over = asyncio.Event()

        async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.transport.abort()

        async with await asyncio.start_server(never_reads, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            began = loop.time()
            writer.write(b"x" * 10_000_000)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), FAR)
            took = loop.time() - began
            over.set()
            writer.transport.abort()
            await asyncio.sleep(0.1)
        return took

    took, _ = play(main)
    assert took == pytest.approx(FAR, abs=scaled(10))


def test_a_thread_holds_the_time() -> None:
    """What it does takes real time, so no limit jumps ahead of it."""

    async def main(loop: AutojumpLoop) -> str:
        async with asyncio.timeout(FAR):
            return await asyncio.to_thread(lambda: time.sleep(0.05) or "done")

    result, loop = play(main)
    assert result == "done"
    assert loop.clock.skipped < FAR
    assert loop.clock.held["a thread"] > 0


def test_the_threads_of_its_executor_end_in_their_own_time() -> None:
    """Python waits five minutes for them at most, since 3.12; those are no time that jumps."""
    loop = AutojumpLoop()

    async def main() -> float:
        began = loop.time()
        loop.run_in_executor(None, time.sleep, 0.05).cancel()  # its thread goes on
        async with asyncio.timeout(300):
            await loop.shutdown_default_executor()
        return loop.time() - began

    try:
        assert loop.run_until_complete(main()) < 200
    finally:
        loop.close()


def test_a_connection_to_somebody_else_holds_the_time() -> None:
    """A server of another thread, or another program, answers when it can."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                time.sleep(0.05)
                connection.sendall(b"answer")

        async def main(loop: AutojumpLoop) -> bytes:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"?")
            async with asyncio.timeout(FAR):
                found = await reader.readexactly(6)
            writer.close()
            return found

        thread = threading.Thread(target=answer)
        thread.start()
        found, loop = play(main)
        thread.join()
    assert found == b"answer"
    assert loop.clock.held["a connection to something outside"] > 0


def test_a_child_process_holds_the_time() -> None:
    """Its pipes lead outside of the loop; and when they are closed, it may take a while to end."""

    async def main(loop: AutojumpLoop) -> bytes:
        async with asyncio.timeout(FAR):
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "import time; time.sleep(0.05); print('hello')"), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await child.communicate()
        return out

    out, _ = play(main)
    assert out.strip() == b"hello"


def test_another_thread_can_wake_it() -> None:
    """A call from outside is taken whenever it comes, while no timer is set too."""

    async def main(loop: AutojumpLoop) -> None:
        called = asyncio.Event()
        threading.Timer(0.05, lambda: loop.call_soon_threadsafe(called.set)).start()
        await called.wait()

    _, loop = play(main)
    assert loop.clock.jumps == 0


@pytest.mark.parametrize("seconds", [0.25, 40.0])
def test_a_limit_of_the_labs_is_one_jump(seconds: float) -> None:
    """On the real clock it is counted in forty steps."""

    async def main(loop: AutojumpLoop) -> float:
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with timeout(seconds):
                await asyncio.Event().wait()
        return loop.time() - began

    took, loop = play(main)
    assert took == pytest.approx(seconds, abs=scaled(1))
    assert loop.clock.jumps == 1


def test_such_a_limit_is_not_over_while_there_is_something_to_do() -> None:
    """The loop was busy beyond it; what is due has its turns first, as on the real clock."""

    async def main(loop: AutojumpLoop) -> int:
        turns = 0
        async with timeout(0.01):
            loop.call_soon(time.sleep, 0.05)
            for turns in range(20):  # noqa: B007 - returned
                await asyncio.sleep(0)
        return turns

    turns, _ = play(main)
    assert turns == 19


def test_rest_comes_before_a_jump_and_once() -> None:
    """Who waits for it sees all that the last timer has brought about, at the time of that timer."""

    async def main(loop: AutojumpLoop) -> list[tuple[str, int]]:
        began, seen = loop.time(), []
        loop.call_later(10, lambda: seen.append(("timer", round(loop.time() - began))))
        for _ in range(3):
            await asyncio.wait([loop.clock.rest()], timeout=15)
            seen.append(("rest", round(loop.time() - began)))
        return seen

    seen, _ = play(main)
    assert seen == [("rest", 0), ("timer", 10), ("rest", 10), ("rest", 25)]  # the last one is its own limit


async def test_other_loops_have_the_real_clock() -> None:
    """So do code without a loop and loops of other kinds."""
    assert clock_of(asyncio.get_running_loop()) is clock_of(None) is REAL
    assert REAL.skipped == 0.0
