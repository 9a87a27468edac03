"""Process: the client runs in a separate process, and a signal interrupts or kills it.

The fault that suspends the process is ``frozen-process``, in the family silence.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from labkit.faults.fault import Fault, Scene

__all__ = ["Sigint", "Sigkill"]


@dataclass(frozen=True)
class Sigint(Fault, name="sigint", family="process"):
    """The client's program is interrupted, as by Ctrl+C.

    On the wire: it depends on the program. The lab's own client does not react, so the system closes its socket: FIN,
    or RST if the program has not read all data. A library's client leaves its ``async with`` block, which sends a Close
    frame. aiohttp sends code 1000, and FIN at once. websockets sends code 1011, as for any exception, and waits for the
    answer.
    In life: Ctrl+C in a terminal, a notebook's stop button, a process manager that uses SIGINT.
    Look for: the handler sees a normal close with ``client="aiohttp"``, an error with code 1011 with
    ``client="websockets"``, and 1006 with the lab's own client.
    """

    happened = "the client's process was interrupted"
    ends = "connection"
    demands = "end"
    needs = "own process"

    async def strike(self, scene: Scene) -> None:
        """Send SIGINT."""
        await scene.client.signal(signal.SIGINT)


@dataclass(frozen=True)
class Sigkill(Fault, name="sigkill", family="process"):
    """The client's program is killed.

    On the wire: the system closes the program's socket: FIN, or RST if the program has not read all data.
    In life: ``kill -9``, the out-of-memory killer, a container that did not stop in time, a crash of the interpreter.
    Look for: a program cannot react to SIGKILL, so no library sends a Close frame. The handler's connection reports
    1006.
    """

    happened = "the client's process was killed"
    ends = "connection"
    demands = "end"
    needs = "own process"

    async def strike(self, scene: Scene) -> None:
        """Send SIGKILL."""
        await scene.client.signal(signal.SIGKILL)
