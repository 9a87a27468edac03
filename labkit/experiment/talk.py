"""A talk: the conversation of a client, as its user writes it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from labkit.clients import Client
from labkit.errors import BadValue
from labkit.events import ClientCloseReceived, ClientCloseSent, ClientEnded, ClientExit, ClientFailed, Event
from labkit.faults.fault import check_close
from labkit.support.checks import check_text
from labkit.support.clock import scaled, timeout
from labkit.support.wording import describe_briefly, describe_exception
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.handler import name_of, original
from labkit.watch.through import Through

__all__ = ["Function", "Talk", "TalkingClient"]

#: How many times a talk that still runs at the end is cancelled, and how long it may take each time, in seconds.
_TRIES: Final = 2
_STOP: Final = 0.5


class _Over(ConnectionError):
    """The connection is over for the client."""

    __module__, __qualname__ = "builtins", "ConnectionError"  # as a talk knows it, and as it is told


def _is_over(event: Event) -> bool:
    return isinstance(event, ClientCloseSent | ClientCloseReceived | ClientEnded | ClientExit)


class TalkingClient:
    """The client, as a talk has it: the same whichever library the client is written with.

    Args:
        client: the client; not yet connected.
        timeline: the events of its connection.
        send: makes it send a message.

    Attributes:
        number: its number among the clients of the experiment, from 1.
        steps: how many times a method was called or has returned.
        inside: the method in which the talk is, such as ``"recv()"``, or "".
    """

    def __init__(self, client: Client, timeline: Timeline, send: Callable[[str | bytes], None]) -> None:
        self.number: Final = client.number
        self.steps = 0
        self.inside = ""
        self._client = client
        self._timeline = timeline
        self._send = send
        self._messages: deque[str | bytes] = deque()
        self._came = asyncio.Event()
        self._over: str | None = None
        self._read = 0
        client.on_message = self._take

    def __repr__(self) -> str:
        return f"<client {self.number}>"

    async def send(self, message: str | bytes) -> None:
        """Send a message.

        Args:
            message: a ``str`` for a text message, ``bytes`` for a binary one.

        Raises:
            ConnectionError: the connection is over.
            BadValue: it is not a message.
        """
        if isinstance(message, str):
            check_text("the message", message)
        elif not isinstance(message, bytes):
            raise BadValue(f"the message {message!r} is neither str (a text message) nor bytes (a binary one)")
        self.steps += 1
        self._check("send()")
        self._send(message)
        await asyncio.sleep(0)  # a client that sends and sends must not block the loop

    async def recv(self) -> str | bytes:
        """Wait for the next message.

        Returns:
            The message.

        Raises:
            ConnectionError: the connection is over, and all messages have been received.
        """
        self.steps += 1
        self.inside = "recv()"
        try:
            with self._timeline.changes() as changed:
                self._came = changed
                while not self._messages:
                    changed.clear()
                    self._check("recv()")
                    await changed.wait()
            return self._messages.popleft()
        finally:
            self.steps += 1
            self.inside = ""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection with a Close frame, and wait until it is over.

        Args:
            code: the close code.
            reason: the reason, at most 123 bytes of UTF-8.

        Raises:
            BadValue: such a Close frame may not be sent.
        """
        check_close(code, reason)
        self.steps += 1
        self.inside = "close()"
        try:
            self._client.close(code, reason)
            await self._timeline.until(lambda event: isinstance(event, ClientEnded | ClientExit))
        finally:
            self.steps += 1
            self.inside = ""

    def _take(self, message: str | bytes) -> None:
        self._messages.append(message)
        self._came.set()

    def _check(self, method: str) -> None:
        """Raise an error if the connection is over for the client."""
        events = self._timeline.recorded(self._read)
        self._read += len(events)
        self._over = self._over or next((event.text for event in events if _is_over(event)), None)
        if self._over is not None:
            raise _Over(f"{method}: the connection is over: {self._over}")


#: A talk, as users write it.
Function = Callable[[TalkingClient], Coroutine[Any, Any, Any]]


class Talk:
    """Runs the talk of one client.

    Args:
        function: the user's coroutine function.
        client: the client; not yet connected.
        timeline: the events of its connection.
        send: makes it send a message.

    Attributes:
        failure: what the function has raised before the fault struck, as a clause; None if it has raised nothing.
    """

    def __init__(
        self, function: Function, client: Client, timeline: Timeline, send: Callable[[str | bytes], None]
    ) -> None:
        self.failure: str | None = None
        self._name: Final = f"{name_of(function)}()"
        self._function = function
        self._client = TalkingClient(client, timeline, send)
        self._here = Scope(client.timeline, "client", client.number)
        self._task: asyncio.Task[None] | None = None
        self._struck = False

    async def through(self, patience: float) -> Through:
        """Begin, and wait until the function has returned.

        Args:
            patience: how long it may do nothing with the client, in seconds.

        Returns:
            That it has returned or failed; or that it has done nothing for so long. It then goes on.
        """
        if self._task is None:
            # What it prints, and what it starts, belongs to the client.
            context = contextvars.copy_context()
            context.run(scope.set, self._here)
            self._task = asyncio.get_running_loop().create_task(self._run(), context=context)
        while True:
            before = self._client.steps
            with contextlib.suppress(TimeoutError):
                async with timeout(patience):
                    await asyncio.wait([self._task])
            if self._task.done():
                return Through(f"{self._name} had returned" if self.failure is None else self.failure)
            if self._client.steps == before:
                doing = f"waited in {self._client.inside}" if self._client.inside else "not called the client"
                return Through(f"{self._name} had {doing} for {patience:g} s", known=False)

    def struck(self) -> None:
        """Note that the fault strikes: from now on, the end of the connection is no failure of the talk."""
        self._struck = True

    async def stop(self) -> None:
        """Cancel the function if it still runs. If it does not end, it is left to the loop."""
        for _ in range(_TRIES):
            if self._task is None or self._task.done():
                return
            self._task.cancel()
            await asyncio.wait([self._task], timeout=scaled(_STOP))

    async def _run(self) -> None:
        try:
            await self._function(self._client)
        except asyncio.CancelledError as exception:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._fail(exception)
        except _Over as exception:
            if not self._struck:
                self._fail(exception)
        except (Exception, SystemExit, KeyboardInterrupt) as exception:
            # In a task, the last two would end the loop, and with it the experiment.
            self._fail(exception)

    def _fail(self, exception: BaseException) -> None:
        line = self._line(exception)
        first = next(iter(describe_briefly(exception).splitlines()), "")  # pytest explains an assertion in many lines
        what = f"{self._name} raised {first}" + ("" if line is None else f", line {line}")
        if not self._struck:
            self.failure = what
        self._here.record(ClientFailed(describe_exception(exception), line, text=what))

    def _line(self, exception: BaseException) -> int | None:
        """The last line of the function's own file that the exception has passed."""
        code = getattr(original(self._function), "__code__", None)
        frames = traceback.extract_tb(exception.__traceback__)
        lines = [frame.lineno for frame in frames if code is not None and frame.filename == code.co_filename]
        return lines[-1] if lines else None
