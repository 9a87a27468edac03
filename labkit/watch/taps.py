"""The taps of a server's connections: from the moment when one is accepted, until its library has let it go."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import cast
from weakref import WeakValueDictionary

from labkit.timeline import Timeline, scope
from labkit.watch.library import Tap

__all__ = ["Taps"]


class Taps:
    """The taps of a server's connections, by the connection's number.

    Args:
        timeline: where they record.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._taps: WeakValueDictionary[int, Tap] = WeakValueDictionary()
        self._kept: Collection[int] | None = None  # the connections that stay, once the others have been dropped

    def make(self, protocol: asyncio.BaseProtocol) -> Tap:
        """Stand between a protocol of the library and its transport, and record what the library does by itself.

        Args:
            protocol: what the library would give to ``loop.create_server``, for one connection.

        Returns:
            The protocol to give in its place.
        """
        tap = Tap(cast(asyncio.Protocol, protocol), self._timeline, self.next_number())
        self._taps[tap.number] = tap
        if self._kept is not None and tap.number not in self._kept:
            tap.abort()
        return tap

    def next_number(self) -> int:
        """Give the number of the next connection."""
        return 1 + self._timeline.next_number("handler")

    def get(self, number: int | None) -> Tap | None:
        """Find the tap of a connection; None if the library has let the connection go."""
        return None if number is None else self._taps.get(number)

    @property
    def here(self) -> Tap | None:
        """The tap of the connection for which the running code works."""
        here = scope.get()
        return None if here is None else self.get(here.number)

    @property
    def unsent(self) -> set[int]:
        """The numbers of the connections on which the library has data that it could not send yet."""
        return {number for number, tap in list(self._taps.items()) if tap.unsent}

    def narrow(self, only: Collection[int] | None = None) -> None:
        """Give each connection the smallest send buffer that the system allows, so that few unsent bytes fill it.

        Args:
            only: the numbers of the connections; all, if None.
        """
        for tap in list(self._taps.values()):
            if only is None or tap.number in only:
                tap.narrow()

    def abort(self, keep: Collection[int] = ()) -> None:
        """Drop the connections that are still there, and those that come from now on.

        Args:
            keep: the numbers of those that stay.
        """
        self._kept = keep
        for tap in list(self._taps.values()):
            if tap.number not in keep:
                tap.abort()
