"""What does the lab add to the time that a handler takes? Watched, beside the same handler on a plain server.

python benchmarks/cost.py [--rounds 7] [kinds ...]

What counts is the CPU time of the loop's thread, and rounds are played in turns: what else a machine does slows either
side. What was asked for is 1.25 times the bare handler on Python 3.12 and later, and twice on 3.11. The last figures,
as ratios, on a machine with two cores and nothing else to do, where they vary by a tenth, on 3.11 by a third:

                            3.11    3.12    3.13
    loop                     2.4     0.9     1.0
    calls_a_helper           3.8     1.0     1.0
    calls_a_method           2.7     1.0     1.2
    iterates_a_generator     3.3     1.1     1.1
    comprehends              2.2     1.2     1.3
    reads_json               2.1     1.0     1.1
    in_the_handler           2.5     1.1     0.9
    awaits                   3.9     1.1     1.4
    sends                    3.3     1.9     1.6
    typical                  3.8     1.3     1.3

What the rest consists of:

- ``straight``: 0.07 ms for its few lines. One that runs for the first time is an event.
- What computes, on 3.11: as long as any trace is set in a thread, Python itself goes the slow way at each instruction,
  which takes twice the time whether anybody is told of a line or not. Only after 5,000 calls in one step is no trace
  set until the step ends; what may have been missed by then is unknown, so that is not done sooner, nor for loops
  alone. ``sys.setprofile``, in place of the trace, would be half as slow, but is told of each call of a function of C.
- ``awaits``: of a handler that does nothing but let others have their turn, which takes 4 to 6 µs, 1 µs more on 3.12
  and later: that a step begins (what blocks the loop is seen so), and that the handler waits (the await is counted, and
  a fault may strike). On 3.11, 16 µs: the trace is set and taken back, and is called for each function on the way.
- ``sends``: 8 µs beside 10 to 13 of the library and the system. The event, with its text, is a third of that; the
  others are that the method is called and what comes out of it, and that the library's bytes are counted. On 3.11 it is
  some 25 µs.
- ``typical``: 0.4 ms on 3.12 and later, and most of it once: each line, and each method, comes for the first time. On
  3.11 its work, as above.
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
