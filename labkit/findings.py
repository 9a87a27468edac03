"""What a timeline proves: the findings.

A finding that the events do not decide is *unknown*. This module reads the events, and nothing else; how a reader is
told of them is the business of ``labkit.sentence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labkit.events import (
    CleanupClosed,
    CleanupClosing,
    CleanupOpen,
    CleanupTruncated,
    ClientEnded,
    ClientRecv,
    ClientRefused,
    ClientSend,
    Event,
    HandlerBlocked,
    HandlerCancelled,
    HandlerClose,
    HandlerEnd,
    HandlerLine,
    HandlerLines,
    HandlerLog,
    HandlerNotice,
    HandlerRecv,
    HandlerSend,
    HandlerStart,
    HandlerSwallowed,
    LoopException,
    LoopLeaked,
    LoopSoFar,
    LoopStop,
    ResourceEvent,
    WireFault,
    WireSpared,
)
from labkit.reaction import Reaction, react
from labkit.timeline import Events, Timeline

__all__ = [
    "Answered",
    "Findings",
    "Landmarks",
    "client_end",
    "find",
    "find_answers",
    "find_cleanup",
    "find_swallowed",
    "library_of",
]

Ending = Literal["returned", "raised", "cancelled", "running", "unknown"]
Noticed = Literal["yes", "no", "unknown"]
Answered = Literal["yes", "no", "unknown"]
Cleanup = Literal["complete", "truncated", "missing", "outlived", "none", "unknown"]

#: `logging.WARNING`; not imported, since this module only reads data.
_WARNING = 30


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the events of one connection prove.

    Attributes:
        ending: how the handler ended; ``running`` if it had not ended when the patience was over, or by now;
            ``unknown`` if it never started, or if the server is not the lab's.
        exception: what the handler raised: the qualified type and the message.
        close_code: the code that the handler's own connection reported when the handler ended.
        noticed: whether the library told the handler, after the fault, that the connection was over.
        noticed_after: seconds from the fault until the library told the handler.
        lines_never_ran: the lines, by number in the handler's file or cell; None if they are unknown.
        cleanup: what became of the resources that the handler opened: all closed before it ended (``complete``), one
            cut short (``truncated``), never begun (``missing``), or closed only after it had ended (``outlived``).
        leaked: what the handler has left: what still ran when the patience was over, and what it has opened and not
            closed; in words, with the line that has made it, where that is known. None as long as it is unknown, since
            the experiment goes on, or since the server is not the lab's.
        complaints: log records of level WARNING or higher, the errors that the loop's exception handler got, the
            exceptions that ended a thread, and coroutines that nobody awaited; None where these are unknown, since the
            server is not the lab's.
        client_exception: the exception that the client got at the end: the qualified type and the message; or None.
        client_close_code: the code that the client's own connection reported.
        blocked: for how many seconds in all the handler kept the loop to itself, so that nothing else ran in it; each
            time that it did so for 50 ms or longer, times ``LABKIT_TIME_SCALE``.
        blocked_line: the line, in the handler's file or cell, in which it did so for the longest time; None if it did
            not, or if the line is in another file or is not known.
        swallowed: the lines, in the handler's file or cell, at which a cancel ended that the handler did not pass on:
            neither by raising it again, nor by ``Task.uncancel()``. None if that is unknown: the server is not the
            lab's, the recording is an older one, or a cancel ended at a line that is not known.
        timed_out: of the ``asyncio.timeout`` around the handler that the fault ``cancel`` lets expire: whether it has
            fired, when the handler ended; None if it has not ended, or was not limited so.
        struck: whether the fault found a live connection; None where there was no fault, or none was due.
        answered: for a connection that stayed while the fault struck another: whether its client still got answers to
            what it sent after the fault; None for every other connection.
        reaction: what a server that is not the lab's has done, as client and wire saw it; None where it is the lab's.
        outline: whether the connection was watched in outline alone, as one of a crowd (``closely`` of
            ``labkit.host``): then ``close_code``, ``noticed``, ``lines_never_ran``, ``swallowed`` and ``timed_out`` are
            unknown.
    """

    ending: Ending
    exception: str | None
    close_code: int | None
    noticed: Noticed
    noticed_after: float | None
    lines_never_ran: tuple[int, ...] | None
    cleanup: Cleanup
    leaked: tuple[str, ...] | None
    complaints: tuple[str, ...] | None
    client_exception: str | None
    client_close_code: int | None
    blocked: float = 0.0
    blocked_line: int | None = None
    swallowed: tuple[int, ...] | None = ()
    timed_out: bool | None = None
    struck: bool | None = None
    answered: Answered | None = None
    reaction: Reaction | None = None
    outline: bool = False


