"""Server: the server or the handler itself ends the connection, or the server's event loop is blocked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from labkit.errors import BadValue
from labkit.events import LoopBlocked, LoopUnblocked
from labkit.faults.fault import Fault, Scene
from labkit.support.checks import check_seconds, check_text, is_whole
from labkit.support.clock import scaled, timeout

__all__ = ["BlockedLoop", "Cancel", "HandlerError", "SecondCancel", "Shutdown"]


class InducedError(RuntimeError):
    """The exception that the fault ``handler-error`` raises in a handler."""


@dataclass(frozen=True)
class Shutdown(Fault, name="shutdown", family="server"):
    """The server shuts down, in the way of its library.

    On the wire: websockets sends Close 1001 to every client. aiohttp sends nothing by itself: it waits
    ``shutdown_timeout`` seconds for its handlers, cancels them, and waits again.
    In life: a deployment, Ctrl+C in the server's terminal, SIGTERM from a process manager.
    Look for: whether a handler that waits for a message notices at once, and what happens to a busy handler.
    """

    happened = "the server began to shut down"
    ends = "server"
    demands = "end"
    needs = "server"

    async def strike(self, scene: Scene) -> None:
        """Begin the shutdown. Its duration depends on the library and the handler."""
        scene.server.shut_down()


@dataclass(frozen=True)
class HandlerError(Fault, name="handler-error", family="server"):
    """An exception is raised in the handler.

    On the wire: websockets sends Close 1011; aiohttp drops the TCP connection without a Close frame.
    In life: a database that does not answer any more, or a bug.
    Look for: which cleanup still runs, and what the client learns.

    Args:
        message: the exception's message.
    """

    happened = "an error was raised in your handler"
    ends = "handler"
    demands = "end or raise"
    needs = "server"

    message: str = "a step of the handler fails"

    def __post_init__(self) -> None:
        check_text("the message", self.message)

    async def strike(self, scene: Scene) -> None:
        """Raise an ``InducedError`` in the handler, at the ``await`` where it stands."""
        scene.server.throw(InducedError(self.message))


@dataclass(frozen=True)
class BlockedLoop(Fault, name="blocked-loop", family="server"):
    """The server's event loop is blocked.

    On the wire: nothing from the server, although its system acknowledges the data that arrive. After the block, the
    server sends everything at once.
    In life: ``time.sleep``, ``requests.get`` or a long computation in a coroutine; a slow DNS lookup.
    Look for: neither side gets an error, unless a ping without an answer in time ends the connection.

    Args:
        seconds: the length of the block in seconds, multiplied by ``LABKIT_TIME_SCALE``.
    """

    happened = "the server's loop was blocked"
    ends = "nothing"
    demands = "answer"
    needs = "own loop"

    seconds: float = 0.5

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds)

    async def strike(self, scene: Scene) -> None:
        """Block the loop; during the block, make the client send its messages once more."""
        before = len(scene.timeline)
        scene.server.block(scaled(self.seconds))
        await scene.timeline.until(lambda event: isinstance(event, LoopBlocked), scene.patience, start=before)
        for message in scene.messages:
            scene.client.send(message)
        # This wait needs no time limit: the block ends by itself.
        await scene.timeline.until(lambda event: isinstance(event, LoopUnblocked), start=before)


@dataclass(frozen=True)
class Cancel(Fault, name="cancel", family="server"):
    """The handler is cancelled: a limit of time around it expires.

    On the wire: whatever the library sends when a handler ends.
    In life: a limit of time around a handler; the shutdown of aiohttp; a task group another task of which has failed.
    Look for: whether the cancel comes out of the handler, however it has cleaned up. Only then does ``asyncio.timeout``
    raise its ``TimeoutError``, and does the end of a group or of a server come. ``labkit.moments`` with this fault is a
    lint for handlers: it cancels at each ``await``, and its ``findings`` tell what to mend.
    """

    happened = "your handler was cancelled"
    ends = "handler"
    demands = "end"
    needs = "server"

    async def strike(self, scene: Scene) -> None:
        """Let the limit around the handler expire; wait until the handler awaits something again, or has ended."""
        with suppress(TimeoutError):
            async with timeout(scene.patience):
                await scene.server.expire()


@dataclass(frozen=True)
class SecondCancel(Fault, name="second-cancel", family="server"):
    """The handler is cancelled, and cancelled again while it cleans up.

    On the wire: whatever the library sends when a handler ends.
    In life: a timeout around a handler, and then the server's shutdown; a second Ctrl+C; a task group that cancels
    its tasks.
    Look for: the second cancel cuts the cleanup short, and ``shield`` alone does not help.

    Args:
        times: the number of cancels. Each comes when the handler awaits something again after the previous one. No
            ``labkit.resource`` is closed before the last one has come, so that a slow machine changes nothing.
    """

    happened = "your handler was cancelled"
    ends = "handler"
    demands = "end"
    needs = "server"

    times: int = 2

    def __post_init__(self) -> None:
        if not is_whole(self.times) or self.times < 1:
            raise BadValue(f"times={self.times!r}; it takes a whole number from 1")

    async def strike(self, scene: Scene) -> None:
        """Cancel the handler; when it awaits something again, cancel it again."""
        with scene.timeline.hold_closings():
            for _ in range(self.times):
                try:
                    async with timeout(scene.patience):
                        await scene.server.cancel()
                except TimeoutError:
                    return
