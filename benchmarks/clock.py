"""How long does an experiment take on the clock that jumps, beside the same on the real one?

python benchmarks/clock.py
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from handlers import HANDLERS, listen

import labkit
from labkit.support.autojump import AutojumpLoop

#: How often each is measured; what counts is the median.
TIMES = 9


async def with_heartbeat(request: web.Request) -> web.WebSocketResponse:
    """Aiohttp's heartbeat, as people set it."""
    ws = web.WebSocketResponse(heartbeat=30)
    await ws.prepare(request)
    async for message in ws:
        if message.type is web.WSMsgType.TEXT:
            await ws.send_str(message.data)
    return ws


#: What is played: what is usual in production, and far from what one waits for.
SETTINGS: dict[str, tuple[Any, str, Any, dict[str, Any]]] = {
    "websockets, blackhole, 20 s + 20 s + 10 s": (listen, "websockets", "blackhole", {}),
    "aiohttp, blackhole, a heartbeat of 30 s": (with_heartbeat, "aiohttp", "blackhole", {}),
    "a proxy's idle timeout of 60 s": (listen, "aiohttp", labkit.IdleTimeout(60), {}),
    "a shutdown of 60 s": (listen, "aiohttp", "shutdown", {"shutdown_timeout": 60}),
}


async def seconds(make: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    """Measure the wall time."""
    began = time.perf_counter()
    result = await make()
    return time.perf_counter() - began, result


async def median(make: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    """The median of several, and the last result."""
    measured = [await seconds(make) for _ in range(TIMES)]
    return statistics.median(took for took, _ in measured), measured[-1][1]


async def defaults() -> None:
    """The libraries' own settings."""
    close, _ = await median(lambda: labkit.play(listen, "websockets", "close"))
    print(f"a close on the real clock                   {close * 1e3:8.1f} ms, to compare")
    for name, (handler, on, fault, options) in SETTINGS.items():
        took, run = await median(
            lambda: labkit.play(handler, on, fault, clock="autojump", patience=300, **options)  # noqa: B023 - called at once
        )
        loops = run.timeline[-1].at
        print(f"{name:<43} {took * 1e3:8.1f} ms, {took / close:4.1f} × a close; {loops:6.1f} s of the loop's time")


async def whole_matrix() -> None:
    """Five handlers, all stacks, all faults."""
    await labkit.matrix(HANDLERS, faults=["close"], progress=False)  # what is imported and compiled once
    tables, walls = {}, {}
    for clock in ("real", "autojump"):
        used = time.process_time()
        walls[clock], tables[clock] = await seconds(lambda: labkit.matrix(HANDLERS, progress=False, clock=clock))  # noqa: B023
        used = time.process_time() - used
        print(f"{len(tables[clock].cells)} cells, clock {clock:<9} {walls[clock]:6.1f} s, {used:6.1f} s of CPU")
    pairs = zip(tables["real"].runs, tables["autojump"].runs, strict=True)
    other = sum(a is None or b is None or a.outcome != b.outcome for a, b in pairs)
    print(f"  {walls['autojump'] / walls['real']:.2f} of the real one's time; {other} cells have another outcome")
    waits = [fault for fault in ("blackhole", "ignore-close", "half-close", "idle-timeout") if fault in labkit.FAULTS]
    for clock in ("real", "autojump"):
        walls[clock], _ = await seconds(
            lambda: labkit.matrix(HANDLERS, faults=waits, progress=False, clock=clock, patience=10)  # noqa: B023
        )
    print(f"the cells that wait, patience 10 s: {walls['real']:.1f} s and {walls['autojump']:.1f} s")


async def ten_awaits(websocket: Any) -> None:
    """A handler that suspends ten times for each message."""
    async for message in websocket:
        for _ in range(9):
            await asyncio.sleep(0.001)
        await websocket.send(message)


async def moments() -> None:
    """A hundred moments of a handler with ten awaits."""
    for clock in ("real", "autojump"):
        used = time.process_time()
        took, strip = await seconds(
            lambda: labkit.moments(ten_awaits, "websockets", messages=["hello"] * 10, at_most=100, clock=clock)  # noqa: B023
        )
        used = time.process_time() - used
        print(f"{len(strip)} moments, clock {clock:<9} {took:6.2f} s, {used:6.2f} s of CPU")


async def main() -> None:
    if AutojumpLoop.impossible is not None:
        print(f"no clock jumps here: {AutojumpLoop.impossible}")
        return
    await defaults()
    await moments()
    await whole_matrix()


if __name__ == "__main__":
    asyncio.run(main())
