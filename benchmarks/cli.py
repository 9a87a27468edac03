"""How long does a command take, as a whole process, beside an interpreter that does nothing?

The processor's time is told too: on a machine that does other things, it says more than the clock.

python benchmarks/cli.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7

SERVER = """
async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)
"""

#: Each command, with the milliseconds that it may take.
COMMANDS = {
    "labkit --help": (["-m", "labkit", "--help"], 250),
    "labkit play": (["-m", "labkit", "play", "server.py:echo", "--on", "websockets", "--fault", "reset"], 700),
}


def milliseconds(arguments: list[str], folder: str) -> tuple[float, float]:
    """The time on the clock, and the processor's: the medians of some rounds, the first one left out."""
    clock, processor = [], []
    for _ in range(ROUNDS + 1):
        began, worked = time.perf_counter(), children()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=folder)
        clock.append((time.perf_counter() - began) * 1e3)
        processor.append((children() - worked) * 1e3)
    return statistics.median(clock[1:]), statistics.median(processor[1:])


def children() -> float:
    """For how many seconds the processor has worked for the processes that this one has started, all of them ended."""
    return os.times().children_user + os.times().children_system


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "server.py").write_text(SERVER, "utf-8")
        bare, worked = milliseconds(["-c", "pass"], folder)
        print(f"{'an interpreter':<18}{bare:7.0f} ms{worked:7.0f} ms of the processor's")
        for name, (arguments, limit) in COMMANDS.items():
            took, worked = milliseconds(arguments, folder)
            print(f"{name:<18}{took:7.0f} ms{worked:7.0f} ms   {took / bare:5.1f} times, the limit is {limit} ms")


if __name__ == "__main__":
    main()
