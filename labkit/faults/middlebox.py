"""Middlebox: something between the client and the server, such as a proxy, cuts the connection or slows it down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, get_args

from labkit.errors import BadValue
from labkit.events import ClientEnded, ClientExit, ClientRecv, HandlerEnd
from labkit.faults.fault import Direction, Fault, Scene, source_of
from labkit.support.checks import check_choice, check_seconds
from labkit.support.clock import scaled

__all__ = ["IdleTimeout", "SlowLink"]


@dataclass(frozen=True)
class IdleTimeout(Fault, name="idle-timeout", family="middlebox"):
    """A proxy cuts a connection on which nothing has passed for a while.

    On the wire: nothing for ``seconds``, then RST or FIN to both sides. If bytes keep passing in either direction, the
    proxy does not cut the connection, and no fault strikes.
    In life: the idle timeout of a load balancer or a reverse proxy (60 s is a common default); a NAT forgets the
    connection.
    Look for: pings at a shorter interval than the timeout keep the connection open.

    Args:
        seconds: the idle timeout in seconds, multiplied by ``LABKIT_TIME_SCALE``.
        then: how the proxy cuts the connection, ``"reset"`` or ``"fin"``.
    """

    happened = "a proxy cut the quiet connection"
    ends = "connection"
    demands = "end or stay"

    seconds: float = 0.2
    then: Literal["reset", "fin"] = "reset"

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds)
        check_choice("then", self.then, ("reset", "fin"))

    async def due(self, scene: Scene) -> bool:
        """Wait until nothing has passed for ``seconds``.

        Args:
            scene: the parts of the experiment.

        Returns:
            Whether this was so before the handler ended and before the patience was over.
        """
        handler_end = scene.timeline.until(lambda event: isinstance(event, HandlerEnd), scene.patience)
        quiet = asyncio.ensure_future(scene.wire.quiet(scaled(self.seconds)))
        over = asyncio.ensure_future(handler_end)
        try:
            await asyncio.wait({quiet, over}, return_when=asyncio.FIRST_COMPLETED)
            return quiet.done() and not over.done()
        finally:
            quiet.cancel()
            over.cancel()
            await asyncio.wait({quiet, over})

    async def strike(self, scene: Scene) -> None:
        """Cut the connection to both sides."""
        if self.then == "reset":
            scene.wire.reset()
        else:
            scene.wire.fin()


@dataclass(frozen=True)
class SlowLink(Fault, name="slow-link", family="middlebox"):
    """The network is slow.

    On the wire: the same bytes in the same order, but later, and at a limited rate.
    In life: a mobile network, a satellite link, a queue in an overloaded router.
    Look for: nothing is broken. But if an answer takes longer than a ping's timeout, the library takes the connection
    for dead.

    Args:
        delay: the delay in seconds from one end to the other, multiplied by ``LABKIT_TIME_SCALE``.
        rate: the highest rate in bytes per second; None for no limit.
        direction: which direction is slow: ``"both"``, ``"to-server"`` or ``"to-client"``.
    """

    happened = "the network became slow"
    ends = "nothing"
    demands = "answer"

    delay: float = 0.1
    rate: float | None = None
    direction: Direction = "both"

    def __post_init__(self) -> None:
        check_seconds("delay", self.delay, zero=True)
        check_choice("direction", self.direction, get_args(Direction))
        is_number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
        if self.rate is not None and (not is_number or not 0 < self.rate < float("inf")):
            raise BadValue(f"rate={self.rate!r}; it takes bytes a second, above 0, such as 10_000, or None")

    async def strike(self, scene: Scene) -> None:
        """Slow the connection down; then make the client send its messages once more and wait for each answer."""
        scene.wire.slow(scaled(self.delay), self.rate, source_of(self.direction))
        for message in scene.messages:
            before = len(scene.timeline)
            scene.client.send(message)
            answer = await scene.timeline.until(
                lambda event: isinstance(event, ClientRecv | ClientEnded | ClientExit),
                scene.patience,
                start=before,
            )
            if not isinstance(answer, ClientRecv):
                return
