"""Closing: the client sends a Close frame, in various ways."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.events import WireFrame
from labkit.faults.fault import Fault, Scene, check_close

__all__ = ["Close", "CloseAtOnce", "CloseThenReset", "ClosedTab", "GoingAway", "IgnoreClose", "NoCode"]


@dataclass(frozen=True)
class Close(Fault, name="close", family="closing"):
    """The client closes properly.

    On the wire: a Close frame with a code, then the server's Close as the answer, then FIN from the server.
    In life: ``await ws.close()`` or the end of ``async with connect(...)`` in the libraries; ``ws.close(1000)`` in a
    browser. (``ws.close()`` in a browser sends no code: see ``no-code``.)
    Look for: which codes end ``async for`` quietly, and which raise an exception.

    Args:
        code: the close code, 1000-1003, 1007-1014 or 3000-4999.
        reason: the reason, for a human reader; at most 123 bytes of UTF-8.
    """

    happened = "the client said goodbye"
    ends = "connection"
    demands = "end"
    needs = "client"

    code: int = 1000
    reason: str = ""

    def __post_init__(self) -> None:
        check_close(self.code, self.reason)

    async def strike(self, scene: Scene) -> None:
        """Send the Close frame."""
        scene.client.close(self.code, self.reason)


@dataclass(frozen=True)
class GoingAway(Fault, name="going-away", family="closing"):
    """The client closes because it goes away, and waits for the answer.

    On the wire: a Close frame with code 1001, then the server's Close as the answer, then FIN from the server.
    In life: a program that ends in good order calls ``await ws.close(1001)``. A browser also sends 1001 when its user
    leaves the page, but it does not wait for the answer: see ``closed-tab``.
    Look for: the libraries treat 1001 as a normal end, like 1000.
    """

    happened = "the client said goodbye"
    ends = "connection"
    demands = "end"
    needs = "client"

    async def strike(self, scene: Scene) -> None:
        """Send the Close frame."""
        scene.client.close(1001)


@dataclass(frozen=True)
class NoCode(Fault, name="no-code", family="closing"):
    """The client sends a Close frame without a code.

    On the wire: a Close frame with an empty payload, then the server's Close as the answer, then FIN from the server.
    In life: ``ws.close()`` in a browser. A browser sends a code only if the page passes one; a library always sends
    one.
    Look for: which code the server reports. RFC 6455 reserves 1005 for this case; no frame ever carries it.
    """

    happened = "the client said goodbye"
    ends = "connection"
    demands = "end"
    needs = "own client"
    instead = "always sends a code"

    async def strike(self, scene: Scene) -> None:
        """Send the empty Close frame."""
        scene.own_client.close(None)


@dataclass(frozen=True)
class CloseAtOnce(Fault, name="close-at-once", family="closing"):
    """The client sends a message and a Close frame at once.

    On the wire: the client's last message once more and a Close frame with code 1000, both in one TCP segment; then
    the server's Close as the answer, then FIN from the server.
    In life: ``ws.send("done"); ws.close(1000)`` in a browser. Chromium 156 often writes both at once.
    Look for: when the handler receives the message, the library has already read the Close. In an echo handler on
    websockets, ``send()`` then raises ``ConnectionClosedOK``, and ``async for`` does not catch that. aiohttp sends the
    answer.
    """

    happened = "the client spoke once more and said goodbye"
    ends = "connection"
    demands = "end"
    needs = "own client"
    instead = "writes each frame by itself"

    async def strike(self, scene: Scene) -> None:
        """Send both in one write. If the client has sent no message before, send only the Close frame."""
        with scene.own_client.in_one_write():
            for message in scene.messages[-1:]:
                scene.own_client.send(message)
            scene.own_client.close(1000)


@dataclass(frozen=True)
class ClosedTab(Fault, name="closed-tab", family="closing"):
    """The user closes the browser's tab.

    On the wire: a Close frame with code 1001, and FIN at once. The client's system answers the server's Close with
    RST, because the socket is closed.
    In life: a tab is closed or reloaded, or it crashes. Chromium 156 sends FIN 0.03 to 4 ms after the Close.
    Look for: a handler that waits for a message gets 1001. A handler that is busy at that moment notices the end of
    TCP instead: aiohttp then reports 1006, or cancels the handler.
    """

    happened = "the client closed its tab"
    ends = "connection"
    demands = "end"
    needs = "own client"
    instead = "waits for the answer to its Close"

    async def strike(self, scene: Scene) -> None:
        """Send the Close frame, and close the socket at once."""
        scene.own_client.close(1001)
        scene.own_client.close_socket()


@dataclass(frozen=True)
class CloseThenReset(Fault, name="close-then-reset", family="closing"):
    """The client sends a Close frame and does not wait for the answer.

    On the wire: a Close frame with code 1000, and RST directly after it.
    In life: a program sends Close, and then ends or closes its socket before it has read all data from the server. If
    it has read all data, FIN follows the Close instead, as in ``closed-tab``.
    Look for: a handler that has received the Close treats the end as a normal one, although the transport broke.
    """

    happened = "the client said goodbye"
    ends = "connection"
    demands = "end"
    needs = "client"

    async def strike(self, scene: Scene) -> None:
        """Send the Close frame, and reset the connection as soon as the frame has passed the wire."""
        before = len(scene.timeline)
        scene.wire.reset_after_close()
        scene.client.close(1000)
        await scene.timeline.until(
            lambda event: isinstance(event, WireFrame) and (event.source, event.opcode) == ("client", "CLOSE"),
            scene.patience,
            start=before,
        )
        scene.wire.reset()  # where the wire cannot read the frame, or the client does not send it


@dataclass(frozen=True)
class IgnoreClose(Fault, name="ignore-close", family="closing"):
    """The client never answers the server's Close.

    On the wire: everything passes except the client's Close frame and its FIN. The TCP connection stays open.
    In life: a client hangs, or implements the protocol badly, while its system keeps the connection up.
    Look for: a handler that closes the connection waits for the answer until the library's close timeout is over, and
    then reports 1006. A handler that never closes the connection cannot notice this fault.
    """

    happened = "the client stopped answering Close frames"
    ends = "nothing"
    demands = "stay"
    on_frames = True
    moment = "closing"

    async def strike(self, scene: Scene) -> None:
        """Hold back the client's Close frames from now on."""
        scene.wire.hold_close("client")
