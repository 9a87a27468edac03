"""The events of one experiment, in the order in which they happened.

Everything that the lab shows or concludes is read from a timeline. ``labkit.events`` declares the kinds of events.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar, overload

from msgspec.structs import force_setattr

from labkit.errors import BadValue
from labkit.events import Event, Lane, LoopStop, WireFault, classes_of, make, vocabulary
from labkit.support.autojump import REAL, Clock, clock_of
from labkit.support.clock import now
from labkit.support.clock import timeout as at_most

__all__ = ["APPLICATION", "Event", "Events", "Part", "Scope", "Timeline", "check_timeline", "scope"]

E = TypeVar("E", bound=Event)

_NO_DATA: Final[Mapping[str, Any]] = MappingProxyType({})

#: The lane on which an application runs outside of its handlers: what it opens is for all connections.
APPLICATION: Final[Lane] = "loop"

#: Whoever is told of events may begin and end that in any thread.
_subscribing: Final = threading.Lock()


class Events(Sequence[Event]):
    """Events in order, and ways to find some of them.

    Args:
        events: the events, in order.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events

    def _in_order(self) -> Sequence[Event]:
        return self._events

    def __iter__(self) -> Iterator[Event]:
        return iter(self._in_order())

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Events: ...
    def __getitem__(self, index: int | slice) -> Event | Events:
        found = self._in_order()[index]
        return Events(found) if isinstance(found, Sequence) else found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} event{'s' * (len(self) != 1)}>"

    @overload
    def all(self, kind: type[E], /) -> list[E]: ...
    @overload
    def all(self, *kinds: type[Event]) -> list[Event]: ...
    def all(self, *kinds: type[Event]) -> list[Any]:
        """Find the events of these kinds.

        Args:
            kinds: classes of ``labkit.events``.

        Returns:
            The events, in order.
        """
        classes = classes_of(*kinds)
        return [event for event in self._in_order() if type(event) in classes]

    @overload
    def first(self, kind: type[E], /) -> E | None: ...
    @overload
    def first(self, *kinds: type[Event]) -> Event | None: ...
    def first(self, *kinds: type[Event]) -> Event | None:
        """Find the first event of these kinds, or None."""
        classes = classes_of(*kinds)
        return next((event for event in self._in_order() if type(event) in classes), None)

    @overload
    def last(self, kind: type[E], /) -> E | None: ...
    @overload
    def last(self, *kinds: type[Event]) -> Event | None: ...
    def last(self, *kinds: type[Event]) -> Event | None:
        """Find the last event of these kinds, or None."""
        classes = classes_of(*kinds)
        return next((event for event in reversed(self._in_order()) if type(event) in classes), None)

    def select(self, lane: Lane | None = None, *kinds: str) -> list[Event]:
        """Pick events by name.

        Args:
            lane: only events of this lane; events of all lanes, if None.
            kinds: only events of these kinds; events of all kinds, if no kind is given.

        Returns:
            The events, in order.
        """
        return [e for e in self if (lane is None or e.lane == lane) and (not kinds or e.kind in kinds)]

    def until_stop(self) -> Events:
        """Leave out everything from the lab's own end of the experiment on: the lab causes that itself."""
        return self._cut(LoopStop, before=True)

    def since_fault(self) -> Events:
        """Leave out everything before the fault; nothing remains if no fault struck."""
        return self._cut(WireFault, before=False)

    def _cut(self, kind: type[Event], *, before: bool) -> Events:
        events, classes = self._in_order(), classes_of(kind)
        index = next((i for i, event in enumerate(events) if type(event) in classes), len(events))
        return Events(events[:index] if before else events[index:])


def _running_clock() -> Clock:
    try:
        return clock_of(asyncio.get_running_loop())
    except RuntimeError:
        return REAL


