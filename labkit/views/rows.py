"""Many clients of one server, a row for each: time runs to the right, and a dot is a message that has arrived."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from labkit.errors import BadValue
from labkit.timeline import Event, Timeline
from labkit.views.artists import Artists, Place
from labkit.views.palette import Theme, find_theme
from labkit.views.picture import Picture
from labkit.views.ruler import Ruler, drawable
from labkit.views.words import plain

__all__ = ["rows"]

#: Points: of a panel's title, of all other text.
_TITLE, _LABEL = 11.0, 8.5
#: Inches: the border of the picture, a panel's title, a row, what is below the rows (the axis) and the key.
_EDGE, _HEAD, _ROW, _AXIS, _KEY = 0.2, 0.45, 0.42, 0.5, 0.3
#: How many marks the axis has at most.
_TICKS: Final = 8
#: What the key says of a kind, and the marker.
_KINDS: Final = {"send": ("sends", "^"), "recv": ("receives", "o"), "ended": ("its connection ends", "X")}


@dataclass(frozen=True)
class _Moment:
    at: float
    kind: str
    text: str


def rows(
    panels: Mapping[str, Timeline], names: Collection[str], *, width: float = 8.0, theme: str = "light"
) -> Picture:
    """Draw who got what, and when.

    Read are the events ``send``, ``recv`` and ``ended`` of the client lane that carry ``who``, the name of a client.
    Zero is the first of them; all panels have the same axis.

    Args:
        panels: the experiments, by title, from top to bottom.
        names: the clients, from top to bottom.
        width: inches, 4 or more.
        theme: ``"light"`` or ``"dark"``; either has a background of its own.

    Returns:
        A matplotlib figure, outside pyplot; it shows itself in a notebook, and is told in words as well.

    Raises:
        BadValue: there is nothing to draw, or the width is too small.
        UnknownName: there is no such theme.
    """
    if not 4 <= width <= 40:
        raise BadValue(f"width={width!r}; it takes 4 to 40 inches")
    told = {title: _moments(timeline, names) for title, timeline in panels.items()}
    if not any(moments for each in told.values() for moments in each.values()):
        raise BadValue("there are no events to draw: they are the client's send, recv and ended, with data['who']")
    return _Rows(told, width, find_theme(theme)).draw()


def _moments(timeline: Iterable[Event], names: Collection[str]) -> dict[str, list[_Moment]]:
    """The moments of each client, in milliseconds since the first of all."""
    found = [e for e in timeline if e.lane == "client" and e.kind in _KINDS and e.data.get("who") in names]
    told: dict[str, list[_Moment]] = {name: [] for name in names}
    for event in found:
        told[event.data["who"]].append(_Moment(1000 * (event.at - found[0].at), event.kind, event.text))
    return told


class _Rows:
    def __init__(self, told: Mapping[str, Mapping[str, Sequence[_Moment]]], width: float, theme: Theme) -> None:
        self.told, self.width, self.theme = told, width, theme
        self.last = max(m.at for each in told.values() for moments in each.values() for m in moments) or 1.0
        names = [drawable(plain(name)) for each in told.values() for name in each]
        self.left = _EDGE + max(map(Ruler(_LABEL, "bold").width, names)) + 0.25
        self.right = width - _EDGE - 0.25

    def draw(self) -> Picture:
        """Draw the panels from top to bottom, and the key."""
        height = _EDGE + sum(_HEAD + _ROW * len(each) + _AXIS for each in self.told.values()) + _KEY
        picture = Picture("".join(_in_words(self.told)), (self.width, height), self.theme.background)
        self.artists = Artists(picture, self.width, height)
        y = _EDGE
        for title, each in self.told.items():
            words = drawable(plain(title))
            self.artists.write("title", (_EDGE, y + 0.1), words, self.theme.ink, _TITLE, weight="bold")
            y += _HEAD
            self._draw_rows(y, each)
            y += _ROW * len(each)
            self._draw_axis(y, len(each))
            y += _AXIS
        self._draw_key(y)
        return picture

    def _draw_rows(self, y: float, each: Mapping[str, Sequence[_Moment]]) -> None:
        ruler, lines = Ruler(_LABEL), []
        places: dict[str, list[Place]] = {kind: [] for kind in _KINDS}
        for name, moments in each.items():
            y += _ROW / 2
            self.artists.write("name", (_EDGE, y), drawable(plain(name)), self.theme.ink, _LABEL, weight="bold")
            ends = [self._x(m.at) for m in moments if m.kind == "ended"]
            lines.append([(self.left, y), (ends[0] if ends else self.right, y)])
            for moment in moments:
                # A press stands a little lower, so that it hides no arrival.
                places[moment.kind].append((self._x(moment.at), y + (0.1 if moment.kind == "send" else 0)))
            received = [(self._x(m.at), drawable(plain(m.text))) for m in moments if m.kind == "recv"]
            for x, label in _labels(received, ruler):
                self.artists.write("label", (x, y - 0.13), label, self.theme.ink, _LABEL, ha="center")
            y += _ROW / 2
        self.artists.lines("lives", lines, [self.theme.faint] * len(lines), 1, widths=1.5)
        for kind, at in places.items():
            self._mark(kind, at)

    def _draw_axis(self, y: float, count: int) -> None:
        step = _step(self.last)
        ticks = [n * step for n in range(int(self.last / step) + 1)]
        grid = [[(self._x(tick), y - _ROW * count), (self._x(tick), y)] for tick in ticks]
        self.artists.lines("grid", grid, [self.theme.faint] * len(grid), 0, widths=0.5)
        for tick in ticks:
            self.artists.write("tick", (self._x(tick), y + 0.1), f"{tick:g}", self.theme.muted, _LABEL, ha="center")
        self.artists.write("unit", (_EDGE, y + 0.1), "ms", self.theme.muted, _LABEL)

    def _draw_key(self, y: float) -> None:
        x, ruler = self.left, Ruler(_LABEL)
        for kind, (words, _) in _KINDS.items():
            if any(m.kind == kind for each in self.told.values() for moments in each.values() for m in moments):
                self._mark(kind, [(x, y)])
                self.artists.write("key", (x + 0.12, y), words, self.theme.ink, _LABEL)
                x += 0.45 + ruler.width(words)

    def _mark(self, kind: str, at: Sequence[Place]) -> None:
        hues = {"send": self.theme.hues["handler"], "recv": self.theme.hues["client"], "ended": self.theme.alarm}
        colours, rims = [hues[kind]] * len(at), [self.theme.background] * len(at)
        size = 9.0 if kind == "ended" else 7.0
        self.artists.marks(kind, _KINDS[kind][1], at, 4 if kind == "send" else 5, size=size, colours=colours, rims=rims)

    def _x(self, at: float) -> float:
        return self.left + 0.1 + (self.right - self.left - 0.1) * at / self.last


def _step(last: float) -> float:
    """A round distance of the marks on the axis."""
    power = 0.001
    while True:
        for factor in (1, 2, 5):
            if last / (power * factor) <= _TICKS:
                return power * factor
        power *= 10


def _labels(received: Sequence[tuple[float, str]], ruler: Ruler) -> Iterator[tuple[float, str]]:
    """Name each arrival; those that are too near to each other have one name, from the first to the last."""
    groups: list[list[tuple[float, str]]] = []
    for x, text in received:
        if groups and x - groups[-1][-1][0] < ruler.width(f"{groups[-1][0][1]}–{text}") * 0.8 + 0.05:
            groups[-1].append((x, text))
        else:
            groups.append([(x, text)])
    for group in groups:
        (first, name), (last, other) = group[0], group[-1]
        yield (first + last) / 2, name if len(group) == 1 else f"{name}–{other}"


def _in_words(told: Mapping[str, Mapping[str, Sequence[_Moment]]]) -> Iterator[str]:
    for title, each in told.items():
        yield f"{plain(title)}. " if title else ""
        for name, moments in each.items():
            got = [f"{plain(m.text)} at {_ms(m.at)}" for m in moments if m.kind == "recv"]
            sent = [_ms(m.at) for m in moments if m.kind == "send"]
            ended = [_ms(m.at) for m in moments if m.kind == "ended"]
            yield f"{plain(name)} received {', '.join(got) or 'nothing'}"
            yield f"; sent at {', '.join(sent)}" if sent else ""
            yield f"; its connection ended at {ended[0]}. " if ended else ". "


def _ms(at: float) -> str:
    return f"{at:.0f} ms" if at >= 10 else f"{at:.1f} ms"
