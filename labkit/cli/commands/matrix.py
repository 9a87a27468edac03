"""``labkit matrix``: handlers on stacks against faults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from labkit.cli import options
from labkit.cli.arguments import read_fault, read_option
from labkit.cli.expecting import expect, read_expected, unexpected
from labkit.cli.output import INTERRUPTED, draw, dump, run, show, width
from labkit.cli.targets import load_target

if TYPE_CHECKING:
    from labkit.support.autojump import ClockName

__all__ = ["matrix"]


@click.command(epilog="For example: labkit matrix server.py:echo server.py:better --on websockets")
@click.argument("handlers", metavar="FILE_OR_MODULE:HANDLER...", nargs=-1, required=True)
@click.option("--on", metavar="STACK", multiple=True, help="A stack; may be given many times. Without it, all.")
@click.option(
    "--fault", "faults", metavar="FAULT", multiple=True, help="A fault; may be given many times. Without it, all."
)
@options.conversation
@options.when
@options.clock
@click.option("--option", "given", multiple=True, metavar="NAME=VALUE", help="An option of `labkit.play`.")
@expect
@options.png
@options.as_json("a row for each cell")
def matrix(
    *,
    handlers: tuple[str, ...],
    on: tuple[str, ...],
    faults: tuple[str, ...],
    conversation: dict[str, Any],
    clock: ClockName,
    given: tuple[str, ...],
    expected: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> int:
    """Play handlers on stacks against faults, and show the outcomes."""
    import labkit

    wanted = read_expected(expected)
    functions = [load_target(handler) for handler in handlers]
    settings = dict(read_option(option) for option in given)
    settings |= conversation
    to_strike = [read_fault(fault) for fault in faults] or None
    table = run(labkit.matrix(functions, on=on or None, faults=to_strike, clock=clock, **settings))
    draw(table, png)
    if as_json:
        dump(table.rows())
    else:
        show(table.text(width=width()))
    if any(cell.reason == "interrupted" for cell in table.cells):
        return INTERRUPTED
    wrong = [
        unexpected(cell.verdict, wanted, f"{cell.handler} on {cell.stack} against {cell.fault}") for cell in table.cells
    ]
    return int(any(wrong))
