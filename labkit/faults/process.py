"""Process: the client is a program of its own, and a signal interrupts, kills or freezes it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import ClassVar

from labkit.faults.fault import Fault, Scene

__all__ = ["FrozenProcess", "Sigint", "Sigkill"]


def missing(name: str) -> str | None:
    """Tell what keeps a signal from being sent on this platform, or None."""
    return None if hasattr(signal, name) and hasattr(signal, "SIGSTOP") else f"this platform has no {name}"


@dataclass(frozen=True)
class Sigint(Fault, name="sigint", family="process"):
    """The client's program is interrupted, as by Ctrl+C.

    On the wire: what the program does about it. The lab's own client does nothing, so the system closes its socket:
    FIN, or RST where data were left unread. A client of a library leaves its ``async with`` block, which says goodbye
    with a Close frame.
    In life: Ctrl+C in a terminal, a notebook's stop button, a process manager that is polite.
    Look for: with ``client="websockets"`` or ``client="aiohttp"`` the handler sees a clean close.
    """

    own_process: ClassVar[bool] = True

    def impossible(self, client: str) -> str | None:  # noqa: ARG002 - the same for each
        """Tell whether this platform lacks the signal."""
        return missing("SIGINT")

    async def strike(self, scene: Scene) -> None:
        """Send SIGINT."""
        await scene.client.signal(signal.SIGINT)


@dataclass(frozen=True)
class Sigkill(Fault, name="sigkill", family="process"):
    """The client's program is killed.

    On the wire: the system closes the program's socket: FIN, or RST where data were left unread.
    In life: ``kill -9``, the out-of-memory killer, a container that did not stop in time, a crash of the interpreter.
    Look for: no program can do anything about it, so no goodbye whatever the library: 1006.
    """

    own_process: ClassVar[bool] = True

    def impossible(self, client: str) -> str | None:  # noqa: ARG002 - the same for each
        """Tell whether this platform lacks the signal."""
        return missing("SIGKILL")

    async def strike(self, scene: Scene) -> None:
        """Send SIGKILL."""
        await scene.client.signal(signal.SIGKILL)


@dataclass(frozen=True)
class FrozenProcess(Fault, name="frozen-process", family="silence"):
    """The client's program is stopped where it stands.

    On the wire: nothing. Its system still acknowledges what the server sends, until the receive buffer is full; no
    program reads it or answers a ping.
    In life: a laptop's lid is closed on a virtual machine, a phone suspends an app in the background, a debugger holds
    a process, a machine swaps itself to a standstill.
    Look for: TCP is in perfect health, so only a ping that nobody answers tells.
    """

    own_process: ClassVar[bool] = True

    def impossible(self, client: str) -> str | None:  # noqa: ARG002 - the same for each
        """Tell whether this platform lacks the signal."""
        return missing("SIGSTOP")

    async def strike(self, scene: Scene) -> None:
        """Send SIGSTOP; the lab kills the process at the end."""
        await scene.client.signal(signal.SIGSTOP)
