"""The strip as a picture: the handler's source down the side, the moments along it, and what each leads to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from labkit.errors import BadValue
from labkit.strikes import BROKEN, Fate, Strike, fates
from labkit.support.wording import plain
from labkit.views.canvas.artists import Artists, Position, box
from labkit.views.canvas.palette import Theme, find_theme, mix
from labkit.views.canvas.picture import Picture
from labkit.views.canvas.ruler import Ruler, drawable
from labkit.views.chart.grid import LOOKS
from labkit.views.strip.words import headline, meaning, strip_alt

__all__ = ["strip"]

#: Sizes in points: the title, and other text.
_TITLE, _LABEL = 11.0, 8.5
#: In inches: the margin; the heights of a line of text and of a line of source; the indentation of a column of source.
_EDGE, _LINE, _ROW, _INDENT = 0.2, 0.17, 0.2, 0.055
#: In inches: the widest text of a source line, the width of a moment, and the narrowest and the widest strip.
_SOURCE, _MOMENT, _LEAST, _MOST = 3.6, 0.26, 2.6, 6.4
#: The height of notes that stand upright, in inches, where they have no room to lie.
_NOTE: Final = 1.2
#: A longer source is told by the lines at which something struck, and their neighbours.
_LINES: Final = 45
#: Lines of text for the title, and for each of the fates.
_TITLES, _FATES = 3, 3


def strip(
    strikes: Sequence[Strike], first: int = 1, source: str = "", *, title: str = "", theme: str = "light"
) -> Picture:
    """Draw the strip.

    Each moment has a box in the row of the line at which the handler waited, with a letter for what came of it. Colour
    says it again; vermilion always means a failure. Above stands which await it was, or ``f2`` for the moment after the
    second frame, and what the handler had noted by then.

    Args:
        strikes: the moments, in order.
        first: the number of the source's first line.
        source: the handler's source; empty if it is not at hand.
        title: what was played.
        theme: ``"light"`` or ``"dark"``; each has its own opaque background.

    Returns:
        A matplotlib figure, independent of pyplot; a notebook displays it.

    Raises:
        BadValue: there are no moments.
        UnknownName: there is no such theme.
    """
    if not strikes:
        raise BadValue("there are no moments to draw")
    return _Drawing(strikes, first, source, title, find_theme(theme)).draw()


class _Drawing:
    def __init__(self, strikes: Sequence[Strike], first: int, source: str, title: str, theme: Theme) -> None:
        self.strikes, self.theme, self.title = strikes, theme, title
        self.fates = fates(strikes)
        self.fate_of = {strike.name: fate for fate in self.fates for strike in fate.strikes}
        ruler, bold = Ruler(_LABEL), Ruler(_LABEL, "bold")
        self.rows = _rows(strikes, first, source)
        texts = [ruler.width(text.strip()) + _indent(text) for text in self.rows.values()]
        self.left = _EDGE + 0.45 + min(_SOURCE, max(texts)) + 0.15
        self.step = min(max(_LEAST / len(strikes), min(_MOMENT, _MOST / len(strikes))), 0.8)
        self.right = self.left + self.step * len(strikes)
        self.width = max(6.4, self.right + _EDGE)
        inner = self.width - 2 * _EDGE
        self.headline = bold.balance(drawable(plain(headline(strikes, title))), inner * _LABEL / _TITLE, _TITLES)
        self.legend = {fate: ruler.wrap(drawable(plain(_told(fate))), inner - 1.2, _FATES) for fate in self.fates}
        self.bands = [
            (drawable(plain(text)), list(each))
            for text, each in groupby(range(len(strikes)), lambda n: _done(strikes[n]))
            if text
        ]
        wide = [(ruler.width(text), self.step * len(indexes)) for text, indexes in self.bands]
        self.upright = any(width > room for width, room in wide)
        self.noted = (min(_NOTE, max(width for width, _ in wide)) if self.upright else _LINE) if wide else 0.0

    def draw(self) -> Picture:
        """Draw the strip from top to bottom."""
        top = _EDGE + 0.21 * len(self.headline) + 0.12
        body = top + (self.noted + 0.08 if self.bands else 0) + _LINE + 0.06
        end = body + _ROW * len(self.rows)
        height = end + 0.15 + sum(len(lines) * _LINE + 0.06 for lines in self.legend.values()) + _EDGE
        picture = Picture(strip_alt(self.strikes, self.title), (self.width, height), self.theme)
        self.artists = Artists(picture, self.width, height)
        for n, line in enumerate(self.headline):
            position = (_EDGE, _EDGE + 0.1 + 0.21 * n)
            self.artists.write("title", position, line, self.theme.ink, _TITLE, weight="bold")
        self._draw_bands(top)
        self._draw_source(body)
        self._draw_moments(body)
        self._draw_legend(end + 0.15)
        return picture

    def _x(self, index: int) -> float:
        return self.left + self.step * index

    def _draw_bands(self, y: float) -> None:
        """What the handler had noted last, over the moments at which that is so."""
        ruler, rules, bottom = Ruler(_LABEL), [], y + self.noted
        for text, indexes in self.bands:
            left, right = self._x(indexes[0]), self._x(indexes[-1] + 1)
            rules.append([(left + 0.03, bottom + 0.03), (right - 0.03, bottom + 0.03)])
            if self.upright:
                position = (left + self.step / 2, bottom)
                shown = ruler.fit(text, self.noted)
                self.artists.write("noted", position, shown, self.theme.ink, _LABEL, ha="center", vertical=True)
            else:
                self.artists.write("noted", (left + 0.03, bottom - _LINE / 2), text, self.theme.ink, _LABEL)
        self.artists.lines("bands", rules, [self.theme.muted] * len(rules), 2, widths=1.5)

    def _draw_source(self, y: float) -> None:
        ruler = Ruler(_LABEL)
        struck = {strike.line for strike in self.strikes}
        for n, (number, text) in enumerate(self.rows.items()):
            middle, ink = y + _ROW * (n + 0.5), self.theme.ink if number in struck else self.theme.muted
            self.artists.write(
                "number", (_EDGE + 0.32, middle), str(number or "?"), self.theme.muted, _LABEL, ha="right"
            )
            indent = _indent(text)
            line = ruler.fit(drawable(plain(text.strip())), _SOURCE - indent) if text.strip() else ""
            self.artists.write("source", (_EDGE + 0.45 + indent, middle), line, ink, _LABEL)

    def _draw_moments(self, y: float) -> None:
        row_of = {number: n for n, number in enumerate(self.rows)}
        grid = [[(self.left, y + _ROW * n), (self.right, y + _ROW * n)] for n in range(len(self.rows) + 1)]
        self.artists.lines("grid", grid, [self.theme.faint] * len(grid), 1, widths=0.5)
        boxes: list[list[Position]] = []
        fills: list[str] = []
        numbers, last = Ruler(_LABEL), -1.0
        for (line, letter, _), each in groupby(range(len(self.strikes)), self._kind_of):
            indexes = list(each)
            fate = self.fate_of[self.strikes[indexes[0]].name]
            left, right = self._x(indexes[0]), self._x(indexes[-1] + 1)
            top = y + _ROW * row_of[line or 0]
            boxes.append(box(left + 0.01, top + 0.01, right - 0.01, top + _ROW - 0.01))
            fills.append(mix(self.theme.background, self._hue(fate), 0.3))
            failed = self._failed(fate)
            ink, weight = (self.theme.alarm_ink, "bold") if failed else (self.theme.ink, "normal")
            self.artists.write(
                "letter", ((left + right) / 2, top + _ROW / 2), letter, ink, _LABEL, ha="center", weight=weight
            )
            name = self.strikes[indexes[0]].label
            if left + self.step / 2 - numbers.width(name) / 2 > last:
                self.artists.write(
                    "moment", (left + self.step / 2, y - _LINE / 2 - 0.02), name, self.theme.muted, _LABEL, ha="center"
                )
                last = left + self.step / 2 + numbers.width(name) / 2 + 0.06
        self.artists.areas("moments", boxes, fills, 2)

    def _kind_of(self, index: int) -> tuple[int | None, str, bool]:
        """What a moment has in common with neighbours that share its box: not an await with a moment between frames."""
        strike = self.strikes[index]
        return strike.line, self.fate_of[strike.name].letter, strike.frame is None

    def _draw_legend(self, y: float) -> None:
        boxes, fills = [], []
        for fate, lines in self.legend.items():
            boxes.append(box(_EDGE, y, _EDGE + 1.1, y + _LINE))
            fills.append(mix(self.theme.background, self._hue(fate), 0.3))
            failed = self._failed(fate)
            ink, weight = (self.theme.alarm_ink, "bold") if failed else (self.theme.ink, "normal")
            self.artists.write("key", (_EDGE + 0.08, y + _LINE / 2), fate.letter, ink, _LABEL, weight=weight)
            self.artists.write("word", (_EDGE + 0.3, y + _LINE / 2), fate.word, ink, _LABEL, weight=weight)
            for n, line in enumerate(lines):
                self.artists.write("told", (_EDGE + 1.2, y + _LINE * (n + 0.5)), line, self.theme.ink, _LABEL)
            y += len(lines) * _LINE + 0.06
        self.artists.areas("keys", boxes, fills, 2)

    def _failed(self, fate: Fate) -> bool:
        return fate.word == BROKEN or LOOKS[fate.outcome].hue is None

    def _hue(self, fate: Fate) -> str:
        lane = None if fate.word == BROKEN else LOOKS[fate.outcome].hue
        return self.theme.alarm if lane is None else self.theme.hues[lane]


def _told(fate: Fate) -> str:
    noted = f"; noted: {fate.noted}" if fate.notes else ""
    return f"at {fate.place}: {meaning(fate)}{noted}"


def _done(strike: Strike) -> str:
    return strike.done[-1] if strike.done else ""


def _indent(text: str) -> float:
    return _INDENT * (len(text.expandtabs(4)) - len(text.expandtabs(4).lstrip()))


def _rows(strikes: Sequence[Strike], first: int, source: str) -> dict[int, str]:
    """The lines of the picture, by number; 0 stands for a line that is unknown."""
    code = {first + n: text for n, text in enumerate(source.splitlines())}
    struck = {strike.line for strike in strikes if strike.line is not None}
    if len(code) > _LINES:
        code = {number: text for number, text in code.items() if {number - 1, number, number + 1} & struck}
    rows = code | dict.fromkeys(struck - set(code), "")
    if any(strike.line is None for strike in strikes):
        rows[0] = "(a line that is not known)"
    return dict(sorted(rows.items(), key=lambda row: (row[0] == 0, row[0])))
