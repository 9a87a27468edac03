"""What the views say of an event: its name, its shape, and whether it is a failure.

Shapes, times and labels are decided here, once, so that the picture, the text and the words tell the same story.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, Final, Literal

from labkit.errors import UnknownName
from labkit.timeline import LANES, Event, Lane, Timeline

__all__ = [
    "IDLE",
    "SIGNS",
    "Shape",
    "duration",
    "failed",
    "label",
    "milliseconds",
    "plain",
    "shape",
    "shown",
    "stop_of",
    "zero",
]

Shape = Literal["begin", "send", "receive", "close", "frame", "end", "break", "lost", "fault", "notice", "say"]

#: A pause of so many seconds is folded.
IDLE: Final = 0.04

#: How each shape looks in a text.
SIGNS: Final[dict[Shape, str]] = {
    "begin": "●",
    "send": "▲",
    "receive": "▼",
    "close": "◆",
    "frame": "▪",
    "end": "■",
    "break": "✗",
    "lost": "×",
    "fault": "★",
    "notice": "◉",
    "say": "·",
}

_SHAPES: Final[dict[str, Shape]] = {
    "connect": "begin",
    "open": "begin",
    "refused": "break",
    "send": "send",
    "recv": "receive",
    "close-sent": "close",
    "close-received": "close",
    "error": "break",
    "link": "begin",
    "handshake": "begin",
    "frame": "frame",
    "fault": "fault",
    "fin": "end",
    "reset": "break",
    "lost": "lost",
    "start": "begin",
    "close": "close",
    "notice": "notice",
    "cancelled": "break",
    "end": "end",
    "ended": "end",
    "exit": "end",
    "closing": "close",
    "closed": "end",
    "truncated": "break",
    "failed": "break",
    "exception": "break",
    "stop": "end",
    "leaked": "break",
}

#: What is a failure wherever it stands; the rest of the rule is in `failed`.
_FAILURES: Final = {"refused", "error", "fault", "reset", "lost", "truncated", "failed", "exception", "leaked"}

#: From `logging`: the level from which a log record tells of a failure.
_ERROR: Final = 40


def failed(event: Event, *, stopped: bool = False) -> bool:
    """Tell whether an event is a fault or a failure, which is what vermilion stands for.

    Args:
        event: the event.
        stopped: whether the lab had ended the experiment by then; what it breaks itself is no failure.

    Returns:
        Whether it is one.
    """
    if stopped:
        return event.lane == "loop" and event.kind in _FAILURES
    data = event.data
    match event.kind:
        case "ended":
            return data.get("how") in {"reset", "error", "aborted"}
        case "exit":
            return data.get("status") != 0
        case "cancelled":
            return data.get("by") != "the lab"
        case "end":
            return data.get("ending") in {"raised", "cancelled"}
        case "log":
            return int(data.get("levelno", 0)) >= _ERROR
        case kind:
            return kind in _FAILURES


def shape(event: Event) -> Shape:
    """Tell the shape of an event's mark: it says the kind.

    Args:
        event: the event.

    Returns:
        The shape's name.
    """
    if event.kind == "frame" and event.data.get("opcode") == "CLOSE":
        return "close"
    if event.kind in {"end", "ended", "exit"} and failed(event):
        return "break"
    return _SHAPES.get(event.kind, "say")


def label(event: Event) -> str:
    """Put an event into a few words; the lane is said by where they stand.

    Args:
        event: the event.

    Returns:
        One line of text.
    """
    text = plain(event.text)
    match event.lane, event.kind:
        case "client", "connect" | "open":
            return event.kind
        case "client", "close-sent":
            return f"send {text}"
        case "client", "close-received":
            return f"recv {text}"
        case "client", "ended":
            how = event.data.get("how")
            short = {"fin": "ended: FIN", "reset": "ended: reset", "closed": "ended", "still-open": "stopped"}
            return short.get(str(how), _short(text.replace("connection ended", "ended", 1)))
        case "handler", "notice":
            return text.removeprefix(f"{event.data.get('how')}: ")
        case "wire", "frame":
            return f"{'→' if event.data.get('source') == 'client' else '←'} {text}"
        case "wire", "fault":
            return f"fault: {event.data.get('fault', text)}"  # its knobs are in the title
        case _, "error":
            return _short(text)
        case _, "print":
            return f"print '{text}'"
        case "cleanup", kind:
            return f"{text}: {kind}"
        case _, "line":
            return f"line {event.data.get('line')}: {text}"
        case _, "send" | "recv" | "note" | "refused" | "leaked" as kind:
            return f"{kind}{'' if kind in {'send', 'recv'} else ':'} {text}"
        case _:
            return text or event.kind


def _short(text: str) -> str:
    """Leave out the modules before the names of exceptions."""
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)


def plain(text: str) -> str:
    """Make a text of one line, without characters that a terminal or a font would act on.

    Args:
        text: any text.

    Returns:
        The same with white space as blanks, and what cannot be printed as a backslash escape.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in text
    )


def milliseconds(seconds: float) -> str:
    """Write a time on the axis.

    Args:
        seconds: the time.

    Returns:
        Milliseconds with one decimal, such as ``1,500.3``.
    """
    return f"{round(seconds * 1000, 1) + 0.0:,.1f}"


def duration(seconds: float) -> str:
    """Write a span of time.

    Args:
        seconds: the span.

    Returns:
        Such as ``0.4 ms``, ``950 ms`` or ``2.0 s``.
    """
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1000:.{1 if seconds < IDLE else 0}f} ms"


def zero(events: Iterable[Event]) -> tuple[float, str]:
    """Find the time from which a view counts.

    Args:
        events: the events, in order.

    Returns:
        The seconds to take off each event's time, and what then happened: ``"connect"`` or ``"the start"``.
    """
    first: float | None = None
    for event in events:
        if (event.lane, event.kind) == ("client", "connect"):
            return event.at, "connect"
        if first is None and event.kind != "lines":
            first = event.at
    return first or 0.0, "the start"


def stop_of(events: Iterable[Event]) -> int | None:
    """Find where the lab ended the experiment.

    Args:
        events: the events, in order.

    Returns:
        The index of the ``stop`` event; None if there is none.
    """
    return next((i for i, event in enumerate(events) if (event.lane, event.kind) == ("loop", "stop")), None)


def shown(timeline: Timeline, lanes: Collection[Any] | None = None, *, lines: bool = False) -> list[Event]:
    """Choose the events that a view shows.

    Args:
        timeline: all events.
        lanes: the lanes to show; all, if None.
        lines: whether the lines of the handler are events too.

    Returns:
        The events, in order. The ``lines`` event is an account for the source view, and never among them.

    Raises:
        UnknownName: there is no such lane.
    """
    for lane in lanes or ():
        if lane not in LANES:
            raise UnknownName("lane", lane, LANES)
    hidden = {"lines"} if lines else {"lines", "line"}
    wanted: Collection[Lane] = LANES if lanes is None else lanes
    return [event for event in timeline if event.lane in wanted and event.kind not in hidden]
