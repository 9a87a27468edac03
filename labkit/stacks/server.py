"""A running server, and what the lab can do to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

from labkit.events import LoopBlocked, LoopException, LoopShutdown, LoopUnblocked
from labkit.stacks.stack import RunningServer, Stack
from labkit.support.clock import scaled
from labkit.support.wording import describe_exception
from labkit.timeline import Timeline
from labkit.watch.block import Blocks
from labkit.watch.host import Host
from labkit.watch.moments import Moment
from labkit.watch.rest import waits_outside
from labkit.watch.through import Exchanges, Held, Through

__all__ = ["Server"]

T = TypeVar("T")

#: Seconds that a shutdown may still take when its handlers have ended.
_SHUTDOWN: Final = 1.0


class Server:
    """A server with a handler, as ``labkit.host`` yields it.

    Its methods may be called from any loop; they act in the server's own loop.

    Args:
        running: the library's server.
        stack: the stack that runs it.
        host: what calls the handler.
        context: the context for tasks of the server.
        blocks: tells when a handler keeps the server's loop to itself.

    Attributes:
        url: where it listens, such as ``"ws://127.0.0.1:4711/"``.
        timeline: what happens in it.
        stack: the stack that runs it.
        blocks: tells when a handler keeps the server's loop to itself.
        seen: that the lab sees its handlers.
    """

    seen = True

    def __init__(self, running: RunningServer, stack: Stack, host: Host, context: Context, blocks: Blocks) -> None:
        self.url: Final = running.url
        self.timeline: Final[Timeline] = host.timeline
        self.stack: Final = stack
        self.blocks: Final = blocks
        self._running = running
        self._host = host
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._shutdown: asyncio.Task[None] | None = None

    @property
    def inside(self) -> list[tuple[int, str]]:
        """The methods in which the handlers are now: the connection's number, and the method, such as ``"send()"``."""
        return [(call.number, method) for call in list(self._host.calls) for method in list(call.inside)]

    @property
    def running(self) -> set[int]:
        """The numbers of the connections whose handlers run now."""
        return {call.number for call in list(self._host.calls)}.union(self._host.outlines.running)

    @property
    def over(self) -> set[int]:
        """The numbers of those that are over, as far as the timeline does not tell it; in the server's own loop."""
        return self._host.over

    def stands(self, only: Collection[int]) -> tuple[int | None, int]:
        """Tell where a handler waits.

        Args:
            only: the numbers, on the server's side, of the handler's connection.

        Returns:
            The line, in the handler's file, at which it waits, or None; and how many times it has waited by now.
        """
        return self._host.stands(only)

    @property
    def waits_outside(self) -> bool:
        """Whether a handler waits for something outside the lab; in the server's own loop."""
        return any(waits_outside(call) for call in list(self._host.calls))

    def watch_for(self, moment: Moment) -> None:
        """Have a moment looked for in the handlers that are called from now on."""
        self._host.moment = moment

    async def through(self, exchanges: Exchanges, sent: int, patience: float, held: Held | None = None) -> Through:
        """Wait until all is through that a client has sent; see ``labkit.watch.through``.

        Args:
            exchanges: what watches the client and its handler; see ``exchanges``.
            sent: how many messages it has sent, or is about to send.
            patience: the longest wait, in seconds.
            held: what the wire holds of the conversation, for the moment at which it does.

        Returns:
            How it is known; or that it is unknown, when the patience is over.
        """
        return await self._in_own_loop(exchanges.through(sent, patience, held))

    def exchanges(self, timeline: Timeline, served: Callable[[], Collection[int]]) -> Exchanges:
        """Make what watches a client and its handler.

        Args:
            timeline: the events of the client's connection.
            served: returns the numbers of the connection on the server's side.
        """
        return Exchanges(timeline, self._host.calls, served)

    async def settled(self, limit: float, only: Collection[int] | None = None) -> None:
        """Wait until the library has dealt with the end of its handlers.

        Args:
            limit: the longest wait, in seconds.
            only: the numbers, on the server's side, of the connections; all, if None.
        """
        await self._in_own_loop(self._host.aftermath.settled(limit, only))

    async def look(self, only: Collection[int]) -> None:
        """Look at what handlers have started by now, since it may end together with them.

        Args:
            only: the numbers, on the server's side, of the handlers' connections.
        """
        await self._in_own_loop(self._host.aftermath.look(only))

    async def outlived(self, limit: float, only: Collection[int] | None = None) -> None:
        """Wait until nothing is left of what handlers have started that have ended.

        Args:
            limit: the longest wait, in seconds.
            only: the numbers, on the server's side, of the handlers' connections; all, if None.
        """
        await self._in_own_loop(self._host.aftermath.outlived(limit, only))

    async def tell_left(self, only: Collection[int] | None = None) -> None:
        """Record what is left of what handlers have started that have ended.

        Args:
            only: the numbers, on the server's side, of the handlers' connections; all, if None.
        """
        await self._in_own_loop(self._host.aftermath.tell(only))

    async def stop_handlers(self) -> None:
        """Cancel the handlers that still run. A handler that refuses to end is recorded as leaked."""
        await self._in_own_loop(self._host.stop())

    async def abort(self, keep: Collection[int]) -> None:
        """Drop the connections that are still there.

        Args:
            keep: the numbers, on the server's side, of those that stay.
        """

        async def abort() -> None:
            self._host.taps.abort(keep)

        await self._in_own_loop(abort())

    def shut_down(self) -> None:
        """Begin the library's own shutdown, as when somebody stops the server's process."""
        self._loop.call_soon_threadsafe(self._begin_shutdown)

    async def cancel(self, only: Collection[int] | None = None) -> None:
        """Cancel the handlers' tasks; wait until each handler waits for something again, or has ended.

        Args:
            only: the numbers, on the server's side, of the connections; all, if None.
        """
        await self._in_own_loop(self._host.cancel("the fault", only))

    async def expire(self, only: Collection[int] | None = None) -> None:
        """Let the limits of time around the handlers expire; wait until each waits for something again, or has ended.

        Args:
            only: the numbers, on the server's side, of the connections; all, if None.
        """
        await self._in_own_loop(self._host.expire(only))

    def throw(self, exception: Exception, only: Collection[int] | None = None) -> None:
        """Raise an exception in the handlers, at the place where each waits.

        Args:
            exception: the exception.
            only: the numbers, on the server's side, of the connections; all, if None.
        """
        self._loop.call_soon_threadsafe(self._host.throw, exception, only)

    def narrow(self, only: Collection[int] | None = None) -> None:
        """Give each connection a small send buffer in the system, so that few unsent bytes fill it.

        Args:
            only: the numbers, on the server's side, of the connections; all, if None.
        """
        self._loop.call_soon_threadsafe(self._host.taps.narrow, only)

    def block(self, seconds: float) -> None:
        """Block the server's loop, as a long computation or a synchronous call does.

        Args:
            seconds: how long to block it.
        """
        self._loop.call_soon_threadsafe(self._block, seconds)

    async def stop(self) -> None:
        """Stop the handlers, and close the listening socket and every connection."""
        try:
            await self._host.stop()
            if self._shutdown is not None:
                # With its handlers gone it soon ends, and an application has closed what is its own.
                await asyncio.wait([self._shutdown], timeout=scaled(_SHUTDOWN))
                self._shutdown.cancel()
                await asyncio.wait([self._shutdown])
            await self._host.aftermath.end()
        finally:
            await self._running.stop_accepting()
            try:
                await self._running.stop()
            except Exception as error:
                self._record_failure("the cleanup failed", error)
            self._host.taps.abort()

    async def _in_own_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is asyncio.get_running_loop():
            return await coroutine
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:  # the loop has ended by itself, as after an interrupt in a handler
            coroutine.close()
            raise
        return await asyncio.wrap_future(future)

    def _begin_shutdown(self) -> None:
        if self._shutdown is None:
            self.timeline.append(LoopShutdown(done=False, text="the shutdown begins"))
            self._shutdown = self._loop.create_task(self._shut_down(), context=self._context)

    async def _shut_down(self) -> None:
        # asyncio leaves a client's socket open, unclosed, that it accepts in the turn in which the listener closes.
        await self._running.stop_accepting()
        try:
            await self._running.shut_down()
        except Exception as error:  # an application's own code, such as `on_shutdown`
            self._record_failure("the shutdown failed", error)
        else:
            self.timeline.append(LoopShutdown(done=True, text="the shutdown is complete"))

    def _record_failure(self, what: str, error: Exception) -> None:
        description = describe_exception(error)
        self.timeline.append(LoopException(description, what, text=f"{what}: {description}"))

    def _block(self, seconds: float) -> None:
        self.timeline.append(LoopBlocked(seconds, text=f"the loop is blocked for {seconds:g} s"))
        time.sleep(seconds)  # not asyncio.sleep: the point is to block the loop
        self.timeline.append(LoopUnblocked(text="the loop runs again"))
