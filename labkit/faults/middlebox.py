"""Middlebox: something between the client and the server has its own mind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, get_args

from labkit.checks import check_choice, check_seconds
from labkit.clock import scaled
from labkit.errors import BadValue
from labkit.faults.fault import Fault, Scene
from labkit.faults.silence import Direction, source_of

__all__ = ["IdleTimeout", "SlowLink"]


@dataclass(frozen=True)
class IdleTimeout(Fault, name="idle-timeout", family="middlebox"):
    """A proxy cuts a connection on which nothing has passed for a while.

    On the wire: nothing for ``seconds``, then RST or FIN to both sides. A connection on which bytes pass in either
    direction is spared, and then no fault strikes.
    In life: a load balancer's or a reverse proxy's idle timeout (60 s is a widespread default), a NAT's table.
    Look for: a ping more often than the timeout keeps the connection open.

    Args:
        seconds: how long nothing may pass, times ``LABKIT_TIME_SCALE``.
        then: how it cuts, ``"reset"`` or ``"fin"``.
    """

    seconds: float = 0.2
    then: Literal["reset", "fin"] = "reset"

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds)
        check_choice("then", self.then, ("reset", "fin"))

    async def due(self, scene: Scene) -> bool:
        """Wait until the connection has been quiet for long enough.

        Args:
            scene: where.

        Returns:
            Whether it was, before the handler ended and before the patience was over.
        """
        ends = scene.timeline.until(lambda event: event.lane == "handler" and event.kind == "end", scene.patience)
        quiet = asyncio.ensure_future(scene.wire.quiet(scaled(self.seconds)))
        over = asyncio.ensure_future(ends)
        try:
            await asyncio.wait({quiet, over}, return_when=asyncio.FIRST_COMPLETED)
            return quiet.done() and not over.done()
        finally:
            quiet.cancel()
            over.cancel()
            await asyncio.wait({quiet, over})

    async def strike(self, scene: Scene) -> None:
        """Cut both sides."""
        if self.then == "reset":
            scene.wire.reset()
        else:
            scene.wire.fin()


@dataclass(frozen=True)
class SlowLink(Fault, name="slow-link", family="middlebox"):
    """The network is slow.

    On the wire: the same bytes in the same order, later, and no faster than a rate.
    In life: a mobile network, a satellite, a queue in an overloaded router.
    Look for: nothing is broken, but what is slower than a ping's timeout is taken for dead.

    Args:
        delay: seconds from one end to the other, times ``LABKIT_TIME_SCALE``.
        rate: bytes a second; None for no limit.
        direction: what is slow: ``"both"``, ``"to-server"`` or ``"to-client"``.
    """

    delay: float = 0.1
    rate: float | None = None
    direction: Direction = "both"

    def __post_init__(self) -> None:
        check_seconds("delay", self.delay, zero=True)
        check_choice("direction", self.direction, get_args(Direction))
        number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
        if self.rate is not None and (not number or not 0 < self.rate < float("inf")):
            raise BadValue(f"rate={self.rate!r}; it takes bytes a second, above 0, such as 10_000, or None")

    async def strike(self, scene: Scene) -> None:
        """Slow the connection down; the client says once more what it said, and waits for the answers."""
        scene.wire.slow(scaled(self.delay), self.rate, source_of(self.direction))
        for message in scene.messages:
            before = len(scene.timeline)
            scene.client.send(message)
            answer = await scene.timeline.until(
                lambda event: event.lane == "client" and event.kind in {"recv", "ended", "exit"},
                scene.patience,
                start=before,
            )
            if answer is None or answer.kind != "recv":
                return
