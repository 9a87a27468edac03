"""The ways to break connections through a wire: all of them, or some."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Literal

from labkit.events import Side
from labkit.wire.link import Ends, Link

__all__ = ["Breaker", "SomeLinks"]


class Breaker(ABC):
    """Breaks links: all that are live at that moment.

    Attributes:
        links: the links, in the order of connecting.
    """

    @property
    @abstractmethod
    def links(self) -> list[Link]:
        """The links on which it acts, in the order of connecting."""

    @abstractmethod
    def take_requests(self, take: Callable[[Link], bool]) -> None:
        """Ask about the request of each later client.

        Args:
            take: called when the whole request has come, before the server is connected. It returns whether it has
                dealt with the request in place of the server.
        """

    def _live(self) -> list[Link]:
        return [link for link in self.links if link.live]

    def _take_requests(self, take: Callable[[Link], object]) -> None:
        def take_each(link: Link) -> bool:
            take(link)
            return True

        self.take_requests(take_each)

    def reset(self, to: Ends = "both") -> None:
        """Break every live link with RST; see ``Link.reset``."""
        for link in self._live():
            link.reset(to)

    def fin(self, to: Ends = "both") -> None:
        """Close every live link without a Close frame; see ``Link.fin``."""
        for link in self._live():
            link.fin(to)

    def half_close(self, to: Side = "server") -> None:
        """End one direction of every live link; see ``Link.half_close``."""
        for link in self._live():
            link.half_close(to)

    def inject(self, data: bytes, to: Side = "server") -> None:
        """Send bytes of the wire's own on every live link; see ``Link.inject``."""
        for link in self._live():
            link.inject(data, to)

    def hold_close(self, source: Side = "client") -> None:
        """Withhold the Close, FIN and RST of one end, on every live link; see ``Link.hold_close``."""
        for link in self._live():
            link.hold_close(source)

    def reset_after_close(self, source: Side = "client") -> None:
        """Break every live link with RST as soon as a Close has passed; see ``Link.reset_after_close``."""
        for link in self._live():
            link.reset_after_close(source)

    def blackhole(self, source: Ends = "both") -> None:
        """Drop all that an end sends, on every live link; see ``Link.blackhole``."""
        for link in self._live():
            link.blackhole(source)

    def stall(self, source: Side = "server") -> None:
        """Stop reading what one end sends, on every live link; see ``Link.stall``."""
        for link in self._live():
            link.stall(source)

    def slow(self, delay: float, rate: float | None = None, source: Ends = "both") -> None:
        """Delay and limit every live link; see ``Link.slow``."""
        for link in self._live():
            link.slow(delay, rate, source)

    async def quiet(self, seconds: float) -> None:
        """Wait until every live link has been quiet for some time; see ``Link.quiet``."""
        for link in self._live():
            await link.quiet(seconds)

    # The ways to treat clients that connect later.

    def cut_handshakes(self, how: Literal["fin", "reset"] = "fin") -> None:
        """End the connection of each later client when its request has come; the server is not connected.

        Args:
            how: whether to send FIN or RST.
        """
        self._take_requests((lambda link: link.fin("client")) if how == "fin" else (lambda link: link.reset("client")))

    def hang_handshakes(self) -> None:
        """Take the request of each later client and never answer it; the server is not connected."""
        self._take_requests(lambda link: link.record_loss("client", 0, "request"))

    def refuse_handshakes(self, status: int = 503) -> None:
        """Answer the request of each later client in place of the server, as a proxy does; it is not connected.

        Args:
            status: the HTTP status.
        """
        phrase = HTTPStatus(status).phrase
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()

        def refuse(link: Link) -> None:
            link.inject(head, to="client")
            link.fin("client")

        self._take_requests(refuse)


class SomeLinks(Breaker):
    """Some of the links of a wire, to break these alone.

    Args:
        whole: the wire.
        belongs: says whether a link belongs to the part; asked whenever it matters.
    """

    def __init__(self, whole: Breaker, belongs: Callable[[Link], bool]) -> None:
        self._whole: Final = whole
        self._belongs: Final = belongs

    @property
    def links(self) -> list[Link]:
        """The links that belong to the part, in the order of connecting."""
        return [link for link in self._whole.links if self._belongs(link)]

    def take_requests(self, take: Callable[[Link], bool]) -> None:
        """Ask about the requests of those later clients that belong to the part; those of others go to the server."""
        self._whole.take_requests(lambda link: self._belongs(link) and take(link))
