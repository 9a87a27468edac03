"""``labkit faults``: what can happen to a connection."""

from __future__ import annotations

import inspect

import rich_click as click

from labkit.cli import options
from labkit.cli.output import dump, list_rows, show, width

__all__ = ["faults"]


@click.command()
@click.argument("name", required=False)
@options.as_json("the faults, or the one NAME,")
def faults(*, name: str | None, as_json: bool) -> None:
    """List the faults, or describe the one with a NAME."""
    from labkit import FAULTS
    from labkit.faults.fault import find_fault

    chosen = list(FAULTS.values()) if name is None else [type(find_fault(name))]
    says = {fault.name: (inspect.getdoc(fault) or "").partition("\n")[0].replace("``", "") for fault in chosen}
    if as_json:
        rows = [{"name": fault.name, "family": fault.family, "says": says[fault.name]} for fault in chosen]
        dump(rows if name is None else rows[0])
    elif name is None:
        list_rows(says)
    else:
        show(find_fault(name).text(width()))
