"""What a timeline proves.

A finding that the events do not decide is *unknown*. This module reads the events, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from labkit.connections import main_of, parts_of, strangers_of
from labkit.events import (
    CleanupClosed,
    CleanupClosing,
    CleanupOpen,
    CleanupTruncated,
    ClientConnect,
    ClientEnded,
    ClientExit,
    ClientFailed,
    ClientRecv,
    ClientRefused,
    ClientSend,
    ClientStranger,
    Event,
    HandlerBlocked,
    HandlerCancelled,
    HandlerClose,
    HandlerEnd,
    HandlerLine,
    HandlerLines,
    HandlerLog,
    HandlerNotice,
    HandlerSend,
    HandlerStart,
    LoopException,
    LoopLeaked,
    LoopSoFar,
    LoopStop,
    ResourceEvent,
    WireClosed,
    WireFault,
    WireFin,
    WireFrame,
    WireLink,
    WireReset,
    WireSpared,
)
from labkit.support.wording import describe_seconds, plain
from labkit.timeline import Events, Timeline

__all__ = ["Verdict", "judge", "judge_each"]

Ending = Literal["returned", "raised", "cancelled", "running", "unknown"]
Noticed = Literal["yes", "no", "unknown"]
Answered = Literal["yes", "no", "unknown"]
Cleanup = Literal["complete", "truncated", "missing", "outlived", "none", "unknown"]

#: `logging.WARNING`; not imported, since this module only reads data.
_WARNING = 30


@dataclass(frozen=True)
class Verdict:
    """The findings of one experiment.

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
        complaints: log records of level WARNING or higher, and the errors that the loop's exception handler got; None
            where these are unknown, since the server is not the lab's.
        client_exception: the exception that the client got at the end: the qualified type and the message; or None.
        client_close_code: the code that the client's own connection reported.
        sentence: all of it in plain words.
        blocked: for how many seconds in all the handler kept the loop to itself, so that nothing else ran in it; each
            time that it did so for 50 ms or longer, times ``LABKIT_TIME_SCALE``.
        blocked_line: the line, in the handler's file or cell, in which it did so for the longest time; None if it did
            not, or if the line is in another file or is not known.
        struck: whether the fault found a live connection; None where there was no fault, or none was due.
        answered: for a connection that stayed while the fault struck another: whether its client still got answers to
            what it sent after the fault; None for every other connection.
        others: the verdicts of the other clients' connections, where there are several.
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
    sentence: str
    blocked: float = 0.0
    blocked_line: int | None = None
    struck: bool | None = None
    answered: Answered | None = None
    others: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class _Landmarks:
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

    @property
    def ended_before_the_fault(self) -> bool:
        return self.end is not None and self.fault is not None and self.end.at < self.fault.at

    @property
    def over(self) -> bool:
        """Whether the experiment is over; if not, what has not happened may still happen."""
        return not isinstance(self.stop, LoopSoFar)


def judge(timeline: Timeline) -> Verdict:
    """Read the verdict from a timeline.

    Args:
        timeline: the events of one experiment.

    Returns:
        The verdict. Of the events after the lab's own ``stop``, only those count that show what was left behind. If
        there are several connections, it is the verdict of the one on which the fault struck, or else of the first.
    """
    main = main_of(timeline)
    if main is None:
        return _judge(timeline, None, seen=_is_seen(timeline))
    others = judge_each(timeline, without=strangers_of(timeline) - {main})
    verdict = others.pop(main)
    more = [*_words_of(others), *_words_on_strangers(timeline)]
    return replace(verdict, sentence=plain(" ".join([verdict.sentence, *more])), others=tuple(others.values()))


def judge_each(timeline: Timeline, without: Collection[int] = ()) -> dict[int, Verdict]:
    """Read a verdict for each connection, as if there were no others.

    Args:
        timeline: the events of one experiment.
        without: the numbers of connections that are not wanted.

    Returns:
        The verdicts, by the number of the connection; empty if no event names a connection.
    """
    struck = next((event for event in timeline.all(WireFault) if event.connection is not None), None)
    seen = _is_seen(timeline)
    return {
        number: _judge(part, None if part.first(WireFault) else struck, seen=seen)
        for number, part in parts_of(timeline, without).items()
    }


def _is_seen(timeline: Timeline) -> bool:
    """Whether the server is the lab's: nothing but a wire may have recorded here."""
    # A host tells at once which lines of the handler it watches.
    return timeline.last(LoopSoFar) is None or any(event.lane in {"library", "handler"} for event in timeline)


