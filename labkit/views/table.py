"""A small table of text for notebooks and terminals."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from labkit.errors import BadValue
from labkit.support.wording import plain
from labkit.views import html
from labkit.views.mime import choose

__all__ = ["Table", "table"]

#: The widest column in print, in characters.
_WIDEST = 60


@dataclass(frozen=True)
class Table:
    """A table of text. The first cell of each row is the row's header.

    Attributes:
        head: the names of the columns.
        rows: the rows, each as long as the head.
        caption: what the table says, in one sentence; empty for no caption.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __str__(self) -> str:
        wrapped = [[textwrap.wrap(plain(cell), _WIDEST) or [""] for cell in row] for row in (self.head, *self.rows)]
        widths = [max(len(line) for row in wrapped for line in row[column]) for column in range(len(self.head))]
        lines = [plain(self.caption), ""] if self.caption else []
        for index, row in enumerate(wrapped):
            for part in range(max(map(len, row))):
                cells = [cell[part] if part < len(cell) else "" for cell in row]
                lines.append("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())
            if index == 0:
                lines.append("  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _html(self) -> str:
        rows = [html.row(html.cell(row[0], scope="row"), *map(html.cell, row[1:])) for row in self.rows]
        head = html.row(*(html.cell(name, scope="col") for name in self.head))
        return html.fragment(html.table([head], [rows], caption=self.caption))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        bundle = {"text/plain": str(self), "text/html": self._html()}
        return {kind: bundle[kind] for kind in choose(list(bundle), include, exclude)}


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
