"""The timeline as text, for terminals and for build logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from labkit.connections import main_of, strangers_of
from labkit.errors import BadValue
from labkit.events import Event, HandlerLine, PrintEvent, WireFault, WireFrame
from labkit.support.wording import alike, plain
from labkit.support.wrapping import wrap
from labkit.timeline import Timeline
from labkit.views.sequence.folding import fold
from labkit.views.sequence.pairing import pair
from labkit.views.words import (
    IDLE,
    SIGNS,
    Numbers,
    duration,
    failed,
    milliseconds,
    pause,
    ranges,
    stop_of,
    visible,
    zero,
)

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["text"]

#: The columns of a text of this width or more, in characters: the time, the lane and the kind.
_WIDE: Final = 100
_TIME, _LANE, _KIND = 9, 7, 14
#: The narrowest text, and the least room for what the events say in a column of its own.
_LEAST: Final = 40
_BESIDE: Final = 24
#: Of more connections than these, not each has a row.
_CROWD: Final = 10
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
        width: the width in characters, 40 or more; longer texts are wrapped. Below 100, the columns are as wide as what
            they hold, and where that leaves no room for the events' texts, these go on below.
        lines: whether to write an event for each line of the handler too.
        clock: what there is to say of the clock, which then stands below the findings.

    Returns:
        The text, without a newline at the end.

    Raises:
        BadValue: the limit or the width is too small.
    """
    if limit < 5:
        raise BadValue(f"limit={limit!r}; it takes 5 events or more")
    if width < _LEAST:
        raise BadValue(f"width={width!r}; it takes {_LEAST} columns or more")
    events = visible(timeline, lines=lines)
    start, origin = zero(timeline)
    stop, numbers = stop_of(events), Numbers(events)
    out: list[str] = []
    if verdict is not None:
        out += [*wrap(plain(verdict.sentence), width), ""]
    written = list(_unfolded(events, limit, stop))
    columns = _columns([events[i] for i in written if i >= 0], start, width, numbers)
    head = f"{'ms':>{columns.time}}   {'lane':<{columns.lane}}  "
    out += wrap(f"event (time since {origin})", width, head, " " * len(head))
    last: Event | None = None
    for i in written:
        if i < 0:
            out.append(f"{'⋯':>{columns.time}}   +{-i} more events")
            last = None
            continue
        event = events[i]
        if last is not None and event.at - last.at >= IDLE:
            out.append(f"{'⋯':>{columns.time}}   {pause(last, event.at - last.at)}")
        if isinstance(event, WireFault):
            out.append(_rule("the fault", columns))
        elif i == stop:
            out.append(_rule("the lab's doing from here on", columns))
        bad = failed(event, stopped=stop is not None and i > stop)
        out += _row(event, event.at - start, bad, columns, numbers)
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


class _Columns(NamedTuple):
    """The widths of the columns, and of the whole text, in characters.

    Attributes:
        time: the times.
        lane: the lanes, with the number of a connection.
        kind: the kinds; None if they have no column, since the texts follow them at once.
        width: the whole text.
    """

    time: int
    lane: int
    kind: int | None
    width: int


def _columns(events: Sequence[Event], start: float, width: int, numbers: Numbers) -> _Columns:
    if width >= _WIDE or not events:
        return _Columns(_TIME, _LANE + numbers.width, _KIND, width)
    time = max(len(milliseconds(event.at - start)) for event in events)
    lane = max(len(event.lane) for event in events) + numbers.width
    kind = max(len(event.kind) for event in events) + 1
    return _Columns(time, lane, None if width - (time + lane + kind + 8) < _BESIDE else kind, width)


def _rule(name: str, columns: _Columns) -> str:
    return f"{'─' * (columns.time + 1)}  {name} ".ljust(columns.width, "─")


def _row(event: Event, at: float, bad: bool, columns: _Columns, numbers: Numbers) -> list[str]:
    match event:
        case WireFrame():
            content = event.label
        case HandlerLine():
            content = f"{event.where}: {event.text}"
        case PrintEvent():
            content = f"'{event.text}'"
        case _:
            content = event.text
    lane = event.lane if (number := numbers.of(event)) is None else f"{event.lane} {number}"
    content += numbers.by(event, "handler ")
    prefix = f"{milliseconds(at):>{columns.time}}{'!' if bad else ' '}  {lane:<{columns.lane}}  {SIGNS[event.shape]} "
    if columns.kind is None:
        prefix, indent = f"{prefix}{event.kind}  ", columns.time + 5
    else:
        prefix += f"{event.kind:<{columns.kind}} "
        indent = len(prefix)
    return wrap(plain(content), columns.width, prefix, " " * indent) or [prefix.rstrip()]


def _code(verdict: Verdict, nothing: str) -> str:
    if verdict.close_code is not None:
        return str(verdict.close_code)
    return "unknown" if verdict.outline else nothing


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
        "close code": [_code(verdict, nothing)],
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
        "leaked": ["unknown"] if verdict.leaked is None else alike(verdict.leaked) or ["nothing"],
        "complaints": alike(verdict.complaints or ()) or [nothing],
    }
    return list(_table(findings, width))


def _others(timeline: Timeline, verdict: Verdict, width: int) -> list[str]:
    """The sentences of the verdicts on the other connections."""
    numbers = sorted({event.connection for event in timeline if event.connection is not None})
    others = [number for number in numbers if number not in {main_of(timeline), *strangers_of(timeline)}]
    by_sentence: dict[tuple[str, int], list[int]] = {}
    for number, other in zip(others, verdict.others, strict=False):
        # Of a crowd, those of which the same is true share a row.
        key = other.sentence, 0 if len(others) > _CROWD else number
        by_sentence.setdefault(key, []).append(number)
    sentences = {
        f"connection{'s' * (len(those) > 1)} {ranges(those)}": [told] for (told, _), those in by_sentence.items()
    }
    return list(_table(sentences, width))


def _table(rows: dict[str, list[str]], width: int) -> Iterator[str]:
    wide = max([_NAME, *(len(name) + 1 for name in rows)])
    for name, values in rows.items():
        for n, value in enumerate(values):
            prefix = f"{'' if n else name:<{wide}}"
            yield from wrap(plain(value), width, prefix, " " * wide)
