"""The chart of a matrix: handlers within stacks down, faults within families across, an outcome in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from labkit.errors import BadValue
from labkit.outcome import MEANINGS, Cell, Outcome
from labkit.views.artists import Artists, Place, box
from labkit.views.chart_words import chart_alt, headline
from labkit.views.grid import LOOKS, Grid, WorstFirst, arrange, counted, reasons
from labkit.views.palette import Theme, find_theme, mix
from labkit.views.picture import Picture
from labkit.views.ruler import Ruler, drawable
from labkit.views.words import plain

__all__ = ["chart"]

#: Points: of the title, of all other text, of the words in the cells by the number of columns.
_TITLE, _LABEL = 11.0, 8.5
_WORDS: Final = ((8, 8.5), (16, 8.0), (10_000, 7.5))
#: Inches: the border of the picture, the least width of it, a line of text, a row, the head of a stack or a family, the
#: room between groups.
_EDGE, _LEAST, _LINE, _ROW, _GROUP, _GAP = 0.2, 6.0, 0.17, 0.42, 0.3, 0.08
#: Around the widest word of a cell.
_PAD = 0.11
#: How wide heads of columns that lie may make the picture, and how long those that stand may be; how wide the names of
#: the handlers may be.
_LYING, _STANDING, _NAMES = 8.0, 1.6, 2.2


@dataclass(frozen=True)
class _Heads:
    """The heads of the columns.

    Attributes:
        lines: the lines of each, by fault.
        widths: the width of each column, by fault.
        height: of the tallest.
        upright: whether they stand.
    """

    lines: dict[str, list[str]]
    widths: dict[str, float]
    height: float
    upright: bool


def chart(
    cells: Sequence[Cell],
    *,
    worst_first: WorstFirst = False,
    title: str | None = None,
    theme: str = "light",
) -> Picture:
    """Draw the chart.

    Each cell is a mark, a word and a colour, and any of them would do; vermilion is failure.

    Args:
        cells: the cells.
        worst_first: whether rows and columns are sorted, each within its group, and the groups; ``"rows"`` or
            ``"columns"`` for these alone.
        title: another title than the count of outcomes; an empty one for none.
        theme: ``"light"`` or ``"dark"``; either has a background of its own.

    Returns:
        A matplotlib figure, outside pyplot; it shows itself in a notebook.

    Raises:
        BadValue: there are no cells, or ``worst_first`` is something else.
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
        self.used = list(counted(self.cells))
        self.names = {h: drawable(plain(h)) for handlers in grid.stacks.values() for h in handlers}
        label = Ruler(_LABEL)
        wide = max([label.width(name) for name in self.names.values()])
        stacks = max(Ruler(_LABEL, "bold").width(drawable(stack)) for stack in grid.stacks)
        self.left = _EDGE + max(0.9, min(_NAMES, wide) + 0.15, stacks) + 0.1
        self.heads = self._heads()
        self.places = self._columns()
        last = self.grid.faults[-1]
        self.right = self.places[last] + self.heads.widths[last]
        self.width = max(_LEAST, self.right + _EDGE)
        room = self.width - 2 * _EDGE
        self.title = Ruler(_TITLE, "bold").balance(drawable(plain(title)), room, 4)
        self.legend = {word: label.wrap(MEANINGS[word], room - 1.15, 3) for word in reversed(self.used)}
        self.notes = [
            line
            for reason, group in list(reasons(self.cells).items())[:3]
            for line in label.wrap(drawable(plain(f"{len(group)} × unknown: {reason}")), room, 2)
        ]

    def _heads(self) -> _Heads:
        """Let the heads of the columns lie where they have room, and else stand."""
        ruler, bold, faults = Ruler(_LABEL), Ruler(_LABEL, "bold"), self.grid.faults
        names = {fault: drawable(plain(fault)) for fault in faults}
        least = max(Ruler(self.size, "bold").width(word) for word in ("outlived", *self.used)) + _PAD
        lying = max(least, *(ruler.width(name) + 0.2 for name in names.values()))
        upright = lying * len(faults) > _LYING
        if upright:
            lines = {fault: ruler.wrap(name, _STANDING, 2) for fault, name in names.items()}
            height = max(ruler.width(line) for each in lines.values() for line in each)
        else:
            least, height = max(least, lying), _LINE
            lines = {fault: [name] for fault, name in names.items()}
        widths: dict[str, float] = {}
        for family, members in self.grid.families.items():
            share = (bold.width(drawable(family)) + 0.15) / len(members)
            widths |= dict.fromkeys(members, max(least, share))
        return _Heads(lines, widths, height, upright)

    def _columns(self) -> dict[str, float]:
        """Find where each column begins."""
        places, x = {}, self.left
        for members in self.grid.families.values():
            for fault in members:
                places[fault] = x
                x += self.heads.widths[fault]
            x += _GAP
        return places

    def draw(self) -> Picture:
        """Draw from top to bottom."""
        top = _EDGE + 0.21 * len(self.title) + (0.1 if self.title else 0)
        body = top + _GROUP + self.heads.height + 0.12
        rows = sum(map(len, self.grid.stacks.values()))
        end = body + rows * _ROW + len(self.grid.stacks) * _GROUP
        height = end + 0.2 + sum(len(lines) * _LINE + 0.05 for lines in self.legend.values())
        height += (0.1 + len(self.notes) * _LINE if self.notes else 0) + _EDGE - 0.05

        picture = Picture(chart_alt(self.cells), (self.width, height), self.theme.background)
        self.artists = Artists(picture, self.width, height)
        for n, line in enumerate(self.title):
            place = (_EDGE, _EDGE + 0.1 + 0.21 * n)
            self.artists.write("title", place, line, self.theme.ink, _TITLE, weight="bold")
        self._draw_heads(top, body)
        self._draw_body(body)
        self._draw_legend(end + 0.2)
        return picture

    def _draw_heads(self, top: float, body: float) -> None:
        rules = []
        for family, members in self.grid.families.items():
            left, right = self.places[members[0]], self.places[members[-1]] + self.heads.widths[members[-1]]
            place = (left + 0.04, top + 0.1)
            self.artists.write("family", place, drawable(family), self.theme.muted, _LABEL, weight="bold")
            rules.append([(left + 0.03, top + 0.22), (right - 0.03, top + 0.22)])
        self.artists.lines("families", rules, [self.theme.faint] * len(rules), 1, widths=1.5)
        for fault, lines in self.heads.lines.items():
            x, text = self.places[fault] + self.heads.widths[fault] / 2, "\n".join(lines)
            y = body - 0.05 if self.heads.upright else body - 0.05 - _LINE / 2
            upright = self.heads.upright
            self.artists.write("fault", (x, y), text, self.theme.ink, _LABEL, ha="center", upright=upright)

    def _draw_body(self, y: float) -> None:
        ruler = Ruler(_LABEL)
        boxes: list[list[Place]] = []
        fills: list[str] = []
        marks: dict[Outcome, list[Place]] = {}
        rules = []
        for stack, handlers in self.grid.stacks.items():
            rules.append([(_EDGE, y + _GROUP - 0.04), (self.right, y + _GROUP - 0.04)])
            place = (_EDGE, y + _GROUP / 2)
            self.artists.write("stack", place, drawable(stack), self.theme.muted, _LABEL, weight="bold")
            y += _GROUP
            for handler in handlers:
                name = "\n".join(_broken(self.names[handler], ruler))
                self.artists.write("handler", (_EDGE + 0.15, y + _ROW / 2), name, self.theme.ink, _LABEL)
                for cell in self.grid.row(handler, stack):
                    x, width = self.places[cell.fault], self.heads.widths[cell.fault]
                    boxes.append(box(x + 0.015, y + 0.015, x + width - 0.015, y + _ROW - 0.015))
                    fills.append(self._ground(cell.outcome))
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
            fills.append(self._ground(word))
            marks[word] = [(_EDGE + 0.14, y + _LINE / 2)]
            look, ink = LOOKS[word], self.theme.ink
            place = (_EDGE + 0.28, y + _LINE / 2)
            weight = "normal" if look.hue else "bold"
            self.artists.write("key", place, word, ink if look.hue else self.theme.alarm_ink, _LABEL, weight=weight)
            for n, line in enumerate(lines):
                self.artists.write("meaning", (_EDGE + 1.15, y + _LINE * (n + 0.5)), line, ink, _LABEL)
            y += len(lines) * _LINE + 0.05
        self.artists.areas("keys", boxes, fills, 2)
        self._marks("keys:marks", marks)
        for n, line in enumerate(self.notes):
            self.artists.write("note", (_EDGE, y + 0.1 + _LINE * (n + 0.5)), line, self.theme.muted, _LABEL)

    def _word(self, place: Place, word: Outcome) -> None:
        failed = LOOKS[word].hue is None
        colour, weight = (self.theme.alarm_ink, "bold") if failed else (self.theme.ink, "normal")
        self.artists.write("word", place, word, colour, self.size, ha="center", weight=weight)

    def _marks(self, gid: str, marks: dict[Outcome, list[Place]]) -> None:
        for word, places in marks.items():
            look, hue, ground = LOOKS[word], self._hue(word), self._ground(word)
            fill, rim = (ground, hue) if look.hollow else (hue, ground)
            colours, rims = [fill] * len(places), [rim] * len(places)
            self.artists.marks(
                f"{gid}:{word}",
                look.marker,
                places,
                5,
                size=7.5,
                colours=colours,
                rims=rims,
                rim=1.6 if look.hollow else 0.8,
            )

    def _hue(self, word: Outcome) -> str:
        lane = LOOKS[word].hue
        return self.theme.alarm if lane is None else self.theme.hues[lane]

    def _ground(self, word: Outcome) -> str:
        return mix(self.theme.background, self._hue(word), 0.16)


def _broken(name: str, ruler: Ruler) -> list[str]:
    """Break a name that is too long in two, wherever that is, since a name has no spaces."""
    if ruler.width(name) <= _NAMES:
        return [name]
    first = ruler.fit(name, _NAMES).removesuffix("…")
    return [first, ruler.fit(name.removeprefix(first), _NAMES)]
