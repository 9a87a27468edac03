"""``labkit stacks``: server libraries with their settings."""

from __future__ import annotations

import inspect
from typing import Any

import rich_click as click

from labkit.cli import options
from labkit.cli.output import dump, list_rows

__all__ = ["stacks"]


@click.command()
@options.as_json("the stacks")
def stacks(*, as_json: bool) -> None:
    """List the stacks: server libraries with their settings."""
    from labkit import STACKS

    if as_json:
        dump([{"name": name, "says": _says(stack), "missing": stack.missing} for name, stack in STACKS.items()])
    else:
        missing = {name: f" Not installed: {stack.missing}." for name, stack in STACKS.items() if stack.missing}
        list_rows({name: f"{_says(stack)}{missing.get(name, '')}" for name, stack in STACKS.items()})


def _says(stack: Any) -> str:
    return (inspect.getdoc(stack) or "").partition("\n")[0].replace("``", "")