@dataclass(frozen=True)
class Landmarks:
    """The events to which the findings refer.

    Attributes:
        stop: the end of what the events tell of: of the experiment, or of a run that goes on.
        elsewhere: a fault that struck another connection.
        seen: whether the server is the lab's, which sees its handler.
    """

    start: HandlerStart | None
    fault: WireFault | None
    notice: Event | None
    end: HandlerEnd | None
    stop: LoopStop | LoopSoFar | None
    elsewhere: WireFault | None
    seen: bool

    @classmethod
    def of(cls, timeline: Timeline, elsewhere: WireFault | None, *, seen: bool) -> Landmarks:
        """Find them in the events of one connection."""
        events = timeline.until_stop()
        start = events.first(HandlerStart)
        return cls(
            start=start,
            fault=events.first(WireFault),
            notice=_notice(events, start),
            end=events.first(HandlerEnd),
            stop=timeline.first(LoopStop) or timeline.first(LoopSoFar),
            elsewhere=elsewhere,
            seen=seen,
        )

    @property
    def ended_before_the_fault(self) -> bool:
        """Whether the handler had ended by itself before the fault struck."""
        return self.end is not None and self.fault is not None and self.end.at < self.fault.at

    @property
    def outline(self) -> bool:
        """Whether the connection was watched in outline alone."""
        return self.start is not None and bool(self.start.outline)

    @property
    def over(self) -> bool:
        """Whether the experiment is over; if not, what has not happened may still happen."""
        return not isinstance(self.stop, LoopSoFar)


def find(timeline: Timeline, marks: Landmarks) -> Findings:
    """Read what the events of one connection prove.

    Args:
        timeline: the events of the connection.
        marks: the landmarks among them.

    Returns:
        The findings.
    """
    events = timeline.until_stop()
    start, end, fault, notice = marks.start, marks.end, marks.fault, marks.notice
    client = client_end(events)
    blocks = events.all(HandlerBlocked)
    longest = max(blocks, key=lambda block: block.seconds, default=None)
    return Findings(
        ending="unknown" if start is None else "running" if end is None else end.ending,
        exception=None if end is None else end.exception,
        close_code=None if end is None else end.close_code,
        noticed=_noticed(events, marks),
        noticed_after=notice.at - fault.at if notice and fault else None,
        lines_never_ran=_never_ran(events, start, timeline.last(HandlerLines)),
        cleanup=find_cleanup(events, marks)[0],
        leaked=_leaked(timeline) if marks.over and marks.seen else None,
        complaints=tuple(event.text for event in events if _is_complaint(event)) if marks.seen else None,
        client_exception=None if client is None else client.exception,
        client_close_code=client.code if isinstance(client, ClientEnded) else None,
        blocked=sum((block.seconds for block in blocks), 0.0),
        blocked_line=None if longest is None else longest.line,
        swallowed=_swallowed(events, marks),
        timed_out=None if end is None else end.timed_out,
        struck=True if fault is not None else False if events.first(WireSpared) else None,
        answered=None if marks.elsewhere is None else _answered(events, marks.elsewhere),
        reaction=None if marks.seen else react(events, None if marks.stop is None else marks.stop.at),
        outline=marks.outline,
    )


def _leaked(timeline: Events) -> tuple[str, ...]:
    """What was left behind, each thing once: what then refuses to end has been told before."""
    left: list[LoopLeaked] = []
    for event in timeline.all(LoopLeaked):
        told = next((n for n, each in enumerate(left) if (each.what, each.name) == (event.what, event.name)), None)
        if event.stubborn and event.what == "task" and told is not None:
            del left[told]
        left.append(event)
    return tuple(event.text for event in left)


