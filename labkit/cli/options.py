"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import rich_click as click

from labkit.cli.arguments import read_cookie, read_header, read_when
from labkit.cli.output import json_alone
from labkit.support.names import load_name

__all__ = ["as_json", "clock", "conversation", "fault", "messages", "on", "png", "target", "when"]

target = click.argument("handler", metavar="FILE_OR_MODULE:HANDLER")

on = click.option(
    "--on", metavar="STACK", default="aiohttp", show_default=True, help="The stack; `labkit stacks` lists them."
)

fault = click.option(
    "--fault",
    metavar="FAULT",
    default="reset",
    show_default=True,
    help="`labkit faults` lists them; with knobs: 'close(code=4000)'.",
)

messages = click.option(
    "--message", "messages", multiple=True, help="A message of the client; may be given many times."
)

when = click.option(
    "--when",
    metavar="MOMENT",
    help="When the fault strikes: 'through' (the default), 'note: TEXT', a number of seconds, 'await 7', or 'frame 3'.",
)

clock = click.option(
    "--clock",
    type=click.Choice(["real", "autojump"]),
    default="real",
    show_default=True,
    help="With autojump, the time jumps where nothing happens.",
)

png = click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture to this file.")


def as_json(what: str) -> Callable[[Any], Any]:
    """Make the option ``--json``.

    Args:
        what: what is printed as JSON, in words.
    """

    def alone(context: click.Context, _: object, given: bool) -> bool:
        if given:
            context.with_resource(json_alone())
        return given

    # Eager: before the other options, some of which import the user's own module.
    what = f"Print {what} as JSON."
    return click.option("--json", "as_json", is_flag=True, is_eager=True, callback=alone, help=what)


def conversation(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options on what the clients say; the command gets those that are given as ``conversation``."""

    @wraps(command)
    def with_conversation(**given: Any) -> Any:
        talk, moment, headers, cookies = (given.pop(name, None) for name in ("talk", "when", "headers", "cookies"))
        found = {
            "talk": talk and load_name(talk, "talk"),
            "when": moment and read_when(moment),
            "path": given.pop("path"),
            "headers": dict(map(read_header, headers)),
            "cookies": dict(map(read_cookie, cookies)),
            "subprotocols": given.pop("subprotocols"),
            "messages": given.pop("messages", None),
        }
        return command(**given, conversation={name: value for name, value in found.items() if value})

    for option in (
        click.option(
            "--subprotocol", "subprotocols", metavar="NAME", multiple=True, help="A subprotocol that the client offers."
        ),
        click.option("--cookie", "cookies", multiple=True, metavar="NAME=VALUE", help="A cookie of the client's."),
        click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of its request."),
        click.option("--path", metavar="PATH", help="The path for which the client asks, such as '/chat?room=1'."),
        click.option("--talk", metavar="FILE_OR_MODULE:FUNCTION", help="The client's own conversation."),
    ):
        with_conversation = option(with_conversation)
    return with_conversation
