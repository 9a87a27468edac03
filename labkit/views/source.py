"""The handler's source; each line has the time at which it first ran."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal
from xml.etree.ElementTree import Element

from labkit.events import HandlerLine, HandlerLines, HandlerStart, LoopStop, WireFault
from labkit.support.wording import plain
from labkit.timeline import Timeline
from labkit.views import html
from labkit.views.mime import choose
from labkit.views.words import milliseconds, zero

__all__ = ["Line", "Source", "source"]

LineState = Literal["ran", "after", "stopped", "never", "unreachable", "unknown", "blank"]

#: Vermilion, mixed into the background of the page. The text keeps the colour of the page.
_ALARM: Final = "background:color-mix(in srgb, #d55e00 22%, transparent)"
_CELL: Final = "padding:1px 10px;border:0"


@dataclass(frozen=True)
class Line:
    """A line of the handler.

    Attributes:
        number: the line's number in the file or cell.
        code: the line's text.
        state: when the line first ran. ``ran``: before the fault; ``after``: after the fault; ``stopped``: only after
            the lab had ended the experiment; ``never``: never; ``unknown``: nobody watched; ``unreachable``: the
            compiler made no code for this statement; ``blank``: the line holds no statement.
        at: the time of its first run, in seconds since the picture's zero, or None.
        since_fault: the same in seconds since the fault, or None.
        function: the name of its function, if that is in another file than the handler.
    """

    number: int
    code: str
    state: LineState
    at: float | None = None
    since_fault: float | None = None
    function: str = ""

    @property
    def mark(self) -> str:
        """A sign for a line that needs attention; empty for the others."""
        return {"after": "★", "stopped": "✗", "never": "✗", "unreachable": "✗", "unknown": "?"}.get(self.state, "")

    @property
    def when(self) -> str:
        """When the line first ran, as text."""
        match self.state:
            case "ran":
                return milliseconds(self.at or 0.0)
            case "after":
                return f"{milliseconds(self.at or 0.0)} (+{milliseconds(self.since_fault or 0.0)})"
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
    """The handler's source; it displays itself in print and in a notebook.

    Attributes:
        handler: the handler's name.
        lines: the handler's lines, in order.
        origin: what happened at the zero of the times.
        reason: why something is unknown; empty if everything is known.
    """

    handler: str
    lines: tuple[Line, ...]
    origin: str
    reason: str = ""

    @property
    def caption(self) -> str:
        """What the view shows, with a legend of the signs in it."""
        legend = {
            "after": "★ after the fault (+ms since it)",
            "never": "✗ never ran",
            "stopped": "✗ stopped: ran only when the lab had ended the experiment",
            "unreachable": "✗ unreachable: the compiler made no code for it",
        }
        states = {line.state for line in self.lines}
        used = [words for state, words in legend.items() if state in states]
        return "; ".join([f"{self.handler}: when each line first ran, in ms since {self.origin}", *used])

    def __str__(self) -> str:
        out = [plain(self.caption)]
        if self.reason:
            out.append(plain(self.reason))
        digits = max([4, *(len(str(line.number)) for line in self.lines)])
        column = max([9, *(len(line.when) for line in self.lines)])
        out.append(f"{'line':>{digits}}  {'first ran':>{column}}")
        for function, lines in groupby(self.lines, lambda line: line.function):
            out += [plain(function)] if function else []
            for line in lines:
                code = plain(line.code.expandtabs(4))
                out.append(f"{line.number:>{digits}}  {line.when:>{column}} {line.mark:1}  {code}".rstrip())
        return "\n".join(out)

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        makers = {"text/plain": self.__str__, "text/html": self._html}
        return {kind: makers[kind]() for kind in choose(tuple(makers), include, exclude)}

    def _html(self) -> str:
        head = html.row(*(html.cell(name, scope="col", style=_CELL) for name in ("line", "first ran", "", "code")))
        # No colour of text is set, and no solid background: the page's own, light or dark, stay.
        look = "border-collapse:collapse;font-family:monospace"
        bodies = []
        for function, lines in groupby(self.lines, lambda line: line.function):
            title = html.cell(function, scope="rowgroup", span=4, style=_CELL)
            bodies.append([*([html.row(title)] if function else []), *map(_row, lines)])
        table = html.table([head], bodies, caption=self.caption, style=look)
        reason = [html.element("p", self.reason)] if self.reason else []
        return html.fragment(*reason, table)


def source(timeline: Timeline) -> Source:
    """Show the source of a timeline's handler.

    Args:
        timeline: the events of one experiment.

    Returns:
        The source. If nobody watched the lines, each line that can run is ``unknown``, and ``reason`` says why.
    """
    start, account, fault = timeline.first(HandlerStart), timeline.last(HandlerLines), timeline.first(WireFault)
    name = start.handler if start else "the handler"
    start_at, origin = zero(timeline)
    if account is None:
        return Source(name, (), origin, "No account of the handler's lines was recorded.")
    reasons: list[str] = []
    parts: list[tuple[int, str]] = []
    tool = None if start is not None and start.outline else account.tool
    executable, first, text = set(account.executable), account.first, account.source
    if tool is None:
        outlined = "the connection was watched in outline" if account.tool else "nobody watched them"
        reasons.append(f"Which lines ran is unknown: {account.why or outlined}.")
    if text is None:
        reasons.append("The source is not at hand; these are the lines that can run.")
        code = dict.fromkeys(sorted(executable), "")
    else:
        parts = [(first, text), *account.helpers]
        code = {begin + n: line for begin, part in parts for n, line in enumerate(part.splitlines())}
    ran: dict[tuple[str, int], float] = {}
    for event in timeline.all(HandlerLine):
        ran.setdefault((event.function, event.line), event.at)
    stop = timeline.first(LoopStop)
    dead = {line for begin, part in parts for line in _unreachable(part, begin, executable)}

    def line(number: int, text: str, executable: Collection[int], dead: Collection[int], function: str = "") -> Line:
        if number not in executable:
            return Line(number, text, "unreachable" if number in dead else "blank", function=function)
        if tool is None:
            return Line(number, text, "unknown", function=function)
        if (function, number) not in ran:
            return Line(number, text, "never", function=function)
        at = ran[function, number]
        late = stop is not None and at > stop.at
        state: LineState = "stopped" if late else "after" if fault is not None and at >= fault.at else "ran"
        return Line(number, text, state, at - start_at, None if fault is None else at - fault.at, function)

    lines = [line(number, code[number], executable, dead) for number in sorted(code)]
    for function, numbers, begin, part in account.elsewhere:
        texts = dict(enumerate(part.splitlines(), begin)) if part is not None else dict.fromkeys(numbers, "")
        dead = _unreachable(part or "", begin, {*numbers})
        lines += [line(number, each, numbers, dead, function) for number, each in texts.items()]
    return Source(name, tuple(lines), origin, " ".join(reasons))


def _unreachable(text: str, first: int, executable: set[int]) -> set[int]:
    """The first lines of the statements that the compiler left out, such as those after an endless loop."""
    # A method is indented. Inside a block it can be parsed as it is; a dedent would change its multi-line strings.
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
    """The statements for which the compiler normally makes code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global | ast.Nonlocal) or not isinstance(node, ast.stmt):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.AnnAssign) and node.value is None:
            continue
        yield node


def _row(line: Line) -> Element:
    code = html.element("code", line.code.expandtabs(4), style="background:none;color:inherit")
    return html.row(
        html.cell(str(line.number), scope="row", style=f"{_CELL};font-weight:normal"),
        html.cell(line.when, style=_CELL),
        html.cell(line.mark, style=_CELL),
        html.cell(code, style=f"{_CELL};white-space:pre"),
        style=_ALARM if line.state in {"never", "stopped", "unreachable"} else "",
    )
