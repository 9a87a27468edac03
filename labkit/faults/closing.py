"""Closing: the client says goodbye, in all the ways there are."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.faults.fault import Fault, Scene, check_close

__all__ = ["Close", "CloseThenReset", "GoingAway", "IgnoreClose", "NoCode"]


@dataclass(frozen=True)
class Close(Fault, name="close", family="closing"):
    """The client closes properly.

    On the wire: a Close frame with a code, the server's Close in answer, then FIN from the server.
    In life: ``ws.close()`` in a browser, ``await ws.close()``, the end of ``async with connect(...)``.
    Look for: which codes end ``async for`` quietly, and which raise.

    Args:
        code: the close code, 1000-1003, 1007-1014 or 3000-4999.
        reason: why, for a person; at most 123 bytes of UTF-8.
    """

    code: int = 1000
    reason: str = ""

    def __post_init__(self) -> None:
        check_close(self.code, self.reason)

    async def strike(self, scene: Scene) -> None:
        """Send the Close frame."""
        scene.client.close(self.code, self.reason)


@dataclass(frozen=True)
class GoingAway(Fault, name="going-away", family="closing"):
    """The client closes because it goes away.

    On the wire: a Close frame with code 1001, the server's Close in answer, then FIN from the server.
    In life: a browser's tab is closed, or its user follows a link.
    Look for: 1001 counts as a normal end, as 1000 does.
    """

    async def strike(self, scene: Scene) -> None:
        """Send the Close frame."""
        scene.client.close(1001)


@dataclass(frozen=True)
class NoCode(Fault, name="no-code", family="closing"):
    """The client closes without saying why.

    On the wire: a Close frame with an empty payload, the server's Close in answer, then FIN from the server.
    In life: ``ws.close()`` in a browser, which sends no code unless it is given one.
    Look for: what the server reports in place of a code: 1005 is reserved for this, and is never on the wire.
    """

    def impossible(self, client: str) -> str | None:
        """Tell that the libraries' clients always send a code."""
        return None if client == "labkit" else f"the client of {client} always sends a code; leave it to the lab's own"

    async def strike(self, scene: Scene) -> None:
        """Send the empty Close frame."""
        scene.client.close(None)


@dataclass(frozen=True)
class CloseThenReset(Fault, name="close-then-reset", family="closing"):
    """The client says goodbye and does not wait for the answer.

    On the wire: a Close frame with code 1000, and right behind it a RST.
    In life: a program sends Close and exits, or closes its socket, before it has read the server's Close.
    Look for: a handler that has been told goodbye treats it as one, though the transport broke.
    """

    async def strike(self, scene: Scene) -> None:
        """Send the Close frame; reset once it has passed the wire."""
        before = len(scene.timeline)
        scene.client.close(1000)
        await scene.timeline.until(
            lambda event: (
                event.kind == "frame" and event.data.get("opcode") == "CLOSE" and event.data.get("source") == "client"
            ),
            scene.patience,
            start=before,
        )
        scene.wire.reset()


@dataclass(frozen=True)
class IgnoreClose(Fault, name="ignore-close", family="closing"):
    """The client never answers the server's Close.

    On the wire: everything passes but the client's Close frame and its FIN; the TCP connection stays open.
    In life: a client that hangs, or speaks the protocol badly, while its host keeps the connection up.
    Look for: a handler that closes the connection waits for the answer until the library's close timeout, and then
    reports 1006. A handler that never closes has nothing to notice.
    """

    async def strike(self, scene: Scene) -> None:
        """Withhold Close frames of the client from now on."""
        scene.wire.hold_close("client")
