"""The timeline as text, for terminals and for build logs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from labkit.connections import main_of, strangers_of
from labkit.errors import BadValue
from labkit.events import Event, HandlerLine, PrintEvent, WireFault, WireFrame
from labkit.support.wording import plain
from labkit.timeline import Timeline
from labkit.views.sequence.folding import fold
from labkit.views.sequence.pairing import pair
from labkit.views.words import IDLE, SIGNS, Numbers, duration, failed, milliseconds, pause, stop_of, visible, zero

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["text"]

#: The widths of the columns for the time, the lane and the kind, in characters. The event's text follows them.
_TIME, _LANE, _KIND = 9, 7, 14
_INDENT: Final = _TIME + 2 + _LANE + 2 + 2 + _KIND + 1
#: The width of the names of the findings.
_NAME: Final = 12


def text(
    timeline: Timeline,
    verdict: Verdict | None = None,
    *,
    limit: int = 60,
    width: int = 100,
    lines: bool = False,
    clock: str = "",
) -> str:
    """Write the timeline as text, with one line for each event.

    The verdict's sentence comes before the events, and the verdict's findings come after them. A horizontal line comes
    before the fault and before the end of the experiment. Where there are several connections, each event's lane has
    the number of its own, and each of the others has its verdict's sentence at the end. The text has no colours; a
    failure has the sign ✗, × or ★, and a ``!`` after its time.

    Args:
        timeline: the events.
        verdict: what the events prove, or None.
        limit: the highest number of events to write, 5 or more. As in the picture, ``+N more events`` replaces the
            others, and the wire's ``frame`` events of messages that arrived do not count.
        width: the width in characters, 60 or more; longer texts are wrapped.
        lines: whether to write an event for each line of the handler too.
        clock: what there is to say of the clock, which then stands below the findings.

    Returns:
        The text, without a newline at the end.

    Raises:
        BadValue: the limit or the width is too small.
    """
    if limit < 5:
        raise BadValue(f"limit={limit!r}; it takes 5 events or more")
    if width < 60:
        raise BadValue(f"width={width!r}; it takes 60 columns or more")
    events = visible(timeline, lines=lines)
    start, origin = zero(timeline)
    stop, numbers = stop_of(events), Numbers(events)
    out: list[str] = []
    if verdict is not None:
        out += [*textwrap.wrap(plain(verdict.sentence), width), ""]
    out.append(f"{'ms':>{_TIME}}   {'lane':<{_LANE + numbers.width}}  event (time since {origin})")
    last: Event | None = None
    for i in _unfolded(events, limit, stop):
        if i < 0:
            out.append(f"{'⋯':>{_TIME}}   +{-i} more events")
            last = None
            continue
        event = events[i]
        if last is not None and event.at - last.at >= IDLE:
            out.append(f"{'⋯':>{_TIME}}   {pause(last, event.at - last.at)}")
        if isinstance(event, WireFault):
            out.append(_rule("the fault", width))
        elif i == stop:
            out.append(_rule("the lab's doing from here on", width))
        bad = failed(event, stopped=stop is not None and i > stop)
        out += _row(event, event.at - start, bad, width, numbers)
        last = event
    if not events:
        out.append("no events")
    if verdict is not None:
        out += ["", *_findings(verdict, width), *_others(timeline, verdict, width)]
    if clock:
        out += _table({"clock": [clock]}, width)
    return "\n".join(out)


def _unfolded(events: Sequence[Event], limit: int, stop: int | None) -> Iterator[int]:
    """The indices of the events to write, in order; ``-n`` means that n events are left out."""
    on_arrow = pair(events).on_arrow if len(events) > limit else set()
    kept = fold(events, [i for i in range(len(events)) if i not in on_arrow], limit, stop)
    shown_until = -1
    for i in [*kept, len(events)]:
        between = range(shown_until + 1, i)
        if on_arrow.issuperset(between):
            yield from between
        elif between:
            yield -len(between)
        if i < len(events):
            yield i
        shown_until = i


def _rule(name: str, width: int) -> str:
    return f"{'─' * (_TIME + 1)}  {name} ".ljust(width, "─")


def _row(event: Event, at: float, bad: bool, width: int, numbers: Numbers) -> list[str]:
    match event:
        case WireFrame():
            content = event.label
        case HandlerLine():
            content = f"{event.line}: {event.text}"
        case PrintEvent():
            content = f"'{event.text}'"
        case _:
            content = event.text
    lane = event.lane if (number := numbers.of(event)) is None else f"{event.lane} {number}"
    content += numbers.by(event, "handler ")
    prefix = f"{milliseconds(at):>{_TIME}}{'!' if bad else ' '}  {lane:<{_LANE + numbers.width}}  {SIGNS[event.shape]} "
    prefix += f"{event.kind:<{_KIND}} "
    indent = " " * (_INDENT + numbers.width)
    return textwrap.wrap(
        plain(content), width, initial_indent=prefix, subsequent_indent=indent + " " * 1, break_on_hyphens=False
    ) or [prefix.rstrip()]


def _blocked(verdict: Verdict) -> str:
    where = "" if verdict.blocked_line is None else f", in line {verdict.blocked_line}"
    return f"the loop, for {duration(verdict.blocked)}{where}"


def _findings(verdict: Verdict, width: int) -> list[str]:
    noticed: str = verdict.noticed
    if verdict.noticed_after is not None:
        noticed += f", {duration(verdict.noticed_after)} after the fault"
    never = verdict.lines_never_ran
    nothing = "unknown" if verdict.complaints is None else "none"  # unknown where the server is not the lab's
    findings: dict[str, list[str]] = {
        "ending": [verdict.ending],
        "exception": [verdict.exception or nothing],
        "close code": [nothing if verdict.close_code is None else str(verdict.close_code)],
        "noticed": [noticed],
        "never ran": [
            "unknown"
            if never is None
            else (f"line{'s' * (len(never) > 1)} " + ", ".join(map(str, never)))
            if never
            else "no line"
        ],
        "cleanup": [verdict.cleanup],
        **({"blocked": [_blocked(verdict)]} if verdict.blocked else {}),
        "leaked": ["unknown"] if verdict.leaked is None else list(verdict.leaked) or ["nothing"],
        "complaints": list(verdict.complaints or ()) or [nothing],
    }
    return list(_table(findings, width))


def _others(timeline: Timeline, verdict: Verdict, width: int) -> list[str]:
    """The sentences of the verdicts on the other connections."""
    numbers = sorted({event.connection for event in timeline if event.connection is not None})
    others = [number for number in numbers if number not in {main_of(timeline), *strangers_of(timeline)}]
    sentences = {f"connection {n}": [other.sentence] for n, other in zip(others, verdict.others, strict=False)}
    return list(_table(sentences, width))


def _table(rows: dict[str, list[str]], width: int) -> Iterator[str]:
    wide = max([_NAME, *(len(name) + 1 for name in rows)])
    for name, values in rows.items():
        for n, value in enumerate(values):
            prefix = f"{'' if n else name:<{wide}}"
            yield from textwrap.wrap(plain(value), width, initial_indent=prefix, subsequent_indent=" " * wide)