def _judge(timeline: Timeline, elsewhere: WireFault | None, *, seen: bool) -> Verdict:
    """Read the verdict from the events of one connection, and of the fault that struck another one."""
    events = timeline.until_stop()
    fault, start = events.first(WireFault), events.first(HandlerStart)
    marks = _Landmarks(
        start=start,
        fault=fault,
        notice=_notice(events, start),
        end=events.first(HandlerEnd),
        stop=timeline.first(LoopStop) or timeline.first(LoopSoFar),
        elsewhere=elsewhere,
        seen=seen,
    )
    end, notice = marks.end, marks.notice

    ending: Ending = "unknown" if start is None else "running" if end is None else end.ending
    noticed = _noticed(events, marks)
    never_ran = _never_ran(events, start, timeline.last(HandlerLines))
    cleanup, names = _cleanup(events, marks)
    leaked = tuple(event.text for event in timeline.all(LoopLeaked)) if marks.over else None
    complaints = tuple(event.text for event in events if _is_complaint(event)) if marks.seen else None

    client = _client_end(events)

    blocks = events.all(HandlerBlocked)
    longest = max(blocks, key=lambda block: block.seconds, default=None)

    clauses = [_ending_clause(events, marks, noticed)]
    if longest is not None:
        clauses.append(_blocked_clause(blocks, longest))
    if end is not None:
        code = end.close_code
        clauses.append("no close code" if code is None else f"close code {code}")
    if never_ran:
        clauses.append(f"line{'s' * (len(never_ran) > 1)} {_ranges(never_ran)} never ran")
    elif never_ran is None and start is not None:
        clauses.append("which lines ran is unknown")
    if cleanup != "none" and start is not None:
        clauses.append(f"cleanup {cleanup}{names}")
    if fault is not None and fault.unknown is not None:
        clauses.append(f"whether the conversation was through is unknown: {fault.unknown}")
    if leaked:
        clauses.append(f"left behind: {', '.join(leaked)}")
    if complaints:
        clauses.append(f"{len(complaints)} complaint{'s' * (len(complaints) > 1)}")
    if saw := _client_clause(events, client):
        clauses.append(saw)
    spared = events.first(WireSpared)
    told = "" if spared is None else spared.why
    clauses.extend(f"the client's {failed.text}" for failed in events.all(ClientFailed) if failed.text not in told)
    sentence = plain("; ".join(clauses) + "." + _wrong_library(start, end))

    return Verdict(
        ending=ending,
        exception=None if end is None else end.exception,
        close_code=None if end is None else end.close_code,
        noticed=noticed,
        noticed_after=notice.at - fault.at if notice and fault else None,
        lines_never_ran=never_ran,
        cleanup=cleanup,
        leaked=leaked,
        complaints=complaints,
        client_exception=None if client is None else client.exception,
        client_close_code=client.code if isinstance(client, ClientEnded) else None,
        sentence=sentence,
        blocked=sum((block.seconds for block in blocks), 0.0),
        blocked_line=None if longest is None else longest.line,
        struck=True if fault is not None else False if spared else None,
        answered=None if elsewhere is None else _answered(events, elsewhere),
    )


def _answered(events: Events, fault: WireFault) -> Answered:
    """Whether the client of another connection still gets answers after the fault."""
    asked = max((event.at for event in events.all(ClientSend)), default=fault.at)
    if asked <= fault.at:
        return "unknown"
    received = [event.at for event in events.all(ClientRecv)]
    given = [event for event in events.all(HandlerSend) if event.by is None]
    if any(event.at < fault.at for event in given):
        # Its handler has answered it before. What the handlers of others send to it is no answer.
        answers = [event.at for event in given if event.at > asked]
        since = min(answers, default=None)
    else:
        since = asked
    if since is not None and any(at > since for at in received):
        return "yes"
    # A client that was never answered is not worse off.
    return "no" if any(at < fault.at for at in received) else "unknown"


#: What the handler did for a client that stayed.
_ANSWERS: Final[Mapping[Answered, str]] = {"yes": "still answered", "no": "no longer answered", "unknown": ""}


