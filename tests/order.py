"""No effect stands above its cause: what must hold of the order of events in every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from labkit.events import (
    CleanupClosing,
    CleanupTruncated,
    ClientCloseReceived,
    ClientRecv,
    Event,
    HandlerCancelled,
    HandlerClose,
    HandlerRecv,
    LibraryCancel,
    LibraryCloseReceived,
    LibraryCloseSent,
    LibraryFinReceived,
    LibraryLost,
    LibraryTcpClosed,
    WireFin,
    WireFrame,
    WireOpaque,
    WireReset,
)
from labkit.timeline import Timeline


def disorder(timeline: Timeline) -> Iterator[str]:
    """Each event that stands above its cause, in words; up to the lab's own end, which is the cause of all the rest."""
    events = list(timeline.until_stop())
    blind = {event.source for event in events if isinstance(event, WireOpaque)}
    before: list[Event] = []
    count: Counter[object] = Counter()
    for event in events:
        match event:
            case HandlerCancelled(by=str(by)) if "connection_lost" in by:
                if not any(isinstance(cause, LibraryLost) for cause in before):
                    yield f"{event.text} stands above the loss that it comes from"
                if not any(isinstance(cause, LibraryCancel) for cause in before):
                    yield f"{event.text} stands above the library's cancel"
            case LibraryLost():
                causes = LibraryTcpClosed | LibraryFinReceived | WireReset | WireFin
                if not any(isinstance(cause, causes) for cause in before):
                    yield f"the library {event.text} above everything that ends TCP"
            case LibraryCloseReceived() if "client" not in blind:
                if not count["client", "CLOSE"]:
                    yield f"the library gets {event.text} before it passed the wire"
            case ClientCloseReceived() if "server" not in blind:
                if not count["server", "CLOSE"]:
                    yield f"the client receives {event.text} before it passed the wire"
            case HandlerRecv() if "client" not in blind:
                if sum(count["client", opcode] for opcode in ("TEXT", "BINARY", "CONT")) <= count[HandlerRecv]:
                    yield f"the handler receives {event.text} before it passed the wire"
            case ClientRecv() if "server" not in blind:
                if sum(count["server", opcode] for opcode in ("TEXT", "BINARY")) <= count[ClientRecv]:
                    yield f"the client receives {event.text} before it passed the wire"
            case WireFrame(source="server", opcode="CLOSE", injected=False):
                if not any(isinstance(cause, LibraryCloseSent | HandlerClose) for cause in before):
                    yield f"{event.text} passes the wire before anybody sent it"
            case CleanupTruncated():
                yield from _cut_too_early(event, before)
        before.append(event)
        count[(event.source, event.opcode) if isinstance(event, WireFrame) else type(event)] += 1


def _cut_too_early(truncated: CleanupTruncated, before: list[Event]) -> Iterator[str]:
    """Where one cancel alone can have cut a closing, it stands between the closing's begin and its cut."""
    [*_, closing] = [
        i for i, event in enumerate(before) if isinstance(event, CleanupClosing) and event.id == truncated.id
    ]
    cancels = [i for i, event in enumerate(before) if isinstance(event, HandlerCancelled)]
    if len(cancels) == 1 and cancels[0] < closing:
        yield f"the closing of {truncated.text} begins below the cancel that cut it"
