"""``labkit progress``: which exercises are done."""

from __future__ import annotations

import rich_click as click

from labkit.cli import options
from labkit.cli.output import dump, show, width

__all__ = ["progress"]


@click.command()
@click.option("--reset", is_flag=True, help="Start again without progress; the old file is renamed and kept.")
@options.as_json("the day of each exercise that is done")
def progress(*, reset: bool, as_json: bool) -> None:
    """Show which exercises are done."""
    import labkit

    found = labkit.progress(reset=reset)
    if as_json:
        dump({"done": found.done, "left": found.left, "notice": found.notice})
    else:
        show(found.text(width()))
