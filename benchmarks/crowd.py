"""What does a crowd cost in the lab? Many clients, reset at once, beside the bare library: python benchmarks/crowd.py.

Each server runs in a process of its own, the clients in another one: sockets that send one message, wait for its echo,
and are reset all together. What counts is the memory of a connection while all are there, and the time from the reset
until the last handler has cleaned up. Rounds are interleaved, and medians are compared.

The limits are what was asked for. They are met since the lab watches only fifty connections at once closely, and of
each other one the outline (``closely`` of ``labkit.host``). As multiples of the bare library, on two busy cores, where
the processor time is the steadier one:

                          memory   time   processor time
    websockets on 3.11      1.23   0.94        1.31
    aiohttp on 3.11         1.28   1.01        1.17
    websockets on 3.13      1.21   1.49        1.43
    aiohttp on 3.13         1.21   1.48        1.36

To watch all of them closely (``--closely 2000``) takes about one and a half times the memory, and three to four times
the time. On Python 3.13 no part alone makes the difference; on 3.11, to watch the lines is half of it. Without them,
one after the other, a connection of websockets ends sooner by so many µs of processor time, of the library's own 50,
and is smaller by so many KiB, of 15:

                                   on Python 3.13    on 3.11
    watching the lines               14 µs  0.8 KiB   63 µs  2.4 KiB
    what the handler asks             3     0.6        9     0.4
    what the library tells it        20     1.6       18     1.7
    who cancels it                    6     0.9        7     0.5
    its call, start and end          14     1.6       20     1.7
    what the library does itself      8     1.4        -     1.3
    all else                          -     0.3        6     0.7
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

#: The most that the lab may take, as a multiple of what the bare library takes: of memory, and of time.
MEMORY, TIME = 1.3, 1.5

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HELLO = b"\x81\x85\x00\x00\x00\x00hello"
ECHO = b"\x81\x05hello"
QUEUE = 50


class Tally:
    """Counts the handlers that have answered, and those that have cleaned up."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.cleaned = 0
        self.over = asyncio.Event()

    def clean(self) -> None:
        """Count one that has cleaned up."""
        self.cleaned += 1
        if self.cleaned == self.clients:
            self.over.set()


def handler_for(library: str, tally: Tally) -> Callable[[Any], Any]:
    """Make an echo handler with a cleanup."""

    async def on_websockets(websocket: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            async for message in websocket:
                await websocket.send(message)
        except ConnectionClosed:  # otherwise the library would write a traceback for each
            pass
        finally:
            tally.clean()

    async def on_aiohttp(request: Any) -> Any:
        from aiohttp import web

        ws = web.WebSocketResponse()
        await ws.prepare(request)
        try:
            async for message in ws:
                await ws.send_str(message.data)
        finally:
            tally.clean()
        return ws

    return on_websockets if library == "websockets" else on_aiohttp


@contextlib.asynccontextmanager
async def serving(library: str, where: str, handler: Any, closely: int) -> AsyncIterator[int]:
    """Serve a handler by the bare library or in the lab, and give the port."""
    if where == "lab":
        import labkit

        async with labkit.host(handler, on=library, closely=closely) as server:
            yield int(server.url.rpartition(":")[2].strip("/"))
    elif library == "websockets":
        from websockets.asyncio.server import serve

        async with serve(handler, "127.0.0.1", 0) as server:
            yield next(iter(server.sockets)).getsockname()[1]
    else:
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
        await runner.cleanup()


async def measure(library: str, where: str, clients: int, closely: int) -> tuple[float, float, float, float]:
    """Tell the KiB of a connection, the seconds until the last has cleaned up, and those until the server is gone.

    The last is how much processor time the server took until the last had cleaned up.
    """
    tally, me = Tally(clients), psutil.Process()
    async with serving(library, where, handler_for(library, tally), closely) as port:
        before = me.memory_info().rss
        crowd = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--crowd", str(port), "--clients", str(clients), stdin=-1, stdout=-1
        )
        assert crowd.stdin is not None
        assert crowd.stdout is not None
        assert await crowd.stdout.readline() == b"all are there\n"
        memory = (me.memory_info().rss - before) / clients / 1024
        began, used = time.perf_counter(), time.process_time()
        crowd.stdin.write(b"go\n")
        await tally.over.wait()
        cleaned, used = time.perf_counter() - began, time.process_time() - used
        await crowd.wait()
    return memory, cleaned, time.perf_counter() - began, used


def read_until(client: socket.socket, end: bytes) -> None:
    """Read from a socket until what it gets ends so."""
    got = b""
    while not got.endswith(end):
        got += (part := client.recv(4096))
        assert part, "the server has closed the connection"


def crowd(port: int, clients: int) -> None:
    """Be the clients: connect, say hello, and reset all connections when told to."""
    sockets: list[socket.socket] = []
    while len(sockets) < clients:
        # No more at once than a server's queue holds.
        some = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(QUEUE, clients - len(sockets)))]
        for client in some:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(HANDSHAKE)
        for client in some:
            read_until(client, b"\r\n\r\n")
            client.sendall(HELLO)
        for client in some:
            read_until(client, ECHO)
        sockets += some
    print("all are there", flush=True)
    sys.stdin.readline()
    for client in sockets:
        client.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=2000, help="how many clients there are (default: 2000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (default: 5)")
    parser.add_argument("--closely", type=int, default=50, help="how many are watched closely (default: 50)")
    parser.add_argument("--crowd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.crowd:
        crowd(options.crowd, options.clients)
        return
    if options.serve:
        print(*asyncio.run(measure(*options.serve, options.clients, options.closely)))
        return
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for _ in range(options.rounds):
        for library in ("websockets", "aiohttp"):
            for where in ("bare", "lab"):
                command = [sys.executable, __file__, "--clients", str(options.clients)]
                command += ["--closely", str(options.closely), "--serve", library, where]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found.setdefault((library, where), []).append(tuple(map(float, told.split())))
    columns = "KiB a connection   s to the last cleanup   s to the end   s of processor"
    print(f"{options.clients} clients, reset at once   {columns}")
    for library in ("websockets", "aiohttp"):
        bare, lab = (
            [statistics.median(column) for column in zip(*found[library, where], strict=True)]
            for where in ("bare", "lab")
        )
        for name, (kib, cleaned, gone, processor) in ((library, bare), ("  in the lab", lab)):
            print(f"{name:<29}{kib:>17.1f}{cleaned:>24.2f}{gone:>15.2f}{processor:>17.2f}")
        memory, took, used = lab[0] / bare[0], lab[1] / bare[1], lab[3] / bare[3]
        print(
            f"  {memory:.2f} times the memory (the limit is {MEMORY}), {took:.2f} times the time (the limit is {TIME}),"
            f" {used:.2f} times the processor time"
        )


if __name__ == "__main__":
    main()