def _words_of(others: Mapping[int, Verdict]) -> Iterator[str]:
    """Sentences on what became of the other clients' connections; those of which the same is true share one."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for number, verdict in others.items():
        match verdict.ending:
            case "running":
                end = ""
            case "unknown":
                end = "never started"
            case "raised":
                end = f"raised {_short(verdict.exception or '')}"
            case "cancelled":
                end = "ended by a cancel"
            case _:
                end = "returned"
        answers = _ANSWERS[verdict.answered or "unknown"]
        numbers.setdefault((answers, end), []).append(str(number))
    for (answers, end), those in numbers.items():
        many = len(those) > 1
        what = f" {'were' if many else 'was'} {answers}" if answers else "" if end else " stayed"
        if end:
            what += f"{', and' if answers else ':'} {'their handlers' if many else 'its handler'} {end}"
        yield f"Connection{'s' * many} {_list(those)}{what}."


def _words_on_strangers(timeline: Timeline) -> Iterator[str]:
    """A sentence on strangers for which the handler was called: that may have changed something for the clients."""
    called = len([event for event in timeline.all(ClientStranger) if event.called])
    if called == 1:
        yield "A stranger connected too, and the handler was called for it."
    elif called:
        yield f"{called} strangers connected too, and the handler was called for them."


def _list(words: Sequence[str]) -> str:
    """``"1, 2 and 3"``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _short(exception: str) -> str:
    """An exception without its module."""
    kind, colon, message = exception.partition(":")
    return kind.rpartition(".")[2] + colon + message


def _library(start: HandlerStart | None) -> str | None:
    """The package of the server's library, taken from its name and version."""
    return None if start is None else start.library.partition(" ")[0]


def _notice(events: Events, start: HandlerStart | None) -> Event | None:
    """The event with which the library first tells the handler, after the fault: a notice or a cancel."""
    for event in events.since_fault().all(HandlerNotice, HandlerCancelled, HandlerClose, HandlerEnd):
        if isinstance(event, HandlerClose | HandlerEnd):
            return None  # whatever is told from now on, the handler has ended by itself, or closed the connection
        # A notice that another connection's handler got has not reached this one.
        if event.package == _library(start) if isinstance(event, HandlerCancelled) else _is_own(event):
            return event
    return None


def _is_own(event: Event) -> bool:
    return isinstance(event, HandlerNotice) and event.by is None


def _noticed(events: Events, marks: _Landmarks) -> Noticed:
    if marks.notice is not None:
        return "yes"
    if marks.start is None or marks.fault is None or marks.ended_before_the_fault:
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
    cancelled_by_nobody = end.ending == "cancelled" and not cancels
    # The handler raised an exception that reports a lost connection; it may have been another connection.
    return "unknown" if cancelled_by_nobody or end.loss or end.doubt is not None else "no"


def _never_ran(events: Events, start: HandlerStart | None, lines: HandlerLines | None) -> tuple[int, ...] | None:
    # `lines` is the last event of its kind: at the end it may turn out that a debugger took over the tool.
    if lines is None or start is None or lines.tool is None:
        return None
    ran = {event.line for event in events.all(HandlerLine)}
    # Of a helper that another connection's handler has called, this one need not run a line.
    helpers = [range(first, first + len(text.splitlines())) for first, text in lines.helpers]
    not_called = {line for helper in helpers if ran.isdisjoint(helper) for line in helper}
    return tuple(line for line in lines.executable if line not in ran and line not in not_called)


def _cleanup(events: Events, marks: _Landmarks) -> tuple[Cleanup, str]:
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
        # First the closing that was under way when the handler ended, then those that had not begun.
        outlived = [life for life in lives.values() if _cleanup_of(life, end, due=due) == worst]
        begun = [life[0].text for life in outlived if _closing_began(life) <= end.at]
        later = [name for name in names_by_cleanup[worst] if name not in begun]
        if begun:
            names = f"{', '.join(begun)} in flight" + (f", then {', '.join(later)}" if later else "")
    return worst, f" ({names})"


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


def _client_end(events: Events) -> ClientRefused | ClientEnded | None:
    """How the connection ended for the client."""
    end = events.first(ClientRefused, ClientEnded)
    return end if isinstance(end, ClientRefused | ClientEnded) else None


def _client_clause(events: Events, client: ClientRefused | ClientEnded | None) -> str:
    """What the client saw, in words; "" for the lab's own client, which reports no more than the wire shows."""
    connect = events.first(ClientConnect)
    if connect is None or connect.client == "labkit":
        return ""
    if client is not None and client.exception:
        kind, _, message = client.exception.partition(": ")
        return f"the client saw {kind.rpartition('.')[2]}" + (f": {message}" if message else "")
    if client is not None:
        code = client.code if isinstance(client, ClientEnded) else None
        return "the client saw no close code" if code is None else f"the client saw close code {code}"
    gone = events.first(ClientExit)
    return f"the client's {gone.text}" if gone else "the client saw nothing"


