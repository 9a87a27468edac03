"""``labkit play``: one handler, one fault."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from labkit.cli import options
from labkit.cli.arguments import read_fault, read_option
from labkit.cli.expecting import expect, read_expected, unexpected
from labkit.cli.output import draw, dump, run, show, width
from labkit.errors import LabError
from labkit.support.names import load_name

if TYPE_CHECKING:
    from labkit.experiment.run import Run
    from labkit.support.autojump import ClockName

__all__ = ["play", "tell"]


@click.command(epilog="For example: labkit play server.py:echo --on websockets --fault reset")
@options.target
@options.on
@options.fault
@options.messages
@options.conversation
@options.when
@options.clock
@click.option(
    "--patience",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="How long to wait for the handler.",
)
@click.option(
    "--client", metavar="NAME", default="labkit", show_default=True, help="The client: labkit, aiohttp or websockets."
)
@click.option(
    "--clients", metavar="N", default=1, show_default=True, help="How many connect; the fault strikes the first."
)
@click.option("--option", "given", multiple=True, metavar="NAME=VALUE", help="An option of the server's library.")
@expect
@options.png
@options.as_json("the verdict and the events")
def play(
    *,
    handler: str,
    on: str,
    fault: str,
    conversation: dict[str, Any],
    clock: ClockName,
    patience: float | None,
    client: str,
    clients: int,
    given: tuple[str, ...],
    expected: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> int:
    """Play a handler whose client goes away, and show what happened."""
    import labkit

    wanted = read_expected(expected)
    function = handler if "://" in handler else load_name(handler)
    settings: dict[str, Any] = dict(read_option(option) for option in given)
    if own := settings.keys() & inspect.signature(labkit.play).parameters.keys():
        raise LabError(f"{min(own)!r} is not an option of the server's library; `labkit play --help` lists the lab's")
    settings |= conversation
    if patience is not None:
        settings["patience"] = patience
    played = run(
        labkit.play(function, on=on, fault=read_fault(fault), client=client, clients=clients, clock=clock, **settings)
    )
    tell(played, png=png, as_json=as_json)
    return int(unexpected(played.verdict, wanted) > 0)


def tell(played: Run, *, png: Path | None, as_json: bool) -> None:
    """Show a run, as text or as JSON, and write its picture.

    Args:
        played: the run.
        png: the file for the picture; None for none.
        as_json: whether to write JSON.
    """
    draw(played, png)
    if not as_json:
        good = {"clean": True, "unstruck": None, "unknown": None, "unstarted": None}.get(played.outcome, False)
        show(played.text(width=width()), "neutral" if good is None else "good" if good else "bad")
        return
    document = {name: getattr(played, name) for name in ("handler", "on", "fault", "clock", "outcome")}
    events = [
        {**dict(zip(("at", "lane", "kind", "text", "data"), event, strict=True)), "connection": event.connection}
        for event in played.timeline
    ]
    dump({**document, "verdict": dataclasses.asdict(played.verdict), "events": events})
