"""Silence: the connection stays open, but nothing arrives any more."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, get_args

from labkit.events import (
    ClientEnded,
    ClientExit,
    Event,
    HandlerEnd,
    HandlerRecv,
    HandlerSend,
    LibraryPaused,
    classes_of,
)
from labkit.faults.fault import Direction, Fault, Scene, source_of
from labkit.support.checks import check_choice

__all__ = ["Blackhole", "FrozenProcess", "StalledReader"]

#: How often the client of ``stalled-reader`` doubles the number of messages that it sends: 1,023 in all.
_DOUBLINGS: Final = 10

#: So many are enough, 63 messages in all, if none of the answers is longer than this number of bytes: a thousand such
#: answers are a tenth of what fills the buffers.
_ENOUGH, _SHORT = 6, 10


@dataclass(frozen=True)
class Blackhole(Fault, name="blackhole", family="silence"):
    """The network swallows everything.

    On the wire: bytes, FIN and RST never arrive, and neither side gets an error. The client sends its messages once
    more, so that something is lost.
    In life: a machine goes offline because somebody pulls a cable or a phone leaves the Wi-Fi; its programs and
    browsers send nothing then. A firewall or a NAT forgets the connection and drops its packets. A virtual machine is
    moved.
    Look for: neither side ever gets an error. Only a ping without an answer reveals the fault.

    Args:
        direction: what the network swallows: ``"both"``, ``"to-server"`` or ``"to-client"``.
    """

    happened = "the connection fell silent"
    ends = "nothing"
    demands = "end"

    direction: Direction = "both"

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, get_args(Direction))

    async def strike(self, scene: Scene) -> None:
        """Swallow everything from now on, and make the client send its messages once more."""
        scene.wire.blackhole(source_of(self.direction))
        for message in scene.messages:
            scene.client.send(message)


@dataclass(frozen=True)
class StalledReader(Fault, name="stalled-reader", family="silence"):
    """The client stops reading, and goes on sending.

    On the wire: the client's messages, again and again; data from the server until the client's TCP window is full,
    then nothing. The system's buffers are made small on both sides, so that some 100 KB of answers fill them; those of
    a few bytes do not.
    In life: a client whose own event loop is busy or blocked, a browser tab in the background, a slow consumer of a
    feed.
    Look for: a handler that sends waits in ``send()``, and no heartbeat ends that wait. If the handler serves other
    clients too, one slow client delays all of them.
    """

    happened = "the connection fell silent"
    ends = "nothing"
    demands = "end"
    needs = "client"
    fills_buffers = True

    async def strike(self, scene: Scene) -> None:
        """Stop reading from the server, let the client go on with its messages, and wait until ``send()`` waits.

        The client stops after some hundred messages, or after a thousand, if the answers are too short to fill the
        buffers.
        """
        scene.wire.stall("server")
        scene.server.narrow()
        if scene.messages:
            talks = scene.begin(_go_on(scene))
            waits = scene.begin(scene.timeline.until(_waits, scene.patience, start=len(scene.timeline)))
            await asyncio.wait([talks, waits], return_when=asyncio.FIRST_COMPLETED)


@dataclass(frozen=True)
class FrozenProcess(Fault, name="frozen-process", family="silence"):
    """The client's program is suspended.

    On the wire: nothing. The client's system still acknowledges the server's data until the receive buffer is full,
    but no program reads them or answers a ping.
    In life: somebody closes the lid of a laptop that runs a virtual machine, a phone suspends an app in the background,
    a debugger stops a process, or a machine is so short of memory that it only swaps.
    Look for: the TCP connection works, so only a ping without an answer reveals the fault.
    """

    happened = "the connection fell silent"
    ends = "nothing"
    demands = "end"
    needs = "own process"

    async def strike(self, scene: Scene) -> None:
        """Send SIGSTOP; the lab kills the process at the end."""
        await scene.client.signal(signal.SIGSTOP)


async def _go_on(scene: Scene) -> None:
    """Send the messages again and again, each time twice as many.

    Many small batches would not do: while the wire reads nothing, the system drops the server's acknowledgements too,
    and TCP then sends only a few segments more. Nor does it go on for long if a thousand answers would not do.
    """
    messages = itertools.cycle(scene.messages)
    for doubled in range(_DOUBLINGS):
        start, batch = len(scene.timeline), 2**doubled
        for message in itertools.islice(messages, batch):
            scene.client.send(message)
        event = await scene.timeline.until(_ends_or_nth(HandlerRecv, batch), start=start)
        if event is None or _ends(event):
            return
        if doubled + 1 == _ENOUGH and _are_short(scene):
            return


def _are_short(scene: Scene) -> bool:
    """Whether neither a message nor an answer is long; the answers to the last messages may still be to come."""
    talk = (event for event in scene.timeline if isinstance(event, HandlerRecv | HandlerSend))
    return all(each.length is not None and each.length <= _SHORT for each in talk)


def _waits(event: Event) -> bool:
    """Whether ``send()`` waits from now on."""
    return isinstance(event, LibraryPaused)


def _ends_or_nth(kind: type[Event], number: int) -> Callable[[Event], bool]:
    """Make a test for the event that ends the conversation, or for the nth event of a kind."""
    count, kinds = itertools.count(1), classes_of(kind)
    return lambda event: _ends(event) or (type(event) in kinds and next(count) == number)


#: What ends a conversation.
_ENDS: Final = classes_of(HandlerEnd, ClientEnded, ClientExit)


def _ends(event: Event) -> bool:
    return type(event) in _ENDS
