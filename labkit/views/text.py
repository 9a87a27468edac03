"""The timeline as text, for terminals and for the logs of a build."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from labkit.errors import BadValue
from labkit.timeline import Event, Timeline
from labkit.views.words import IDLE, SIGNS, duration, failed, milliseconds, plain, shape, shown, stop_of, zero

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["text"]

#: The columns: the time, the lane, the mark, the kind. What follows is the event's own text.
_TIME, _LANE, _KIND = 9, 7, 14
_INDENT: Final = _TIME + 2 + _LANE + 2 + 2 + _KIND + 1


def text(timeline: Timeline, verdict: Verdict | None = None, *, width: int = 100, lines: bool = False) -> str:
    """Write the timeline, one event a line, with the verdict's sentence before it and its findings behind it.

    A rule stands before the fault and before the lab's own end of the experiment. Nothing is coloured; a failure has
    the mark ✗, × or ★, and a ``!`` at the end of the time.

    Args:
        timeline: the events.
        verdict: what they prove, or None.
        width: columns, 60 or more; longer texts are wrapped.
        lines: whether the lines of the handler are events too.

    Returns:
        Lines, without a newline at the end.

    Raises:
        BadValue: the width is too small.
    """
    if width < 60:
        raise BadValue(f"width={width!r}; it takes 60 columns or more")
    events = shown(timeline, lines=lines)
    began, since = zero(timeline)
    stop = stop_of(events)
    out: list[str] = []
    if verdict is not None:
        out += [*textwrap.wrap(plain(verdict.sentence), width), ""]
    out.append(f"{'ms':>{_TIME}}   {'lane':<{_LANE}}  event (time since {since})")
    last: Event | None = None
    for i, event in enumerate(events):
        if last is not None and event.at - last.at >= IDLE:
            out.append(f"{'⋯':>{_TIME}}   {duration(event.at - last.at)} idle")
        if (event.lane, event.kind) == ("wire", "fault"):
            out.append(_rule("the fault", width))
        elif i == stop:
            out.append(_rule("the lab's doing from here on", width))
        out += _row(event, event.at - began, failed(event, stopped=stop is not None and i > stop), width)
        last = event
    if not events:
        out.append("no events")
    if verdict is not None:
        out += ["", *_findings(verdict, width)]
    return "\n".join(out)


def _rule(name: str, width: int) -> str:
    return f"{'─' * (_TIME + 1)}  {name} ".ljust(width, "─")


def _row(event: Event, at: float, bad: bool, width: int) -> list[str]:
    arrow = {"client": "→ ", "server": "← "}.get(str(event.data.get("source")), "") if event.kind == "frame" else ""
    if event.kind == "line":
        arrow = f"{event.data.get('line')}: "
    said = plain(event.text)
    said = f"'{said}'" if event.kind == "print" else said
    head = f"{milliseconds(at):>{_TIME}}{'!' if bad else ' '}  {event.lane:<{_LANE}}  {SIGNS[shape(event)]} "
    head += f"{event.kind:<{_KIND}} "
    indent = " " * _INDENT
    return textwrap.wrap(
        arrow + said, width, initial_indent=head, subsequent_indent=indent + " " * 1, break_on_hyphens=False
    ) or [head.rstrip()]


def _findings(verdict: Verdict, width: int) -> list[str]:
    noticed: str = verdict.noticed
    if verdict.noticed_after is not None:
        noticed += f", {duration(verdict.noticed_after)} after the fault"
    never = verdict.lines_never_ran
    findings: dict[str, list[str]] = {
        "ending": [verdict.ending],
        "exception": [verdict.exception or "none"],
        "close code": ["none" if verdict.close_code is None else str(verdict.close_code)],
        "noticed": [noticed],
        "never ran": [
            "unknown"
            if never is None
            else (f"line{'s' * (len(never) > 1)} " + ", ".join(map(str, never)))
            if never
            else "no line"
        ],
        "cleanup": [verdict.cleanup],
        "leaked": list(verdict.leaked) or ["nothing"],
        "complaints": list(verdict.complaints) or ["none"],
    }
    out = []
    for name, found in findings.items():
        for n, finding in enumerate(found):
            head = f"{'' if n else name:<12}"
            out += textwrap.wrap(plain(finding), width, initial_indent=head, subsequent_indent=" " * 12)
    return out
