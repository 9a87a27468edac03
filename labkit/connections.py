"""Which connection an event belongs to.

The client, the wire and the server each count their connections by themselves. What relates them are the ports of TCP:
the port of a client's socket is the one that the wire accepts, and the port of the wire's socket towards the server is
the one that the server accepts. The order tells nothing, since somebody else may connect too.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Final, Literal

from msgspec.structs import force_setattr

from labkit.events import (
    ClientConnect,
    ClientOpen,
    ClientStranger,
    ClientTcp,
    Event,
    HandlerStart,
    LibraryTcp,
    LinkEvent,
    Ports,
    WireClosed,
    WireFault,
    WireLink,
    WireSpared,
    WireTcp,
    classes_of,
)
from labkit.timeline import Events, Timeline

__all__ = ["Connections", "link_of", "main_of", "parts_of", "strangers_of"]


#: What names a link of the wire.
_OF_LINKS: Final = classes_of(LinkEvent, WireFault, WireSpared)


class _Way:
    """A connection, from the client through the wire to the server, as far as it is known.

    Attributes:
        number: the connection's number, once it has one.
        unnamed: its events that do not name it yet.
        found: whether the wire or the server knows it.
        closed: when the wire has closed it.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.unnamed: list[Event] = []
        self.found = False
        self.closed: float | None = None
        self._into: _Way | None = None

    @property
    def whole(self) -> _Way:
        """The connection that this has turned out to be a part of."""
        way = self
        while way._into is not None:
            way = way._into
        return way

    def add(self, event: Event) -> None:
        """Let an event name the connection, at once or as soon as it has a number."""
        if self.number is None:
            self.unnamed.append(event)
        else:
            force_setattr(event, "connection", self.number)

    def take(self, other: _Way) -> None:
        """Take the other one as a part."""
        other._into = self
        self.found = self.found or other.found
        if self.number is None:
            self.number = other.number
        for event in [*self.unnamed, *other.unnamed] if self.number is not None else ():
            force_setattr(event, "connection", self.number)
        self.unnamed = [*self.unnamed, *other.unnamed] if self.number is None else []
        other.unnamed = []


