"""Plays a server that is not the lab's: what it does is seen by client and wire alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from labkit.clients import Request, make_client
from labkit.connections import Connections
from labkit.errors import BadOption, BadValue, NotReached
from labkit.events import (
    ClientEnded,
    ClientExit,
    ClientRecv,
    Event,
    LoopStop,
    LoopTarget,
    WireFault,
    WireLink,
    WireReset,
)
from labkit.experiment.elsewhere import Elsewhere
from labkit.experiment.path import Path
from labkit.experiment.processes import Process, RunningProcess
from labkit.experiment.run import Run
from labkit.experiment.scenario import run_scenario
from labkit.experiment.talk import Function
from labkit.experiment.when import THROUGH, When
from labkit.faults import Fault
from labkit.support.clock import scaled
from labkit.support.descriptors import descriptors_for, enough_descriptors
from labkit.support.interrupts import cancel_on_interrupt
from labkit.support.wakeup import wakeups
from labkit.support.wording import describe_briefly
from labkit.timeline import Timeline
from labkit.watch.capture import capture
from labkit.watch.moments import Moment
from labkit.watch.through import Held, Through
from labkit.wire import Relay

__all__ = ["play_elsewhere"]


class Unseen:
    """A server of which client and wire alone can tell; it takes the place of the lab's own in a path.

    Args:
        running: its process, if it is the lab's to stop.
    """

    seen = False

    def __init__(self, running: RunningProcess | None = None) -> None:
        self._running = running

    def exchanges(self, timeline: Timeline, served: Callable[[], Collection[int]]) -> Timeline:  # noqa: ARG002 - nobody serves
        """What tells of its answers: the events of the client's connection."""
        return timeline

    async def through(
        self,
        timeline: Timeline,
        sent: int,
        patience: float,
        held: Held | None = None,  # noqa: ARG002 - see above
    ) -> Through:
        """Wait until it has answered what the client has sent.

        Args:
            timeline: the events of the client's connection.
            sent: how many messages the client has sent.
            patience: the longest wait, in seconds.
            held: is for a moment between frames, and there is none here.

        Returns:
            That it has sent as many messages as the client; or that it is unknown whether it will, when the patience is
            over.
        """

        def is_enough(event: Event) -> bool:
            return _is_over(event) or len(timeline.all(ClientRecv)) >= sent

        if not sent:
            return Through("the client had sent nothing", over=any(map(_is_over, timeline)))
        if await timeline.until(is_enough, patience) is None:
            return Through(f"the server had not answered for {patience:g} s", known=False)
        return Through("the server had answered", over=any(map(_is_over, timeline)))

    def watch_for(self, moment: Moment) -> None:
        """Nothing can be looked for."""

    def stands(self, only: Collection[int]) -> tuple[int | None, int]:  # noqa: ARG002 - the same for all
        """Where its handler waits is unknown."""
        return None, 0

    def shut_down(self) -> None:
        """Tell its process to end."""
        assert self._running is not None
        self._running.shut_down()

    async def cancel(self, only: Collection[int] | None = None) -> None:
        """Refuse: its handlers are out of reach."""
        raise NotImplementedError

    async def expire(self, only: Collection[int] | None = None) -> None:
        """Refuse: its handlers are out of reach."""
        raise NotImplementedError

    def throw(self, exception: Exception, only: Collection[int] | None = None) -> None:
        """Refuse: its handlers are out of reach."""
        raise NotImplementedError

    def narrow(self, only: Collection[int] | None = None) -> None:
        """Its buffers are as they are."""

    def block(self, seconds: float) -> None:
        """Refuse: its loop is out of reach."""
        raise NotImplementedError

    async def settled(self, limit: float, only: Collection[int] | None = None) -> None:  # noqa: ARG002 - one process
        """Wait for the end of its process, if it was told to end, or for its last words."""
        if self._running is not None:
            await self._running.settled(limit)

    async def look(self, only: Collection[int]) -> None:
        """What it has started is unknown."""

    async def outlived(self, limit: float, only: Collection[int] | None = None) -> None:
        """What it has left is unknown."""


def _is_over(event: Event) -> bool:
    return isinstance(event, ClientEnded | ClientExit)


async def play_elsewhere(
    target: Elsewhere | Process,
    fault: Fault | None,
    messages: Sequence[str | bytes],
    talk: Function | None,
    when: When,
    request: Request,
    *,
    patience: float,
    clients: int,
    client: str,
    client_options: dict[str, Any],
    server_options: Mapping[str, Any],
) -> Run:
    """Play a server that is not the lab's; the arguments are those of ``play``, checked.

    Returns:
        The run. What client and wire cannot see of the server is unknown.

    Raises:
        BadOption: there are options for a server that the lab does not start.
        BadValue: the fault, or its moment, is out of the lab's reach.
        LabError: the process does not listen.
        NotReached: nobody listens at the URL.
    """
    own = isinstance(target, Elsewhere)
    if server_options:
        raise BadOption(f"{min(server_options)!r} is an option of a server that the lab starts, and this one is not")
    if fault is not None and fault.needs in {"server", "own loop"} and (own or fault.name != "shutdown"):
        raise BadValue(f"{fault} is done inside a server, and this one is not the lab's; give the handler itself")
    if when != THROUGH:
        raise BadValue(f"when={when!r} is a moment of a handler, which the lab does not see in a server elsewhere")
    timeline = Timeline()
    async with AsyncExitStack() as cleanup:
        for block in (
            enough_descriptors(descriptors_for(clients)),
            cancel_on_interrupt(),
            wakeups(),
            capture(timeline),
        ):
            cleanup.enter_context(block)
        if isinstance(target, Elsewhere):
            server, running = target, None
            told = f"the server at {target.name} is not the lab's"
        else:
            running = await cleanup.enter_async_context(target.running(timeline))
            server = running.server
            told = f"{target.name} listens at {server.name}"
        if fault is not None:
            fault.check_plain(server.url)
        timeline.append(LoopTarget(server.url, text=told))
        wire = await cleanup.enter_async_context(Relay(server.url, timeline))
        connections, unseen, paths = Connections(timeline), Unseen(running), []
        for number in range(1, clients + 1):
            apart = fault is not None and fault.needs == "own process" and number == 1
            asked = request.under(server.path)
            options = dict(client_options)
            played = make_client(client, wire.url, timeline, options, own_process=apart, number=number, request=asked)
            cleanup.push_async_callback(played.stop)
            paths.append(Path(played, wire, unseen, connections, talk))
        try:
            await run_scenario(paths, fault, () if talk else messages, scaled(patience), when)
        except OSError as error:  # TLS did not begin, so the client had no connection of which to tell
            if timeline.first(WireFault) is not None:
                raise
            _check_reached(timeline, target.name)
            why = describe_briefly(error)
            raise NotReached(f"{target.name}: TLS could not begin: {why}; perhaps it is ws:// without TLS") from error
        timeline.append(LoopStop(scaled(patience), text="the lab ends the experiment"))
        await asyncio.sleep(0)
    if running is None:
        _check_reached(timeline, target.name)
    connections.finish()
    return Run(target.name, "unknown", "none" if fault is None else str(fault), timeline)


def _check_reached(timeline: Timeline, name: str) -> None:
    """Refuse a run that nobody has served: it tells nothing of a server."""
    failed = [event.why for event in timeline.all(WireReset) if event.why is not None]
    if failed and len(failed) == len(timeline.all(WireLink)):
        raise NotReached(
            f"{name}: {failed[0]}; start it first, or give the command that starts it:"
            " labkit.process(COMMAND, url=URL), or `labkit probe URL --command COMMAND`"
        )
