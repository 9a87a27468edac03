"""The findings in plain words: one sentence for a connection, and one for the others beside it.

What is proved is decided in ``labkit.findings``. Here it is only told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from labkit.events import (
    ClientConnect,
    ClientEnded,
    ClientExit,
    ClientFailed,
    ClientRefused,
    ClientStranger,
    HandlerBlocked,
    HandlerCancelled,
    HandlerEnd,
    HandlerLog,
    HandlerNotice,
    HandlerStart,
    HandlerSwallowed,
    LibraryCloseReceived,
    LibraryCloseSent,
    LibraryLost,
    LoopHeldUp,
    LoopMet,
    LoopShutdown,
    LoopSoFar,
    LoopStop,
    WireLink,
    WireSpared,
)
from labkit.findings import Answered, Findings, Landmarks, client_end, find_cleanup, find_swallowed, library_of
from labkit.support.wording import alike, describe_seconds, plain
from labkit.timeline import Events, Timeline

__all__ = ["tell", "tell_of_others"]


#: What the handler did for a client that stayed.
_ANSWERS: Final[Mapping[Answered, str]] = {"yes": "still answered", "no": "no longer answered", "unknown": ""}

#: Of more connections than these, not each is named.
_CROWD: Final = 10

#: Who is told more often that the connection is over does not listen.
_AGAIN: Final = 100


def tell(events: Events, marks: Landmarks, found: Findings) -> str:
    """Tell the findings of one connection.

    Args:
        events: the events of the connection, up to the lab's own stop.
        marks: the landmarks among them.
        found: what they prove.

    Returns:
        The sentence; it has a second one where the handler was written for another library.
    """
    clauses = [_ending_clause(events, marks, found), *_handler_clauses(events, marks, found), *_client_clauses(events)]
    return plain("; ".join(clauses) + "." + _wrong_library(marks.start, marks.end))


def tell_of_others(timeline: Timeline, others: Mapping[int, Findings]) -> str:
    """Tell what became of the connections beside the one on which the fault struck.

    Args:
        timeline: the events of the experiment.
        others: the findings of the other clients' connections, by the number of the connection.

    Returns:
        The sentences; empty if there is nothing to tell.
    """
    return plain(" ".join([*_words_of(others), *_words_on_strangers(timeline), *_words_on_outlines(timeline)]))


def _handler_clauses(events: Events, marks: Landmarks, found: Findings) -> Iterator[str]:
    """What the handler did besides ending, and what it left."""
    start, fault = marks.start, marks.fault
    if blocks := events.all(HandlerBlocked):
        yield _blocked_clause(blocks, found)
        if not all(block.apart for block in blocks) and events.first(ClientConnect, WireLink) is not None:
            who = "wire" if events.first(ClientConnect) is None else "client"
            yield f"the {who} stood still with it, so its times are unknown"
    if held := events.all(LoopHeldUp):
        total = describe_seconds(sum(event.seconds for event in held))
        yield f"another experiment kept the loop for {total}, so all times are unknown"
    if (met := events.first(LoopMet)) is not None:
        whose = (
            "it still had a client of an earlier experiment"
            if met.earlier
            else "another experiment had the same clients"
        )
        yield f"{whose}, so whose doing this is, is unknown"
    if len(events.all(HandlerNotice)) > _AGAIN:
        yield f"it was told more than {_AGAIN} times that the connection is over, and asked again"
    yield from _swallowed_clauses(events, marks)
    if found.timed_out is False and found.ending == "returned" and found.swallowed == ():
        yield "the cancel did not come out of it, so the limit of time had no effect"
    if marks.outline:
        yield "it was watched in outline, so what it was told and which lines ran is unknown"
    else:
        yield from _close_clauses(events, marks, found)
    if found.cleanup != "none" and start is not None:
        yield f"cleanup {found.cleanup}{find_cleanup(events, marks)[1]}"
    if fault is not None and fault.unknown is not None:
        what = "the conversation was through" if fault.when is None else "the handler had done all that it could"
        yield f"whether {what} is unknown: {fault.unknown}"
    if found.leaked:
        yield f"left behind: {', '.join(alike(found.leaked))}"
    if found.complaints:
        yield f"{len(found.complaints)} complaint{'s' * (len(found.complaints) > 1)}"


def _close_clauses(events: Events, marks: Landmarks, found: Findings) -> Iterator[str]:
    """What is known of a handler that was watched closely: the close code, and the lines."""
    if marks.end is not None:
        yield _code_clause(events, marks.end, found)
    if never_ran := found.lines_never_ran:
        yield f"line{'s' * (len(never_ran) > 1)} {_ranges(never_ran)} never ran"
    elif never_ran is None and marks.start is not None:
        yield "which lines ran is unknown"


def _client_clauses(events: Events) -> Iterator[str]:
    """What the client saw, and what failed in it."""
    if saw := _client_clause(events, client_end(events)):
        yield saw
    spared = events.first(WireSpared)
    told = "" if spared is None else spared.why
    yield from (f"the client's {failed.text}" for failed in events.all(ClientFailed) if failed.text not in told)


def _ending_clause(events: Events, marks: Landmarks, found: Findings) -> str:
    start, fault, notice, end, stop = marks.start, marks.fault, marks.notice, marks.end, marks.stop
    if found.reaction is not None:
        whole = f"{fault.text if fault else 'No fault struck'}: what the server's handler did is unknown"
        return "; ".join([whole, *found.reaction.clauses])
    if start is None:
        what = f"{fault.what}: the handler never started" if fault else "The handler never started"
        if _client_clause(events, client_end(events)):
            return what  # the client's clause follows
        if (refused := events.first(ClientRefused)) is not None:
            logged = [log.exception for log in events.all(HandlerLog) if log.failed]
            because = next((f"; the server logged {_short(each)}" for each in logged if each), "")
            return f"{what}: {refused.text}{because}"
        return f"{what}: nobody answered the client" if events.first(ClientConnect) else what
    who, elsewhere = f"{start.handler} on {start.stack}", marks.elsewhere
    if end is None:
        after = "" if stop is None else f" {describe_seconds(stop.at - (fault or elsewhere or start).at)} later"
        inside = [] if stop is None else _inside(events, stop)
        how = f"was still running{after}" + (f", in {' and '.join(inside)}" if inside else "")
    elif end.ending == "cancelled":
        how = _cancelled([cancel for cancel in events.all(HandlerCancelled) if cancel.at <= end.at], end)
    else:
        how = end.text
    if elsewhere is not None:
        answers = _ANSWERS[found.answered or "unknown"]
        return f"{elsewhere.text} struck connection {elsewhere.connection}: {who} {answers and answers + ' and '}{how}"
    if fault is None:
        spared = events.first(WireSpared)
        since = "" if spared is None else f", since {spared.why}"
        return f"No fault struck{since}: {who} {how}"
    if marks.ended_before_the_fault:
        return f"{fault.what}: {who} had ended before the fault: it {how}"
    if notice is not None:
        return f"{fault.what}: {who} noticed after {describe_seconds(notice.at - fault.at)} and {how}"
    if found.noticed == "no" and fault.family == "server" and end is not None:
        return f"{fault.what}: {who} {how}"  # the fault did nothing to the connection
    return (
        f"{fault.what}: {who} {'did not notice' if found.noticed == 'no' else 'may or may not have noticed'} and {how}"
    )


def _cancelled(cancels: Sequence[HandlerCancelled], end: HandlerEnd) -> str:
    """Who has cancelled a handler that ended so; where several cancels came to it as one, each of them."""
    if end.unasked is not None:
        return f"ended as cancelled, {end.unasked}"
    first = next((n for n in reversed(range(len(cancels))) if not cancels[n].again), 0)
    names = list(dict.fromkeys(cancel.by or "somebody unknown" for cancel in cancels[first:]))
    if names in ([], ["somebody unknown"]):
        return "was cancelled, by whom is unknown"
    return f"was cancelled by {names[0]}" + "".join(f" and, before that came to it, by {each}" for each in names[1:])


def _words_of(others: Mapping[int, Findings]) -> Iterator[str]:
    """Sentences on what became of the other clients' connections; those of which the same is true share one."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, found in others.items():
        match found.ending:
            case "running":
                end = ""
            case "unknown":
                end = "never started" if found.reaction is None else ""
            case "raised":
                end = f"raised {_short(found.exception or '')}"
            case "cancelled":
                end = "ended by a cancel"
            case _:
                end = "returned"
        answers = _ANSWERS[found.answered or "unknown"]
        if found.reaction is not None and found.reaction.refused:
            answers = f"refused: {found.reaction.refused}"
        elif found.reaction is not None and found.reaction.tcp is not None:
            answers += f"{answers and ', and then '}dropped by the server"
        numbers.setdefault((answers, end), []).append(number)
    for (answers, end), those in numbers.items():
        many = len(those) > 1
        what = f" {'were' if many else 'was'} {answers}" if answers else "" if end else " stayed"
        if end:
            what += f"{', and' if answers else ':'} {'their handlers' if many else 'its handler'} {end}"
        names = _ranges(those) if len(those) > _CROWD else _list([*map(str, those)])
        yield f"Connection{'s' * many} {names}{what}."


