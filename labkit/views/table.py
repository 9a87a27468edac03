"""A small table of text, for a notebook and for a terminal."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from labkit.views.mime import chosen

__all__ = ["Table", "table"]

#: Characters of a column in print.
_WIDEST = 60


@dataclass(frozen=True)
class Table:
    """Rows of text under a head, each row named by its first cell.

    Attributes:
        head: the names of the columns.
        rows: the rows, each as long as the head.
        caption: what the table says, in one sentence; empty for none.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __str__(self) -> str:
        wrapped = [[textwrap.wrap(cell, _WIDEST) or [""] for cell in row] for row in (self.head, *self.rows)]
        widths = [max(len(line) for row in wrapped for line in row[column]) for column in range(len(self.head))]
        lines = [self.caption, ""] if self.caption else []
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
        left = ' style="text-align: left; vertical-align: top"'
        head = "".join(f'<th scope="col"{left}>{html.escape(name)}</th>' for name in self.head)
        rows = "".join(
            f'<tr><th scope="row"{left}>{html.escape(row[0])}</th>'
            + "".join(f"<td{left}>{html.escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        caption = f'<caption style="text-align: left">{html.escape(self.caption)}</caption>' if self.caption else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        bundle = {"text/plain": str(self), "text/html": self._html()}
        return {kind: bundle[kind] for kind in chosen(list(bundle), include, exclude)}


def table(head: Sequence[str], *rows: Sequence[object], caption: str = "") -> Table:
    """Make a table.

    Args:
        head: the names of the columns.
        rows: the rows; what is no text is shown as ``str`` does.
        caption: what the table says, in one sentence.

    Returns:
        A table that shows itself in a notebook and in print.
    """
    return Table(tuple(head), tuple(tuple(map(str, row)) for row in rows), caption)
