"""Several strips as one picture: a row for each fault and stack, the moments along it, coloured and lettered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from labkit.errors import BadValue
from labkit.strikes import BROKEN, Strike, Sweep
from labkit.support.wording import plain
from labkit.views.canvas.artists import Artists, Position, box
from labkit.views.canvas.palette import Theme, find_theme, mix
from labkit.views.canvas.picture import Picture
from labkit.views.canvas.ruler import Ruler, drawable
from labkit.views.chart.grid import LOOKS
from labkit.views.strip.several import by_badness, in_order, meaning_of, several_headline, strips_alt

__all__ = ["strips"]

#: Sizes in points: the title, and other text.
_TITLE, _LABEL = 11.0, 8.5
#: In inches: the margin; the heights of a line of text and of a row; the widest name, a moment, the widest strip.
_EDGE, _LINE, _ROW, _NAME, _MOMENT, _MOST = 0.2, 0.17, 0.24, 3.0, 0.26, 6.4
#: Lines of text for the title.
_TITLES: Final = 3


def strips(sweeps: Sequence[Sweep], *, title: str = "", theme: str = "light") -> Picture:
    """Draw the strips.

    The moments of a row are in order: the awaits, then those between frames, such as ``f2`` after the second; the last
    box, apart from the others, is the end of the conversation. Neighbours
    with the same outcome are one box, with its letter. Colour says it again; vermilion always means a failure.

    Args:
        sweeps: the moments of each strip.
        title: what was played.
        theme: ``"light"`` or ``"dark"``; each has its own opaque background.

    Returns:
        A matplotlib figure, independent of pyplot; a notebook displays it.

    Raises:
        BadValue: there are no moments.
        UnknownName: there is no such theme.
    """
    if not any(sweep.strikes for sweep in sweeps):
        raise BadValue("there are no moments to draw")
    return _Drawing(sweeps, title, find_theme(theme)).draw()


class _Drawing:
    def __init__(self, sweeps: Sequence[Sweep], title: str, theme: Theme) -> None:
        self.sweeps, self.theme, self.title = sweeps, theme, title
        self.words = by_badness(sweeps)
        ruler, bold = Ruler(_LABEL), Ruler(_LABEL, "bold")
        names = [drawable(plain(f"{sweep.fault} on {sweep.on}")) for sweep in sweeps]
        self.names = [ruler.fit(name, _NAME) for name in names]
        self.left = _EDGE + max(map(ruler.width, self.names)) + 0.15
        moments = {strike.name: strike for sweep in sweeps for strike in sweep.strikes}
        self.columns = {strike.name: n for n, strike in enumerate(in_order([*moments.values()]))}
        self.labels = [strike.label for strike in in_order([*moments.values()])]
        self.most = len(self.columns)
        self.step = min(_MOMENT, _MOST / self.most)
        self.right = self.left + self.step * self.most + 0.3
        self.width = max(6.4, self.right + _EDGE)
        inner = self.width - 2 * _EDGE
        headline = drawable(plain(several_headline(sweeps, title)))
        self.headline = bold.balance(headline, inner * _LABEL / _TITLE, _TITLES)
        self.legend = {
            word: ruler.wrap(drawable(plain(meaning_of(word, sweeps))), inner - 1.2, _TITLES) for word in self.words
        }

    def draw(self) -> Picture:
        """Draw the strips from top to bottom."""
        body = _EDGE + 0.21 * len(self.headline) + 0.12 + _LINE + 0.06
        end = body + _ROW * len(self.sweeps)
        height = end + 0.15 + sum(len(lines) * _LINE + 0.06 for lines in self.legend.values()) + _EDGE
        picture = Picture(strips_alt(self.sweeps, self.title), (self.width, height), self.theme)
        self.artists = Artists(picture, self.width, height)
        for n, line in enumerate(self.headline):
            position = (_EDGE, _EDGE + 0.1 + 0.21 * n)
            self.artists.write("title", position, line, self.theme.ink, _TITLE, weight="bold")
        self._draw_head(body - _LINE / 2 - 0.02)
        for n, (name, sweep) in enumerate(zip(self.names, self.sweeps, strict=True)):
            top = body + _ROW * n
            self.artists.write("strip", (_EDGE, top + _ROW / 2), name, self.theme.ink, _LABEL)
            self._draw_strip(sweep.strikes, top)
        self._draw_legend(end + 0.15)
        return picture

    def _x(self, index: int, *, through: bool) -> float:
        """The left side of a moment; what is through stands apart, at the right."""
        return self.right - self.step if through else self.left + self.step * index

    def _draw_head(self, y: float) -> None:
        ruler, last = Ruler(_LABEL), -1.0
        end = self._x(0, through=True) + self.step / 2
        for n, name in enumerate(self.labels):
            through = name == "end"
            middle = end if through else self._x(n, through=False) + self.step / 2
            half = ruler.width(name) / 2
            if through or (middle - half > last and middle + half < end - ruler.width("end") / 2 - 0.06):
                self.artists.write("moment", (middle, y), name, self.theme.muted, _LABEL, ha="center")
                last = middle + half + 0.06

    def _draw_strip(self, strikes: Sequence[Strike], top: float) -> None:
        boxes: list[list[Position]] = []
        fills: list[str] = []
        ordered = in_order(strikes)
        columns = [self.columns[strike.name] for strike in ordered]
        # Neighbours have the same difference between their columns and their places.
        for (word, label, _), each in groupby(
            range(len(ordered)), lambda n: (ordered[n].word, _kind(ordered[n]), columns[n] - n)
        ):
            indexes = [columns[n] for n in each]
            left = self._x(indexes[0], through=label == "end")
            right = self._x(indexes[-1], through=label == "end") + self.step
            boxes.append(box(left + 0.01, top + 0.02, right - 0.01, top + _ROW - 0.02))
            fills.append(self._fill(word))
            self._write(word, ((left + right) / 2, top + _ROW / 2), self._letter(word), "center")
        self.artists.areas("moments", boxes, fills, 2)

    def _draw_legend(self, y: float) -> None:
        boxes, fills = [], []
        for word, lines in self.legend.items():
            boxes.append(box(_EDGE, y, _EDGE + 1.1, y + _LINE))
            fills.append(self._fill(word))
            self._write(word, (_EDGE + 0.08, y + _LINE / 2), self._letter(word))
            self._write(word, (_EDGE + 0.3, y + _LINE / 2), word)
            for n, line in enumerate(lines):
                self.artists.write("told", (_EDGE + 1.2, y + _LINE * (n + 0.5)), line, self.theme.ink, _LABEL)
            y += len(lines) * _LINE + 0.06
        self.artists.areas("keys", boxes, fills, 2)

    def _letter(self, word: str) -> str:
        return chr(ord("A") + self.words.index(word))

    def _write(self, word: str, position: Position, text: str, ha: str = "left") -> None:
        failed = self._look(word) is None
        ink, weight = (self.theme.alarm_ink, "bold") if failed else (self.theme.ink, "normal")
        self.artists.write("letter", position, text, ink, _LABEL, ha=ha, weight=weight)

    def _fill(self, word: str) -> str:
        hue = self._look(word)
        return mix(self.theme.background, self.theme.alarm if hue is None else hue, 0.3)

    def _look(self, word: str) -> str | None:
        """The colour of a word; None for that of failures."""
        lane = next((look.hue for name, look in LOOKS.items() if name == word), None) if word != BROKEN else None
        return None if lane is None else self.theme.hues[lane]


def _kind(strike: Strike) -> str:
    """What kind of moment it is: those of one kind may share a box."""
    return "frame" if strike.frame is not None else "await" if strike.number else "end"
