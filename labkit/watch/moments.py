"""Moments in a handler's run at which a fault shall strike; the handler is held there until it has struck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from labkit.events import HandlerNote, HandlerStart
from labkit.support.clock import scaled
from labkit.timeline import Timeline

__all__ = ["AfterSeconds", "AtNote", "AtSuspension", "BeforeClose", "Moment"]


class Moment:
    """Finds a moment in the run of one client's handler.

    Between that moment and the fault other code must not decide what the fault finds. So where the moment is a step of
    the handler itself, the handler does not go on before the fault has struck. To the handler that is a loop with much
    else to do. A cancel still reaches it.

    Args:
        words: the moment, for a reader, such as ``"at await 7"``; None if it needs no words.
        served: returns the numbers of the client's connection on the server's side.

    Attributes:
        words: the moment, for a reader.
        doubt: why it is unknown whether it is this moment, as a clause; None if it is known.
    """

    doubt: str | None = None

    def __init__(self, words: str | None, served: Callable[[], Collection[int]]) -> None:
        self.words = words
        self._served = served
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        # What the handler waits for that is held; done, when it is held no more.
        self._gate: asyncio.Future[None] | None = None

    # Called where the experiment runs.

    @property
    def has_come(self) -> bool:
        """Whether the moment has come."""
        return self._gate is not None or self._came.is_set()

    async def wait(self) -> None:
        """Wait until the moment has come."""
        await self._came.wait()

    def struck(self) -> None:
        """Note that the fault has begun to strike."""

    def release(self) -> None:
        """Let the handler go on, in the next turn of its loop: a cancel that the fault has begun comes to it first."""
        if self._gate is not None:
            self._gate.get_loop().call_soon_threadsafe(self._open)

    @property
    def missed(self) -> str:
        """Why it has not come, as a clause."""
        raise NotImplementedError

    # Called in the server's loop.

    def suspended(self, number: int) -> None:
        """Note that a handler waits for something.

        Args:
            number: the number of its connection.
        """
        if self._gate is None and number in self._served() and self._is_now():
            self._come()

    def closes(self, number: int, *, spoken: bool) -> None:
        """Note that a handler is about to close its connection.

        Args:
            number: the number of its connection.
            spoken: whether it has sent a message before.
        """

    def hold(self, number: int) -> asyncio.Future[None] | None:
        """Return what a handler has to wait for before it goes on; None if it may.

        Args:
            number: the number of its connection.
        """
        if self._gate is None or self._gate.done():
            return None
        return self._gate if number in self._served() else None

    def _is_now(self) -> bool:
        """Whether this suspension of the handler is the moment."""
        return False

    def _come(self) -> None:
        self._gate = asyncio.get_running_loop().create_future()
        self._loop.call_soon_threadsafe(self._came.set)

    def _open(self) -> None:
        assert self._gate is not None
        if not self._gate.done():  # a cancel may have come to the handler there
            self._gate.set_result(None)


class AtSuspension(Moment):
    """When the handler has suspended for the nth time.

    Args:
        count: how many times.
        served: returns the numbers of the client's connection on the server's side.
    """

    def __init__(self, count: int, served: Callable[[], Collection[int]]) -> None:
        super().__init__(f"at await {count}", served)
        self._count = count
        self._seen = 0

    @property
    def missed(self) -> str:
        """How many times it has suspended."""
        return f"the handler had suspended {self._seen} time{'s' * (self._seen != 1)}, not {self._count}"

    def _is_now(self) -> bool:
        self._seen += 1
        return self._seen == self._count


class AtNote(Moment):
    """When the handler has called ``labkit.note`` with a text.

    The handler is held where it waits next. A note of another task, or of a thread, holds nobody.

    Args:
        note: the text.
        timeline: the events of the connection.
        served: returns the numbers of the client's connection on the server's side.
    """

    def __init__(self, note: str, timeline: Timeline, served: Callable[[], Collection[int]]) -> None:
        super().__init__(f"at the note {note!r}", served)
        self._note = note
        self._timeline = timeline
        self._next = 0

    async def wait(self) -> None:
        """Wait for the note, whoever makes it."""
        await self._timeline.until(self._is_it)
        self._came.set()

    @property
    def missed(self) -> str:
        """That there was no such note."""
        return f"there was no note {self._note!r}"

    def _is_it(self, event: object) -> bool:
        return isinstance(event, HandlerNote) and event.text.strip() == self._note

    def _is_now(self) -> bool:
        events = self._timeline.recorded(self._next)
        self._next += len(events)
        return any(map(self._is_it, events))


class BeforeClose(Moment):
    """When the handler has sent something to the client and is about to close the connection.

    Args:
        served: returns the numbers of the client's connection on the server's side.
    """

    def __init__(self, served: Callable[[], Collection[int]]) -> None:
        super().__init__(None, served)

    def closes(self, number: int, *, spoken: bool) -> None:
        """Note that a handler is about to close its connection."""
        if spoken and self._gate is None and number in self._served():
            self._come()


class AfterSeconds(Moment):
    """When some time is over since the handler has started; it holds nobody.

    Args:
        seconds: the time, in seconds.
        timeline: the events of the connection.
        served: returns the numbers of the client's connection on the server's side.
    """

    def __init__(self, seconds: float, timeline: Timeline, served: Callable[[], Collection[int]]) -> None:
        super().__init__(f"after {seconds:g} s", served)
        self._seconds = seconds
        self._timeline = timeline

    async def wait(self) -> None:
        """Wait for that time."""
        await self._timeline.until(lambda event: isinstance(event, HandlerStart))
        await asyncio.sleep(scaled(self._seconds))
        self._came.set()

    @property
    def missed(self) -> str:
        """That the time was not over."""
        return f"{self._seconds:g} s were not over"
