"""Server: what ends the connection is at home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from labkit.checks import check_seconds, check_text, is_whole
from labkit.clock import scaled, timeout
from labkit.errors import BadValue
from labkit.faults.fault import Fault, Scene

__all__ = ["BlockedLoop", "HandlerError", "InducedError", "SecondCancel", "Shutdown"]


class InducedError(RuntimeError):
    """What the fault ``handler-error`` raises in a handler."""


@dataclass(frozen=True)
class Shutdown(Fault, name="shutdown", family="server"):
    """The server shuts down, as its library does it.

    On the wire: websockets sends Close 1001 to every client. aiohttp sends nothing by itself: it waits
    ``shutdown_timeout`` seconds for its handlers, cancels them, and waits again.
    In life: a deployment, Ctrl+C in the server's terminal, SIGTERM from a process manager.
    Look for: whether an idle handler is told at once; and what happens to one that is busy with something else.
    """

    async def strike(self, scene: Scene) -> None:
        """Begin the shutdown; how long it takes is the library's and the handler's affair."""
        scene.server.shut_down()


@dataclass(frozen=True)
class HandlerError(Fault, name="handler-error", family="server"):
    """The handler meets an error of its own.

    On the wire: websockets sends Close 1011; aiohttp drops the TCP connection without a Close frame.
    In life: a database that is gone, a bug.
    Look for: which cleanup still runs, and what the client is told.

    Args:
        message: what the exception says.
    """

    message: str = "a step of the handler fails"

    def __post_init__(self) -> None:
        check_text("the message", self.message)

    async def strike(self, scene: Scene) -> None:
        """Raise an ``InducedError`` in the handler, out of what it waits for."""
        scene.server.throw(InducedError(self.message))


@dataclass(frozen=True)
class BlockedLoop(Fault, name="blocked-loop", family="server"):
    """The server's event loop is blocked.

    On the wire: nothing from the server, though its system acknowledges what arrives; then all of it at once.
    In life: ``time.sleep``, ``requests.get`` or a long computation in a coroutine; a slow DNS lookup.
    Look for: nobody is told anything; but a ping that the loop did not answer in time ends the connection.

    Args:
        seconds: for how long, times ``LABKIT_TIME_SCALE``.
    """

    seconds: float = 0.5
    own_loop: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds)

    async def strike(self, scene: Scene) -> None:
        """Block the loop; meanwhile the client says once more what it said."""
        before = len(scene.timeline)
        scene.server.block(scaled(self.seconds))
        await scene.timeline.until(lambda event: event.kind == "blocked", scene.patience, start=before)
        for message in scene.messages:
            scene.client.send(message)
        # A wait on a cause, whatever it takes: the loop does go on.
        await scene.timeline.until(lambda event: event.kind == "unblocked", start=before)


@dataclass(frozen=True)
class SecondCancel(Fault, name="second-cancel", family="server"):
    """The handler is cancelled, and cancelled again while it cleans up.

    On the wire: what the library sends for a handler that ends.
    In life: a timeout around a handler and then the server's shutdown; an impatient second Ctrl+C; a task group that
    gives up.
    Look for: the cleanup in flight is cut short, and ``shield`` alone does not help.

    Args:
        times: how many cancels, each when the handler waits again after the one before.
    """

    times: int = 2

    def __post_init__(self) -> None:
        if not is_whole(self.times) or self.times < 1:
            raise BadValue(f"times={self.times!r}; it takes a whole number from 1")

    async def strike(self, scene: Scene) -> None:
        """Cancel; once the handler waits for something again, cancel again."""
        for _ in range(self.times):
            try:
                async with timeout(scene.patience):
                    await scene.server.cancel()
            except TimeoutError:
                return
