"""``labkit probe``: several faults against one server of any kind."""

from __future__ import annotations

from typing import Any

import rich_click as click

from labkit.cli import options
from labkit.cli.arguments import read_fault
from labkit.cli.expecting import expect, read_expected, unexpected
from labkit.cli.output import dump, run, show, width

__all__ = ["probe"]


@click.command(epilog="For example: labkit probe ws://127.0.0.1:8000/ws --fault close --expect others.answered=yes")
@click.argument("url")
@click.option(
    "--fault",
    "faults",
    metavar="FAULT",
    multiple=True,
    help="A fault; may be given many times. Without it, all that can.",
)
@options.messages
@options.conversation
@click.option(
    "--patience",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long to wait for each answer.",
)
@click.option(
    "--command",
    metavar="COMMAND",
    help="A command that starts the server, such as 'node server.js'; anew for each fault.",
)
@click.option("--allow-remote", is_flag=True, help="The server may be on another machine, which the faults disturb.")
@expect
@options.as_json("a row for each fault")
def probe(
    *,
    url: str,
    faults: tuple[str, ...],
    conversation: dict[str, Any],
    patience: float,
    command: str | None,
    allow_remote: bool,
    expected: tuple[str, ...],
    as_json: bool,
) -> int:
    """Play faults against a server of any kind, one after the other, and show what it did.

    Each time two clients connect, and the fault strikes one of them: so it shows whether the other is still served.
    """
    import labkit
    from labkit.experiment.probing import columns, probe

    wanted = read_expected(expected)
    target: Any = url if command is None else labkit.process(command, url=url)
    chosen = [read_fault(fault) for fault in faults] or None
    probed = run(probe(target, chosen, patience=patience, allow_remote=allow_remote, **conversation))
    if as_json:
        dump([each.row for each in probed])
    else:
        caption = f"{len(probed)} fault{'s' * (len(probed) != 1)} against {url}"
        show(labkit.table(columns(), *(each.row.values() for each in probed), caption=caption).text(width()))
    wrong = [
        unexpected(None if each.run is None else each.run.verdict, wanted, f"fault {each.fault}") for each in probed
    ]
    return int(any(wrong))