def _words_on_strangers(timeline: Timeline) -> Iterator[str]:
    """A sentence on strangers for which the handler was called: that may have changed something for the clients."""
    called = len([event for event in timeline.all(ClientStranger) if event.called])
    if called == 1:
        yield "A stranger connected too, and the handler was called for it."
    elif called:
        yield f"{called} strangers connected too, and the handler was called for them."


def _words_on_outlines(timeline: Timeline) -> Iterator[str]:
    """A sentence on the connections of a crowd of which all but the outline is unknown."""
    starts = timeline.all(HandlerStart)
    if outlined := len({start.served for start in starts if start.outline}):
        closely = len({start.served for start in starts}) - outlined
        were = "connection was" if closely == 1 else "connections were"
        yield f"{closely:,} {were} watched closely, and {outlined:,} in outline."


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


def _code_clause(events: Events, end: HandlerEnd, found: Findings) -> str:
    """The close code that the connection reported when the handler ended; websockets has it when TCP is gone."""
    if found.close_code is not None:
        return f"close code {found.close_code}"
    before = {
        type(event) for event in events.all(LibraryCloseReceived, LibraryCloseSent, LibraryLost) if event.at <= end.at
    }
    closing = before == {LibraryCloseReceived, LibraryCloseSent}
    return "no close code yet, since TCP was still open" if closing else "no close code"


