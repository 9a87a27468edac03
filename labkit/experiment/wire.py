"""The wire that users put in front of a server: a relay that can carry out faults, and that gives runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Self, cast

from labkit.connections import Connections
from labkit.errors import BadValue
from labkit.events import Event, HandlerStart, Side, WireFault, WireSpared
from labkit.experiment.run import Run, run_so_far
from labkit.faults import Fault
from labkit.faults.fault import Need, Scene, find_fault
from labkit.faults.silence import Blackhole, StalledReader
from labkit.faults.transport import Fin, HalfClose, Reset
from labkit.support.checks import check_seconds
from labkit.support.clock import scaled
from labkit.timeline import Part, Timeline
from labkit.watch.block import take_part
from labkit.watch.over import why_over
from labkit.wire import Breaker, Link, Relay, SomeLinks
from labkit.wire.link import Ends

__all__ = ["Wire"]

#: What the faults need that a wire alone cannot carry out.
_NEEDS: Final[dict[Need, str]] = {
    "client": "a client of the lab",
    "own client": "the lab's own client",
    "own process": "a client of the lab in a process of its own",
    "server": "a server of the lab",
    "own loop": "a server of the lab in a loop of its own",
}


class Wire(Relay):
    """A TCP relay in front of one server, which sees every frame, can carry out faults, and gives runs.

    It passes bytes, FIN and RST from each end to the other, unchanged and in order. If a peer does not read, the sender
    is stopped. The wire records everything on the timeline's ``wire`` lane. The methods that break a connection act on
    every link that is live at that moment; a ``Link`` has the same methods. Of these, ``reset``, ``fin``,
    ``half_close``, ``blackhole`` and ``stall`` are faults, to which a run's verdict refers as it does to ``strike``.
    The others only change what passes.

    Args:
        server_url: the server's URL, such as ``"ws://127.0.0.1:4711/"``; ``http:`` will do. With ``wss:`` or ``https:``
            the wire relays the bytes, but cannot decode them.
        timeline: where to record; a new one, if None. With ``server.timeline`` of ``labkit.host``, the runs tell of the
            handler too.

    Attributes:
        timeline: where it records.
        links: the links, in the order of connecting.

    Raises:
        BadValue: the URL is not the URL of a WebSocket server with a port.
    """

    async def __aenter__(self) -> Self:
        take_part(self.timeline)
        return await super().__aenter__()

    async def strike(self, fault: str | Fault, *, patience: float = 2.0) -> None:
        """Carry out a fault on every link that is live, or, for a fault of the handshake, on every later one.

        A link whose connection is over already, or about to be, is spared.

        Args:
            fault: a fault that needs no more than a wire, or its name in ``labkit.FAULTS``.
            patience: the longest time that the fault may wait for its moment, such as ``idle-timeout`` for a pause, in
                seconds, times ``LABKIT_TIME_SCALE``.

        Raises:
            UnknownName: there is no such fault.
            BadValue: the fault needs more than a wire, or frames that TLS hides; the patience is wrong, or the wire is
                not open.
        """
        chosen = find_fault(fault)
        if chosen.needs in _NEEDS:
            raise BadValue(f"{chosen} needs {_NEEDS[chosen.needs]}, and a wire has none; labkit.play can stage it")
        chosen.check_plain(self._upstream.geturl())
        limit = scaled(check_seconds("patience", patience))
        if not self.is_open:
            raise BadValue("the wire can strike only inside its `async with` block.")
        if chosen.moment == "handshake":
            later = _Later(self, lambda link: self._tell(chosen, str(chosen), [link]))
            await chosen.strike(_scene(later, self.timeline, limit))
        elif live := self._live():
            connections, start = Connections(self.timeline), len(self.timeline.recorded())
            over = connections.links_of(event for event in self.timeline if why_over(event) is not None)
            async with asyncio.TaskGroup() as group:
                for link in live:
                    group.create_task(
                        self._strike(chosen, link, limit, connections, 0 if link.number in over else start)
                    )
        else:
            self._spare(chosen, None, "no client was connected")

    async def _strike(self, fault: Fault, link: Link, patience: float, connections: Connections, start: int) -> None:
        own = Part(self.timeline, lambda event: connections.owns_link(link.number, event))
        scene = _scene(SomeLinks(self, lambda other: other is link), own, patience)
        due = await fault.due(scene)
        # For a link that was not over, only what has been added since is read.
        if (why := _why_over(_own(connections, link, self.timeline, start))) is not None:
            self._spare(fault, link, why)
        elif due:
            self._tell(fault, str(fault), [link])
            await fault.strike(scene)

    def _tell(self, fault: Fault, text: str, links: Iterable[Link]) -> None:
        for link in links:
            self.timeline.append(WireFault(fault.name, fault.family, fault.knobs(), link=link.number, text=text))

    def _spare(self, fault: Fault, link: Link | None, why: str) -> None:
        text = f"{fault} does not strike, since {why}"
        number = None if link is None else link.number
        self.timeline.append(WireSpared(fault.name, fault.family, why, link=number, text=text))

    def _break(self, fault: Fault, **options: str | None) -> None:
        """Tell that a method is about to break every link that is live, and not over already."""
        told = ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)
        connections = Connections(self.timeline)
        over = connections.links_of(event for event in self.timeline if why_over(event) is not None)
        links = [link for link in self._live() if link.number not in over]
        self._tell(fault, f"{fault.name}({told})" if told else fault.name, links)

    def reset(self, to: Ends = "both") -> None:
        """Break every live link with RST; see ``Link.reset``."""
        self._break(Reset(), to=None if to == "both" else to)
        super().reset(to)

    def fin(self, to: Ends = "both") -> None:
        """Close every live link without a Close frame; see ``Link.fin``."""
        self._break(Fin(), to=None if to == "both" else to)
        super().fin(to)

    def half_close(self, to: Side = "server") -> None:
        """End one direction of every live link; see ``Link.half_close``."""
        self._break(HalfClose(), to=None if to == "server" else to)
        super().half_close(to)

    def blackhole(self, source: Ends = "both") -> None:
        """Drop all that an end sends, on every live link; see ``Link.blackhole``."""
        self._break(Blackhole(), source=None if source == "both" else source)
        super().blackhole(source)

    def stall(self, source: Side = "server") -> None:
        """Stop reading what one end sends, on every live link; see ``Link.stall``."""
        self._break(StalledReader(), source=None if source == "server" else source)
        super().stall(source)

    def run(self) -> Run:
        """Give the run so far: what has happened on the timeline until now.

        Of a server that is not the lab's, the verdict knows what the wire has seen; the rest is unknown.

        Returns:
            The run. What happens later does not change it.
        """
        start = self.timeline.first(HandlerStart)
        if start is not None:
            return run_so_far(self.timeline, start.handler, start.stack)
        target = self._upstream._replace(netloc=self._upstream.netloc.rpartition("@")[2])
        return run_so_far(self.timeline, target.geturl(), "unknown")


class _Later(Breaker):
    """The links to come, of which none is live yet.

    Args:
        wire: the wire.
        tell: called with each link that is struck.
    """

    def __init__(self, wire: Relay, tell: Callable[[Link], None]) -> None:
        self._wire = wire
        self._tell_of = tell

    @property
    def links(self) -> list[Link]:
        """None of those that there are."""
        return []

    def take_requests(self, take: Callable[[Link], bool]) -> None:
        """Take the request of each later client, and tell that the fault strikes it."""

        def take_and_tell(link: Link) -> bool:
            self._tell_of(link)
            return take(link)

        self._wire.take_requests(take_and_tell)


def _scene(wire: Breaker, timeline: Timeline, patience: float) -> Scene:
    # A fault that needs no more than the wire asks nothing of a client, if there are no messages, nor of the server.
    nobody = cast(Any, None)
    return Scene(wire, nobody, nobody, timeline, patience)


def _own(connections: Connections, link: Link, timeline: Timeline, start: int) -> Iterable[Event]:
    """The events of a link's connection, and of none, from one of them on."""
    return (event for event in timeline.recorded(start) if connections.owns_link(link.number, event))


def _why_over(events: Iterable[Event]) -> str | None:
    return next(filter(None, map(why_over, events)), None)
