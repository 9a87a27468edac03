"""``labkit moments``: a fault at each moment of a handler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from labkit.cli import options
from labkit.cli.arguments import read_fault, read_option
from labkit.cli.expecting import expect, read_expected, unexpected
from labkit.cli.output import INTERRUPTED, draw, dump, run, show, width
from labkit.cli.targets import load_target
from labkit.support.names import load_name

if TYPE_CHECKING:
    from labkit.support.autojump import ClockName

__all__ = ["moments"]


@click.command(epilog="For example: labkit moments shop.py:order --on aiohttp-cancel --fault reset")
@options.target
@click.option(
    "--on",
    metavar="STACK",
    multiple=True,
    default=["aiohttp"],
    show_default=True,
    help="A stack; may be given many times.",
)
@click.option(
    "--fault", "faults", metavar="FAULT", multiple=True, default=["reset"], show_default=True, help="A fault; likewise."
)
@options.messages
@options.conversation
@options.clock
@click.option(
    "--holds",
    metavar="FILE_OR_MODULE:FUNCTION",
    help="Your own invariant, called with each run; where it returns False, the exit status is 1.",
)
@click.option("--option", "given", multiple=True, metavar="NAME=VALUE", help="An option of `labkit.moments`.")
@expect
@options.png
@options.as_json("a row for each moment")
def moments(
    *,
    handler: str,
    on: tuple[str, ...],
    faults: tuple[str, ...],
    conversation: dict[str, Any],
    clock: ClockName,
    holds: str | None,
    given: tuple[str, ...],
    expected: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> int:
    """Let a fault strike at each await of a handler, and between the frames, and show what each moment leads to.

    Several stacks or faults are shown side by side.
    """
    import labkit

    wanted = read_expected(expected)
    settings = dict(read_option(option) for option in given)
    settings |= conversation
    if holds is not None:
        settings["holds"] = load_name(holds, "invariant")
    to_strike = tuple(map(read_fault, faults))
    # An invariant may look at what the application keeps, so that is then the same one.
    target = load_target(handler) if holds is None else load_name(handler)
    strips = run(labkit.moments(target, on=on, fault=to_strike, clock=clock, **settings))
    shown = strips if len(strips) > 1 else strips.strips[0]
    draw(shown, png)
    if as_json:
        dump(shown.rows())
    else:
        show(shown.text(width=width()))
    found = [(strip, strike) for strip in strips for strike in strip.strikes]
    if any(strike.reason == "interrupted" for _, strike in found):
        return INTERRUPTED
    wrong = [
        unexpected(
            strike.verdict, wanted, f"{strip.fault} on {strip.on}, " * (len(strips) > 1) + strike.name, strike.word
        )
        for strip, strike in found
    ]
    return int(any(wrong) or any(strike.holds is False for _, strike in found))
