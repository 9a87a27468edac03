"""The play itself: the client connects and talks, the fault strikes, and all comes to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

from labkit.clients import Client
from labkit.clock import scaled, timeout
from labkit.faults import Fault, Scene
from labkit.servers import Server
from labkit.timeline import Event, Timeline
from labkit.wire import Wire

__all__ = ["act"]

#: Seconds to wait for an answer that may never come, before the fault strikes or the experiment ends.
_SETTLE = 0.25


async def act(
    server: Server,
    wire: Wire,
    client: Client,
    fault: Fault | None,
    messages: Sequence[str | bytes],
    patience: float,
) -> None:
    """Let the client connect and talk, let the fault strike, and wait until all is over.

    Args:
        server: the server.
        wire: the relay between the two.
        client: the client, not yet connected.
        fault: what strikes; None for a client that stays.
        messages: what the client says.
        patience: how long each wait for a cause may take, in seconds, already scaled.
    """
    timeline = client.timeline
    scene = Scene(wire, client, server, timeline, patience, messages)
    if fault is not None and fault.moment == "handshake":
        await _strike(fault, scene)
    await client.ready()
    if await _connect(client, patience):
        await timeline.until(_starts, patience)
        for message in messages:
            await _say(client, message, patience)
        # A handler that has ended has closed the connection: there is nothing left to break.
        if fault is not None and fault.moment == "talk" and not any(map(_ends, timeline)):
            await _strike(fault, scene)
    if any(map(_refused, timeline)):
        await _settle(client.ended())
    if not any(map(_starts, timeline)) or await timeline.until(_ends, patience) is None:
        return
    # The handler has ended. A shielded cleanup may go on, and the library has yet to end the connection.
    await timeline.until(lambda _: not _closing(timeline), patience)
    await _settle(client.ended(), *(link.closed() for link in wire.links))
    await server.settled(scaled(_SETTLE))


async def _connect(client: Client, patience: float) -> bool:
    """Connect; a server that never answers is waited for as long as the patience goes, or the client's own."""
    try:
        async with timeout(patience):
            return await client.connect()
    except TimeoutError:
        return False


async def _say(client: Client, message: str | bytes, patience: float) -> None:
    """Send a message, and wait for its answer.

    Whether there will be one is settled on the wire, in the lab's own loop. The client may sit in another process,
    which takes its time.
    """
    timeline = client.timeline
    before = len(timeline)
    client.send(message)
    await timeline.until(lambda event: _answers(event) or _passes(event, "client"), patience, start=before)
    if await timeline.until(lambda event: _answers(event) or _passes(event, "server"), scaled(_SETTLE), start=before):
        await timeline.until(_answers, patience, start=before)


async def _strike(fault: Fault, scene: Scene) -> None:
    if await fault.due(scene):
        data = {"fault": fault.name, "family": fault.family, "knobs": fault.knobs()}
        scene.timeline.record("wire", "fault", str(fault), data)
        await fault.strike(scene)


async def _settle(*ends: Coroutine[Any, Any, None]) -> None:
    """Wait a while for what is about to end."""
    with contextlib.suppress(TimeoutError):
        async with timeout(scaled(_SETTLE)):
            await asyncio.gather(*ends)


def _refused(event: Event) -> bool:
    return event.lane == "client" and event.kind == "refused"


def _starts(event: Event) -> bool:
    return event.lane == "handler" and event.kind == "start"


def _ends(event: Event) -> bool:
    return event.lane == "handler" and event.kind == "end"


def _answers(event: Event) -> bool:
    return event.lane == "client" and event.kind in {"recv", "error", "ended", "exit"}


def _passes(event: Event, source: str) -> bool:
    """Whether a message, or what cannot be decoded, passes the wire."""
    told = event.kind == "opaque" or (event.kind == "frame" and event.data["opcode"] in {"TEXT", "BINARY"})
    return event.lane == "wire" and told and event.data["source"] == source


def _closing(timeline: Timeline) -> bool:
    """Whether a resource has begun to close and is not yet through."""
    open_ = 0
    for event in timeline.select("cleanup"):
        open_ += {"closing": 1, "closed": -1, "truncated": -1}.get(event.kind, 0)
    return open_ > 0
