"""A server that is running, and what may be done to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

from labkit.servers.calls import Host
from labkit.servers.stack import RunningServer, Stack
from labkit.timeline import Timeline

__all__ = ["Server"]

T = TypeVar("T")


class Server:
    """A hosted handler.

    Its methods may be called from any loop: what they do, they do in the server's own.

    Args:
        running: the library's server.
        stack: what serves it.
        host: what calls the handler.
        context: the context of the experiment's server.

    Attributes:
        url: where it listens, such as ``"ws://127.0.0.1:4711/"``.
        timeline: what happens in it.
        stack: what serves it.
    """

    def __init__(self, running: RunningServer, stack: Stack, host: Host, context: Context) -> None:
        self.url: Final = running.url
        self.timeline: Final[Timeline] = host.timeline
        self.stack: Final = stack
        self._running = running
        self._host = host
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._shutdown: asyncio.Task[None] | None = None

    @property
    def inside(self) -> list[str]:
        """The methods of their connections in which the handlers are now, such as ``"send()"``."""
        return [method for call in list(self._host.calls) for method in list(call.inside)]

    async def settled(self, limit: float) -> None:
        """Wait until the library has dealt with the end of its handlers.

        Args:
            limit: seconds to wait at most.
        """
        await self._at_home(self._host.settled(limit))

    async def stop_handlers(self) -> None:
        """Cancel the handlers that still run; one that refuses is recorded as leaked."""
        await self._at_home(self._host.stop())

    def shut_down(self) -> None:
        """Begin the library's own shutdown, as a server that is told to end does it."""
        self._loop.call_soon_threadsafe(self._begin_shutdown)

    async def cancel(self) -> None:
        """Cancel the handlers' tasks; wait until each handler waits for something again, or has ended."""
        await self._at_home(self._host.cancel("the fault"))

    def throw(self, exception: Exception) -> None:
        """Raise an exception in the handlers, where they wait.

        Args:
            exception: what is raised.
        """
        self._loop.call_soon_threadsafe(self._host.throw, exception)

    def block(self, seconds: float) -> None:
        """Block the server's loop, as code that computes or calls something synchronous does.

        Args:
            seconds: for how long.
        """
        self._loop.call_soon_threadsafe(self._block, seconds)

    async def stop(self) -> None:
        """Stop the handlers, and close the listening socket and every connection."""
        if self._shutdown is not None:
            self._shutdown.cancel()
            await asyncio.wait([self._shutdown])
        try:
            await self._host.stop()
        finally:
            await self._running.stop()

    async def _at_home(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is asyncio.get_running_loop():
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def _begin_shutdown(self) -> None:
        if self._shutdown is None:
            self.timeline.record("loop", "shutdown", "the shutdown begins", {"done": False})
            self._shutdown = self._loop.create_task(self._shut_down(), context=self._context)

    async def _shut_down(self) -> None:
        await self._running.shut_down()
        self.timeline.record("loop", "shutdown", "the shutdown is complete", {"done": True})

    def _block(self, seconds: float) -> None:
        self.timeline.record("loop", "blocked", f"the loop is blocked for {seconds:g} s", {"seconds": seconds})
        time.sleep(seconds)  # what it is about
        self.timeline.record("loop", "unblocked", "the loop runs again")