def _answered(events: Events, fault: WireFault) -> Answered:
    """Whether the client of another connection still gets answers after the fault."""
    asked = max((event.at for event in events.all(ClientSend)), default=fault.at)
    if asked <= fault.at:
        return "unknown"
    received, given = find_answers(events)
    before = any(event.at < fault.at for event in received)
    if any(event.at < fault.at for event in given) or (not before and events.first(HandlerStart)):
        # Its handler has answered it before, or nobody has. What the handlers of others send to it is no answer.
        since = min((event.at for event in given if event.at > asked), default=None)
    else:
        since = asked
    if since is not None and any(event.at > since for event in received):
        return "yes"
    # A client that was never answered is not worse off.
    return "no" if before else "unknown"


def find_answers(events: Events) -> tuple[list[ClientRecv], list[HandlerSend]]:
    """Tell the answers to a client from what it was sent before it had said a word, such as a greeting.

    Args:
        events: the events of its connection.

    Returns:
        What the client has received since, which may be from the handlers of others; and what its own handler has sent.
    """
    received, sent = events.all(ClientRecv), events.all(HandlerSend)
    asked, heard = events.first(ClientSend), events.first(HandlerRecv)
    if asked is None:
        return [], []
    # A greeting may be on its way while the client says its first word, but what is sent first arrives first.
    greetings = 0 if heard is None else sum(event.at < heard.at for event in sent)
    greetings = max(greetings, sum(event.at < asked.at for event in received))
    given = [event for event in sent if event.by is None and heard is not None and event.at > heard.at]
    return received[greetings:], given


def library_of(start: HandlerStart | None) -> str | None:
    """The package of the server's library, taken from its name and version."""
    return None if start is None else start.library.partition(" ")[0]


def _notice(events: Events, start: HandlerStart | None) -> Event | None:
    """The event with which the library first tells the handler, after the fault: a notice or a cancel."""
    for event in events.since_fault().all(HandlerNotice, HandlerCancelled, HandlerClose, HandlerEnd):
        if isinstance(event, HandlerClose) and event.by is not None:
            continue  # another connection's handler closes this one, of which its own is told
        if isinstance(event, HandlerClose | HandlerEnd):
            return None  # whatever is told from now on, the handler has ended by itself, or closed the connection
        # A notice that another connection's handler got has not reached this one.
        if event.package == library_of(start) if isinstance(event, HandlerCancelled) else _is_own(event):
            return event
    return None


def _is_own(event: Event) -> bool:
    return isinstance(event, HandlerNotice) and event.by is None


def _noticed(events: Events, marks: Landmarks) -> Noticed:
    if marks.notice is not None:
        return "yes"
    if marks.start is None or marks.fault is None or marks.ended_before_the_fault or marks.outline:
        return "unknown"
    if marks.end is None and not marks.over:
        return "unknown"  # it may still be told
    # A cancel by unknown code may be due to the connection; one by known code is that code's own doing.
    end, cancels = marks.end, events.since_fault().all(HandlerCancelled)
    if any(cancel.package is None for cancel in cancels):
        return "unknown"
    if end is None:
        return "no"
    # What it awaited was cancelled, or it was cancelled in a way that cannot be seen.
    cancelled_by_nobody = end.ending == "cancelled" and not cancels and not end.own
    # The handler raised an exception that reports a lost connection; it may have been another connection.
    return "unknown" if cancelled_by_nobody or end.loss or end.doubt is not None else "no"


def _never_ran(events: Events, start: HandlerStart | None, lines: HandlerLines | None) -> tuple[int, ...] | None:
    # `lines` is the last event of its kind: at the end it may turn out that a debugger took over the tool.
    if lines is None or start is None or start.outline or lines.tool is None:
        return None
    ran = {event.line for event in events.all(HandlerLine) if not event.function}
    # Of a helper that another connection's handler has called, this one need not run a line.
    helpers = [range(first, first + len(text.splitlines())) for first, text in lines.helpers]
    not_called = {line for helper in helpers if ran.isdisjoint(helper) for line in helper}
    return tuple(line for line in lines.executable if line not in ran and line not in not_called)


