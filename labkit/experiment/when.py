"""When a fault strikes: what ``play(..., when=...)`` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from labkit.errors import BadValue
from labkit.experiment.between import AfterFrames
from labkit.experiment.path import Path
from labkit.faults import Fault
from labkit.support.checks import check_seconds, is_whole
from labkit.watch.moments import AfterSeconds, AtNote, AtSuspension, BeforeClose, Moment

__all__ = ["THROUGH", "Await", "Frame", "When", "check_seen", "check_when", "make_moment"]

#: When the conversation is through.
THROUGH: Final = "through"

_NOTE: Final = "note:"

_TAKES: Final = (
    "it takes 'through', 'note: …' with the text of a labkit.note, a number of seconds, labkit.Await(n), or"
    " labkit.Frame(n)"
)


@dataclass(frozen=True)
class Await:
    """The moment when the handler has suspended for the nth time, counted from its start.

    What counts is that the handler waits, in its own ``await`` or in one of a function that it awaits. An ``await``
    that need not wait does not count, such as that of a ``recv()`` whose message is there already; nor do the
    suspensions of other tasks.

    Args:
        number: n, from 1.

    Raises:
        BadValue: it is not such a number.
    """

    number: int

    def __post_init__(self) -> None:
        if not is_whole(self.number) or self.number < 1:
            raise BadValue(f"labkit.Await({self.number!r}); it takes a whole number from 1")


@dataclass(frozen=True)
class Frame:
    """The moment between two frames of the conversation: n of them have passed the wire, and the next one has not.

    Frames of both directions count, from the handshake on, which does not count itself, as in the run's ``wire`` lane.
    The wire keeps all that comes after the nth, and the handler goes on until it has done what it can do with those
    that have come: it waits, and nothing else is on its way. Then the fault strikes. So a handler has written an order
    and sent its answer, and the client never gets it; or the client has sent two messages, and only the first is there.
    What the wire has kept goes on behind the fault, as far as there still is a way; what a fault cuts off is lost.

    Args:
        number: n; 0 for the moment before the first frame.

    Raises:
        BadValue: it is not such a number.
    """

    number: int

    def __post_init__(self) -> None:
        if not is_whole(self.number) or self.number < 0:
            raise BadValue(f"labkit.Frame({self.number!r}); it takes a whole number from 0")


#: A moment, as users write it.
When = str | float | Await | Frame


def check_when(when: object, fault: Fault | None) -> None:
    """Refuse what is not a moment, or is none for a fault.

    Args:
        when: what the user gives.
        fault: the fault; None if there is none.

    Raises:
        BadValue: it is not a moment, or there is no fault, or the fault strikes in the opening handshake.
    """
    match when:
        case str() if when == THROUGH:
            return
        case str() if not when.startswith(_NOTE) or not when.removeprefix(_NOTE).strip():
            raise BadValue(f"when={when!r}; {_TAKES}")
        case str() | Await() | Frame():
            pass
        case bool():
            raise BadValue(f"when={when!r}; {_TAKES}")
        case int() | float():
            check_seconds("when", when, zero=True)
        case _:
            raise BadValue(f"when={when!r}; {_TAKES}")
    if fault is None:
        raise BadValue(f"when={when!r} says when the fault strikes, but fault is None")
    if fault.moment == "handshake":
        raise BadValue(f"{fault} strikes in the opening handshake, so when={when!r} comes too late")


def check_seen(when: When, url: str) -> None:
    """Refuse a moment between frames, where TLS hides them from the wire.

    Args:
        when: the moment, checked.
        url: the server's URL.

    Raises:
        BadValue: it is such a moment, and such a server.
    """
    if isinstance(when, Frame) and url.startswith(("wss:", "https:")):
        raise BadValue(f"when={when!r} counts frames, which TLS hides from the wire; play it without TLS")


def make_moment(when: When, fault: Fault, path: Path) -> Moment | None:
    """Make what waits for a moment.

    Args:
        when: the moment, checked.
        fault: the fault.
        path: the path of the client whose connection it strikes.

    Returns:
        What waits for it; None if it has come as soon as the conversation is through.
    """

    def served() -> set[int]:
        return path.served

    match when:
        case Await(number):
            return AtSuspension(number, served)
        case Frame(number):
            return AfterFrames(number, path)
        case str() if when != THROUGH:
            return AtNote(when.removeprefix(_NOTE).strip(), path.timeline, served)
        case int() | float():
            return AfterSeconds(when, path.timeline, served)
    return BeforeClose(served) if fault.moment == "closing" else None
