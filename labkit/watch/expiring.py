"""A limit of time around a handler, which expires when a fault lets it."""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["Expiring"]


class Expiring:
    """An ``asyncio.timeout`` around a handler that never expires by itself."""

    __slots__ = ("_fired", "_limit")

    def __init__(self) -> None:
        self._limit: asyncio.Timeout | None = None
        self._fired = False

    async def __aenter__(self) -> None:
        """Begin it."""
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it. If it has fired, a cancel comes out of it, which is what the library would see without it."""
        assert self._limit is not None
        try:
            await self._limit.__aexit__(kind, exception, trace)
        except TimeoutError:
            self._fired = True
            raise asyncio.CancelledError from None

    def expire(self) -> None:
        """Let it expire, which cancels the task that is in it."""
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())

    @property
    def timed_out(self) -> bool | None:
        """Whether it has fired, when it had expired; None if it had not."""
        return self._fired if self._limit is not None and self._limit.expired() else None
