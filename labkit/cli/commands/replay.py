"""``labkit replay``: a moment that a strip has found, again."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from labkit.cli import options
from labkit.cli.commands.play import tell
from labkit.cli.expecting import expect, read_expected, unexpected
from labkit.cli.output import run
from labkit.support.names import load_name

__all__ = ["replay"]


@click.command()
@click.argument("token")
@click.argument("handler", metavar="[FILE_OR_MODULE:HANDLER]", required=False)
@click.option("--talk", metavar="FILE_OR_MODULE:FUNCTION", help="The client's own conversation.")
@expect
@options.png
@options.as_json("the verdict and the events")
def replay(
    *,
    token: str,
    handler: str | None,
    talk: str | None,
    expected: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> int:
    """Play a moment again that a strip has found; the strip prints its TOKEN.

    A handler that is given is played in place of the one that the token names: the mended one, for example.
    """
    import labkit

    wanted = read_expected(expected)
    given = {"target": handler and load_name(handler), "talk": talk and load_name(talk, "talk")}
    played = run(labkit.replay(token, **{name: value for name, value in given.items() if value is not None}))
    tell(played, png=png, as_json=as_json)
    return int(unexpected(played.verdict, wanted) > 0)
