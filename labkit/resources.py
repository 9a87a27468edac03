"""What a handler may call to appear on the timeline: resources on the cleanup lane, and notes.

Outside an experiment, both work the same but record nothing. So a handler that uses them runs anywhere.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from types import TracebackType
from typing import Any, Self

from labkit.events import CleanupClosed, CleanupClosing, CleanupOpen, CleanupTruncated, HandlerNote, ResourceEvent
from labkit.support.checks import check_seconds
from labkit.support.clock import scaled
from labkit.timeline import APPLICATION, scope

__all__ = ["Life", "note", "resource"]

_ids = itertools.count(1)


def note(text: str, /, **data: Any) -> None:
    """Record an event of your own on the handler's lane.

    Args:
        text: what happened.
        data: details by name; a value that JSON cannot hold is kept as its ``repr``.
    """
    if (here := scope.get()) is not None:
        plain = {name: value if _fits_json(value) else repr(value) for name, value in data.items()}
        here.record(HandlerNote(text=str(text), more=plain or None))


def _fits_json(value: object) -> bool:
    # JSON has no infinity and no NaN (RFC 8259, section 6).
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int | None)


class Life:
    """The life of something that must be closed, on the cleanup lane.

    Args:
        name: its name.
    """

    def __init__(self, name: str) -> None:
        self.name = str(name)
        self._number = next(_ids)
        self._scope = scope.get()

    def opened(self) -> None:
        """Record that it is open: it belongs to the connection whose handler opens it."""
        self._scope = scope.get() or self._scope
        self.record(CleanupOpen)

    def record(self, kind: type[ResourceEvent]) -> None:
        """Record a step of its life.

        Args:
            kind: the step.
        """
        # The scope of the code that made or opened the resource, since a task without that context may close it. But
        # one that is shared, such as a global, may have been opened in another experiment since.
        here, mine = scope.get(), self._scope
        if here is not None and (mine is None or here.timeline is not mine.timeline):
            mine = here
        if mine is not None:
            mine.record(kind(self._number, self.name, mine.lane == APPLICATION, text=self.name))


class resource(Life):  # noqa: N801 - used as a function is: `async with resource("database"):`
    """Something that must be closed, which takes a while: it plays the part of a database session or a lock.

    Use it with ``async with`` or in an ``AsyncExitStack``; or call :meth:`open` and :meth:`close`, to show code that
    may never be reached. The cleanup lane shows when the resource opens, when it begins to close, and when it is
    closed; or that it is truncated, if an exception (usually ``CancelledError``) ends the closing too early.

    Args:
        name: the resource's name.
        closing: seconds that closing takes, times ``LABKIT_TIME_SCALE``.

    Raises:
        BadValue: ``closing`` is not a number of seconds, or negative.
    """

    def __init__(self, name: str, *, closing: float = 0.0) -> None:
        super().__init__(name)
        self.closing = check_seconds("closing", closing, zero=True)

    def __repr__(self) -> str:
        return f"resource({self.name!r}, closing={self.closing:g})"

    async def open(self) -> Self:
        """Open the resource.

        Returns:
            The resource itself.
        """
        self.opened()
        return self

    async def close(self) -> None:
        """Close the resource, which takes ``closing`` seconds."""
        self.record(CleanupClosing)
        try:
            await asyncio.sleep(scaled(self.closing))
            if self._scope is not None:
                await self._scope.timeline.closings_may_end()
        except BaseException:
            self.record(CleanupTruncated)
            raise
        self.record(CleanupClosed)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
