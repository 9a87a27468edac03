"""Counts what a client and its handler have exchanged, and tells whether their connection is over."""

from __future__ import annotations

from labkit.events import ClientEnded, ClientError, ClientExit, ClientRecv, HandlerRecv
from labkit.timeline import Timeline
from labkit.watch.over import why_over

__all__ = ["Tally"]


class Tally:
    """What the events of one connection tell, while more are recorded.

    Args:
        timeline: the events of the connection.

    Attributes:
        received: how many messages the client has received.
        read: how many messages the handler has read.
        over: why the connection is over, or about to be, as a clause; None while it is not.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.received = 0
        self.read = 0
        self.over: str | None = None
        self._timeline = timeline
        self._next = 0

    def update(self) -> None:
        """Take the events that are new."""
        events = self._timeline.recorded(self._next)
        self._next += len(events)
        for event in events:
            match event:
                case ClientRecv():
                    self.received += 1
                case HandlerRecv():
                    self.read += 1
                case ClientEnded() | ClientExit() | ClientError():
                    self.over = self.over or f"for the client: {event.text}"
                case _:
                    self.over = self.over or why_over(event)
