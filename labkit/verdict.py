"""What a timeline proves.

A finding that the events do not settle is *unknown*; nothing here looks at anything but the events.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labkit.timeline import Data, Event, Timeline

__all__ = ["Verdict", "judge"]

Ending = Literal["returned", "raised", "cancelled", "running", "unknown"]
Noticed = Literal["yes", "no", "unknown"]
Cleanup = Literal["complete", "truncated", "missing", "outlived", "none", "unknown"]

#: Packages whose cancel says nothing of the connection: a timeout of the handler's own, or the lab's end.
_NOT_THE_LIBRARY = {"asyncio", "labkit"}

#: From `logging`; not imported, since this module reads data only.
_WARNING = 30


@dataclass(frozen=True)
class Verdict:
    """The findings of one experiment.

    Attributes:
        ending: how the handler ended; ``running`` if it had not when the patience was over.
        exception: what it raised, the qualified type and the message.
        close_code: the code that the handler's own connection reported when the handler ended.
        noticed: whether the library told the handler, after the fault, that the connection was over.
        noticed_after: seconds from the fault until it did.
        lines_never_ran: the lines, by number in the handler's file or cell; None where that is unknown.
        cleanup: what became of the resources that the handler opened: all closed before it ended (``complete``), one
            cut short (``truncated``), never begun (``missing``), or closed only after it had ended (``outlived``).
        leaked: what was still alive after the experiment, by name.
        complaints: log records from WARNING up, and what the loop's exception handler was given.
        client_exception: what told the client of the end, the qualified type and the message; None where nothing did.
        client_close_code: the code that the client's own connection reported.
        sentence: all of it in plain words.
    """

    ending: Ending
    exception: str | None
    close_code: int | None
    noticed: Noticed
    noticed_after: float | None
    lines_never_ran: tuple[int, ...] | None
    cleanup: Cleanup
    leaked: tuple[str, ...]
    complaints: tuple[str, ...]
    client_exception: str | None
    client_close_code: int | None
    sentence: str


@dataclass(frozen=True)
class _Landmarks:
    """The events that everything else is measured from."""

    start: Event | None
    fault: Event | None
    notice: Event | None
    end: Event | None
    stop: Event | None

    @property
    def ended_before_the_fault(self) -> bool:
        return self.end is not None and self.fault is not None and self.end.at < self.fault.at


def judge(timeline: Timeline) -> Verdict:
    """Read a verdict off a timeline.

    Args:
        timeline: the events of one experiment, of one client.

    Returns:
        The verdict. Events behind the lab's own ``stop`` count only where they tell of what was left behind.
    """
    everything = list(timeline)
    stop = _first(everything, "loop", "stop")
    events = everything if stop is None else everything[: everything.index(stop)]
    fault = _first(events, "wire", "fault")
    marks = _Landmarks(
        start=_first(events, "handler", "start"),
        fault=fault,
        notice=_notice(events, fault),
        end=_first(events, "handler", "end"),
        stop=stop,
    )
    start, end, notice = marks.start, marks.end, marks.notice

    ending: Ending = "unknown" if start is None else "running" if end is None else end.data["ending"]
    noticed = _noticed(events, marks)
    never_ran = _never_ran(events, start, [event for event in everything if event.kind == "lines"])
    cleanup, about = _cleanup(events, start, end)
    leaked = tuple(event.text for event in everything if (event.lane, event.kind) == ("loop", "leaked"))
    complaints = tuple(event.text for event in events if _complains(event))

    client = _client(events)

    told = [_ending_told(events, marks, noticed)]
    if end is not None:
        code = end.data["close_code"]
        told.append("no close code" if code is None else f"close code {code}")
    if never_ran:
        told.append(f"line{'s' * (len(never_ran) > 1)} {_ranges(never_ran)} never ran")
    elif never_ran is None and start is not None:
        told.append("which lines ran is unknown")
    if cleanup != "none" and start is not None:
        told.append(f"cleanup {cleanup}{about}")
    if leaked:
        told.append(f"left behind: {', '.join(leaked)}")
    if complaints:
        told.append(f"{len(complaints)} complaint{'s' * (len(complaints) > 1)}")
    if saw := _client_told(events, client):
        told.append(saw)
    sentence = "; ".join(told) + "." + _wrong_library(events, start, end)

    return Verdict(
        ending=ending,
        exception=None if end is None else end.data["exception"],
        close_code=None if end is None else end.data["close_code"],
        noticed=noticed,
        noticed_after=notice.at - fault.at if notice and fault else None,
        lines_never_ran=never_ran,
        cleanup=cleanup,
        leaked=leaked,
        complaints=complaints,
        client_exception=client.get("exception"),
        client_close_code=client.get("code"),
        sentence=sentence,
    )


def _first(events: Sequence[Event], lane: str, *kinds: str) -> Event | None:
    return next((event for event in events if event.lane == lane and event.kind in kinds), None)


def _notice(events: Sequence[Event], fault: Event | None) -> Event | None:
    if fault is None:
        return None
    for event in events[events.index(fault) :]:
        told = event.kind == "notice" or (
            event.kind == "cancelled" and event.data["package"] not in {None, *_NOT_THE_LIBRARY}
        )
        if event.lane == "handler" and told:
            return event
    return None


def _noticed(events: Sequence[Event], marks: _Landmarks) -> Noticed:
    if marks.notice is not None:
        return "yes"
    if marks.start is None or marks.fault is None or marks.ended_before_the_fault:
        return "unknown"
    by_nobody_knows = any(event.kind == "cancelled" and event.data["package"] is None for event in events)
    return "unknown" if by_nobody_knows else "no"


def _never_ran(events: Sequence[Event], start: Event | None, accounts: Sequence[Event]) -> tuple[int, ...] | None:
    # The last account counts: at the end it may turn out that somebody else took the tool over.
    if not accounts or start is None or accounts[-1].data["tool"] is None:
        return None
    ran = {event.data["line"] for event in events if (event.lane, event.kind) == ("handler", "line")}
    return tuple(line for line in accounts[-1].data["executable"] if line not in ran)


def _cleanup(events: Sequence[Event], start: Event | None, end: Event | None) -> tuple[Cleanup, str]:
    """The state of the resource that fared worst, and its name."""
    lives: dict[int, list[Event]] = {}
    for event in events:
        if event.lane == "cleanup":
            lives.setdefault(event.data["id"], []).append(event)
    if not lives:
        return ("unknown" if start is None else "none"), ""
    states: dict[Cleanup, list[str]] = {}
    for life in lives.values():
        states.setdefault(_state(life, end), []).append(life[0].text)
    worst: Sequence[Cleanup] = ("truncated", "missing", "outlived", "unknown", "complete")
    state = next(state for state in worst if state in states)
    if state == "complete":
        return state, ""
    names = ", ".join(states[state])
    if state == "outlived" and end is not None:
        # The exit that was in flight when the handler ended; those behind it had not begun.
        begun = [life[0].text for life in lives.values() if _state(life, end) == state and _began(life) <= end.at]
        behind = [name for name in states[state] if name not in begun]
        if begun:
            names = f"{', '.join(begun)} in flight" + (f", then {', '.join(behind)}" if behind else "")
    return state, f" ({names})"


def _began(life: Sequence[Event]) -> float:
    return next(event.at for event in life if event.kind == "closing")


def _state(life: Sequence[Event], end: Event | None) -> Cleanup:
    last = life[-1]
    if last.kind == "truncated":
        return "truncated"
    if last.kind == "open":
        return "missing"
    if end is None:
        # The handler runs still; what has been closed is closed, what is closing has not come to its end.
        return "complete" if last.kind == "closed" else "unknown"
    return "complete" if last.kind == "closed" and last.at <= end.at else "outlived"


def _complains(event: Event) -> bool:
    if event.kind == "log" and event.lane != "client":
        return int(event.data["levelno"]) >= _WARNING
    return (event.lane, event.kind) == ("loop", "exception")


def _client(events: Sequence[Event]) -> Data:
    """What the client was told of the end."""
    end = _first(events, "client", "refused", "ended")
    return {} if end is None else end.data


def _client_told(events: Sequence[Event], client: Data) -> str:
    """The same in words, where the client is a library's: the lab's own has no opinion."""
    connect = _first(events, "client", "connect")
    if connect is None or connect.data.get("client", "labkit") == "labkit":
        return ""
    if client.get("exception"):
        kind, _, message = client["exception"].partition(": ")
        return f"the client saw {kind.rpartition('.')[2]}" + (f": {message}" if message else "")
    if client:
        return (
            "the client saw no close code" if client["code"] is None else f"the client saw close code {client['code']}"
        )
    gone = _first(events, "client", "exit")
    return f"the client's {gone.text}" if gone else "the client saw nothing"


def _ending_told(events: Sequence[Event], marks: _Landmarks, noticed: Noticed) -> str:
    start, fault, notice, end, stop = marks.start, marks.fault, marks.notice, marks.end, marks.stop
    if start is None:
        what = f"{fault.text}: the handler never started" if fault else "The handler never started"
        if _client_told(events, _client(events)):
            return what  # the client's own words follow
        refused = _first(events, "client", "refused")
        return f"{what}: {refused.text if refused else 'nobody answered the client'}"
    who = f"{start.data['handler']} on {start.data['stack']}"
    if end is None:
        after = "" if stop is None else f" {_seconds(stop.at - (fault or start).at)} later"
        inside = [] if stop is None else stop.data.get("inside", [])
        how = f"was still running{after}" + (f", in {' and '.join(inside)}" if inside else "")
    elif end.data["ending"] == "cancelled":
        cancel = [event for event in events if event.kind == "cancelled" and event.at <= end.at]
        by = cancel[-1].data["by"] if cancel else None
        how = f"was cancelled by {by}" if by else "was cancelled, by whom is unknown"
    else:
        how = end.text
    if fault is None:
        return f"No fault struck: {who} {how}"
    if marks.ended_before_the_fault:
        return f"{fault.text}: {who} had ended before the fault: it {how}"
    if notice is not None:
        return f"{fault.text}: {who} noticed after {_seconds(notice.at - fault.at)} and {how}"
    if noticed == "no" and fault.data.get("family") == "server" and end is not None:
        return f"{fault.text}: {who} {how}"  # nothing had happened to its connection
    return f"{fault.text}: {who} {'did not notice' if noticed == 'no' else 'may or may not have noticed'} and {how}"


def _wrong_library(events: Sequence[Event], start: Event | None, end: Event | None) -> str:
    """A sentence for a handler that was written for another library."""
    if start is None or end is None or end.data["ending"] != "raised":
        return ""
    exception, given = end.data["exception"], start.data["given"]
    # Only a handler that got nowhere: with a message or a handshake it knew what it was given.
    got_on = any(event.lane == "handler" and event.kind in {"recv", "send", "notice"} for event in events)
    if got_on or not re.match(r"(AttributeError|TypeError)\b", exception) or not re.search(rf"\b{given}\b", exception):
        return ""
    library = start.data["library"].partition(" ")[0]
    other = "websockets" if library == "aiohttp" else "aiohttp"
    return f" {library} calls a handler with a {given}; this one expects something else: is it written for {other}?"


def _ranges(lines: Sequence[int]) -> str:
    """``(3, 4, 5, 9)`` as ``"3-5, 9"``."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _seconds(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"
