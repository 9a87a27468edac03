"""Drawing a plan on a sheet.

There are few artists, since matplotlib draws those faster: one for all bars, one for all arrows, one for each shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from labkit.events import Shape
from labkit.views.canvas.artists import Artists, Position, box
from labkit.views.canvas.palette import Theme, mix
from labkit.views.sequence.geometry import LINE, PITCH, Label, Sheet, remark_at
from labkit.views.sequence.plan import Plan, Point
from labkit.views.words import milliseconds

__all__ = ["Drawing"]

#: The marker of each shape, and its size in points.
_MARKERS: Final[dict[Shape, tuple[str, float]]] = {
    "begin": ("o", 7.0),
    "send": ("^", 7.5),
    "receive": ("v", 7.5),
    "close": ("D", 6.0),
    "frame": ("s", 4.5),
    "end": ("s", 7.0),
    "break": ("X", 8.5),
    "lost": ("x", 7.5),
    "fault": ("*", 14.0),
    "notice": ("p", 9.0),
    "say": ("o", 4.5),
}

#: In inches: half the width of a bar; an arrow's distance from its marks; the length and half the width of its head.
_BAR, _CLEAR, _LENGTH, _BREADTH = 0.05, 0.075, 0.1, 0.04


class Drawing:
    """Draws a plan on a sheet.

    Args:
        artists: adds artists to the figure.
        plan: the plan to draw.
        sheet: the positions.
        theme: the colours.
    """

    def __init__(self, artists: Artists, plan: Plan, sheet: Sheet, theme: Theme) -> None:
        self._artists, self.plan, self.sheet, self.theme = artists, plan, sheet, theme

    def background(self) -> None:
        """Draw the shade from the fault on, the area after the experiment's end, and the lines of the lanes."""
        sheet, theme, plan = self.sheet, self.theme, self.plan
        left = sheet.columns.left
        stop = sheet.bottom if plan.stop is None else sheet.edges[plan.stop]
        rules, colours, styles = [], [], []
        if plan.fault is not None:
            fault = sheet.edges[plan.fault]
            if stop > fault:
                self._artists.areas("shade", [box(left, fault, sheet.columns.right, stop)], [theme.shaded], 0)
            rules.append([(left, fault), (sheet.columns.right, fault)])
            colours.append(theme.alarm)
            styles.append("solid")
        if plan.stop is not None:
            self._artists.areas("stopped", [box(left, stop, sheet.columns.right, sheet.bottom)], [theme.stopped], 0)
            rules.append([(left, stop), (sheet.columns.right, stop)])
            colours.append(theme.muted)
            styles.append("dashed")
        self._artists.lines("rules", rules, colours, 1, widths=1.0, styles=styles)
        lanes = [[(x, sheet.edges[0] - 0.02), (x, sheet.bottom)] for x in sheet.columns.lanes.values()]
        self._artists.lines("lanes", lanes, [theme.faint] * len(lanes), 1, widths=1.0)

    def bars(self) -> None:
        """Draw the lifetimes."""
        sheet = self.sheet
        areas, fills, held, hues = [], [], [], []
        for bar in self.plan.bars:
            x, hue = sheet.columns.x(bar.lane, bar.slot), self.theme.hues[bar.lane]
            top = sheet.y(bar.top)
            bottom = sheet.y(bar.bottom) if bar.bottom < self.plan.rows else sheet.bottom
            if bar.held:
                held.append([(x, top), (x, bottom)])
                hues.append(hue)
                continue
            if bar.finished:
                areas.append(box(x - _BAR, top, x + _BAR, bottom))
                fills.append(self._tint(hue, bottom, 0.5))
                continue
            # The bar of a lifetime that has not ended fades out.
            fade = max(top, bottom - 1.6 * PITCH)
            areas.append(box(x - _BAR, top, x + _BAR, fade))
            fills.append(self._tint(hue, fade, 0.5))
            steps = 8
            for n in range(steps):
                areas.append(
                    box(
                        x - _BAR, fade + (bottom - fade) * n / steps, x + _BAR, fade + (bottom - fade) * (n + 1) / steps
                    )
                )
                fills.append(self._tint(hue, bottom, 0.5 * (1 - (n + 1) / (steps + 1))))
        self._artists.lines("held", held, hues, 2, widths=1.6)
        self._artists.areas("bars", areas, fills, 2)

    def arrows(self) -> None:
        """Draw the arrows of the messages, and the marks where they cross the wire."""
        paths, heads, colours, styles, wire_marks = [], [], [], [], []
        for arrow in self.plan.arrows:
            (x0, y0), (x1, y1) = self._position(arrow.start), self._position(arrow.end)
            length = math.hypot(x1 - x0, y1 - y0)
            if length < 2 * _CLEAR + _LENGTH:
                continue
            ux, uy = (x1 - x0) / length, (y1 - y0) / length
            clear = 0.0 if arrow.start.from_side else _CLEAR
            start, tip = (x0 + ux * clear, y0 + uy * clear), (x1 - ux * _CLEAR, y1 - uy * _CLEAR)
            neck = (tip[0] - ux * _LENGTH, tip[1] - uy * _LENGTH)
            colour = self.theme.alarm if arrow.failed else mix(self.theme.hues[arrow.lane], self.theme.ink, 0.15)
            # The arrow of a lost message has no head: it ends at the × of the mark.
            paths.append([start, tip if arrow.lost else neck])
            colours.append(colour)
            styles.append("dashed" if arrow.lost else "solid")
            if not arrow.lost:
                heads.append(
                    [
                        tip,
                        (neck[0] - uy * _BREADTH, neck[1] + ux * _BREADTH),
                        (neck[0] + uy * _BREADTH, neck[1] - ux * _BREADTH),
                    ]
                )
            if arrow.via_wire and "wire" in self.sheet.columns.lanes:
                wire = self.sheet.columns.lanes["wire"]
                wire_marks.append((wire, y0 + (y1 - y0) * (wire - x0) / (x1 - x0)))
        self._artists.lines("arrows", paths, colours, 3, widths=1.3, styles=styles)
        solid = [colour for colour, style in zip(colours, styles, strict=True) if style == "solid"]
        self._artists.areas("heads", heads, solid, 3.1)
        hues = [self.theme.hues["wire"]] * len(wire_marks)
        rims = [self._background_at(y) for _, y in wire_marks]
        self._artists.marks("wire-marks", "s", wire_marks, 3.2, size=4.0, colours=hues, rims=rims)

    def folds(self) -> None:
        """Draw the rows that replace pauses, or events that are left out."""
        sheet, theme = self.sheet, self.theme
        left, half = sheet.columns.left, PITCH * 0.33
        bands, fills, edges = [], [], []
        for fold in self.plan.folds:
            y = sheet.y(fold.row)
            waves = []
            for edge in (y - half, y + half):
                steps = round((sheet.columns.right - left) / 0.05)
                waves.append(
                    [
                        (left + (sheet.columns.right - left) * n / steps, edge + 0.016 * (-1) ** n)
                        for n in range(steps + 1)
                    ]
                )
            bands.append(waves[0] + waves[1][::-1])
            fills.append(self._background_at(y))
            edges += waves
            self._artists.write("fold", (left + 0.08, y), fold.text, theme.muted, 7.5, style="italic")
        # The folds cover bars and arrows, since these are cut there too.
        self._artists.areas("folds", bands, fills, 3.5)
        self._artists.lines("fold-edges", edges, [theme.faint] * len(edges), 3.6, widths=0.8)

    def marks(self) -> None:
        """Draw the marks of the events."""
        for shape, (marker, size) in _MARKERS.items():
            marks = [mark for mark in self.plan.marks if mark.shape == shape]
            positions = [(self.sheet.columns.x(mark.lane, mark.slot), self.sheet.y(mark.row)) for mark in marks]
            colours = [self.theme.alarm if mark.failed else self.theme.hues[mark.lane] for mark in marks]
            rims = [self._background_at(y) for _, y in positions]
            self._artists.marks(f"marks:{shape}", marker, positions, 5, size=size, colours=colours, rims=rims)

    def labels(self, labels: Sequence[Label], size: float) -> None:
        """Write the labels and the times of the events, and the remarks.

        Args:
            labels: the labels of the plan's marks, in the same order.
            size: the size of the letters in points.
        """
        boxes, fills = [], []
        for mark, label in zip(self.plan.marks, labels, strict=True):
            sign = -1 if label.side == "left" else 1
            ends = sorted((label.x - sign * 0.02, label.x + sign * (label.width + 0.03)))
            y, half = self.sheet.y(mark.row) + label.offset, 0.07 + LINE / 2 * (len(label.lines) - 1)
            boxes.append(box(ends[0], y - half, ends[1], y + half))
            fills.append(self._background_at(y))
            colour = self.theme.alarm_ink if mark.failed else self.theme.ink
            side = "right" if label.side == "left" else "left"
            weight = "bold" if mark.failed else "normal"
            self._artists.write("label", (label.x, y), "\n".join(label.lines), colour, size, ha=side, weight=weight)
            when = milliseconds(mark.at)
            self._artists.write(
                "time",
                (self.sheet.columns.axis, self.sheet.y(mark.row)),
                when,
                self.theme.muted,
                size - 0.5,
                ha="right",
            )
        # The box behind a label hides the lines that the label crosses, but no marks.
        self._artists.areas("boxes", boxes, fills, 4)
        for remark in self.plan.remarks:
            if remark.row >= self.plan.rows:
                self._artists.write(
                    "remark",
                    (self.sheet.columns.x(remark.lane, remark.slot), self.sheet.bottom + 0.12),
                    remark.text,
                    self.theme.ink,
                    7.5,
                    ha="center",
                    style="italic",
                )
            else:
                x, side = remark_at(remark, self.plan, self.sheet.columns)
                self._artists.write(
                    "remark",
                    (x, self.sheet.y(remark.row)),
                    remark.text,
                    self.theme.ink,
                    7.5,
                    ha="right" if side == "left" else "left",
                    style="italic",
                )

    def header(self, title: Sequence[str], size: float) -> None:
        """Write the title and the names of the lanes.

        Args:
            title: the lines of the title.
            size: the size of the title's letters in points.
        """
        sheet, theme = self.sheet, self.theme
        for n, line in enumerate(title):
            self._artists.write("title", (0.15, 0.2 + 0.2 * n), line, theme.ink, size, weight="bold")
        y = sheet.title_height + 0.2
        underlines = []
        for lane, x in sheet.columns.lanes.items():
            self._artists.write("lane", (x, y), lane, theme.ink, 10, ha="center", weight="bold")
            underlines.append([(x - 0.22, y + 0.12), (x + 0.22, y + 0.12)])
        self._artists.lines(
            "lane-underlines", underlines, [theme.hues[lane] for lane in sheet.columns.lanes], 2, widths=3
        )
        self._artists.write("axis", (sheet.columns.axis, y - 0.055), "ms since", theme.muted, 7, ha="right")
        self._artists.write("axis", (sheet.columns.axis, y + 0.065), self.plan.origin, theme.muted, 7, ha="right")

    def _background_at(self, y: float) -> str:
        if self.plan.stop is not None and y > self.sheet.edges[self.plan.stop]:
            return self.theme.stopped
        if self.plan.fault is not None and y > self.sheet.edges[self.plan.fault]:
            return self.theme.shaded
        return self.theme.background

    def _tint(self, hue: str, y: float, share: float) -> str:
        return mix(self._background_at(y), hue, share)

    def _position(self, point: Point) -> Position:
        x, y = self.sheet.columns.x(point.lane, point.slot), self.sheet.y(point.row)
        return {"": (x, y), "left": (x - 0.7, y - PITCH / 2), "right": (x + 0.7, y - PITCH / 2)}[point.from_side]