class Timeline(Events):
    """An append-only list of events. Any thread may record events.

    The kinds of events, by lane:

    {kinds}

    Args:
        began: the reading of ``now`` that counts as zero; what it reads now, if None.
        clock: the clock; that of the running loop, if None.

    Attributes:
        clock: the clock by which its events are timed.
        now: reads that clock, in seconds.
        lent: whether its connections are meant for the handler of another experiment to write to, as in an exercise.
    """

    def __init__(self, began: float | None = None, clock: Clock | None = None) -> None:
        self.clock: Final = _running_clock() if clock is None else clock
        self.now: Final[Callable[[], float]] = now if self.clock is REAL else self.clock.now
        self.began: Final = self.now() if began is None else began
        # `_events` has the order of recording; `_sorted` the order of time, which differs for another process's events.
        self._events: list[Event] = []
        self._sorted: list[Event] | None = None
        self._has_foreign_events = False
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._holds = 0
        self.lent = False
        self._numbers: defaultdict[Lane, itertools.count[int]] = defaultdict(itertools.count)

    def next_number(self, lane: Lane) -> int:
        """Count the connections of a lane, so that several wires or servers on one timeline do not give a number twice.

        Args:
            lane: the lane.

        Returns:
            How many numbers it has given before on this lane.
        """
        return next(self._numbers[lane])

    def append(self, event: Event) -> None:
        """Append an event that happens now.

        Args:
            event: what happens; this method sets its time.
        """
        # Few steps, since every frame on the wire passes through here.
        force_setattr(event, "at", self.now() - self.began)
        self._events.append(event)
        for wake in self._listeners:
            wake()

    def append_at(self, at: float, event: Event) -> None:
        """Append an event that happened earlier, such as one of another process. Its time decides its position.

        Args:
            at: the reading of ``now`` when the event happened.
            event: what happened.
        """
        force_setattr(event, "at", at - self.began)
        self._has_foreign_events = True
        self._events.append(event)
        self._wake()

    def record(self, lane: Lane, kind: str, text: str = "", data: Mapping[str, Any] = _NO_DATA) -> None:
        """Append an event that happens now, made from its parts.

        Args:
            lane: the lane on which it happens.
            kind: what happens: a kind of the table, or a kind of your own.
            text: what happens, for a reader.
            data: details by name.

        Raises:
            BadValue: there is no such lane; or the table has this kind, and one of its details is missing or wrong.
        """
        self.append(make(lane, kind, text, data))

    @contextmanager
    def scope(self, lane: Lane = "handler") -> Iterator[None]:
        """Record here the notes and resources of the code in the block, and of the tasks that it starts.

        ``labkit.play`` and ``labkit.host`` do this for a handler. Use it for code that runs without them.

        Args:
            lane: the lane on which the code runs.
        """
        token = scope.set(Scope(self, lane))
        try:
            yield
        finally:
            scope.reset(token)

    def recorded(self, start: int = 0) -> list[Event]:
        """List the events in the order in which they were recorded, which another process's events change.

        Args:
            start: how many events to skip.

        Returns:
            The events.
        """
        return self._events[start:]

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call a function whenever an event is recorded, in the thread that records it."""
        with _subscribing:
            self._listeners = (*self._listeners, wake)

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Call the function no longer."""
        with _subscribing:
            listeners = list(self._listeners)
            listeners.remove(wake)
            self._listeners = tuple(listeners)

    @contextmanager
    def hold_closings(self) -> Iterator[None]:
        """Let no closing of a resource end while the block runs, however long that takes on a busy machine."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self._wake()

    async def closings_may_end(self) -> None:
        """Wait until no block holds the closings any more."""
        if self._holds:
            with self.changes() as changed:
                while True:
                    changed.clear()
                    if not self._holds:
                        return
                    await changed.wait()

    def _wake(self) -> None:
        for wake in self._listeners:
            wake()

    def _in_order(self) -> list[Event]:
        if not self._has_foreign_events:
            return self._events
        if self._sorted is None or len(self._sorted) != len(self._events):
            self._sorted = sorted(self._events, key=attrgetter("at"))
        return self._sorted

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._in_order()))  # a copy, since other threads may append meanwhile

    @contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """Set an ``asyncio.Event`` after each event, while the block runs.

        Yields:
            What is set, in the running loop; whoever waits clears it.
        """
        loop, thread = asyncio.get_running_loop(), threading.get_ident()
        changed = asyncio.Event()
        wakes = False  # the loop is about to set it: a thousand events of one step need not ask for it again

        def wake() -> None:
            # This runs in the thread that records the event; meanwhile, the waiting loop may have been closed.
            nonlocal wakes
            if not wakes and not loop.is_closed():
                wakes = True
                # A loop that is awake need not be woken, which takes a byte through a socket, and a turn to read it.
                # (Only a signal's handler runs in the thread of one that sleeps; `wakeups` wakes that.)
                awake = threading.get_ident() == thread
                (loop.call_soon if awake else loop.call_soon_threadsafe)(tell)

        def tell() -> None:
            nonlocal wakes
            wakes = False  # first: who finds it set is told by what follows
            changed.set()

        self.subscribe(wake)
        try:
            yield changed
        finally:
            self.unsubscribe(wake)

    async def until(
        self, test: Callable[[Event], bool], timeout: float | None = None, *, start: int = 0
    ) -> Event | None:
        """Wait for an event.

        Args:
            test: says whether an event is the one.
            timeout: the longest wait in seconds (not scaled here), counted as by ``labkit.support.clock.timeout``; no
                limit, if None.
            start: how many events to skip, in the order of recording. Events that are already recorded count too.

        Returns:
            The first event that passes the test, or None when the time is up.
        """
        with self.changes() as changed:
            try:
                async with at_most(timeout):
                    while True:
                        changed.clear()  # before the search, so that an event recorded during it is not missed
                        events = self.recorded(start)
                        for event in events:
                            if test(event):
                                return event
                        start += len(events)
                        await changed.wait()
            except TimeoutError:
                return None

    @classmethod
    def of(cls, events: Iterable[Event]) -> Timeline:
        """Rebuild a timeline from its events.

        Args:
            events: the events of a timeline, in order.

        Returns:
            A timeline with the same events.
        """
        timeline = cls(began=0.0)
        timeline._events.extend(events)
        return timeline


class Part(Timeline):
    """Some of the events of a timeline, while more are recorded. What is appended here goes to the whole.

    Args:
        whole: the timeline.
        belongs: says whether an event belongs to the part; asked once for each event, when it is first looked for.
    """

    def __init__(self, whole: Timeline, belongs: Callable[[Event], bool]) -> None:
        super().__init__(whole.began, whole.clock)
        self._whole = whole
        self._belongs = belongs
        self._read = 0
        self._looking = threading.Lock()
        self._has_foreign_events = True  # as the whole may have

    def append(self, event: Event) -> None:
        """Append an event that happens now to the whole timeline."""
        self._whole.append(event)

    def append_at(self, at: float, event: Event) -> None:
        """Append an event that happened earlier to the whole timeline."""
        self._whole.append_at(at, event)

    def next_number(self, lane: Lane) -> int:
        """Count the connections of a lane in the whole timeline."""
        return self._whole.next_number(lane)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call a function whenever an event is recorded in the whole timeline."""
        self._whole.subscribe(wake)

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Call the function no longer."""
        self._whole.unsubscribe(wake)

    @contextmanager
    def hold_closings(self) -> Iterator[None]:
        """Let no closing of a resource of the whole timeline end while the block runs."""
        with self._whole.hold_closings():
            yield

    def recorded(self, start: int = 0) -> list[Event]:
        """List the events of the part in the order in which they were recorded."""
        self._look()
        return super().recorded(start)

    def __len__(self) -> int:
        self._look()
        return len(self._events)

    def _look(self) -> None:
        with self._looking:  # the server may run in a thread of its own
            added = self._whole.recorded(self._read)
            self._read += len(added)
            self._events += filter(self._belongs, added)

    def _in_order(self) -> list[Event]:
        self._look()
        return super()._in_order()


# Cleaned first, as Python 3.13 and newer do by themselves.
Timeline.__doc__ = inspect.cleandoc(Timeline.__doc__ or "").replace("{kinds}", vocabulary())


class Scope(NamedTuple):
    """Where the running code belongs: to which experiment, to which lane, and to which connection.

    Attributes:
        timeline: the timeline of the experiment.
        lane: the lane on which the code runs.
        number: the number that the connection has there, whose client or handler it is; None for other code.
    """

    timeline: Timeline
    lane: Lane
    number: int | None = None

    def record(self, event: Event) -> None:
        """Append an event that happens now, and that belongs to the connection.

        Args:
            event: what happens; this method sets its time, and the number of the connection.
        """
        if self.number is not None:  # as `_name` does, in fewer steps: a handler may send much
            force_setattr(event, "connection" if self.lane == "client" else "served", self.number)
        self.timeline.append(event)

    def record_at(self, at: float, event: Event) -> None:
        """Append an event that happened earlier, and that belongs to the connection.

        Args:
            at: the reading of ``now`` when the event happened.
            event: what happened.
        """
        self._name(event)
        self.timeline.append_at(at, event)

    def _name(self, event: Event) -> None:
        if self.number is not None:
            force_setattr(event, "connection" if self.lane == "client" else "served", self.number)


#: The scope of the current context; a task that the handler starts inherits it (PEP 567).
scope: ContextVar[Scope | None] = ContextVar("labkit_scope", default=None)


def check_timeline(timeline: object) -> None:
    """Refuse what a user gives as a timeline, and is none.

    Args:
        timeline: what is given; None stands for a new one.

    Raises:
        BadValue: it is something else.
    """
    if not isinstance(timeline, Timeline | None):
        raise BadValue(f"timeline={timeline!r}; it takes that of a server or a run, such as server.timeline")
