"""Many clients of one server in one picture: each client has a row, time runs to the right, and messages are marks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from labkit.errors import BadValue
from labkit.events import Event
from labkit.support.wording import plain
from labkit.timeline import Timeline
from labkit.views.canvas.artists import Artists, Position
from labkit.views.canvas.palette import Theme, find_theme
from labkit.views.canvas.picture import Picture
from labkit.views.canvas.ruler import Ruler, drawable

__all__ = ["deliveries"]

#: The size of a panel's title and of all other text, in points.
_TITLE, _LABEL = 11.0, 8.5
#: In inches: the margin of the picture, and the heights of a panel's title, a row, an axis and the legend.
_EDGE, _HEADING, _ROW, _AXIS, _KEY = 0.2, 0.45, 0.42, 0.5, 0.3
#: The highest number of ticks on an axis.
_TICKS: Final = 8
#: For each kind of event: its text in the legend, and its marker.
_KINDS: Final = {"send": ("sends", "^"), "recv": ("receives", "o"), "ended": ("its connection ends", "X")}


@dataclass(frozen=True)
class _Mark:
    at: float
    kind: str
    text: str


def deliveries(
    panels: Mapping[str, Timeline], names: Collection[str], *, width: float = 8.0, theme: str = "light"
) -> Picture:
    """Draw which client received which message, and when.

    The picture shows the events ``send``, ``recv`` and ``ended`` of the client lane whose detail ``who`` is the name of
    a client. In each panel, the time starts at zero with the first of these events. All panels have the same time axis.

    Args:
        panels: the experiments, by title, from top to bottom.
        names: the clients, from top to bottom.
        width: the width in inches, 4 to 40.
        theme: ``"light"`` or ``"dark"``; each has its own opaque background.

    Returns:
        A matplotlib figure, independent of pyplot; a notebook displays it. Its alternative text says the same in words.

    Raises:
        BadValue: there are no events to draw, or the width is out of its range.
        UnknownName: there is no such theme.
    """
    if not 4 <= width <= 40:
        raise BadValue(f"width={width!r}; it takes 4 to 40 inches")
    drawn = {title: _marks_of(timeline, names) for title, timeline in panels.items()}
    if not any(marks for rows in drawn.values() for marks in rows.values()):
        raise BadValue("there are no events to draw: they are the client's send, recv and ended, with data['who']")
    return _Deliveries(drawn, width, find_theme(theme)).draw()


def _marks_of(timeline: Iterable[Event], names: Collection[str]) -> dict[str, list[_Mark]]:
    """The marks of each client; their times are milliseconds since the first mark of all clients."""
    events = [e for e in timeline if e.lane == "client" and e.kind in _KINDS and (e.more or {}).get("who") in names]
    rows: dict[str, list[_Mark]] = {name: [] for name in names}
    for event in events:
        rows[(event.more or {})["who"]].append(_Mark(1000 * (event.at - events[0].at), event.kind, event.text))
    return rows


class _Deliveries:
    def __init__(self, panels: Mapping[str, Mapping[str, Sequence[_Mark]]], width: float, theme: Theme) -> None:
        self.panels, self.width, self.theme = panels, width, theme
        self.last = max(m.at for rows in panels.values() for marks in rows.values() for m in marks) or 1.0
        names = [drawable(plain(name)) for rows in panels.values() for name in rows]
        self.left = _EDGE + max(map(Ruler(_LABEL, "bold").width, names)) + 0.25
        self.right = width - _EDGE - 0.25

    def draw(self) -> Picture:
        """Draw the panels from top to bottom, and then the legend."""
        height = _EDGE + sum(_HEADING + _ROW * len(rows) + _AXIS for rows in self.panels.values()) + _KEY
        picture = Picture("".join(_in_words(self.panels)), (self.width, height), self.theme)
        self.artists = Artists(picture, self.width, height)
        y = _EDGE
        for title, rows in self.panels.items():
            words = drawable(plain(title))
            self.artists.write("title", (_EDGE, y + 0.1), words, self.theme.ink, _TITLE, weight="bold")
            y += _HEADING
            self._draw_rows(y, rows)
            y += _ROW * len(rows)
            self._draw_axis(y, len(rows))
            y += _AXIS
        self._draw_key(y)
        return picture

    def _draw_rows(self, y: float, rows: Mapping[str, Sequence[_Mark]]) -> None:
        ruler, lines = Ruler(_LABEL), []
        positions: dict[str, list[Position]] = {kind: [] for kind in _KINDS}
        for name, marks in rows.items():
            y += _ROW / 2
            self.artists.write("name", (_EDGE, y), drawable(plain(name)), self.theme.ink, _LABEL, weight="bold")
            ends = [self._x(m.at) for m in marks if m.kind == "ended"]
            lines.append([(self.left, y), (ends[0] if ends else self.right, y)])
            for mark in marks:
                # The mark of a sent message is a little lower, so that it does not hide one of a received message.
                positions[mark.kind].append((self._x(mark.at), y + (0.1 if mark.kind == "send" else 0)))
            received = [(self._x(m.at), drawable(plain(m.text))) for m in marks if m.kind == "recv"]
            for x, label in _labels(received, ruler):
                self.artists.write("label", (x, y - 0.13), label, self.theme.ink, _LABEL, ha="center")
            y += _ROW / 2
        self.artists.lines("lives", lines, [self.theme.faint] * len(lines), 1, widths=1.5)
        for kind, at in positions.items():
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
            if any(m.kind == kind for rows in self.panels.values() for marks in rows.values() for m in marks):
                self._mark(kind, [(x, y)])
                self.artists.write("key", (x + 0.12, y), words, self.theme.ink, _LABEL)
                x += 0.45 + ruler.width(words)

    def _mark(self, kind: str, at: Sequence[Position]) -> None:
        hues = {"send": self.theme.hues["handler"], "recv": self.theme.hues["client"], "ended": self.theme.alarm}
        colours, rims = [hues[kind]] * len(at), [self.theme.background] * len(at)
        size = 9.0 if kind == "ended" else 7.0
        self.artists.marks(kind, _KINDS[kind][1], at, 4 if kind == "send" else 5, size=size, colours=colours, rims=rims)

    def _x(self, at: float) -> float:
        return self.left + 0.1 + (self.right - self.left - 0.1) * at / self.last


def _step(last: float) -> float:
    """The distance between two ticks of the axis: 1, 2 or 5 times a power of ten."""
    power = 0.001
    while True:
        for factor in (1, 2, 5):
            if last / (power * factor) <= _TICKS:
                return power * factor
        power *= 10


def _labels(received: Sequence[tuple[float, str]], ruler: Ruler) -> Iterator[tuple[float, str]]:
    """Label each received message. If some are too close together, they share a label, such as ``"1-5"``."""
    groups: list[list[tuple[float, str]]] = []
    for x, text in received:
        if groups and x - groups[-1][-1][0] < ruler.width(f"{groups[-1][0][1]}–{text}") * 0.8 + 0.05:
            groups[-1].append((x, text))
        else:
            groups.append([(x, text)])
    for group in groups:
        (first, name), (last, other) = group[0], group[-1]
        yield (first + last) / 2, name if len(group) == 1 else f"{name}–{other}"


def _in_words(panels: Mapping[str, Mapping[str, Sequence[_Mark]]]) -> Iterator[str]:
    for title, rows in panels.items():
        yield f"{plain(title)}. " if title else ""
        for name, marks in rows.items():
            received = [f"{plain(m.text)} at {_ms(m.at)}" for m in marks if m.kind == "recv"]
            sent = [_ms(m.at) for m in marks if m.kind == "send"]
            ended = [_ms(m.at) for m in marks if m.kind == "ended"]
            yield f"{plain(name)} received {', '.join(received) or 'nothing'}"
            yield f"; sent at {', '.join(sent)}" if sent else ""
            yield f"; its connection ended at {ended[0]}. " if ended else ". "


def _ms(at: float) -> str:
    return f"{at:.0f} ms" if at >= 10 else f"{at:.1f} ms"