def _blocked_clause(blocks: Sequence[HandlerBlocked], found: Findings) -> str:
    """For how long the handler kept the loop, and where."""
    many = "" if len(blocks) == 1 else f" {len(blocks)} times,"
    total = describe_seconds(found.blocked)
    where = "" if found.blocked_line is None else f" (line {found.blocked_line})"
    until = ", until the lab ended it" if blocks[-1].ended else ""
    return f"it blocked the loop{many} for {total}{where}{until}"


def _swallowed_clauses(events: Events, marks: Landmarks) -> Iterator[str]:
    """Where a cancel ended, who had cancelled, and what went wrong because of that; the same only once."""
    shutdown = events.last(LoopShutdown)
    waits = isinstance(shutdown, LoopShutdown) and not shutdown.done and marks.end is None
    yield from dict.fromkeys(_swallowed_clause(event, waits=waits) for event in find_swallowed(events, marks.end))


def _swallowed_clause(event: HandlerSwallowed, *, waits: bool) -> str:
    where = "it" if event.line is None else f"line {event.line}"
    by = f" by {event.by}" if event.by else ""
    inside = f", in {event.where}" if event.where else ""
    if event.whose == "limit":
        cost = ", so the limit of time had no effect"
    elif event.then == "returned":
        cost = ", and it returned"
    elif event.whose == "group":
        cost = ", so the task group waits for it"
    else:
        cost = ", so the shutdown waits for it" if waits else ", and it went on"
    return f"{where} swallowed the cancel{by}{inside}{cost}"


def _inside(events: Events, stop: LoopStop | LoopSoFar) -> list[str]:
    """The methods in which the connection's handler was when the lab ended the experiment."""
    served = {event.served for event in events}
    return [method for n, method in enumerate(stop.inside) if not stop.of or stop.of[n] in served]


def _wrong_library(start: HandlerStart | None, end: HandlerEnd | None) -> str:
    """A sentence for a handler that was written for another library."""
    if start is None or end is None or end.written_for is None:
        return ""
    calls = f"{library_of(start)} calls a handler with a {start.given}"
    return f" {calls}; this one expects something else: is it written for {end.written_for}?"


def _list(words: Sequence[str]) -> str:
    """``"1, 2 and 3"``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _short(exception: str) -> str:
    """An exception without its module."""
    kind, colon, message = exception.partition(":")
    return kind.rpartition(".")[2] + colon + message


def _ranges(lines: Sequence[int]) -> str:
    """``(3, 4, 5, 9)`` as ``"3-5, 9"``."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