def find_cleanup(events: Events, marks: Landmarks) -> tuple[Cleanup, str]:
    """The worst that happened to a resource, and the names of the resources to which it happened, in brackets."""
    lives: dict[int, list[ResourceEvent]] = {}
    for event in events.all(ResourceEvent):
        if event.shared:
            continue
        lives.setdefault(event.id, []).append(event)
    if not lives:
        return ("unknown" if marks.start is None else "none"), ""
    # Where the fault struck another connection, a handler that still runs has no reason to close anything.
    # And as long as the experiment goes on, a task may still close it.
    end, due = marks.end, marks.over and (marks.end is not None or marks.elsewhere is None)
    names_by_cleanup: dict[Cleanup, list[str]] = {}
    for life in lives.values():
        names_by_cleanup.setdefault(_cleanup_of(life, end, due=due), []).append(life[0].text)
    worst_first: Sequence[Cleanup] = ("truncated", "missing", "outlived", "unknown", "complete")
    worst = next(cleanup for cleanup in worst_first if cleanup in names_by_cleanup)
    if worst == "complete":
        return worst, ""
    names = ", ".join(names_by_cleanup[worst])
    if worst == "outlived" and end is not None:
        # First the closing that was under way when the handler ended, then those that had not begun, as they came.
        outlived = sorted(
            (life for life in lives.values() if _cleanup_of(life, end, due=due) == worst), key=_closing_began
        )
        begun = [life[0].text for life in outlived if _closing_began(life) <= end.at]
        later = [life[0].text for life in outlived if _closing_began(life) > end.at]
        if begun:
            names = f"{', '.join(begun)} in flight" + (f", then {', '.join(later)}" if later else "")
    return worst, f" ({names})"


def find_swallowed(events: Events, end: HandlerEnd | None) -> list[HandlerSwallowed]:
    """Find the cancels that ended in the handler.

    Args:
        events: the events of the connection, up to the lab's own stop.
        end: the end of the handler.

    Returns:
        Where each ended; without those that the handler held back for a while only, and passed on after its cleanup.
    """
    found = events.all(HandlerSwallowed)
    if end is None or end.ending != "cancelled" or end.unasked is not None:
        return found
    # It ended by a cancel: by one that came later, or else by the one that it had held back. A place that holds the
    # last one back, and passes it on, has held back those before it too: cancels in a row end a handler once.
    last = max((cancel.at for cancel in events.all(HandlerCancelled)), default=end.at)
    passed_on = {(each.line, each.where, each.whose) for each in found if each.at > last and each.line is not None}
    return [each for each in found if each.at <= last and (each.line, each.where, each.whose) not in passed_on]


def _swallowed(events: Events, marks: Landmarks) -> tuple[int, ...] | None:
    lines = [event.line for event in find_swallowed(events, marks.end)]
    if (
        not marks.seen
        or marks.outline
        or None in lines
        or not all(cancel.followed for cancel in events.all(HandlerCancelled))
    ):
        return None
    return tuple(sorted({line for line in lines if line is not None}))


def _closing_began(life: Sequence[ResourceEvent]) -> float:
    return next(event.at for event in life if isinstance(event, CleanupClosing))


def _cleanup_of(life: Sequence[ResourceEvent], end: HandlerEnd | None, *, due: bool) -> Cleanup:
    match life[-1]:
        case CleanupTruncated():
            return "truncated"
        case CleanupOpen():
            return "missing" if due else "unknown"
        case CleanupClosed() as closed if end is None or closed.at <= end.at:
            return "complete"
        case _:
            # While the handler still runs, a resource that is closing may still be closed in time.
            return "unknown" if end is None else "outlived"


def _is_complaint(event: Event) -> bool:
    if isinstance(event, HandlerLog):
        return event.levelno >= _WARNING
    return isinstance(event, LoopException)


def client_end(events: Events) -> ClientRefused | ClientEnded | None:
    """How the connection ended for the client."""
    end = events.first(ClientRefused, ClientEnded)
    return end if isinstance(end, ClientRefused | ClientEnded) else None
