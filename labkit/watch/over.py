"""Tells from one event whether a connection is over, or about to be, so that a fault has nothing left to break."""

from __future__ import annotations

from labkit.events import (
    ClientCloseSent,
    Event,
    HandlerClose,
    HandlerEnd,
    LibraryCloseSent,
    LibraryGaveUp,
    LibraryTcpClosed,
    WireClosed,
    WireFin,
    WireFrame,
    WireReset,
)

__all__ = ["why_over"]


def why_over(event: Event) -> str | None:
    """Tell whether the connection of an event is over, or about to be.

    Args:
        event: the event.

    Returns:
        Why, as a clause; None if the event does not end the connection.
    """
    match event:
        case HandlerClose():
            who = "the handler" if event.by is None else "another connection's handler"
            return f"{who} had called {event.text}"
        case HandlerEnd():
            return "the handler had ended"
        case ClientCloseSent():
            return f"the client had sent {event.text}"
        case LibraryCloseSent():
            return f"the server had sent {event.text}"
        case LibraryGaveUp():
            return f"the library had given up: {event.why}"
        case LibraryTcpClosed():
            return "the server had closed TCP"
        case WireFrame(opcode="CLOSE"):
            return f"the {event.source} had sent {event.text}"
        case WireFin() | WireReset():
            return f"there had been a {event.text}"
        case WireClosed():
            return "it was closed"
    return None
