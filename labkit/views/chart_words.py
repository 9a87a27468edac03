"""The matrix in words: for a terminal, for a screen reader, and as a table of a page."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from labkit.outcome import MEANINGS, Cell
from labkit.views.grid import LOOKS, Grid, arrange, counted, reasons
from labkit.views.words import plain

__all__ = ["chart_alt", "chart_html", "chart_text", "headline"]

#: Characters of a line; of a handler's name in the head of a column; of an alternative text.
_WIDTH: Final = 100
_NAME: Final = 24
_LIMIT: Final = 1200


def headline(cells: Sequence[Cell]) -> str:
    """Sum the cells up.

    Args:
        cells: the cells.

    Returns:
        Such as ``"12 cells: 9 clean, 2 raised, 1 cut"``.
    """
    counts = ", ".join(f"{count} {word}" for word, count in counted(cells).items())
    return f"{len(cells)} cell{'s' * (len(cells) != 1)}: {counts}"


def chart_text(cells: Sequence[Cell]) -> str:
    """Write the matrix for a terminal or the log of a build: a block for each stack, a row for each fault.

    Args:
        cells: the cells.

    Returns:
        Lines of 100 characters at most, without a newline at the end.
    """
    grid = arrange(cells)
    out = textwrap.wrap(headline(cells), _WIDTH)
    for stack, handlers in grid.stacks.items():
        out += _block(grid, stack, handlers)
    out.append("")
    out += [f"{LOOKS[word].sign} {word:<10} {MEANINGS[word]}" for word in counted(cells)]
    for reason, group in reasons(cells).items():
        out += ["", *textwrap.wrap(_because(reason, group), _WIDTH, subsequent_indent="  ")]
    return "\n".join(out)


def _block(grid: Grid, stack: str, handlers: Sequence[str]) -> Iterator[str]:
    families = [family for family, faults in grid.families.items() for _ in faults]
    first = max(map(len, families)) + 2
    second = first + min(40, max(map(len, grid.faults)) + 2)
    names = {handler: textwrap.shorten(handler, _NAME, placeholder="…") for handler in handlers}
    names = {handler: name if len(name) <= _NAME else name[: _NAME - 1] + "…" for handler, name in names.items()}
    wide = {handler: max(len(name), 11) + 2 for handler, name in names.items()}
    rest = list(handlers)
    while rest:
        # As many handlers side by side as the line has room for.
        part = [rest.pop(0)]
        while rest and second + sum(wide[handler] for handler in [*part, rest[0]]) - 2 <= _WIDTH:
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
    """Tell what the chart shows: the sum, then each row, the worst words first.

    Args:
        cells: the cells.

    Returns:
        Plain sentences, 1200 characters at most; where that is too few, the last one says how many rows are left.
    """
    grid = arrange(cells)
    told = [f"A chart of handlers on stacks against faults. {headline(cells)}."]
    rows = [(handler, stack) for stack, handlers in grid.stacks.items() for handler in handlers]
    for n, (handler, stack) in enumerate(rows):
        row = grid.row(handler, stack)
        words = list(reversed(counted(row)))
        if len(words) == 1:
            found = f"{words[0]} against " + ("all faults" if len(row) > 1 else row[0].fault)
        else:
            parts = [
                f"{word} against {', '.join(cell.fault for cell in row if cell.outcome == word)}" for word in words[:-1]
            ]
            found = "; ".join([*parts, f"{words[-1]} against the other{'s' * (counted(row)[words[-1]] > 1)}"])
        sentence = plain(f"{handler} on {stack}: {found}.")
        more = f"{len(rows) - n} more row{'s' * (len(rows) - n > 1)}."
        if sum(map(len, told)) + len(told) + len(sentence) + len(more) + 2 > _LIMIT:
            told.append(more)
            break
        told.append(sentence)
    return " ".join(told)


def chart_html(cells: Sequence[Cell]) -> str:
    """Write the matrix as a table whose heads say what they are the heads of.

    Args:
        cells: the cells.

    Returns:
        A folded ``<details>`` with the table; each cell tells its whole sentence to a pointer that rests on it.
    """
    grid = arrange(cells)
    left = ' style="text-align:left"'
    families = "".join(
        f'<th scope="colgroup" colspan="{len(faults)}"{left}>{html.escape(family)}</th>'
        for family, faults in grid.families.items()
    )
    columns = "".join(f"<colgroup span={len(faults)}></colgroup>" for faults in grid.families.values())
    faults = "".join(f'<th scope="col"{left}>{html.escape(fault)}</th>' for fault in grid.faults)
    bodies = []
    for stack, handlers in grid.stacks.items():
        rows = [f'<tr><th scope="rowgroup" colspan="{len(grid.faults) + 1}"{left}>{html.escape(stack)}</th></tr>']
        for handler in handlers:
            found = "".join(map(_data, grid.row(handler, stack)))
            rows.append(f'<tr><th scope="row"{left}>{html.escape(handler)}</th>{found}</tr>')
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    meanings = "".join(f"<dt>{word}</dt><dd>{html.escape(MEANINGS[word])}</dd>" for word in counted(cells))
    return (
        f"<details><summary>The same as a table</summary><table><caption{left}>{html.escape(headline(cells))}</caption>"
        f"<colgroup></colgroup>{columns}"
        f'<thead><tr><td></td>{families}</tr><tr><th scope="col"{left}>handler</th>{faults}</tr></thead>'
        f"{''.join(bodies)}</table><dl>{meanings}</dl></details>"
    )


def _data(cell: Cell) -> str:
    told = cell.reason if cell.verdict is None else cell.verdict.sentence
    shown = f"{LOOKS[cell.outcome].sign} {cell.outcome}"
    return f'<td title="{html.escape(plain(told or ""))}" style="text-align:left">{shown}</td>'
