"""Where a handler stops: each time that it waits, and the moments at which it is held until a fault has struck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from labkit.support.flag import Flag
from labkit.watch.moments import Moment

__all__ = ["Stops"]


class Stops:
    """The stops of one call of the handler.

    Args:
        number: the number of the call.

    Attributes:
        number: the number of the call.
        moment: the moment at which a fault shall strike, if one is looked for.
        suspensions: how many times the handler has waited for something.
        waits: set whenever the handler waits for something, and when it has ended.
    """

    # There may be thousands.
    __slots__ = ("_goes_on", "_when_it_stops", "moment", "number", "suspensions", "waits")

    def __init__(self, number: int) -> None:
        self.number = number
        self.moment: Moment | None = None
        self.suspensions = 0
        self.waits = Flag()
        self._goes_on = True
        self._when_it_stops: frozenset[Callable[[], None]] = frozenset()

    def suspended(self, awaited: object) -> None:
        """Note that the handler waits for a future; or, with None, that it has only let others have a turn."""
        self.suspensions += 1
        if self._goes_on:
            self._goes_on = False
            self.waits.set()
        if self._when_it_stops and awaited is not None:
            self._stops()
        if self.moment is not None:
            self.moment.suspended(self.number)

    def goes_on(self) -> None:
        """Note that the handler does not wait now, or will soon go on."""
        self._goes_on = True
        self.waits.clear()

    def held(self) -> asyncio.Future[None] | None:
        """Return what the handler has to wait for before it goes on, beyond what it awaits; None if it may."""
        if self.moment is None:
            return None
        if (gate := self.moment.hold(self.number)) is not None:
            self._stops()
        return gate

    def when_it_stops(self, tell: Callable[[], None]) -> None:
        """Have something called once, when the handler next waits for a future; its end is an event."""
        self._when_it_stops |= {tell}

    def _stops(self) -> None:
        told, self._when_it_stops = self._when_it_stops, frozenset()
        for tell in told:
            tell()
