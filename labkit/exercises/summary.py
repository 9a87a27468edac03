"""A run in sentences for the learner: what struck and when, and how the handler ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from labkit.events import Event, HandlerEnd, HandlerStart, LoopStop, WireFault
from labkit.experiment.run import Run
from labkit.faults.fault import Fault, registry
from labkit.timeline import Events
from labkit.views.words import zero

__all__ = ["Summary", "milliseconds"]

#: The codes of a Close that says goodbye; any other reports a failure.
_NORMAL: Final = (1000, 1001)

#: The highest number of events that are listed one by one.
_LISTED: Final = 5


def milliseconds(seconds: float) -> str:
    """Write a time as a learner reads it, such as ``2,000 ms``."""
    return f"{seconds * 1000:,.0f} ms"


class Summary:
    """The most important events of a run, and sentences about them for the learner.

    Events after the lab ended the experiment are left out, because the lab itself caused them.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run: Final = run
        self.events: Final = run.timeline.until_stop()
        self.zero: Final = zero(run.timeline)[0]
        self.stop: Final = run.timeline.first(LoopStop)

        self.fault: Final = self.events.first(WireFault)
        self.start: Final = self.events.first(HandlerStart)
        self.end: Final = self.events.first(HandlerEnd)

    @property
    def fault_class(self) -> type[Fault] | None:
        """The class of the fault that struck; None if none did, or if the fault is not registered here."""
        return None if self.fault is None else registry.get(self.fault.fault)

    @property
    def after_the_fault(self) -> Events:
        """The events from the fault on; all events if no fault struck."""
        return self.events.since_fault() if self.fault else self.events

    def at(self, event: Event) -> str:
        """Write the time of an event since the client connected."""
        return milliseconds(event.at - self.zero)

    def listed(self, events: Sequence[Event], quote: str = "") -> str:
        """List the texts of events with their times; if there are many, only the first ones."""
        listed = [f"{quote}{event.text}{quote} at {self.at(event)}" for event in events[:_LISTED]]
        more = [f"and so on, {len(events):,} in all"] if len(events) > _LISTED else []
        return ", ".join(listed + more) or "nothing"

    @property
    def struck(self) -> str:
        """What struck, and when."""
        fault = self.fault
        if fault is None:
            return "the client stayed" if self.run.fault == "none" else "the fault did not strike"
        happened = "the fault struck" if self.fault_class is None else self.fault_class.happened
        if fault.fault == "close" and fault.knobs.get("code") not in _NORMAL:
            happened = f"the client closed with {fault.knobs['code']}"
        if inner := registry.get(fault.knobs.get("fault", "")):  # a fault that stages another one
            happened = inner.happened
        return f"{happened} at {self.at(fault)}"

    @property
    def waited(self) -> str:
        """How long the lab waited for the handler."""
        began = self.fault or self.start
        return milliseconds(self.stop.at - began.at) if self.stop and began else "all that time"

    @property
    def ended(self) -> str:
        """How the handler ended, and when."""
        if self.start is None:
            return "your handler never started"
        if self.end is None:
            return f"your handler still ran {self.waited} later"
        what = {"returned": "returned", "cancelled": "ended as cancelled"}.get(self.end.ending)
        return f"your handler {what or self.end.text} at {self.at(self.end)}"
