"""What the clients of the libraries have in common: a program that connects, listens, and leaves politely."""

from __future__ import annotations

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

from labkit.clock import scaled
from labkit.timeline import Place, Timeline, place
from labkit.wording import of_close, of_exception, of_message

__all__ = ["LibraryClient"]

#: Seconds that a client whose connection was aborted may take to end, each time it is asked to.
_STOP = 0.5


class LibraryClient(ABC):
    """A client written with a library, as its users write one.

    Args:
        url: where it connects.
        timeline: where it records.
        options: keyword arguments for the library's function.

    Attributes:
        timeline: where it records.
        name: the client's name.
        function: the library's function that takes the options, as a reader knows it.
    """

    name: ClassVar[str]
    function: ClassVar[str]

    def __init__(self, url: str, timeline: Timeline, options: Mapping[str, Any]) -> None:
        self.timeline = timeline
        self.url = url
        self.options = options
        self._connection: Any = None
        self._opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outbox: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._life: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._told_end = False
        # What the library logs in the client's tasks belongs to the client's lane.
        self._context = contextvars.copy_context()
        self._context.run(place.set, Place(timeline, "client"))

    @classmethod
    @abstractmethod
    def option_names(cls) -> set[str]:
        """List the keyword arguments that the library's function takes."""

    @abstractmethod
    def _connect(self) -> AbstractAsyncContextManager[Any]:
        """Connect as the library does it: an ``async with`` whose end is the polite one."""

    @abstractmethod
    async def _listen(self, connection: Any) -> None:
        """Receive until the library says that it is over; record all of it."""

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
        """Read the HTTP status off the exception of a refused handshake."""

    async def ready(self) -> None:
        """Return at once: this client's program is the lab's own."""
        return

    async def connect(self) -> bool:
        """Connect, and do the opening handshake.

        Returns:
            Whether the server agreed; where it did not, the timeline says how the library tells it.
        """
        self.timeline.record("client", "connect", f"connect {self.url}", {"client": self.name})
        self._life = self._start(self._live())
        return await asyncio.shield(self._opened)

    def send(self, message: str | bytes) -> None:
        """Send a message, behind those that still wait to be sent."""
        self._outbox.put_nowait(message)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close the connection, as the library does it.

        Args:
            code: the close code; a library always sends one.
            reason: the reason, at most 123 bytes of UTF-8.
        """
        if self._connection is not None and not self._told_end:
            code = 1000 if code is None else code
            self.timeline.record("client", "close-sent", *of_close(code, reason))
            self._closing = self._start(self._guard(self._close(self._connection, code, reason)))

    async def signal(self, number: int) -> None:
        """Refuse: this client lives in the lab's own process."""
        raise NotImplementedError(f"signal {number} needs a client in a process of its own")

    async def ended(self) -> None:
        """Wait until the library has said that it is over."""
        await self._over.wait()

    async def leave(self) -> None:
        """Cancel the client where it is, as ``asyncio.run`` does on Ctrl+C, and let it leave in its own way."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])

    async def stop(self) -> None:
        """End the connection without ceremony, if there still is one."""
        if self._life is None:
            return
        if not self._life.done():
            doing = "open" if self._opened.done() else "connecting"
            self.end("still-open", f"still {doing} when the lab stopped it", None, None)
        await self._abort()
        while not self._life.done():  # a library may answer a cancel with a polite goodbye, which nobody will answer
            for task in self._tasks:
                task.cancel()
            await asyncio.wait([self._life], timeout=scaled(_STOP))
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def closed(self) -> None:
        """Wait until the client's own closing, if it has begun one, is through."""
        if self._closing is not None:
            await asyncio.wait([self._closing])

    def received(self, message: str | bytes) -> None:
        """Record a message."""
        self.timeline.record("client", "recv", *of_message(message))

    def end(self, how: str, text: str, code: int | None, exception: BaseException | None) -> None:
        """Record that, and how, the library told the client of the end.

        Args:
            how: ``"told"``, ``"error"`` or ``"still-open"``.
            text: the same for a reader.
            code: the close code that the library reports.
            exception: what it raised or gave, if anything.
        """
        if not self._told_end:
            self._told_end = True
            told = None if exception is None else of_exception(exception)
            self.timeline.record(
                "client", "ended", text, {"how": how, "code": None if code is None else int(code), "exception": told}
            )

    async def _live(self) -> None:
        sender: asyncio.Task[None] | None = None
        try:
            async with self._connect() as connection:
                self._connection = connection
                self.timeline.record("client", "open", "handshake complete", {"status": 101})
                self._opened.set_result(True)
                sender = self._start(self._guard(self._send_all(connection)))
                await self._listen(connection)
        except Exception as exception:
            self._failed(exception)
        finally:
            if sender is not None:
                sender.cancel()
            if not self._opened.done():
                self._opened.set_result(False)
            self._over.set()

    async def _send_all(self, connection: Any) -> None:
        while True:
            message = await self._outbox.get()
            self.timeline.record("client", "send", *of_message(message))
            await self._send(connection, message)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as exception:
            told = of_exception(exception)
            self.timeline.record("client", "error", told, {"exception": told})

    def _failed(self, exception: Exception) -> None:
        told = of_exception(exception)
        if not self._opened.done():
            data = {"status": self._status_of(exception), "exception": told}
            self.timeline.record("client", "refused", told, data)
            self._told_end = True
        else:
            self.end("error", f"connection ended: {told}", None, exception)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
