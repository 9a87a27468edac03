"""How fast is the lab? Each figure stands beside something measured in the same run: python benchmarks/lab.py."""

from __future__ import annotations

import asyncio
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import labkit
from labkit.events import WireFrame, make
from labkit.timeline import Timeline
from labkit.verdict import judge
from labkit.views.sequence.view import sequence
from labkit.views.text import text

ROUNDS = 7


def median(measure: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Take the median of some measurements, the first one left out."""
    measure()
    return statistics.median(measure() for _ in range(rounds))


def seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def interpreter(code: str) -> Callable[[], float]:
    return lambda: seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def imports() -> None:
    bare, ours = median(interpreter("pass")), median(interpreter("import labkit"))
    print(f"a bare interpreter            {bare * 1e3:8.1f} ms")
    print(f"  and import labkit           {ours * 1e3:8.1f} ms   {(ours - bare) * 1e3:+.1f} ms, the limit is +60")


def recording(count: int = 100_000) -> None:
    def tuples() -> None:
        events: list[tuple[Any, ...]] = []
        for _ in range(count):
            events.append((time.perf_counter(), "wire", "frame", "TEXT", None))  # noqa: PERF401 - what is measured

    def records() -> None:
        timeline = Timeline()
        for _ in range(count):
            timeline.append(WireFrame(0, "client", "TEXT", 5, text="TEXT 'hello'"))

    plain, recorded = median(partial(seconds, tuples)) / count, median(partial(seconds, records)) / count
    print(f"a tuple appended              {plain * 1e9:8.0f} ns")
    print(f"  an event recorded           {recorded * 1e9:8.0f} ns   {recorded / plain:.2f} times, the limit is 2")


async def naive_websockets(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


async def naive_aiohttp(request: Any) -> Any:
    from aiohttp import web

    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws


async def naive_asgi(websocket: Any) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


async def bare_echo() -> None:
    """One client, one message and one goodbye, without the lab."""
    import websockets

    async with websockets.serve(naive_websockets, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with websockets.connect(f"ws://127.0.0.1:{port}") as ws:
            await ws.send("hello")
            await ws.recv()


def experiments() -> None:
    def timed(make: Callable[[], Awaitable[Any]]) -> float:
        async def run() -> float:
            began = time.perf_counter()
            await make()
            return time.perf_counter() - began

        return median(lambda: asyncio.run(run()))

    print(f"server, client, echo, close   {timed(bare_echo) * 1e3:8.1f} ms   without the lab, on websockets")
    handlers = {"aiohttp": naive_aiohttp, "asgi": naive_asgi, "websockets": naive_websockets}
    for fault in ("close", "reset"):
        took = {
            on: timed(partial(labkit.play, handlers[stack.interface], on=on, fault=fault))
            for on, stack in labkit.STACKS.items()
            if not stack.missing
        }
        for on, time_taken in took.items():
            limit = "the limit is 100"
            if labkit.STACKS[on].interface == "asgi":
                limit = f"{time_taken / took['websockets']:.2f} times that on websockets, the limit is 2"
            print(f"  play: {on + ', ' + fault:<21} {time_taken * 1e3:9.1f} ms   {limit}")


def pictures() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run = asyncio.run(labkit.play(naive_websockets, on="websockets", fault="reset", messages=["hello"] * 8))
    shown = [event for event in run.timeline if event.kind not in {"line", "lines"}][:60]
    timeline = Timeline.of(shown)

    def png(figure: Figure) -> None:
        FigureCanvasAgg(figure)
        figure.savefig(io.BytesIO(), format="png")

    def empty() -> None:
        figure = Figure(figsize=(8, 12))
        figure.subplots()
        png(figure)

    def draw() -> None:
        png(sequence(timeline, run.verdict))

    blank, drawn = median(partial(seconds, empty)), median(partial(seconds, draw))
    print(f"an empty matplotlib figure    {blank * 1e3:8.1f} ms   to PNG")
    print(f"  the picture of {len(shown)} events    {drawn * 1e3:8.1f} ms   the limit is 400")


def floods() -> None:
    """How long a picture and a text take where there is much to fold."""
    for count, limit in ((1_000, 0.6), (100_000, 1.5)):
        start = {"handler": "h", "stack": "websockets", "library": "websockets", "given": "ServerConnection", "call": 1}
        events = [make("client", "connect"), make("handler", "start", "h starts", start)]
        events += [make("handler", "print", f"line {n}", at=n / 100_000) for n in range(count)]
        timeline = Timeline.of(events)
        verdict = judge(timeline)
        drawn = median(partial(seconds, lambda: sequence(timeline, verdict).png()), 3)  # noqa: B023 - called at once
        written = median(partial(seconds, lambda: text(timeline, verdict)), 3)  # noqa: B023 - the same
        print(f"a picture of {count:>7,} events   {drawn:8.2f} s    the limit is {limit}")
        print(f"  the same as text            {written:8.2f} s")


if __name__ == "__main__":
    imports()
    recording()
    experiments()
    pictures()
    floods()
