"""What a handler may call to be seen: resources on the cleanup lane, and notes.

Outside an experiment both do the same and record nothing, so a handler that uses them runs anywhere.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from types import TracebackType
from typing import Any, Self

from labkit.checks import check_seconds
from labkit.clock import scaled
from labkit.timeline import place

__all__ = ["note", "resource"]

_ids = itertools.count(1)


def note(text: str, /, **data: Any) -> None:
    """Record an event of your own on the lane of the running code.

    Args:
        text: what happened.
        data: details by name; anything that JSON cannot hold is kept as its ``repr``.
    """
    if (here := place.get()) is not None:
        plain = {name: value if _fits_json(value) else repr(value) for name, value in data.items()}
        here.timeline.record(here.lane, "note", str(text), plain)


def _fits_json(value: object) -> bool:
    # JSON has no name for what is not finite.
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int | None)


class resource:  # noqa: N801 - used as a function is: `async with resource("database"):`
    """Something that must be released, and takes a while: a stand-in for a database session or a lock.

    Use it with ``async with``, in an ``AsyncExitStack``, or with :meth:`open` and :meth:`close` where the point is
    code that may never be reached. The cleanup lane shows when it opens, starts closing, and is closed, or
    truncated if an exception (as a rule ``CancelledError``) ends the closing.

    Args:
        name: what to call it.
        closing: seconds that closing takes, times ``LABKIT_TIME_SCALE``.

    Raises:
        BadValue: ``closing`` is not a number of seconds, or negative.
    """

    def __init__(self, name: str, *, closing: float = 0.0) -> None:
        self.name = str(name)
        self.closing = check_seconds("closing", closing, zero=True)
        self._data = {"resource": self.name, "id": next(_ids)}
        self._place = place.get()

    def __repr__(self) -> str:
        return f"resource({self.name!r}, closing={self.closing:g})"

    async def open(self) -> Self:
        """Open the resource.

        Returns:
            The resource itself.
        """
        self._record("open")
        return self

    async def close(self) -> None:
        """Close the resource, which takes ``closing`` seconds."""
        self._record("closing")
        try:
            await asyncio.sleep(scaled(self.closing))
        except BaseException:
            self._record("truncated")
            raise
        self._record("closed")

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _record(self, kind: str) -> None:
        # The place of the code that made it: closing may run in a task that lost the context.
        if self._place is not None:
            self._place.timeline.record("cleanup", kind, self.name, self._data)
