"""What does the lab add to the time that a handler takes? Watched, beside the same handler on a plain server.

python benchmarks/cost.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from time import thread_time as clock
from typing import Any

import websockets

import labkit

#: The seconds of CPU time that the handler under measurement has taken, from its first message to its answer, on the
#: thread of its loop: what other programs take does not count.
took: list[float] = []


class Parser:
    """What a program has beside its handler."""

    def __init__(self) -> None:
        self.seen = 0

    def take(self, number: int) -> int:
        """Take a number."""
        self.seen += 1
        return number * 2 if number % 3 else number


def helper(number: int) -> int:
    if number % 2:
        return number + 1
    return number


def numbers(count: int) -> Iterator[int]:
    for number in range(count):  # noqa: UP028 - a line for each
        yield number


def a_line() -> int:
    return sum(range(20))


def straight(message: str) -> int:
    total = len(message)
    return total + a_line()


def loop(message: str) -> int:
    total = len(message)
    for number in range(100_000):
        if number % 3:
            total += number
        else:
            total -= number
    return total


def calls_a_helper(message: str) -> int:
    total = len(message)
    for number in range(50_000):
        total += helper(number)
    return total


def calls_a_method(message: str) -> int:
    parser = Parser()
    return len(message) + sum(parser.take(number) for number in range(50_000))


def iterates_a_generator(message: str) -> int:
    total = len(message)
    for number in numbers(100_000):
        total += number
    return total


def comprehends(message: str) -> int:
    return len(message) + sum([number for number in range(100_000) if number % 3])


def reads_json(message: str) -> int:
    text = json.dumps({"rows": [{"n": number, "text": message} for number in range(2_000)]})
    return sum(row["n"] for row in json.loads(text)["rows"])


def handler_of(work: Callable[[str], int]) -> Callable[[Any], Any]:
    """Make a handler whose work stands in it as a function that it calls."""

    async def handler(websocket: Any) -> None:
        message = await websocket.recv()
        began = clock()
        total = work(message)
        took.append(clock() - began)
        await websocket.send(str(total))
        await websocket.wait_closed()

    return handler


async def in_the_handler(websocket: Any) -> None:
    """A loop among the handler's own lines."""
    message = await websocket.recv()
    began, total = clock(), len(message)
    for number in range(100_000):
        if number % 3:
            total += helper(number)
        else:
            total -= number
    took.append(clock() - began)
    await websocket.send(str(total))
    await websocket.wait_closed()


async def awaits(websocket: Any) -> None:
    """A thousand turns of the loop."""
    await websocket.recv()
    began = clock()
    for _ in range(1_000):
        await asyncio.sleep(0)
    took.append(clock() - began)
    await websocket.send("done")
    await websocket.wait_closed()


async def sends(websocket: Any) -> None:
    """A thousand messages."""
    await websocket.recv()
    began = clock()
    for number in range(1_000):
        await websocket.send(f"{number}")
    took.append(clock() - began)
    await websocket.wait_closed()


database = sqlite3.connect(":memory:", check_same_thread=False)
database.execute("CREATE TABLE prices (name TEXT, price INTEGER)")
database.execute("INSERT INTO prices VALUES ('hello', 7)")


def price_of(name: str) -> int:
    found: tuple[int] = database.execute("SELECT price FROM prices WHERE name = ?", (name,)).fetchone()
    return found[0]


def checksum(message: str) -> int:
    """About a millisecond of work."""
    total = 0
    for number in range(12_000):
        total = (total * 31 + number + len(message)) % 65_521
    return total


async def typical(websocket: Any) -> None:
    """A message, a millisecond of work, a database, an answer."""
    message = await websocket.recv()
    began = clock()
    total = checksum(message)
    price = await asyncio.to_thread(price_of, message)
    await websocket.send(f"{total} {price}")
    took.append(clock() - began)
    await websocket.wait_closed()


async def bare(handler: Any) -> float:
    """Play it on a plain server, with a plain client."""
    took.clear()
    async with (
        websockets.serve(handler, "127.0.0.1", 0) as server,
        websockets.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client,
    ):
        await client.send("hello")
        await client.recv()
    return took[0]


async def watched(handler: Any) -> float:
    """Play it in the lab."""
    took.clear()
    await labkit.play(handler, on="websockets", fault="close")
    return min(took)  # where it blocks, it is played twice


async def measure(rounds: int, only: list[str]) -> None:
    of_works = [straight, loop, calls_a_helper, calls_a_method, iterates_a_generator, comprehends, reads_json]
    handlers = {work.__name__: handler_of(work) for work in of_works}
    handlers |= {handler.__name__: handler for handler in (in_the_handler, awaits, sends, typical)}
    print(f"Python {sys.version.split()[0]}; the least of {rounds} rounds")
    print(f"{'':24}{'plain':>10}{'watched':>10}{'ratio':>8}")
    for name, handler in handlers.items():
        if only and name not in only:
            continue
        # In turns, so that what else the machine does slows both.
        each = [(await bare(handler), await watched(handler)) for _ in range(rounds)]
        alone, lab = map(min, zip(*each, strict=True))
        print(f"{name:<24}{alone * 1000:7.2f} ms{lab * 1000:7.2f} ms{lab / alone:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each handler is played on each side")
    parser.add_argument("kinds", nargs="*", help="which of them; all, if none is named")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds, arguments.kinds))


if __name__ == "__main__":
    main()
