"""What the libraries' clients have in common: a program that connects, listens, and closes the connection properly."""

from __future__ import annotations

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

from labkit.clients.request import PLAIN, Request
from labkit.events import (
    ClientCloseSent,
    ClientConnect,
    ClientEnded,
    ClientError,
    ClientOpen,
    ClientRecv,
    ClientRefused,
    ClientSend,
    ClientTcp,
)
from labkit.support.clock import scaled
from labkit.support.descriptors import is_starved, note_starved
from labkit.support.sockets import find_ports, keep_from_children
from labkit.support.wording import describe_exception
from labkit.timeline import Scope, Timeline, scope

__all__ = ["LibraryClient"]

#: Seconds that an aborted client may take to end after each cancel.
_STOP = 0.5


class LibraryClient(ABC):
    """A client written with a library, in the way of the library's users.

    Args:
        url: the server's URL.
        timeline: where it records.
        options: keyword arguments for the library's function.
        number: the client's number among those of the experiment, from 1.
        request: what it asks for in its opening handshake.

    Attributes:
        url: where it connects.
        timeline: where it records.
        number: its number.
        on_message: called with each message that it receives, if somebody wants them.
        here: the scope of the client.
        name: the client's name.
        function: the library's function that takes the options, by the name that a reader knows.
        request_options: the names of the options with which that function is given headers and subprotocols.
    """

    name: ClassVar[str]
    function: ClassVar[str]
    request_options: ClassVar[tuple[str, str]]

    def __init__(
        self,
        url: str,
        timeline: Timeline,
        options: Mapping[str, Any],
        number: int = 1,
        request: Request = PLAIN,
    ) -> None:
        self.timeline = timeline
        self.number = number
        self.on_message: Callable[[str | bytes], None] | None = None
        self.here = Scope(timeline, "client", number)
        self.url = request.url(url)
        given = zip(self.request_options, (dict(request.headers), list(request.subprotocols)), strict=True)
        self.options = {**options, **{name: value for name, value in given if value}}
        self._connection: Any = None
        self._opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outbox: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._main_task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._end_recorded = False
        # What the library logs in the client's tasks belongs to the client's lane.
        self._context = contextvars.copy_context()
        self._context.run(scope.set, self.here)

    @classmethod
    def asks_for(cls, request: Request, option: str) -> str | None:
        """Tell whether a request already says what an option of the library's function would say.

        Args:
            request: what the client asks for.
            option: the option's name.

        Returns:
            The request's own name for it, or None.
        """
        headers, subprotocols = cls.request_options
        asked = {headers: "headers" if request.headers else None}
        asked[subprotocols] = "subprotocols" if request.subprotocols else None
        return asked.get(option)

    @classmethod
    @abstractmethod
    def option_names(cls) -> set[str]:
        """List the keyword arguments that the library's function takes."""

    @abstractmethod
    def _connect(self) -> AbstractAsyncContextManager[Any]:
        """Connect with the library's ``async with``, whose end closes the connection properly."""

    @abstractmethod
    async def _listen(self, connection: Any) -> None:
        """Receive and record messages until the library reports the end; then record the end."""

    @abstractmethod
    async def _send(self, connection: Any, message: str | bytes) -> None:
        """Send a message."""

    @abstractmethod
    async def _close(self, connection: Any, code: int, reason: str) -> None:
        """Close the connection."""

    @abstractmethod
    async def _abort(self) -> None:
        """Drop the TCP connection, if there is one."""

    @abstractmethod
    def _status_of(self, exception: Exception) -> int | None:
        """Read the HTTP status from the exception of a refused handshake."""

    async def ready(self) -> None:
        """Return at once, since this client runs in the lab's own process."""
        return

    async def connect(self) -> bool:
        """Connect, and do the opening handshake.

        Returns:
            Whether the server accepted. If it did not, the timeline says how the library reports that.
        """
        self.here.record(ClientConnect(self.name, text=f"connect {self.url}"))
        self._main_task = self._start(self._run())
        return await asyncio.shield(self._opened)

    def send(self, message: str | bytes) -> None:
        """Send a message, after those that still wait to be sent."""
        self._outbox.put_nowait(message)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close the connection in the library's own way.

        Args:
            code: the close code; a library always sends one.
            reason: the reason, at most 123 bytes of UTF-8.
        """
        if self._connection is not None and not self._end_recorded:
            code = 1000 if code is None else code
            self.here.record(ClientCloseSent.of(code, reason))
            self._closing = self._start(self._guard(self._close, self._connection, code, reason))

    async def signal(self, number: int) -> None:
        """Refuse, since this client runs in the lab's own process."""
        raise NotImplementedError(f"signal {number} needs a client in a process of its own")

    async def ended(self) -> None:
        """Wait until the library has reported the end."""
        await self._over.wait()

    async def leave(self) -> None:
        """Cancel the client, as ``asyncio.run`` does on Ctrl+C, and let it close the connection in its own way."""
        if self._main_task is not None:
            self._main_task.cancel()
            await asyncio.wait([self._main_task])

    async def stop(self) -> None:
        """Drop the connection at once, if it is still there."""
        if self._main_task is None:
            return
        if not self._main_task.done():
            doing = "open" if self._opened.done() else "connecting"
            self.record_end("still-open", f"still {doing} when the lab stopped it", None, None)
        await self._abort()
        # On a cancel, a library may first try a closing handshake that nobody answers. So cancel it again and again.
        while not self._main_task.done():
            for task in self._tasks:
                task.cancel()
            await asyncio.wait([self._main_task], timeout=scaled(_STOP))
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def closed(self) -> None:
        """Wait for the end of the client's own closing handshake, if it has begun one."""
        if self._closing is not None:
            await asyncio.wait([self._closing])

    def connected(self, transport: asyncio.BaseTransport | None) -> None:
        """Record the ports of a TCP connection that the library has made.

        Args:
            transport: the connection's transport.
        """
        if transport is None:
            return
        keep_from_children(transport)
        if (ports := find_ports(transport, connected=True)) is not None:
            self.here.record(ClientTcp(ports, text="TCP connection made"))

    def received(self, message: str | bytes) -> None:
        """Record a message."""
        self.here.record(ClientRecv.of(message))
        if self.on_message is not None:
            self.on_message(message)

    def record_end(self, how: str, text: str, code: int | None, exception: BaseException | None) -> None:
        """Record how the connection ended for the client; only the first call counts.

        Args:
            how: ``"told"`` if the library reported the end without an exception, ``"error"`` or ``"still-open"``.
            text: how it ended, for a reader.
            code: the close code that the library reports.
            exception: the exception with which the library reported the end, if it used one.
        """
        if not self._end_recorded:
            self._end_recorded = True
            description = None if exception is None else describe_exception(exception)
            self.here.record(ClientEnded(how, None if code is None else int(code), description, text=text))

    async def _run(self) -> None:
        sender: asyncio.Task[None] | None = None
        try:
            async with self._connect() as connection:
                self._connection = connection
                self.here.record(ClientOpen(101, text="handshake complete"))
                self._opened.set_result(True)
                sender = self._start(self._guard(self._send_all, connection))
                await self._listen(connection)
        except Exception as exception:
            self._record_failure(exception)
        finally:
            if sender is not None:
                sender.cancel()
            if not self._opened.done():
                self._opened.set_result(False)
            self._over.set()

    async def _send_all(self, connection: Any) -> None:
        while True:
            message = await self._outbox.get()
            self.here.record(ClientSend.of(message))
            await self._send(connection, message)

    async def _guard(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Call a coroutine function, await it, and record what it raises."""
        # The coroutine is made here: if the task is cancelled before its first step, none is left that nobody awaited.
        try:
            await work(*args)
        except Exception as exception:
            description = describe_exception(exception)
            self.here.record(ClientError(description, text=description))

    def _record_failure(self, exception: Exception) -> None:
        if is_starved(exception):
            note_starved()
        description = describe_exception(exception)
        if not self._opened.done():
            self.here.record(ClientRefused(self._status_of(exception), description, text=description))
            self._end_recorded = True
        else:
            self.record_end("error", f"connection ended: {description}", None, exception)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
