"""A run, told to the learner: what struck when, and what became of the handler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

from labkit.experiment import Run
from labkit.timeline import Event
from labkit.views.words import stop_of, zero

__all__ = ["Story", "milliseconds"]

#: More events than this are not listed one by one.
_TOLD: Final = 5

#: The family of a fault → what the learner sees of it.
_STRUCK: Final = {
    "closing": "the client said goodbye",
    "transport": "the client vanished",
    "silence": "the connection fell silent",
    "process": "the client's process was ended",
    "protocol": "the client broke the protocol",
    "middlebox": "something between you and the client acted",
    "handshake": "the handshake broke",
}
_STRUCK_BY_NAME: Final = {
    "ignore-close": "the client stopped answering Close frames",
    "slow-link": "the network became slow",
    "idle-timeout": "a proxy cut the quiet connection",
    "shutdown": "the server began to shut down",
    "handler-error": "an error was raised in your handler",
    "blocked-loop": "the server's loop was blocked",
    "second-cancel": "your handler was cancelled",
}


def milliseconds(seconds: float) -> str:
    """Write a time as a learner reads it, such as ``2,000 ms``."""
    return f"{seconds * 1000:,.0f} ms"


class Story:
    """The landmarks of a run, and sentences about them.

    What happened after the lab ended the experiment is the lab's doing, and no part of it.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        everything = list(run.timeline)
        stop = stop_of(everything)
        self.run: Final = run
        self.events: Final = everything if stop is None else everything[:stop]
        self.zero: Final = zero(everything)[0]
        self.stop: Final = None if stop is None else everything[stop]

    @cached_property
    def fault(self) -> Event | None:
        """The moment of the fault."""
        return self.first("wire", "fault")

    @cached_property
    def start(self) -> Event | None:
        """The handler's start."""
        return self.first("handler", "start")

    @cached_property
    def end(self) -> Event | None:
        """The handler's end."""
        return self.first("handler", "end")

    def first(self, lane: str, *kinds: str) -> Event | None:
        """Find the first event of these kinds."""
        return next(self.all(lane, *kinds), None)

    def all(self, lane: str, *kinds: str) -> Iterator[Event]:
        """Find the events of these kinds, in order."""
        return (event for event in self.events if event.lane == lane and event.kind in kinds)

    def after_the_fault(self, lane: str, *kinds: str) -> Iterator[Event]:
        """Find the events of these kinds behind the fault; all of them, where there is none."""
        began = self.fault.at if self.fault else 0.0
        return (event for event in self.all(lane, *kinds) if event.at >= began)

    def at(self, event: Event) -> str:
        """Tell when an event happened, counted from when the client connected."""
        return milliseconds(event.at - self.zero)

    def listed(self, events: Sequence[Event], quote: str = "") -> str:
        """Write down what events say, with their times; of many, the first ones."""
        told = [f"{quote}{event.text}{quote} at {self.at(event)}" for event in events[:_TOLD]]
        more = [f"and so on, {len(events):,} in all"] if len(events) > _TOLD else []
        return ", ".join(told + more) or "nothing"

    @property
    def struck(self) -> str:
        """What struck, and when."""
        fault = self.fault
        if fault is None:
            return "the client stayed" if self.run.fault == "none" else "the fault did not strike"
        words = _STRUCK_BY_NAME.get(fault.data["fault"]) or _STRUCK.get(fault.data["family"], "the fault struck")
        return f"{words} at {self.at(fault)}"

    @property
    def waited(self) -> str:
        """How long the lab waited for the handler."""
        mark = self.fault or self.start
        return milliseconds(self.stop.at - mark.at) if self.stop and mark else "all that time"

    @property
    def ended(self) -> str:
        """What became of the handler, and when."""
        if self.start is None:
            return "your handler never started"
        if self.end is None:
            return f"your handler still ran {self.waited} later"
        what = {"returned": "returned", "cancelled": "ended as cancelled"}.get(self.end.data["ending"])
        return f"your handler {what or self.end.text} at {self.at(self.end)}"
