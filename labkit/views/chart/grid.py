"""What the chart, its text and its table have in common: rows and columns, and the look of each outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Final, Literal

from labkit.errors import BadValue
from labkit.events import Lane
from labkit.outcome import OUTCOMES, Cell, Outcome, badness

__all__ = ["LOOKS", "Grid", "Look", "WorstFirst", "arrange", "counted", "reasons"]

#: What to sort with the worst first: rows and columns, one of them, or nothing.
WorstFirst = bool | Literal["rows", "columns"]


@dataclass(frozen=True)
class Look:
    """The look of an outcome.

    Attributes:
        sign: its sign in a text.
        marker: its marker in matplotlib.
        hollow: whether only the outline of the marker is drawn.
        hue: the lane whose colour it has; None for the colour of failures.
    """

    sign: str
    marker: str
    hollow: bool = False
    hue: Lane | None = None


#: Each outcome has its own marker, and its word beside it, so that a reader does not need the colours.
LOOKS: Final[Mapping[Outcome, Look]] = MappingProxyType(
    {
        "clean": Look("●", "o", hue="handler"),
        "unstarted": Look("△", "^", hollow=True, hue="wire"),
        "unstruck": Look("▽", "v", hollow=True, hue="wire"),
        "unknown": Look("○", "o", hollow=True, hue="wire"),
        "noisy": Look("▲", "^", hue="loop"),
        "cancelled": Look("▼", "v", hue="client"),
        "raised": Look("◆", "D", hue="client"),
        "outlived": Look("▶", ">", hue="cleanup"),
        "unaware": Look("◇", "D", hollow=True, hue="client"),
        "hangs": Look("■", "s"),
        "unserved": Look("★", "*"),
        "blocks": Look("⬢", "h"),
        "leaked": Look("✚", "P"),
        "missing": Look("□", "s", hollow=True),
        "cut": Look("✖", "X"),
    }
)


@dataclass(frozen=True)
class Grid:
    """Rows and columns.

    Attributes:
        stacks: the handlers of each stack, from top to bottom.
        families: the faults of each family, from left to right.
        cells: the cells by handler, stack and fault. A handler that was not played on a stack has no row there.
    """

    stacks: Mapping[str, Sequence[str]]
    families: Mapping[str, Sequence[str]]
    cells: Mapping[tuple[str, str, str], Cell]

    @property
    def faults(self) -> list[str]:
        """All faults, from left to right."""
        return [fault for faults in self.families.values() for fault in faults]

    def row(self, handler: str, stack: str) -> list[Cell]:
        """List the cells of a row, from left to right."""
        return [self.cells[handler, stack, fault] for fault in self.faults]


def arrange(cells: Sequence[Cell], worst_first: WorstFirst = False) -> Grid:
    """Put cells into rows and columns, in the given order or with the worst first.

    Args:
        cells: the cells.
        worst_first: whether to sort rows and columns by the mean badness of their cells, both within their groups and
            group by group; ``"rows"`` or ``"columns"`` sorts only these.

    Returns:
        The grid.

    Raises:
        BadValue: ``worst_first`` has another value.
    """
    if worst_first not in {True, False, "rows", "columns"}:
        raise BadValue(f"worst_first={worst_first!r}; it takes True, False, 'rows' or 'columns'")
    down, across = worst_first in {True, "rows"}, worst_first in {True, "columns"}
    return Grid(
        _grouped(cells, lambda cell: cell.stack, lambda cell: cell.handler, down),
        _grouped(cells, lambda cell: cell.family, lambda cell: cell.fault, across),
        {(cell.handler, cell.stack, cell.fault): cell for cell in cells},
    )


def _grouped(
    cells: Sequence[Cell], group: Callable[[Cell], str], member: Callable[[Cell], str], sort: bool
) -> dict[str, list[str]]:
    return {name: list(_split(inner, member, sort)) for name, inner in _split(cells, group, sort).items()}


def _split(cells: Sequence[Cell], name: Callable[[Cell], str], sort: bool) -> dict[str, list[Cell]]:
    parts: dict[str, list[Cell]] = {}
    for cell in cells:
        parts.setdefault(name(cell), []).append(cell)
    if not sort:
        return parts
    mean = {key: fmean(badness(cell.outcome) for cell in part) for key, part in parts.items()}
    return dict(sorted(parts.items(), key=lambda part: -mean[part[0]]))


def counted(cells: Sequence[Cell]) -> dict[Outcome, int]:
    """Count the cells of each outcome, from good to bad; outcomes without a cell are left out."""
    counts = Counter(cell.outcome for cell in cells)
    return {word: counts[word] for word in OUTCOMES if counts[word]}


def reasons(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Group the cells without a run by the reason."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.reason is not None:
            groups.setdefault(cell.reason, []).append(cell)
    return groups
