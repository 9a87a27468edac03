"""The chart of a matrix: a row for each handler on each stack, a column for each fault, and an outcome in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from labkit.errors import BadValue
from labkit.outcome import MEANINGS, Cell, Outcome
from labkit.support.wording import plain
from labkit.views.canvas.artists import Artists, Position, box
from labkit.views.canvas.palette import Theme, find_theme, mix
from labkit.views.canvas.picture import Picture
from labkit.views.canvas.ruler import Ruler, drawable
from labkit.views.chart.grid import LOOKS, Grid, WorstFirst, arrange, counted, reasons
from labkit.views.chart.words import chart_alt, headline

__all__ = ["chart"]

#: Sizes in points: the title, other text, and the words in the cells, which depend on the highest number of columns.
_TITLE, _LABEL = 11.0, 8.5
_WORDS: Final = ((8, 8.5), (16, 8.0), (10_000, 7.5))
#: In inches: the picture's margin and its smallest width; the heights of a line of text, of a row and of the name of a
#: group; and the space between groups.
_EDGE, _LEAST, _LINE, _ROW, _GROUP, _GAP = 0.2, 6.0, 0.17, 0.42, 0.3, 0.08
#: The space around the widest word of a cell, in inches.
_PAD = 0.11
#: In inches: the highest total width of columns with horizontal headers, the highest length of a vertical header, and
#: the highest width of a handler's name.
_MAX_HORIZONTAL, _MAX_VERTICAL, _NAMES = 8.0, 1.6, 2.2


@dataclass(frozen=True)
class _Headers:
    """The headers of the columns.

    Attributes:
        lines: the lines of text of each header, by fault.
        widths: the width of each column in inches, by fault.
        height: the height of the tallest header in inches.
        vertical: whether the text is vertical.
    """

    lines: dict[str, list[str]]
    widths: dict[str, float]
    height: float
    vertical: bool


def chart(
    cells: Sequence[Cell],
    *,
    worst_first: WorstFirst = False,
    title: str | None = None,
    theme: str = "light",
) -> Picture:
    """Draw the chart.

    Each cell shows its outcome three times: by a mark, by a word and by a colour. Vermilion always means a failure.

    Args:
        cells: the cells.
        worst_first: whether to sort rows and columns with the worst first, both within their groups and group by group;
            ``"rows"`` or ``"columns"`` sorts only these.
        title: a title instead of the count of outcomes; an empty string for no title.
        theme: ``"light"`` or ``"dark"``; each has its own opaque background.

    Returns:
        A matplotlib figure, independent of pyplot; a notebook displays it.

    Raises:
        BadValue: there are no cells, or ``worst_first`` has another value.
        UnknownName: there is no such theme.
    """
    if not cells:
        raise BadValue("there are no cells to draw")
    return _Chart(arrange(cells, worst_first), headline(cells) if title is None else title, find_theme(theme)).draw()


class _Chart:
    def __init__(self, grid: Grid, title: str, theme: Theme) -> None:
        self.grid, self.theme = grid, theme
        self.cells = list(grid.cells.values())
        self.size = next(size for most, size in _WORDS if len(grid.faults) <= most)
        self.outcomes = list(counted(self.cells))
        self.names = {h: drawable(plain(h)) for handlers in grid.stacks.values() for h in handlers}
        label = Ruler(_LABEL)
        wide = max([label.width(name) for name in self.names.values()])
        stacks = max(Ruler(_LABEL, "bold").width(drawable(stack)) for stack in grid.stacks)
        self.left = _EDGE + max(0.9, min(_NAMES, wide) + 0.15, stacks) + 0.1
        self.headers = self._headers()
        self.lefts = self._find_lefts()
        last = self.grid.faults[-1]
        self.right = self.lefts[last] + self.headers.widths[last]
        self.width = max(_LEAST, self.right + _EDGE)
        max_width = self.width - 2 * _EDGE
        self.title = Ruler(_TITLE, "bold").balance(drawable(plain(title)), max_width, 4)
        self.legend = {word: label.wrap(MEANINGS[word], max_width - 1.15, 3) for word in reversed(self.outcomes)}
        self.footnotes = [
            line
            for reason, group in list(reasons(self.cells).items())[:3]
            for line in label.wrap(drawable(plain(f"{len(group)} × unknown: {reason}")), max_width, 2)
        ]

    def _headers(self) -> _Headers:
        """Lay out the headers of the columns: horizontal if they fit, vertical if not."""
        ruler, bold, faults = Ruler(_LABEL), Ruler(_LABEL, "bold"), self.grid.faults
        names = {fault: drawable(plain(fault)) for fault in faults}
        least = max(Ruler(self.size, "bold").width(word) for word in ("outlived", *self.outcomes)) + _PAD
        horizontal = max(least, *(ruler.width(name) + 0.2 for name in names.values()))
        vertical = horizontal * len(faults) > _MAX_HORIZONTAL
        if vertical:
            lines = {fault: ruler.wrap(name, _MAX_VERTICAL, 2) for fault, name in names.items()}
            height = max(ruler.width(line) for each in lines.values() for line in each)
        else:
            least, height = max(least, horizontal), _LINE
            lines = {fault: [name] for fault, name in names.items()}
        widths: dict[str, float] = {}
        for family, members in self.grid.families.items():
            share = (bold.width(drawable(family)) + 0.15) / len(members)
            widths |= dict.fromkeys(members, max(least, share))
        return _Headers(lines, widths, height, vertical)

    def _find_lefts(self) -> dict[str, float]:
        """Find the left edge of each column."""
        lefts, x = {}, self.left
        for members in self.grid.families.values():
            for fault in members:
                lefts[fault] = x
                x += self.headers.widths[fault]
            x += _GAP
        return lefts

    def draw(self) -> Picture:
        """Draw the chart from top to bottom."""
        top = _EDGE + 0.21 * len(self.title) + (0.1 if self.title else 0)
        body = top + _GROUP + self.headers.height + 0.12
        rows = sum(map(len, self.grid.stacks.values()))
        end = body + rows * _ROW + len(self.grid.stacks) * _GROUP
        height = end + 0.2 + sum(len(lines) * _LINE + 0.05 for lines in self.legend.values())
        height += (0.1 + len(self.footnotes) * _LINE if self.footnotes else 0) + _EDGE - 0.05

        picture = Picture(chart_alt(self.cells), (self.width, height), self.theme)
        self.artists = Artists(picture, self.width, height)
        for n, line in enumerate(self.title):
            position = (_EDGE, _EDGE + 0.1 + 0.21 * n)
            self.artists.write("title", position, line, self.theme.ink, _TITLE, weight="bold")
        self._draw_headers(top, body)
        self._draw_body(body)
        self._draw_legend(end + 0.2)
        return picture

    def _draw_headers(self, top: float, body: float) -> None:
        rules = []
        for family, members in self.grid.families.items():
            left, right = self.lefts[members[0]], self.lefts[members[-1]] + self.headers.widths[members[-1]]
            position = (left + 0.04, top + 0.1)
            self.artists.write("family", position, drawable(family), self.theme.muted, _LABEL, weight="bold")
            rules.append([(left + 0.03, top + 0.22), (right - 0.03, top + 0.22)])
        self.artists.lines("families", rules, [self.theme.faint] * len(rules), 1, widths=1.5)
        for fault, lines in self.headers.lines.items():
            x, text = self.lefts[fault] + self.headers.widths[fault] / 2, "\n".join(lines)
            y = body - 0.05 if self.headers.vertical else body - 0.05 - _LINE / 2
            vertical = self.headers.vertical
            self.artists.write("fault", (x, y), text, self.theme.ink, _LABEL, ha="center", vertical=vertical)

    def _draw_body(self, y: float) -> None:
        ruler = Ruler(_LABEL)
        boxes: list[list[Position]] = []
        fills: list[str] = []
        marks: dict[Outcome, list[Position]] = {}
        rules = []
        for stack, handlers in self.grid.stacks.items():
            rules.append([(_EDGE, y + _GROUP - 0.04), (self.right, y + _GROUP - 0.04)])
            position = (_EDGE, y + _GROUP / 2)
            self.artists.write("stack", position, drawable(stack), self.theme.muted, _LABEL, weight="bold")
            y += _GROUP
            for handler in handlers:
                name = "\n".join(_broken(self.names[handler], ruler))
                self.artists.write("handler", (_EDGE + 0.15, y + _ROW / 2), name, self.theme.ink, _LABEL)
                for cell in self.grid.row(handler, stack):
                    x, width = self.lefts[cell.fault], self.headers.widths[cell.fault]
                    boxes.append(box(x + 0.015, y + 0.015, x + width - 0.015, y + _ROW - 0.015))
                    fills.append(self._background(cell.outcome))
                    marks.setdefault(cell.outcome, []).append((x + width / 2, y + 0.135))
                    self._word((x + width / 2, y + 0.29), cell.outcome)
                y += _ROW
        self.artists.lines("stacks", rules, [self.theme.faint] * len(rules), 1, widths=1.0)
        self.artists.areas("cells", boxes, fills, 2)
        self._marks("marks", marks)

    def _draw_legend(self, y: float) -> None:
        boxes, fills, marks = [], [], {}
        for word, lines in self.legend.items():
            boxes.append(box(_EDGE, y, _EDGE + 1.0, y + _LINE))
            fills.append(self._background(word))
            marks[word] = [(_EDGE + 0.14, y + _LINE / 2)]
            look, ink = LOOKS[word], self.theme.ink
            position = (_EDGE + 0.28, y + _LINE / 2)
            weight = "normal" if look.hue else "bold"
            self.artists.write("key", position, word, ink if look.hue else self.theme.alarm_ink, _LABEL, weight=weight)
            for n, line in enumerate(lines):
                self.artists.write("meaning", (_EDGE + 1.15, y + _LINE * (n + 0.5)), line, ink, _LABEL)
            y += len(lines) * _LINE + 0.05
        self.artists.areas("keys", boxes, fills, 2)
        self._marks("keys:marks", marks)
        for n, line in enumerate(self.footnotes):
            self.artists.write("footnote", (_EDGE, y + 0.1 + _LINE * (n + 0.5)), line, self.theme.muted, _LABEL)

    def _word(self, position: Position, word: Outcome) -> None:
        failed = LOOKS[word].hue is None
        colour, weight = (self.theme.alarm_ink, "bold") if failed else (self.theme.ink, "normal")
        self.artists.write("word", position, word, colour, self.size, ha="center", weight=weight)

    def _marks(self, gid: str, marks: dict[Outcome, list[Position]]) -> None:
        for word, positions in marks.items():
            look, hue, background = LOOKS[word], self._hue(word), self._background(word)
            fill, rim = (background, hue) if look.hollow else (hue, background)
            colours, rims = [fill] * len(positions), [rim] * len(positions)
            self.artists.marks(
                f"{gid}:{word}",
                look.marker,
                positions,
                5,
                size=7.5,
                colours=colours,
                rims=rims,
                rim=1.6 if look.hollow else 0.8,
            )

    def _hue(self, word: Outcome) -> str:
        lane = LOOKS[word].hue
        return self.theme.alarm if lane is None else self.theme.hues[lane]

    def _background(self, word: Outcome) -> str:
        return mix(self.theme.background, self._hue(word), 0.16)


def _broken(name: str, ruler: Ruler) -> list[str]:
    """Break a name that is too long into two lines, at any character, since a name has no spaces."""
    if ruler.width(name) <= _NAMES:
        return [name]
    first = ruler.fit(name, _NAMES).removesuffix("…")
    return [first, ruler.fit(name.removeprefix(first), _NAMES)]
