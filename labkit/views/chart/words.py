"""The matrix in words: for a terminal, for a screen reader, and as an HTML table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element

from labkit.outcome import MEANINGS, Cell
from labkit.support.wording import plain
from labkit.support.wrapping import wrap
from labkit.views import html
from labkit.views.chart.grid import LOOKS, Grid, arrange, counted, reasons

__all__ = ["chart_alt", "chart_html", "chart_text", "headline"]

#: The highest numbers of characters: in a handler's name above a column, in a cell, and in an alternative text.
_NAME: Final = 24
_MARK: Final = 11
_LIMIT: Final = 1200


def headline(cells: Sequence[Cell]) -> str:
    """Sum up the cells.

    Args:
        cells: the cells.

    Returns:
        A text such as ``"12 cells: 9 clean, 2 raised, 1 cut"``.
    """
    counts = ", ".join(f"{count} {word}" for word, count in counted(cells).items())
    return f"{len(cells)} cell{'s' * (len(cells) != 1)}: {counts}"


def chart_text(cells: Sequence[Cell], width: int = 100) -> str:
    """Write the matrix for a terminal or a build log, with a block for each stack and a line for each fault.

    Args:
        cells: the cells.
        width: the longest line, in characters.

    Returns:
        The lines, without a newline at the end.
    """
    grid = arrange(cells)
    out = wrap(headline(cells), width)
    for stack, handlers in grid.stacks.items():
        out += _block(grid, stack, handlers, width)
    out.append("")
    for word in counted(cells):
        out += wrap(MEANINGS[word], width, f"{LOOKS[word].sign} {word:<10} ", " " * 13)
    for reason, group in reasons(cells).items():
        out += ["", *wrap(_because(reason, group), width, rest="  ")]
    return "\n".join(out)


def _block(grid: Grid, stack: str, handlers: Sequence[str], width: int) -> Iterator[str]:
    families = [family for family, faults in grid.families.items() for _ in faults]
    first, fault_wide = max(map(len, families)) + 2, min(40, max(map(len, grid.faults)) + 2)
    most = min(_NAME, max(_MARK, width - fault_wide))
    names = {name: name if len(name) <= most else name[: most - 1] + "…" for name in handlers}
    wide = {handler: max(len(name), _MARK) + 2 for handler, name in names.items()}
    room = width - max(wide.values()) + 2
    if first + fault_wide > room:  # the families have none
        families, first = [""] * len(families), 0
    second = first + min(fault_wide, room - first)
    rest = list(handlers)
    while rest:
        # Put as many handlers side by side as fit on a line.
        part = [rest.pop(0)]
        while rest and second + sum(wide[handler] for handler in [*part, rest[0]]) - 2 <= width:
            part.append(rest.pop(0))
        yield ""
        yield stack
        yield _line("", "", first, second, [f"{names[h]:<{wide[h]}}" for h in part])
        yield "-" * (second + sum(wide[handler] for handler in part) - 2)
        last = ""
        for family, fault in zip(families, grid.faults, strict=True):
            words = [grid.cells[handler, stack, fault].outcome for handler in part]
            marks = [f"{LOOKS[word].sign} {word}".ljust(wide[h]) for h, word in zip(part, words, strict=True)]
            short = fault if len(fault) <= second - first - 2 else fault[: second - first - 3] + "…"
            yield _line("" if family == last else family, short, first, second, marks)
            last = family


def _line(group: str, name: str, first: int, second: int, marks: Sequence[str]) -> str:
    return (group.ljust(first) + name.ljust(second - first) + "".join(marks)).rstrip()


def _because(reason: str, group: Sequence[Cell]) -> str:
    names = [f"{cell.handler} on {cell.stack}, {cell.fault}" for cell in group[:3]]
    more = f" and {len(group) - 3} more" if len(group) > 3 else ""
    return plain(f"unknown: {'; '.join(names)}{more}: {reason}")


def chart_alt(cells: Sequence[Cell]) -> str:
    """Describe the chart in words: first the sum, then each row with the worst outcomes first.

    Args:
        cells: the cells.

    Returns:
        Plain sentences, 1200 characters at most. If they do not fit, the last one says how many rows are left out.
    """
    grid = arrange(cells)
    sentences = [f"A chart of handlers on stacks against faults. {headline(cells)}."]
    rows = [(handler, stack) for stack, handlers in grid.stacks.items() for handler in handlers]
    for n, (handler, stack) in enumerate(rows):
        row = grid.row(handler, stack)
        words = list(reversed(counted(row)))
        if len(words) == 1:
            result = f"{words[0]} against " + ("all faults" if len(row) > 1 else row[0].fault)
        else:
            parts = [
                f"{word} against {', '.join(cell.fault for cell in row if cell.outcome == word)}" for word in words[:-1]
            ]
            result = "; ".join([*parts, f"{words[-1]} against the other{'s' * (counted(row)[words[-1]] > 1)}"])
        sentence = plain(f"{handler} on {stack}: {result}.")
        more = f"{len(rows) - n} more row{'s' * (len(rows) - n > 1)}."
        if sum(map(len, sentences)) + len(sentences) + len(sentence) + len(more) + 2 > _LIMIT:
            sentences.append(more)
            break
        sentences.append(sentence)
    return " ".join(sentences)


def chart_html(cells: Sequence[Cell]) -> str:
    """Write the matrix as an HTML table with header cells for its rows, its columns and their groups.

    Args:
        cells: the cells.

    Returns:
        A closed ``<details>`` with the table. The tooltip of each cell is the sentence of its verdict.
    """
    grid = arrange(cells)
    families = [html.cell(name, scope="colgroup", span=len(faults)) for name, faults in grid.families.items()]
    faults = [html.cell(fault, scope="col") for fault in grid.faults]
    header_rows = [html.row(html.cell(), *families), html.row(html.cell("handler", scope="col"), *faults)]
    bodies = []
    for stack, handlers in grid.stacks.items():
        header_row = html.row(html.cell(stack, scope="rowgroup", span=len(grid.faults) + 1))
        rows = [html.row(html.cell(name, scope="row"), *map(_data, grid.row(name, stack))) for name in handlers]
        bodies.append([header_row, *rows])
    groups = [1, *map(len, grid.families.values())]
    meanings = [
        html.element(tag, text) for word in counted(cells) for tag, text in (("dt", word), ("dd", MEANINGS[word]))
    ]
    summary = html.element("summary", "The same as a table")
    table = html.table(header_rows, bodies, caption=headline(cells), groups=groups)
    return html.fragment(html.element("details", summary, table, html.element("dl", *meanings)))


def _data(cell: Cell) -> Element:
    sentence = cell.reason if cell.verdict is None else cell.verdict.sentence
    return html.cell(f"{LOOKS[cell.outcome].sign} {cell.outcome}", title=sentence or "")
