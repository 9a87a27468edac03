"""``labkit doctor``: whether the lab works here."""

from __future__ import annotations

import os

import rich_click as click

from labkit.cli import options
from labkit.cli.commands.lab import has_screen
from labkit.cli.output import dump, show, width

__all__ = ["doctor"]


@click.command()
@click.option("--brief", is_flag=True, help="One line, if nothing is bad.")
@click.option("--browser", is_flag=True, help="Open a page in the browser too, and try its WebSocket.")
@options.as_json("the result of each check")
def doctor(*, brief: bool, browser: bool, as_json: bool) -> int:
    """Check everything that the lab needs, and say how to mend what is wrong."""
    import asyncio
    import dataclasses

    from labkit.doctor import examine

    report = asyncio.run(examine(browser=browser or not brief, show=_open if browser else None))
    if as_json:
        dump([dataclasses.asdict(each) for each in report.findings])
    else:
        text = report.sentence if brief and report.good else report.text(width())
        show(text, "good" if report.good else "bad")
    return 0 if report.good else 1


def _open(address: str) -> None:
    import webbrowser

    if not (has_screen(os.environ) and webbrowser.open(address)):
        click.echo(f"Open {address} in a browser on this machine.", err=True)
