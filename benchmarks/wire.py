"""How fast is the wire? Echo round trips a second, over websockets, with client and server in one loop.

The ways to the same echo server: direct; through a relay that does nothing but relay; through the same relay with the
parser of websockets run over every frame, and nothing made of it; through the wire with all frames decoded and
recorded; and through HAProxy in TCP mode where it is installed. Rounds are interleaved, so that a machine that slows
down slows all of them; medians are compared.

    python benchmarks/wire.py [--rounds N] [--trips N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import shutil
import socket
import statistics
import sys
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame
from websockets.streams import StreamReader

from labkit.events import Event
from labkit.support.clock import scaled
from labkit.timeline import Timeline
from labkit.wire import Relay

#: The least that the wire must keep of the rate of a relay with the parser of websockets; and the most KiB that it
#: may keep of a finished connection.
GOAL = 0.95
KEPT = 2

HAPROXY = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen echo
    bind 127.0.0.1:{port}
    server echo 127.0.0.1:{upstream}
"""


async def echo(websocket: ServerConnection) -> None:
    """Send each message back."""
    async for message in websocket:
        await websocket.send(message)


class BareEnd(asyncio.Protocol):
    """One end of a relay without backpressure, events or faults: the least that a relay in the loop can cost."""

    def __init__(self, upstream: int | None) -> None:
        self.upstream = upstream
        self.peer: asyncio.Transport | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect the other end, if this is the client's."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.upstream is not None:
            self.task = asyncio.get_running_loop().create_task(self.reach(self.upstream))

    async def reach(self, port: int) -> None:
        """Connect to the server."""
        loop = asyncio.get_running_loop()
        transport, end = await loop.create_connection(lambda: type(self)(None), "127.0.0.1", port)
        end.peer, self.peer = self.transport, transport
        transport.writelines(self.early)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.peer is None:
            self.early.append(data)
        else:
            self.peer.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Close the other end too."""
        if self.peer is not None:
            self.peer.close()


class ParsingEnd(BareEnd):
    """The same with the parser: the least that a relay in the loop can cost which decodes with it."""

    def __init__(self, upstream: int | None) -> None:
        super().__init__(upstream)
        self.reader = StreamReader()
        self.parsing = self.parse(mask=upstream is not None)
        next(self.parsing)

    def parse(self, *, mask: bool) -> Generator[None, None, None]:
        """Skip the head of the handshake, then read frame after frame."""
        while (yield from self.reader.read_line(8192)) != b"\r\n":
            pass
        while True:
            yield from Frame.parse(self.reader.read_exact, mask=mask)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, then parse them."""
        super().data_received(data)
        self.reader.feed_data(data)
        next(self.parsing)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def haproxy(command: str, upstream: int) -> AsyncIterator[str]:
    """Run HAProxy in front of a port, and give the URL."""
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(HAPROXY.format(port=port, upstream=upstream))
        config.flush()
        process = await asyncio.create_subprocess_exec(command, "-db", "-q", "-f", config.name)
        try:
            async with asyncio.timeout(scaled(10)):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        await asyncio.sleep(0.02)
                    else:
                        writer.close()
                        break
            yield f"ws://127.0.0.1:{port}/"
        finally:
            process.terminate()
            await process.wait()


async def measure(url: str, trips: int) -> float:
    """Count echo round trips a second on one connection."""
    async with connect(url, compression=None) as websocket:
        for _ in range(20):
            await websocket.send("hello")
            await websocket.recv()
        began = perf_counter()
        for _ in range(trips):
            await websocket.send("hello")
            await websocket.recv()
        return trips / (perf_counter() - began)


async def compare(rounds: int, trips: int) -> dict[str, list[float]]:
    """Measure every way, round by round."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(echo, "127.0.0.1", 0, compression=None))
        port = next(iter(server.sockets)).getsockname()[1]
        direct = f"ws://127.0.0.1:{port}/"
        loop = asyncio.get_running_loop()
        bare = await loop.create_server(lambda: BareEnd(port), "127.0.0.1", 0)
        stack.callback(bare.close)
        parsing = await loop.create_server(lambda: ParsingEnd(port), "127.0.0.1", 0)
        stack.callback(parsing.close)
        urls = {
            "direct": direct,
            "bare relay": f"ws://127.0.0.1:{bare.sockets[0].getsockname()[1]}/",
            "  that parses": f"ws://127.0.0.1:{parsing.sockets[0].getsockname()[1]}/",
            "labkit.Wire": "",
        }
        if command := shutil.which("haproxy"):
            urls["HAProxy"] = await stack.enter_async_context(haproxy(command, port))

        rates: dict[str, list[float]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, url in urls.items():
                if url:
                    rates[name].append(await measure(url, trips))
                    continue
                timeline = Timeline()
                async with Relay(direct, timeline) as wire:
                    rates[name].append(await measure(wire.url, trips))
                frames = [e.data for e in timeline.select("wire", "frame") if e.data["opcode"] == "TEXT"]
                assert len(frames) == 2 * (trips + 20), "a frame was not recorded"
        return rates


async def finished_links(count: int = 500) -> float:
    """Measure what a wire keeps of a connection that is over, its events left out, in KiB."""

    class Forgetful(Timeline):
        def append(self, event: Event) -> None:
            pass

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with Relay(f"ws://127.0.0.1:{port}/", Forgetful()) as wire:

            async def connections(number: int) -> None:
                for _ in range(number):
                    async with connect(wire.url, compression=None) as websocket:
                        await websocket.send("hello")
                        await websocket.recv()
                for link in wire.links:
                    await link.closed()
                gc.collect()

            await connections(50)
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            await connections(count)
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    return (after - before) / count / 1024


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=25, help="rounds, of which the median counts (default: 25)")
    parser.add_argument("--trips", type=int, default=1000, help="round trips in a round (default: 1000)")
    options: Any = parser.parse_args(argv)

    rates = asyncio.run(compare(options.rounds, options.trips))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    # Ratios round by round: two measurements of one round had the same machine.
    ratios = {
        name: statistics.median(value / direct for value, direct in zip(values, rates["direct"], strict=True))
        for name, values in rates.items()
    }
    print(f"{'echo round trips':<18}{'a second':>10}{'of direct':>12}")
    for name, median in medians.items():
        print(f"{name:<18}{median:>10,.0f}{ratios[name]:>12.2f}")
    wire, bare, parsing = (ratios[name] for name in ("labkit.Wire", "bare relay", "  that parses"))
    met = "met" if wire / parsing >= GOAL else "missed"
    print(f"The wire: {wire:.2f} of direct, {wire / bare:.2f} of what any relay in the same loop leaves,", end=" ")
    print(f"{wire / parsing:.2f} of one with the parser (goal {GOAL:.2f}: {met}).")
    print(f"A finished link keeps {asyncio.run(finished_links()):.1f} KiB (goal {KEPT}).")


if __name__ == "__main__":
    main()
