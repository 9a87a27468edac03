"""Where things are on the sheet, in inches from its upper left corner, and how much text fits between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from labkit.timeline import Lane
from labkit.views.layout import Bar, Mark, Note, Plan
from labkit.views.ruler import Ruler, drawable

__all__ = [
    "LINE",
    "PITCH",
    "Columns",
    "Label",
    "Sheet",
    "columns_of",
    "label_of",
    "sheet_of",
]

#: Inches from row to row, and what a second line of a label adds.
PITCH: Final = 0.232
LINE: Final = 0.135
#: Inches from a mark to its label, and between the lifetimes that overlap in a lane.
_OFF, _SLOT = 0.12, 0.13
#: How much of the width stands before each lane; and behind the last one.
_BEFORE: Final[dict[Lane, float]] = {"client": 1.1, "wire": 1.02, "handler": 1.3, "cleanup": 1.7, "loop": 1.5}
_BEHIND: Final[dict[Lane, float]] = {"client": 1.6, "wire": 1.8, "handler": 2.6, "cleanup": 1.3, "loop": 0.27}
#: Inches for the time at the left, and for the margin at the right.
_AXIS, _MARGIN = 0.66, 0.12


@dataclass(frozen=True)
class Columns:
    """Where things are from left to right, in inches.

    Attributes:
        width: of the sheet.
        axis: the right edge of the times.
        left: the left edge of what is drawn.
        right: its right edge.
        lanes: the lanes.
    """

    width: float
    axis: float
    left: float
    right: float
    lanes: dict[Lane, float]

    def x(self, lane: Lane, slot: int = 0) -> float:
        """Tell where a lane is, or one of the lifetimes that overlap in it.

        Args:
            lane: the lane.
            slot: the lifetime; from the fifth on they share the last place.

        Returns:
            Inches from the left.
        """
        return self.lanes[lane] + min(slot, 4) * _SLOT


@dataclass(frozen=True)
class Label:
    """Where a text stands: on which ``side`` of its mark, from which ``x`` on, and by how much lower than the mark."""

    lines: tuple[str, ...]
    side: str
    x: float
    width: float
    lower: float = 0.0


@dataclass(frozen=True)
class Sheet:
    """The sheet on which a plan is drawn, in inches from its upper left corner.

    Attributes:
        columns: where things are from left to right.
        edges: the upper edge of each row, and the lower edge of the last one.
        head: the height of the title.
        height: of the sheet.
    """

    columns: Columns
    edges: tuple[float, ...]
    head: float
    height: float

    @property
    def bottom(self) -> float:
        """The lower edge of the last row."""
        return self.edges[-1]

    def y(self, row: int) -> float:
        """Tell where the middle of a row is.

        Args:
            row: the row.

        Returns:
            Inches from the top.
        """
        return (self.edges[row] + self.edges[row + 1]) / 2


def columns_of(plan: Plan, width: float) -> Columns:
    """Share the width out among the lanes.

    Args:
        plan: the plan.
        width: inches.

    Returns:
        The columns.
    """
    # A lane at the left edge whose labels stand to its right needs no room before it.
    shares = [_BEFORE[lane] if i or lane in ("client", "loop") else 0.35 for i, lane in enumerate(plan.lanes)]
    unit = (width - _AXIS - _MARGIN) / (sum(shares) + _BEHIND[plan.lanes[-1]])
    lanes, x = {}, _AXIS
    for lane, share in zip(plan.lanes, shares, strict=True):
        x += share * unit
        lanes[lane] = x
    return Columns(width, _AXIS - 0.06, _AXIS, width - _MARGIN, lanes)


def label_of(mark: Mark, plan: Plan, columns: Columns, ruler: Ruler) -> Label:
    """Find a place for the label of a mark: beside it, where there is room.

    Args:
        mark: the mark.
        plan: the plan.
        columns: where the lanes are.
        ruler: measures the text.

    Returns:
        The label, broken into two lines and shortened if it must be.
    """
    x = columns.x(mark.lane, mark.slot)
    taken = list(_taken(mark, plan.bars, plan.notes, columns, ruler))
    rooms = {
        "left": x - _OFF - max([columns.left + 0.04, *(right for _, right in taken if right < x)]),
        "right": min([columns.right - 0.05, *(left for left, _ in taken if left > x)]) - x - _OFF,
    }
    on_its_way = bool(mark.flow) and mark.lane == "wire"
    # Hinted letters, in a figure that is saved at another density, are a little wider than those that were measured.
    rooms = {side: room * 0.97 for side, room in rooms.items()}
    side = "left" if mark.lane in ("client", "loop") or (on_its_way and mark.flow == "left") else "right"
    other = "right" if side == "left" else "left"
    text = drawable(mark.label)
    width = ruler.width(text)
    # At the inner side of client and handler runs the arrow of their message.
    most = 1 if on_its_way else 2
    if (not mark.flow or on_its_way) and width > rooms[side] * (1 if most == 1 else 1.8) and rooms[other] > rooms[side]:
        side = other
    # An arrow runs down: on its way out it is below the mark, on its way in above.
    lower = 0.0 if not on_its_way else -0.045 if side == mark.flow else 0.05
    lines = ruler.wrap(text, rooms[side], most)
    edge = x - _OFF if side == "left" else x + _OFF
    return Label(tuple(lines), side, edge, max(map(ruler.width, lines)), lower)


def sheet_of(plan: Plan, columns: Columns, labels: Sequence[Label], title: int) -> Sheet:
    """Lay out the sheet for a plan.

    Args:
        plan: the plan.
        columns: where things are from left to right.
        labels: those of the plan's marks.
        title: how many lines the title has.

    Returns:
        The sheet.
    """
    heights = [PITCH] * plan.rows
    for mark, label in zip(plan.marks, labels, strict=True):
        heights[mark.row] += LINE * (len(label.lines) - 1)
    head = 0.16 + 0.2 * title if title else 0.08
    edges = list(itertools.accumulate(heights, initial=head + 0.46))
    below = any(note.row >= plan.rows for note in plan.notes)
    return Sheet(columns, tuple(edges), head, edges[-1] + (0.3 if below else 0.12))


def _taken(
    mark: Mark, bars: Sequence[Bar], notes: Sequence[Note], columns: Columns, ruler: Ruler
) -> Iterator[tuple[float, float]]:
    """What stands in the mark's row already, from left edge to right edge."""
    for bar in bars:
        own = (bar.lane, bar.slot) == (mark.lane, mark.slot)
        # The line of a resource that is held may be written over by the labels of other lanes.
        if bar.top <= mark.row <= bar.bottom and not own and (not bar.held or bar.lane == mark.lane):
            x = columns.x(bar.lane, bar.slot)
            yield x - 0.09, x + 0.09
    for note in notes:
        if note.row == mark.row:
            x, width = columns.lanes[note.lane], ruler.width(note.text) + 0.2
            yield (x - width, x) if note.lane == "client" else (x, x + width)