def _ending_clause(events: Events, marks: _Landmarks, noticed: Noticed) -> str:
    start, fault, notice, end, stop = marks.start, marks.fault, marks.notice, marks.end, marks.stop
    if not marks.seen:
        whole = f"{fault.text if fault else 'No fault struck'}: what the server's handler did is unknown"
        return "; ".join([whole, *_server_clauses(events)])
    if start is None:
        what = f"{fault.what}: the handler never started" if fault else "The handler never started"
        if _client_clause(events, _client_end(events)):
            return what  # the client's clause follows
        if (refused := events.first(ClientRefused)) is not None:
            return f"{what}: {refused.text}"
        return f"{what}: nobody answered the client" if events.first(ClientConnect) else what
    who, elsewhere = f"{start.handler} on {start.stack}", marks.elsewhere
    if end is None:
        after = "" if stop is None else f" {describe_seconds(stop.at - (fault or elsewhere or start).at)} later"
        inside = [] if stop is None else _inside(events, stop)
        how = f"was still running{after}" + (f", in {' and '.join(inside)}" if inside else "")
    elif end.ending == "cancelled":
        cancels = [cancel for cancel in events.all(HandlerCancelled) if cancel.at <= end.at]
        by = cancels[-1].by if cancels else None
        how = f"was cancelled by {by}" if by else "was cancelled, by whom is unknown"
    else:
        how = end.text
    if elsewhere is not None:
        answers = _ANSWERS[_answered(events, elsewhere)]
        return f"{elsewhere.text} struck connection {elsewhere.connection}: {who} {answers and answers + ' and '}{how}"
    if fault is None:
        spared = events.first(WireSpared)
        since = "" if spared is None else f", since {spared.why}"
        return f"No fault struck{since}: {who} {how}"
    if marks.ended_before_the_fault:
        return f"{fault.what}: {who} had ended before the fault: it {how}"
    if notice is not None:
        return f"{fault.what}: {who} noticed after {describe_seconds(notice.at - fault.at)} and {how}"
    if noticed == "no" and fault.family == "server" and end is not None:
        return f"{fault.what}: {who} {how}"  # the fault did nothing to the connection
    return f"{fault.what}: {who} {'did not notice' if noticed == 'no' else 'may or may not have noticed'} and {how}"


def _server_clauses(events: Events) -> Iterator[str]:
    """How a server that is not the lab's has ended the connection, as the wire saw it; no fault strikes after that."""
    began = events.first(WireFault) or events.first(WireLink)
    said: list[str] = []
    for event in events.all(WireFrame, WireFin, WireReset):
        match event:
            case WireFrame(source="server", opcode="CLOSE", injected=False):
                what = f"sent {event.text}"
            case WireFin(source="server"):
                what = "ended TCP with a FIN"
            case WireReset(source="server"):
                what = "ended TCP with a RST"
            case _:
                continue
        after = f" after {describe_seconds(event.at - began.at)}" if began is not None else ""
        said.append(f"{what}{after}")
    if said:
        yield f"the server {_list(said)}"
    elif events.first(WireClosed) is None and (last := events.first(LoopSoFar, LoopStop)) and began is not None:
        yield f"the server had not ended the connection {describe_seconds(last.at - began.at)} later"


def _blocked_clause(blocks: Sequence[HandlerBlocked], longest: HandlerBlocked) -> str:
    """For how long the handler kept the loop, and where."""
    many = "" if len(blocks) == 1 else f" {len(blocks)} times,"
    total = describe_seconds(sum(block.seconds for block in blocks))
    where = "" if longest.line is None else f" (line {longest.line})"
    until = ", until the lab ended it" if blocks[-1].ended else ""
    return f"it blocked the loop{many} for {total}{where}{until}"


def _inside(events: Events, stop: LoopStop | LoopSoFar) -> list[str]:
    """The methods in which the connection's handler was when the lab ended the experiment."""
    served = {event.served for event in events}
    return [method for n, method in enumerate(stop.inside) if not stop.of or stop.of[n] in served]


def _wrong_library(start: HandlerStart | None, end: HandlerEnd | None) -> str:
    """A sentence for a handler that was written for another library."""
    if start is None or end is None or end.written_for is None:
        return ""
    calls = f"{_library(start)} calls a handler with a {start.given}"
    return f" {calls}; this one expects something else: is it written for {end.written_for}?"


def _ranges(lines: Sequence[int]) -> str:
    """``(3, 4, 5, 9)`` as ``"3-5, 9"``."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