class Connections:
    """Finds out which events of a timeline belong to the same connection, while events may still be added.

    The connection of a client of the lab has the client's number. All others get theirs at the end.

    Args:
        timeline: the timeline.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._read = 0
        self._reading = threading.Lock()
        self._ways: list[_Way] = []
        self._clients: dict[int, _Way] = {}
        self._links: dict[int, _Way] = {}
        self._served: dict[int, _Way] = {}
        self._opened: set[int] = set()
        #: Ends of TCP connections whose other end is not known yet.
        self._waiting: dict[tuple[Literal["connects", "accepts"], Ports], _Way] = {}

    def update(self) -> None:
        """Read the events that have been added."""
        if self._read != len(self._timeline):
            with self._reading:  # the server may run in a thread of its own
                self._update()

    def _update(self) -> None:
        events = self._timeline.recorded(self._read)
        for event in events:
            if (way := self._find(event)) is not None:
                match event:
                    case ClientOpen(connection=int(number)):
                        self._opened.add(number)
                    case ClientTcp(ports=ports) | WireTcp(ports=ports) if ports is not None:
                        self._meet("connects", ports, way, event.at)
                    case WireLink(ports=ports) | LibraryTcp(ports=ports) if ports is not None:
                        way.found = True
                        self._meet("accepts", ports, way, event.at)
                    case WireClosed():
                        way.whole.closed = event.at
                way.whole.add(event)
        self._read += len(events)  # only now: who looks from another thread waits until then

    def owns(self, number: int, event: Event) -> bool:
        """Tell whether an event may belong to the connection of a client.

        Args:
            number: the client's number.
            event: the event.

        Returns:
            Whether it belongs to it, or to no connection. If the client's ports are not those that the wire saw, as
            behind a proxy, also whether it belongs to a connection that nobody has claimed.
        """
        self.update()
        if event.connection == number:
            return True
        way = self._find(event)
        if way is None or way.number == number:
            return True
        return way.number is None and self._unclaimed_may_be(number)

    def owns_link(self, link: int, event: Event) -> bool:
        """Tell whether an event belongs to the connection of a link of the wire, or to no connection.

        Args:
            link: the link's number.
            event: the event.

        Returns:
            Whether it belongs to it, or to none.
        """
        self.update()
        way = self._find(event)
        return way is None or way is self._way(self._links, link).whole

    def links(self, number: int) -> set[int]:
        """List the links of the wire that belong to a client's connection, or may belong to it.

        Args:
            number: the client's number.

        Returns:
            The links' numbers; more than one if the client has connected more than once.
        """
        return self._of(number, self._links)

    def served(self, number: int) -> set[int]:
        """List the numbers, on the server's side, of what belongs to a client's connection, or may belong to it.

        Args:
            number: the client's number.

        Returns:
            The numbers; more than one if the client has connected more than once.
        """
        return self._of(number, self._served)

    def links_of(self, events: Iterable[Event]) -> set[int]:
        """List the links of the wire of the connections to which events belong.

        Args:
            events: the events.

        Returns:
            The links' numbers.
        """
        return self._of_events(events, self._links)

    def served_of(self, events: Iterable[Event]) -> set[int]:
        """List the numbers, on the server's side, of the connections to which events belong.

        Args:
            events: the events.

        Returns:
            The numbers.
        """
        return self._of_events(events, self._served)

    def _of_events(self, events: Iterable[Event], ways: dict[int, _Way]) -> set[int]:
        self.update()
        found = {id(way) for event in events if (way := self._find(event)) is not None}
        return {number for number, way in ways.items() if id(way.whole) in found}

    def _of(self, number: int, ways: dict[int, _Way]) -> set[int]:
        self.update()
        numbers = {number, None} if self._unclaimed_may_be(number) else {number}
        return {key for key, way in ways.items() if way.whole.number in numbers}

    def finish(self) -> None:
        """Give a number to each connection that has none, and record those that are no client's of the lab.

        If the ports of a client are unknown, the connections that nobody has claimed may be the client's. Their events
        then name none.
        """
        self.update()
        if any(self._unclaimed_may_be(number) for number in self._clients):
            return
        clients, number = bool(self._clients), max(self._clients, default=0)
        rest = [way for way in self._ways if way.number is None and way.unnamed]
        for way in sorted(rest, key=lambda way: min(event.at for event in way.unnamed)):
            events = sorted(way.unnamed, key=lambda event: event.at)
            number += 1
            self._clients[number] = _Way(number)
            way.take(self._clients[number])
            if clients:
                self._record_stranger(events, number)

    def _record_stranger(self, events: Sequence[Event], number: int) -> None:
        where = "wire" if isinstance(events[0], LinkEvent) else "server"
        called = any(isinstance(event, HandlerStart) for event in events)
        text = f"a stranger connects to the {where}{', and the handler is called' if called else ''}"
        stranger = ClientStranger(where == "wire", called, text=text, connection=number)
        self._timeline.append_at(self._timeline.began + events[0].at, stranger)

    def _unclaimed_may_be(self, number: int) -> bool:
        """Whether a client has connected, but nobody knows its ports."""
        way = self._clients.get(number)
        return way is not None and not way.whole.found and number in self._opened

    def _find(self, event: Event) -> _Way | None:
        link = link_of(event)
        if event.connection is not None:
            named = self._way(self._clients, event.connection, event.connection).whole
            if link is not None:
                self._links.setdefault(link, named)
            elif event.served is not None:
                self._served.setdefault(event.served, named)
            return named
        if link is not None:
            ways, key = self._links, link
        elif event.served is not None:
            ways, key = self._served, event.served
        else:
            return None
        # What has no ports cannot be told apart from others.
        known = key in ways or getattr(event, "ports", None) is not None
        return self._way(ways, key).whole if known else None

    def _way(self, ways: dict[int, _Way], key: int, number: int | None = None) -> _Way:
        if key not in ways:
            ways[key] = _Way(number)
            self._ways.append(ways[key])
        return ways[key]

    def _meet(self, side: Literal["connects", "accepts"], ports: Ports, way: _Way, at: float) -> None:
        """Join the two ends of a TCP connection, whichever is told first."""
        other = self._waiting.pop(("accepts" if side == "connects" else "connects", ports), None)
        # The system gives a port again when the connection that had it is over.
        if other is None or (other.whole.closed is not None and other.whole.closed < at):
            self._waiting[side, ports] = way
        elif other.whole is not way:
            other.whole.take(way)


def link_of(event: Event) -> int | None:
    """Return the number of the link of the wire to which an event belongs; None if it names none."""
    return getattr(event, "link") if type(event) in _OF_LINKS else None  # noqa: B009 - the type checker knows no sets


def parts_of(events: Events, without: Collection[int] = ()) -> dict[int, Timeline]:
    """Take a timeline apart.

    Args:
        events: the events, which name their connections.
        without: the numbers of connections that are not wanted.

    Returns:
        For each connection, by its number, its events and those that belong to none or to all; in the order of the
        numbers. Empty if no event names a connection.
    """
    common: list[tuple[int, Event]] = []
    own: dict[int, list[tuple[int, Event]]] = {}
    for item in enumerate(events):
        number = item[1].connection
        if number not in without:
            (common if number is None else own.setdefault(number, [])).append(item)
    merged = {number: sorted([*common, *own[number]], key=itemgetter(0)) for number in sorted(own)}
    return {number: Timeline.of(event for _, event in items) for number, items in merged.items()}


def strangers_of(events: Events) -> set[int]:
    """Find the connections of those who are no clients of the lab.

    Args:
        events: the events, which name their connections.

    Returns:
        The numbers.
    """
    return {event.connection for event in events.all(ClientStranger) if event.connection is not None}


def main_of(events: Events) -> int | None:
    """Find the connection of which an experiment tells in the first place.

    Args:
        events: the events, which name their connections.

    Returns:
        The number of the connection on which the fault struck or would have struck, or else that of the first client;
        where there is no client of the lab, that of the first for which the handler was called. None if no event names
        a connection.
    """
    for kinds in ((WireFault, WireSpared), (ClientConnect,), (HandlerStart,), (Event,)):
        numbers = [event.connection for event in events.all(*kinds) if event.connection is not None]
        if numbers:
            return min(numbers)
    return None
