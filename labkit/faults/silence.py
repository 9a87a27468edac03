"""Silence: the connection stays, and says nothing; see also ``frozen-process``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from labkit.checks import check_choice
from labkit.faults.fault import Fault, Scene
from labkit.timeline import Event

__all__ = ["Blackhole", "Direction", "StalledReader", "source_of"]

Direction = Literal["both", "to-server", "to-client"]

#: Whose bytes travel in a direction.
_SOURCES: Final[dict[str, Literal["both", "client", "server"]]] = {
    "both": "both",
    "to-server": "client",
    "to-client": "server",
}

#: What the client sends to a server that it does not listen to, half a MiB: less than the libraries take in a message,
#: 1 MiB (websockets) and 4 MiB (aiohttp).
_MESSAGE: Final = "nobody reads this " * 30_000

#: How often: more than fits into the buffers on the way there and back.
_MOST: Final = 40


def source_of(direction: Direction) -> Literal["both", "client", "server"]:
    """Tell whose bytes travel in a direction."""
    return _SOURCES[direction]


@dataclass(frozen=True)
class Blackhole(Fault, name="blackhole", family="silence"):
    """The network swallows everything.

    On the wire: bytes, FIN and RST that are sent never arrive, and nobody says so.
    In life: a cable is pulled, a phone leaves the Wi-Fi, a firewall or a NAT forgets the connection and drops its
    packets, a virtual machine is moved.
    Look for: nobody is told anything, for ever; only a ping that stays without an answer tells.

    Args:
        direction: what is swallowed: ``"both"``, ``"to-server"`` or ``"to-client"``.
    """

    direction: Direction = "both"

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, get_args(Direction))

    async def strike(self, scene: Scene) -> None:
        """Lose what comes from now on."""
        scene.wire.blackhole(source_of(self.direction))


@dataclass(frozen=True)
class StalledReader(Fault, name="stalled-reader", family="silence"):
    """The client stops reading, and goes on sending.

    On the wire: data to the server; from the server data until the client's TCP window is closed, then nothing.
    In life: a client whose own loop is busy or blocked, a browser tab in the background, a slow consumer of a feed.
    Look for: a handler that sends stays in ``send()``, and no heartbeat frees it; one slow client then holds up
    everybody whom that handler serves.
    """

    async def strike(self, scene: Scene) -> None:
        """Stop reading from the server; have the client send until the server does not read any more either.

        A server that only reads never comes to that; then there are as many messages as would fill every buffer.
        """
        timeline, start = scene.timeline, len(scene.timeline)
        scene.wire.stall("server")
        for _ in range(_MOST):
            before = len(timeline)
            scene.client.send(_MESSAGE)
            passed = await timeline.until(_passes_or_is_full, scene.patience, start=before)
            if passed is None or passed.kind != "frame" or any(_is_full(event) for event in list(timeline)[start:]):
                return


def _is_full(event: Event) -> bool:
    return event.kind == "full" and event.data["side"] == "server"


def _passes_or_is_full(event: Event) -> bool:
    passes = event.kind == "frame" and event.data["source"] == "client"
    return passes or _is_full(event) or event.kind in {"end", "ended", "exit", "closed"}
