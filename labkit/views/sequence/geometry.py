"""The geometry of the sequence picture: positions in inches from the upper left corner, and the space for labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from labkit.events import Lane
from labkit.views.canvas.ruler import Ruler, drawable
from labkit.views.sequence.plan import Bar, Mark, Plan, Remark

__all__ = [
    "LINE",
    "PITCH",
    "Columns",
    "Label",
    "Sheet",
    "columns_of",
    "label_of",
    "remark_at",
    "sheet_of",
]

#: The height of a row in inches, and the height that each further line of a label adds.
PITCH: Final = 0.232
LINE: Final = 0.135
#: The most lines of a label: what failed, beside a narrow lane, is worth some.
_TALLEST: Final = 5
#: Inches from a mark to its label, and between the lifetimes that overlap in a lane.
_OFF, _SLOT = 0.12, 0.13
#: The last slot that has a position of its own.
_LAST_SLOT: Final = 4
#: The shares of the width to the left of each lane, and to its right if it is the last one.
_ROOM: Final[dict[Lane, tuple[float, float]]] = {
    "client": (1.1, 1.6),
    "wire": (1.02, 1.8),
    "library": (1.3, 2.0),
    "handler": (1.3, 2.6),
    "cleanup": (1.7, 1.3),
    "loop": (1.5, 0.27),
}
#: The width of the times at the left and of the margin at the right, in inches.
_AXIS, _MARGIN = 0.66, 0.12


@dataclass(frozen=True)
class Columns:
    """The horizontal positions, in inches from the left edge of the sheet.

    Attributes:
        width: the width of the sheet.
        axis: the right edge of the times.
        left: the left edge of the drawing.
        right: the right edge of the drawing.
        lanes: the position of each lane.
    """

    width: float
    axis: float
    left: float
    right: float
    lanes: dict[Lane, float]

    def x(self, lane: Lane, slot: int = 0) -> float:
        """Return the position of a lane, or of one of the lifetimes that overlap in it.

        Args:
            lane: the lane.
            slot: the number of the lifetime; all from the fifth on share one position.

        Returns:
            Inches from the left edge of the sheet.
        """
        return self.lanes[lane] + min(slot, _LAST_SLOT) * _SLOT


@dataclass(frozen=True)
class Label:
    """The text beside a mark, and its position.

    Attributes:
        lines: the lines of the text.
        side: the side of the mark on which the text is, ``"left"`` or ``"right"``.
        x: the edge of the text next to the mark, in inches from the left.
        width: the width of the text in inches.
        offset: how much lower than the mark the text is, in inches.
    """

    lines: tuple[str, ...]
    side: str
    x: float
    width: float
    offset: float = 0.0


@dataclass(frozen=True)
class Sheet:
    """The sheet on which a plan is drawn, in inches from its upper left corner.

    Attributes:
        columns: the horizontal positions.
        edges: the upper edge of each row, and the lower edge of the last one.
        title_height: the height of the title.
        height: the height of the sheet.
    """

    columns: Columns
    edges: tuple[float, ...]
    title_height: float
    height: float

    @property
    def bottom(self) -> float:
        """The lower edge of the last row."""
        return self.edges[-1]

    def y(self, row: int) -> float:
        """Return the vertical centre of a row.

        Args:
            row: the row.

        Returns:
            Inches from the top of the sheet.
        """
        return (self.edges[row] + self.edges[row + 1]) / 2


def columns_of(plan: Plan, width: float) -> Columns:
    """Divide the width among the lanes.

    Args:
        plan: the plan.
        width: the width of the sheet in inches.

    Returns:
        The columns.
    """
    # The first lane needs little space to its left if its labels are on its right.
    shares = [_ROOM[lane][0] if i or lane in ("client", "loop") else 0.35 for i, lane in enumerate(plan.lanes)]
    # Beside several bars, each lane needs as much room to its right as beside one.
    slots = {
        lane: max([min(bar.slot, _LAST_SLOT) for bar in plan.bars if bar.lane == lane], default=0) for lane in _ROOM
    }
    more = {lane: slots[lane] * _SLOT if plan.several else 0.0 for lane in plan.lanes}
    unit = (width - _AXIS - _MARGIN - sum(more.values())) / (sum(shares) + _ROOM[plan.lanes[-1]][1])
    lanes, x = {}, _AXIS
    for lane, share in zip(plan.lanes, shares, strict=True):
        x += share * unit
        lanes[lane] = x
        x += more[lane]
    return Columns(width, _AXIS - 0.06, _AXIS, width - _MARGIN, lanes)


def label_of(mark: Mark, plan: Plan, columns: Columns, ruler: Ruler) -> Label:
    """Place the label of a mark on the side where it fits.

    Args:
        mark: the mark.
        plan: the plan.
        columns: the horizontal positions.
        ruler: measures the text.

    Returns:
        The label; if necessary, in two lines, in up to five if these hold it whole, or shortened.
    """
    x = columns.x(mark.lane, mark.slot)
    first, last = (x, x) if not plan.several else _beside(mark, plan.bars, columns)
    occupied = list(_occupied(mark, plan, columns, ruler))
    widths = {
        "left": first - _OFF - max([columns.left + 0.04, *(right for _, right in occupied if right < x)]),
        "right": min([columns.right - 0.05, *(left for left, _ in occupied if left > x)]) - last - _OFF,
    }
    on_arrow = bool(mark.flow) and mark.lane == "wire"
    # If a figure is saved at another resolution, hinting makes the letters a little wider than the ruler measured.
    widths = {side: available * 0.97 for side, available in widths.items()}
    side = "left" if mark.lane in ("client", "loop") or (on_arrow and mark.flow == "left") else "right"
    other = "right" if side == "left" else "left"
    text = drawable(mark.label)
    width = ruler.width(text)
    # A label of the client or the handler may change sides only if the mark has no arrow on the other side.
    max_lines = 1 if on_arrow else 2
    too_wide = width > widths[side] * (1 if max_lines == 1 else 1.8)
    if (not mark.flow or on_arrow) and too_wide and widths[other] > widths[side]:
        side = other
    # An arrow slopes down: it is below the mark on the side to which it points, and above it on the other side.
    offset = 0.0 if not on_arrow else -0.045 if side == mark.flow else 0.05
    lines = ruler.wrap(text, widths[side], max_lines)
    if lines[-1].endswith("…") and not on_arrow:
        taller = (ruler.wrap(text, widths[side], number) for number in range(max_lines + 1, _TALLEST + 1))
        lines = next((whole for whole in taller if not any(line.endswith("…") for line in whole)), lines)
    edge = first - _OFF if side == "left" else last + _OFF
    return Label(tuple(lines), side, edge, max(map(ruler.width, lines)), offset)


def sheet_of(plan: Plan, columns: Columns, labels: Sequence[Label], title: int) -> Sheet:
    """Lay out the sheet for a plan.

    Args:
        plan: the plan.
        columns: the horizontal positions.
        labels: the labels of the plan's marks, in the same order.
        title: the number of lines in the title.

    Returns:
        The sheet.
    """
    heights = [PITCH] * plan.rows
    for mark, label in zip(plan.marks, labels, strict=True):
        heights[mark.row] += LINE * (len(label.lines) - 1)
    title_height = 0.16 + 0.2 * title if title else 0.08
    edges = list(itertools.accumulate(heights, initial=title_height + 0.46))
    below = any(remark.row >= plan.rows for remark in plan.remarks)
    return Sheet(columns, tuple(edges), title_height, edges[-1] + (0.3 if below else 0.12))


def remark_at(remark: Remark, plan: Plan, columns: Columns) -> tuple[float, str]:
    """Place a remark beside its lifetimes.

    Args:
        remark: the remark.
        plan: the plan.
        columns: the horizontal positions.

    Returns:
        The position of its edge at the lifetimes, and the side of them on which it is: ``"left"`` for the client's,
        and for others beside several bars where a label of the loop comes from the right.
    """
    crowded = plan.several and any(mark.row == remark.row and mark.lane == "loop" for mark in plan.marks)
    if remark.lane == "client" or crowded:
        return _beside(remark, plan.bars, columns)[0] - _OFF, "left"
    return columns.x(remark.lane, remark.slot) + _OFF, "right"


def _beside(text: Mark | Remark, bars: Sequence[Bar], columns: Columns) -> tuple[float, float]:
    """The first and the last position of the bars in its row and lane: a label is beside all of them."""
    slots = [bar.slot for bar in bars if bar.lane == text.lane and bar.top <= text.row <= bar.bottom]
    return columns.x(text.lane, min([text.slot, *slots])), columns.x(text.lane, max([text.slot, *slots]))


def _occupied(mark: Mark, plan: Plan, columns: Columns, ruler: Ruler) -> Iterator[tuple[float, float]]:
    """Yield the left and the right edge of everything else in the mark's row."""
    for bar in plan.bars:
        own = bar.lane == mark.lane and (plan.several or bar.slot == mark.slot)
        # The labels of other lanes may cross the thin line of an open resource.
        if bar.top <= mark.row <= bar.bottom and not own and (not bar.held or bar.lane == mark.lane):
            x = columns.x(bar.lane, bar.slot)
            yield x - 0.09, x + 0.09
    for remark in plan.remarks:
        if remark.row == mark.row:
            (x, side), width = remark_at(remark, plan, columns), ruler.width(remark.text) + 0.08
            yield (x - width, x + _OFF) if side == "left" else (x - _OFF, x + width)
