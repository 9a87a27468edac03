"""A small table of text for notebooks and terminals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from labkit.errors import BadValue
from labkit.support.wording import plain
from labkit.support.wrapping import wrap
from labkit.views import html
from labkit.views.mime import choose

__all__ = ["Table", "table"]

#: The widest column in print, in characters, and what stands between two.
_WIDEST: Final = 60
_GAP: Final = "  "

#: The longest head of a row that a page keeps in one line: a browser would break ``second-cancel`` at its hyphen.
_UNBROKEN: Final = 20


@dataclass(frozen=True)
class Table:
    """A table of text. The first cell of each row is the row's header.

    Attributes:
        head: the names of the columns.
        rows: the rows, each as long as the head.
        caption: what the table says, in one sentence; empty for no caption.
        folded: whether a notebook shows the caption alone until somebody opens it. In print it is never folded.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False

    def text(self, width: int | None = None) -> str:
        """Write the table for a terminal or a build log.

        Args:
            width: the longest line, in characters; None for as wide as its columns are.

        Returns:
            The lines, without a newline at the end. Where the columns do not fit side by side, each row is a list of
            its cells.
        """
        cells = [[plain(cell) for cell in row] for row in (self.head, *self.rows)]
        caption = plain(self.caption)
        lines = [*(wrap(caption, width) if width else [caption]), ""] if caption else []
        widths = _fit(cells, width)
        lines += _columns(cells, widths) if widths else _lists(cells, width or _WIDEST)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _html(self) -> str:
        rows = [html.row(_row_head(row[0]), *map(html.cell, row[1:])) for row in self.rows]
        head = html.row(*(html.cell(name, scope="col") for name in self.head))
        if not self.folded:
            return html.fragment(html.table([head], [rows], caption=self.caption))
        summary = html.element("summary", self.caption)
        return html.fragment(html.element("details", summary, html.table([head], [rows])))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        bundle = {"text/plain": str(self), "text/html": self._html()}
        return {kind: bundle[kind] for kind in choose(list(bundle), include, exclude)}


def _row_head(text: str) -> html.Element:
    return html.cell(text, scope="row", style="white-space:nowrap" if len(text) <= _UNBROKEN else "")


def _fit(cells: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Find the widths of the columns, so that no word is broken; none if that is wider than the width."""
    columns = list(zip(*cells, strict=True))
    widths = [min(max(1, *map(len, column)), _WIDEST) for column in columns]
    if width is None:
        return widths
    least = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    gaps = len(_GAP) * (len(columns) - 1)
    while sum(widths) + gaps > width:
        widest = max(range(len(widths)), key=lambda n: widths[n] - least[n])
        if widths[widest] <= least[widest]:
            return []
        widths[widest] -= 1
    return widths


def _columns(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    wrapped = [[wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)] for row in cells]
    # As wide as what they hold, now that it is wrapped.
    widths = [max(len(line) for cell in column for line in cell) for column in zip(*wrapped, strict=True)]
    for index, row in enumerate(wrapped):
        for parts in zip_longest(*row, fillvalue=""):
            yield _GAP.join(f"{part:<{width}}" for part, width in zip(parts, widths, strict=True)).rstrip()
        if index == 0:
            yield _GAP.join("-" * width for width in widths)


def _lists(cells: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    head, *rows = cells
    for index, row in enumerate(rows):
        yield from [""] * (index > 0)
        yield from wrap(row[0], width)
        for name, cell in zip(head[1:], row[1:], strict=True):
            yield from wrap(f"{name}: {cell}" if name else cell, width, "  ", "    ")


def table(head: Sequence[str], *rows: Iterable[object], caption: str = "") -> Table:
    """Make a table.

    Args:
        head: the names of the columns.
        rows: the rows, each with a cell for each column; ``str`` converts values that are no text.
        caption: what the table says, in one sentence.

    Returns:
        A table that displays itself in a notebook and in print.

    Raises:
        BadValue: there is no column, or a row is not as long as the head.
    """
    names = _texts("the head", head)
    if not names:
        raise BadValue('a table needs the names of its columns, such as table(("claim", "what happened"), ...)')
    cells = tuple(_texts(f"row {number}", row) for number, row in enumerate(rows, 1))
    for number, row in enumerate(cells, 1):
        if len(row) != len(names):
            raise BadValue(f"row {number} of the table is {row!r}; it takes a cell for each of {', '.join(names)}")
    return Table(names, cells, caption)


def _texts(what: str, cells: Iterable[object]) -> tuple[str, ...]:
    if isinstance(cells, str) or not isinstance(cells, Iterable):
        raise BadValue(f"{what} of the table is {cells!r}; it takes a tuple or a list of cells")
    return tuple(map(str, cells))
