"""One experiment: a handler, a stack, a fault, and what came of it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from labkit.acting import act
from labkit.checks import check_seconds, check_text
from labkit.clients import OWN, check_client, make_client
from labkit.clock import scaled
from labkit.errors import BadValue
from labkit.faults import Fault, find_fault
from labkit.servers import Handler, Server, check, host, name_of
from labkit.servers.threads import in_own_loop
from labkit.tasks import describe, tasks_of
from labkit.timeline import Timeline
from labkit.verdict import Verdict, judge
from labkit.wire import Wire

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labkit.views.source import Source

__all__ = ["Run", "check_values", "play"]

#: Seconds for a task that was left behind to end when it is cancelled.
_REAP = 0.5


@dataclass(frozen=True)
class Run:
    """What came of an experiment.

    In a notebook it shows the sequence picture with the verdict as its title; printed, the text timeline.

    Attributes:
        handler: the handler's name.
        on: the stack's name.
        fault: the fault as it was given, such as ``"close(code=4000)"``; ``"none"`` where there was none.
        timeline: the events.
    """

    handler: str
    on: str
    fault: str
    timeline: Timeline = field(repr=False)

    @cached_property
    def verdict(self) -> Verdict:
        """What the timeline proves."""
        return judge(self.timeline)

    def source(self) -> Source:
        """Show the handler's source, each line with when it first ran, or ``never ran``.

        Returns:
            An object that shows itself in a notebook and in print.
        """
        from labkit.views.source import source

        return source(self.timeline)

    def plot(self, **options: Any) -> Figure:
        """Draw the sequence picture.

        Args:
            options: those of :func:`labkit.views.sequence.sequence`.

        Returns:
            A matplotlib figure, outside pyplot: nothing is left open.
        """
        from labkit.views.sequence import sequence

        return sequence(self.timeline, self.verdict, **options)

    def save(self, path: str | PathLike[str]) -> None:
        """Keep the run as JSON, for :func:`labkit.load`.

        Args:
            path: the file; it is replaced if it exists.

        Raises:
            BadRecording: it cannot be written.
        """
        from labkit.recordings import save

        save(self, path)

    def __str__(self) -> str:
        from labkit.views.text import text

        return text(self.timeline, self.verdict)

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.views.bundle import mimebundle

        return mimebundle(self.timeline, self.verdict, include=include, exclude=exclude)


async def play(
    handler: Handler,
    on: str = "aiohttp",
    fault: str | Fault | None = "reset",
    *,
    messages: Sequence[str | bytes] = ("hello",),
    patience: float = 2.0,
    client: str = OWN,
    client_options: Mapping[str, Any] | None = None,
    **server_options: Any,
) -> Run:
    """Run one experiment: a client connects, sends its messages one after the other, and then the fault strikes.

    The fault strikes when the last answer has arrived, or after a settling time where none comes. A handler that is
    still running when the patience is over is stopped.

    Args:
        handler: a coroutine function, exactly as the library wants it.
        on: the stack's name, one of ``labkit.STACKS``.
        fault: a fault, or the name of one, of ``labkit.FAULTS``; None for a client that stays.
        messages: what the client sends, ``str`` as text and ``bytes`` as binary.
        patience: how long the handler may take from the fault to its end, in seconds, times ``LABKIT_TIME_SCALE``.
        client: who talks to the handler: ``"labkit"``, the lab's own, or a client written with ``"aiohttp"`` or
            ``"websockets"``.
        client_options: keyword arguments for the library's own function (``ws_connect``, ``connect``).
        server_options: keyword arguments for the library's own function (``AppRunner``, ``serve``).

    Returns:
        The run.

    Raises:
        UnknownName: there is no such stack, fault or client.
        BadHandler: the handler is not a coroutine function of one argument.
        BadOption: the library does not take an option.
        BadValue: the patience or the messages are not what they should be.
    """
    check(handler, on, server_options)
    breaks = None if fault is None else find_fault(fault)
    check_values(messages, patience)
    given = dict(client_options or {})
    check_client(client, given, own_process=breaks is not None and breaks.own_process)
    if breaks is not None and (why := breaks.impossible(client)) is not None:
        raise BadValue(f"{breaks} cannot be staged: {why}")
    timeline = Timeline()
    async with AsyncExitStack() as cleanup:
        serve = partial(_serve, handler, on, timeline, server_options)
        server = await cleanup.enter_async_context(in_own_loop(serve) if breaks and breaks.own_loop else serve())
        wire = await cleanup.enter_async_context(Wire(server.url, timeline=timeline))
        own_process = breaks is not None and breaks.own_process
        peer = make_client(client, wire.url, timeline, given, own_process=own_process)
        cleanup.push_async_callback(peer.stop)
        # Entered last, so left first: the handler is stopped while its connection is as the fault left it.
        cleanup.push_async_callback(_stop, server, scaled(patience))
        await act(server, wire, peer, breaks, messages, scaled(patience))
    return Run(name_of(handler), on, "none" if breaks is None else str(breaks), timeline)


@asynccontextmanager
async def _serve(handler: Handler, on: str, timeline: Timeline, options: dict[str, Any]) -> AsyncIterator[Server]:
    """Host the handler; behind it nothing is left."""
    try:
        async with host(handler, on, timeline=timeline, **options) as server:
            yield server
    finally:
        await _reap(timeline)


def check_values(messages: object, patience: object) -> None:
    """Refuse messages and a patience that are not what they should be.

    Args:
        messages: what the client is to send.
        patience: seconds.

    Raises:
        BadValue: one of them is wrong.
    """
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise BadValue(f"messages={messages!r}; it takes a sequence of messages, such as ('hello',)")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, str | bytes):
            raise BadValue(f"the message {message!r} is neither str (a text message) nor bytes (a binary one)")
        if isinstance(message, str):
            check_text(f"message {number}", message)
    check_seconds("patience", patience)


async def _stop(server: Server, patience: float) -> None:
    """End the experiment: whatever the handler does from here on is the lab's doing."""
    # "Task exception was never retrieved" comes when the task is collected; the young generations hold it.
    gc.collect(1)
    server.timeline.record(
        "loop", "stop", "the lab ends the experiment", {"patience": patience, "inside": server.inside}
    )
    await server.stop_handlers()


async def _reap(timeline: Timeline) -> None:
    """Name and end what the handler left behind, now that the server, the wire and the client are gone."""
    # A task that has been cancelled, or whose connection has just gone, may take a few steps to end by itself; and so
    # does one that has begun just now, as a library's ping does. What stays the same is left.
    left: list[asyncio.Task[Any]] = []
    for _ in range(3):
        for _ in range(5):
            await asyncio.sleep(0)
        before, left = left, tasks_of(timeline)
        if set(left) <= set(before):
            break
    for task in left:
        name = describe(task)
        timeline.record("loop", "leaked", f"task {name}", {"what": "task", "name": name, "stubborn": False})
        task.cancel()
    if left:
        _, stubborn = await asyncio.wait(left, timeout=scaled(_REAP))
        for task in stubborn:
            name = describe(task)
            data = {"what": "task", "name": name, "stubborn": True}
            timeline.record("loop", "leaked", f"task {name}, which refuses to end", data)
