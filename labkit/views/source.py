"""The handler's source, each line with when it first ran."""

from __future__ import annotations

import ast
import html
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from labkit.timeline import Event, Timeline
from labkit.views.mime import chosen
from labkit.views.words import milliseconds, plain, stop_of, zero

__all__ = ["Line", "Source", "source"]

State = Literal["ran", "after", "stopped", "never", "unreachable", "unknown", "blank"]

#: Vermilion, as a share of whatever the page's background is; the text keeps the page's own colour.
_ALARM: Final = "background:color-mix(in srgb, #d55e00 22%, transparent)"
_CELL: Final = "text-align:left;padding:1px 10px;border:0;vertical-align:top"


@dataclass(frozen=True)
class Line:
    """A line of the handler.

    Attributes:
        number: its number in the file or cell.
        code: its text.
        state: whether it ran before the fault (``ran``), after it (``after``), only when the lab had ended the
            experiment (``stopped``), or never; ``unreachable`` if the compiler made no code for a statement; ``blank``
            if there is nothing to run.
        at: seconds from the picture's zero to when it first ran, or None.
        since: seconds from the fault, or None.
    """

    number: int
    code: str
    state: State
    at: float | None = None
    since: float | None = None

    @property
    def mark(self) -> str:
        """A sign for what needs attention; empty for the rest."""
        return {"after": "★", "stopped": "✗", "never": "✗", "unreachable": "✗", "unknown": "?"}.get(self.state, "")

    @property
    def when(self) -> str:
        """When it first ran, in words."""
        match self.state:
            case "ran":
                return milliseconds(self.at or 0.0)
            case "after":
                return f"{milliseconds(self.at or 0.0)} (+{milliseconds(self.since or 0.0)})"
            case "stopped":
                return f"{milliseconds(self.at or 0.0)}, stopped"
            case "never":
                return "never ran"
            case "blank":
                return ""
            case state:
                return state


@dataclass(frozen=True)
class Source:
    """The handler's source; it shows itself in print and in a notebook.

    Attributes:
        handler: the handler's name.
        lines: its lines, in order.
        since: what happened at zero.
        note: why something is not known; empty, if all is.
    """

    handler: str
    lines: tuple[Line, ...]
    since: str
    note: str = ""

    @property
    def caption(self) -> str:
        """What the view shows, with a legend of the marks that are in it."""
        legend = {
            "after": "★ after the fault (+ms since it)",
            "never": "✗ never ran",
            "stopped": "✗ stopped: ran only when the lab had ended the experiment",
            "unreachable": "✗ unreachable: the compiler made no code for it",
        }
        states = {line.state for line in self.lines}
        used = [words for state, words in legend.items() if state in states]
        return "; ".join([f"{self.handler}: when each line first ran, in ms since {self.since}", *used])

    def __str__(self) -> str:
        out = [self.caption]
        if self.note:
            out.append(self.note)
        digits = max([4, *(len(str(line.number)) for line in self.lines)])
        column = max([9, *(len(line.when) for line in self.lines)])
        out.append(f"{'line':>{digits}}  {'first ran':>{column}}")
        rows = (f"{line.number:>{digits}}  {line.when:>{column}} {line.mark:1}  {line.code}" for line in self.lines)
        return "\n".join([*out, *map(str.rstrip, rows)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        makers = {"text/plain": self.__str__, "text/html": self._html}
        return {kind: makers[kind]() for kind in chosen(tuple(makers), include, exclude)}

    def _html(self) -> str:
        heads = "".join(f'<th scope="col" style="{_CELL}">{name}</th>' for name in ("line", "first ran", "", "code"))
        rows = "".join(map(_row, self.lines))
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        # No colour of text is set, and no solid background: the page's own, light or dark, stay.
        return (
            f'{note}<table style="border-collapse:collapse;font-family:monospace">'
            f'<caption style="caption-side:top;text-align:left;color:inherit">{html.escape(self.caption)}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        )


def source(timeline: Timeline) -> Source:
    """Show the source of a timeline's handler.

    Args:
        timeline: the events of one experiment.

    Returns:
        The source. Where nobody watched the lines, each one that can run is ``unknown``, and a note says why.
    """
    events = list(timeline)
    start = next((event for event in events if (event.lane, event.kind) == ("handler", "start")), None)
    name = str(start.data.get("handler", "the handler")) if start else "the handler"
    began, since = zero(events)
    accounts = [event for event in events if (event.lane, event.kind) == ("handler", "lines")]
    if not accounts:
        return Source(name, (), since, "No account of the handler's lines was recorded.")
    account = accounts[-1].data
    notes = []
    executable: set[int] = set(account.get("executable", ()))
    first = int(account.get("first", 0))
    text: str | None = account.get("source")
    if account.get("tool") is None:
        notes.append(f"Which lines ran is unknown: {account.get('why') or 'nobody watched them'}.")
    if text is None:
        notes.append("The source is not at hand; these are the lines that can run.")
        code = dict.fromkeys(sorted(executable), "")
    else:
        code = {first + n: line for n, line in enumerate(text.splitlines())}
    ran = _first_runs(events)
    fault = next((event.at for event in events if (event.lane, event.kind) == ("wire", "fault")), None)
    stop = stop_of(events)
    ended = None if stop is None else events[stop].at
    dead = set() if text is None else _unreachable(text, first, executable)

    def line(number: int) -> Line:
        if number not in executable:
            return Line(number, code[number], "unreachable" if number in dead else "blank")
        if account.get("tool") is None:
            return Line(number, code[number], "unknown")
        if number not in ran:
            return Line(number, code[number], "never")
        at = ran[number]
        late = ended is not None and at > ended
        state: State = "stopped" if late else "after" if fault is not None and at >= fault else "ran"
        return Line(number, code[number], state, at - began, None if fault is None else at - fault)

    return Source(name, tuple(map(line, code)), since, " ".join(notes))


def _first_runs(events: list[Event]) -> dict[int, float]:
    ran: dict[int, float] = {}
    for event in events:
        if (event.lane, event.kind) == ("handler", "line"):
            ran.setdefault(int(event.data["line"]), event.at)
    return ran


def _unreachable(text: str, first: int, executable: set[int]) -> set[int]:
    """The lines at which a statement begins that the compiler left out, as it does behind an endless loop."""
    # A method is indented; put into a block, it can be parsed as it is, the strings in it untouched.
    indented = text[:1].isspace()
    try:
        tree = ast.parse("if 1:\n" + text if indented else text)
    except (SyntaxError, ValueError):
        return set()
    shift = first - (2 if indented else 1)
    return {
        node.lineno + shift
        for node in _statements(tree)
        if not any(number + shift in executable for number in range(node.lineno, (node.end_lineno or node.lineno) + 1))
    }


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """The statements for which there should be code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global | ast.Nonlocal) or not isinstance(node, ast.stmt):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.AnnAssign) and node.value is None:
            continue
        yield node


def _row(line: Line) -> str:
    alarm = f' style="{_ALARM}"' if line.state in ("never", "stopped", "unreachable") else ""
    cell = f'<td style="{_CELL}">'
    return (
        f'<tr{alarm}><th scope="row" style="{_CELL};font-weight:normal">{line.number}</th>{cell}{line.when}</td>'
        f'{cell}{line.mark}</td><td style="{_CELL};white-space:pre"><code style="background:none;color:inherit">'
        f"{html.escape(plain(line.code.expandtabs(4)))}</code></td></tr>"
    )
