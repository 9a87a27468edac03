"""What a server that is not the lab's has done, as client and wire saw it: a pure function of the events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from labkit.events import (
    ClientConnect,
    ClientRecv,
    ClientRefused,
    LoopExit,
    WireClosed,
    WireFault,
    WireFin,
    WireFrame,
    WireLink,
    WireReset,
)
from labkit.support.wording import describe_seconds
from labkit.timeline import Events

__all__ = ["Reaction", "react"]


@dataclass(frozen=True)
class Reaction:
    """What a server has done on one connection. Times are in seconds from the fault, or else from the connection.

    Attributes:
        answered: whether the client has received a message before the fault; None without a client of the lab.
        close_code: the code of the Close frame that the server has sent after the fault; None if it has sent none, or
            one without a code.
        close_text: that frame, for a reader.
        closed_after: when it has sent its Close frame; None if it has not.
        tcp: how it has let TCP go after the fault, ``"FIN"`` or ``"RST"``; None if it has not.
        tcp_after: when it has.
        cut: whether the connection was over without the server, so that nothing more of it could be seen.
        watched: how long the lab has watched the connection.
        refused: how it has refused the client, such as ``"HTTP 403"``; "" if it has not.
        exited: how its process has ended by itself, if the lab has started it; "" if it has not.
    """

    answered: bool | None
    close_code: int | None
    close_text: str
    closed_after: float | None
    tcp: Literal["FIN", "RST"] | None
    tcp_after: float | None
    cut: bool
    watched: float
    refused: str = ""
    exited: str = ""

    @property
    def clauses(self) -> Iterator[str]:
        """All that is known, in words."""
        said = []
        if self.closed_after is not None:
            said.append(f"sent {self.close_text} after {describe_seconds(self.closed_after)}")
        if self.tcp is not None and self.tcp_after is not None:
            said.append(f"ended TCP with a {self.tcp} after {describe_seconds(self.tcp_after)}")
        who = "the server"
        if self.refused:
            yield f"{who} refused the client: {self.refused}"
            who = "it"
        elif self.answered is not None:
            yield f"{who} had answered" + ("" if self.answered else " nothing")
            who = "it"
        if said:
            yield f"{who} {' and '.join(said)}"
        elif not self.cut:
            yield f"{who} had not ended the connection {describe_seconds(self.watched)} later"
        if self.exited:
            yield self.exited


def react(events: Events, until: float | None) -> Reaction:
    """Read what a server has done.

    Args:
        events: the events of one connection, up to the end of the experiment.
        until: when that was; None if it is not known.

    Returns:
        What it has done.
    """
    fault = events.first(WireFault)
    began = fault or events.first(WireLink)
    since = 0.0 if began is None else began.at
    received = [event for event in events.all(ClientRecv) if fault is None or event.at <= fault.at]
    close = next((e for e in events.all(WireFrame) if _is_close(e) and e.at >= since), None)
    end = next((e for e in events.all(WireFin, WireReset) if _is_servers(e) and e.at >= since), None)
    refused = events.first(ClientRefused) if fault is None else None  # otherwise the fault may have refused it
    exited = events.first(LoopExit)
    return Reaction(
        answered=None if events.first(ClientConnect) is None else bool(received),
        close_code=None if close is None else close.code,
        close_text="" if close is None else close.text,
        closed_after=None if close is None else close.at - since,
        tcp=None if end is None else "FIN" if isinstance(end, WireFin) else "RST",
        tcp_after=None if end is None else end.at - since,
        cut=events.first(WireClosed) is not None,
        watched=0.0 if until is None else until - since,
        refused="" if refused is None else refused.text,
        exited="" if exited is None else exited.text,
    )


def _is_close(event: WireFrame) -> bool:
    return event.source == "server" and event.opcode == "CLOSE" and not event.injected


def _is_servers(event: object) -> bool:
    return isinstance(event, WireFin | WireReset) and event.source == "server"
