"""The commands: ``labkit play``, ``labkit matrix``, ``labkit check``, ``labkit doctor`` and the rest."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from labkit.cli.arguments import read_cookie, read_fault, read_header, read_option, read_when
from labkit.cli.lab import has_screen, lab
from labkit.errors import LabError
from labkit.support.names import load_name
from labkit.support.wording import plain

if TYPE_CHECKING:
    from labkit.support.autojump import ClockName

__all__ = ["main"]

T = TypeVar("T")


class _Group(click.Group):
    """Reports the errors of the lab and of the operating system in one sentence, with exit code 2."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            try:
                return super().main(*args, **extra)
            finally:
                _flush()
        except (LabError, OSError) as error:
            with suppress(OSError):
                click.echo(f"Error: {plain(str(error))}", err=True)
            sys.exit(2)


def _flush() -> None:
    """Write the rest of the buffer now, while an error can still be reported in one sentence."""
    try:
        print(end="", flush=True)
    except OSError as error:
        # Python tries again when it exits, and would print a traceback. Writing to os.devnull cannot fail.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
        raise LabError(f"the output cannot be written: {error.strerror or error}") from error


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    import asyncio

    import labkit

    try:
        return labkit.run(coroutine)
    except asyncio.CancelledError as interrupt:  # for example, because a handler raised KeyboardInterrupt
        raise LabError(f"interrupted: {interrupt}") from interrupt


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="labkit", message="labkit %(version)s, The Disconnect Lab")
def main() -> None:
    """What happens to a WebSocket handler when its client goes away?"""


main.add_command(lab)


# --- play ------------------------------------------------------------------------------------------------------------


_when = click.option(
    "--when", help="When the fault strikes: 'through' (the default), 'note: TEXT', a number of seconds, or 'Await(7)'."
)


_clock = click.option(
    "--clock",
    type=click.Choice(["real", "autojump"]),
    default="real",
    show_default=True,
    help="With autojump, the time jumps where nothing happens.",
)


def _conversation(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options on what the clients say; the command gets those that are given as ``conversation``."""

    @wraps(command)
    def with_conversation(**given: Any) -> None:
        talk, when, headers, cookies = (given.pop(name, None) for name in ("talk", "when", "headers", "cookies"))
        conversation = {
            "talk": talk and load_name(talk, "talk"),
            "when": when and read_when(when),
            "path": given.pop("path"),
            "headers": dict(map(read_header, headers)),
            "cookies": dict(map(read_cookie, cookies)),
            "subprotocols": given.pop("subprotocols"),
            "messages": given.pop("messages", None),
        }
        command(**given, conversation={name: value for name, value in conversation.items() if value})

    for option in (
        click.option("--subprotocol", "subprotocols", multiple=True, help="A subprotocol that the client offers."),
        click.option("--cookie", "cookies", multiple=True, metavar="NAME=VALUE", help="A cookie of the client's."),
        click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of its request."),
        click.option("--path", help="The path for which the client asks, such as '/chat?room=1'."),
        click.option("--talk", metavar="FILE_OR_MODULE:FUNCTION", help="The client's own conversation."),
    ):
        with_conversation = option(with_conversation)
    return with_conversation


@main.command()
@click.argument("handler", metavar="FILE_OR_MODULE:HANDLER")
@click.option("--on", default="aiohttp", show_default=True, help="The stack; `labkit stacks` lists them.")
@click.option(
    "--fault", default="reset", show_default=True, help="`labkit faults` lists them; with knobs: 'close(code=4000)'"
)
@click.option("--message", "messages", multiple=True, help="A message of the client; may be given many times.")
@_conversation
@_when
@_clock
@click.option("--patience", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait for the handler.")
@click.option("--client", default="labkit", show_default=True, help="The client: labkit, aiohttp or websockets.")
@click.option("--clients", default=1, show_default=True, help="How many connect; the fault strikes the first.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the server's library.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict and the events as JSON.")
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
    options: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> None:
    """Play a handler whose client goes away, and show what happened.

    For example: labkit play server.py:echo --on websockets --fault reset
    """
    import labkit

    function = handler if "://" in handler else load_name(handler)
    settings: dict[str, Any] = dict(read_option(option) for option in options)
    if own := settings.keys() & inspect.signature(labkit.play).parameters.keys():
        raise LabError(f"{min(own)!r} is not an option of the server's library; `labkit play --help` lists the lab's")
    settings |= conversation
    if patience is not None:
        settings["patience"] = patience
    run = _run(
        labkit.play(function, on=on, fault=read_fault(fault), client=client, clients=clients, clock=clock, **settings)
    )
    _draw(run, png)
    if as_json:
        document = {name: getattr(run, name) for name in ("handler", "on", "fault", "clock")}
        document |= {
            "verdict": dataclasses.asdict(run.verdict),
            "events": [
                {
                    **dict(zip(("at", "lane", "kind", "text", "data"), event, strict=True)),
                    "connection": event.connection,
                }
                for event in run.timeline
            ],
        }
        click.echo(_dump(document))
    else:
        click.echo(str(run))


@main.command()
@click.argument("url")
@click.option("--fault", "faults", multiple=True, help="A fault; may be given many times. Without it, all that can.")
@click.option("--message", "messages", multiple=True, help="A message of the client; may be given many times.")
@_conversation
@click.option("--patience", type=click.FloatRange(min=0, min_open=True), default=2.0, help="Seconds for each answer.")
@click.option("--command", help="A command that starts the server, such as 'node server.js'; anew for each fault.")
@click.option("--allow-remote", is_flag=True, help="The server may be on another machine, which the faults disturb.")
@click.option("--json", "as_json", is_flag=True, help="Print a row for each fault, as JSON.")
def probe(
    *,
    url: str,
    faults: tuple[str, ...],
    conversation: dict[str, Any],
    patience: float,
    command: str | None,
    allow_remote: bool,
    as_json: bool,
) -> None:
    """Play faults against a server of any kind, one after the other, and show what it did.

    Each time two clients connect, and the fault strikes one of them: so it shows whether the other is still served.

    For example: labkit probe ws://127.0.0.1:8000/ws --fault close --fault bad-utf8
    """
    import labkit
    from labkit.experiment.probing import columns, probe

    target: Any = url if command is None else labkit.process(command, url=url)
    chosen = [read_fault(fault) for fault in faults] or None
    rows = _run(probe(target, chosen, patience=patience, allow_remote=allow_remote, **conversation))
    click.echo(_dump(rows) if as_json else str(labkit.table(columns(), *(row.values() for row in rows))))


@main.command()
@click.argument("handlers", metavar="FILE_OR_MODULE:HANDLER...", nargs=-1, required=True)
@click.option("--on", multiple=True, help="A stack; may be given many times. Without it, all.")
@click.option("--fault", "faults", multiple=True, help="A fault; may be given many times. Without it, all.")
@_conversation
@_when
@_clock
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of `labkit.play`.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write the chart to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print a row for each cell, as JSON.")
def matrix(
    *,
    handlers: tuple[str, ...],
    on: tuple[str, ...],
    faults: tuple[str, ...],
    conversation: dict[str, Any],
    clock: ClockName,
    options: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> None:
    """Play handlers on stacks against faults, and show the outcomes.

    For example: labkit matrix server.py:echo server.py:better --on websockets
    """
    import labkit

    functions = [load_name(handler) for handler in handlers]
    settings = dict(read_option(option) for option in options)
    settings |= conversation
    to_strike = [read_fault(fault) for fault in faults] or None
    table = _run(labkit.matrix(functions, on=on or None, faults=to_strike, clock=clock, **settings))
    _draw(table, png)
    click.echo(_dump(table.rows()) if as_json else str(table))


@main.command()
@click.argument("handler", metavar="FILE_OR_MODULE:HANDLER")
@click.option("--on", default="aiohttp", show_default=True, help="The stack; `labkit stacks` lists them.")
@click.option("--fault", default="reset", show_default=True, help="`labkit faults` lists them.")
@click.option("--message", "messages", multiple=True, help="A message of the client; may be given many times.")
@_conversation
@_clock
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of `labkit.moments`.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print a row for each moment, as JSON.")
def moments(
    *,
    handler: str,
    on: str,
    fault: str,
    conversation: dict[str, Any],
    clock: ClockName,
    options: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> None:
    """Let a fault strike at each await of a handler, and show what each moment leads to.

    For example: labkit moments shop.py:order --on aiohttp-cancel --fault reset
    """
    import labkit

    settings = dict(read_option(option) for option in options)
    settings |= conversation
    strip = _run(labkit.moments(load_name(handler), on=on, fault=read_fault(fault), clock=clock, **settings))
    _draw(strip, png)
    click.echo(json.dumps(strip.rows(), indent=2, ensure_ascii=False) if as_json else str(strip))


@main.command()
@click.argument("token")
@click.argument("handler", metavar="[FILE_OR_MODULE:HANDLER]", required=False)
@click.option("--talk", metavar="FILE_OR_MODULE:FUNCTION", help="The client's own conversation.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture to this file.")
def replay(*, token: str, handler: str | None, talk: str | None, png: Path | None) -> None:
    """Play a moment again that a strip has found; the strip prints its TOKEN.

    A handler that is given is played in place of the one that the token names: the mended one, for example.
    """
    import labkit

    given = {"target": handler and load_name(handler), "talk": talk and load_name(talk, "talk")}
    run = _run(labkit.replay(token, **{name: value for name, value in given.items() if value is not None}))
    _draw(run, png)
    click.echo(str(run))


def _draw(thing: Any, png: Path | None) -> None:
    if png is None:
        return
    try:
        thing.plot().savefig(png, format="png")
    except OSError as error:
        raise LabError(f"cannot write {png}: {error.strerror or error}") from error


def _dump(document: Any) -> str:
    """Write JSON in which no character can do harm to a terminal; each that cannot be printed is JSON's escape."""
    text = json.dumps(document, indent=2, default=_to_json, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _to_json(value: Any) -> Any:
    """Convert a value that ``json`` cannot write."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, AbstractSet):
        return sorted(value)
    return str(value)


# --- exercises -------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("exercise", metavar="EXERCISE")
@click.argument("handler", metavar="FILE_OR_MODULE:HANDLER")
@_clock
def check(exercise: str, handler: str, clock: ClockName) -> None:
    """Check a handler against the rules of an exercise; `labkit exercises` lists them.

    For example: labkit check unclean-exit server.py:handler
    """
    import labkit

    report = _run(labkit.check(exercise, load_name(handler), clock=clock))
    click.echo(str(report))
    if not report.passed:
        sys.exit(1)


@main.command()
@click.argument("name", required=False)
def exercises(name: str | None) -> None:
    """List the exercises and which of them are done; or show the goal, the rules and the starter of the one NAME."""
    import labkit
    from labkit.support.checks import find

    if name is not None:
        click.echo(find("exercise", name, labkit.EXERCISES).about)
    else:
        click.echo(str(labkit.progress()))


# --- faults, stacks --------------------------------------------------------------------------------------------------


@main.command()
@click.argument("name", required=False)
def faults(name: str | None) -> None:
    """List the faults, or describe the one with a NAME."""
    from labkit import FAULTS
    from labkit.faults.fault import find_fault

    if name is not None:
        click.echo(find_fault(name).about)
    else:
        _list({name: _first_line(fault) for name, fault in FAULTS.items()})


@main.command()
def stacks() -> None:
    """List the stacks: server libraries with their settings."""
    from labkit import STACKS

    _list({name: f"{_first_line(stack)}{_missing(stack)}" for name, stack in STACKS.items()})


def _missing(stack: Any) -> str:
    return f" Not installed: {stack.missing}." if stack.missing else ""


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "")


def _list(rows: Mapping[str, str]) -> None:
    wide = max(map(len, rows), default=0)
    for name, text in rows.items():
        click.echo(f"{name:<{wide}}  {text}".rstrip())


# --- doctor ----------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--brief", is_flag=True, help="One line, if nothing is bad.")
@click.option("--browser", is_flag=True, help="Open a page in the browser too, and try its WebSocket.")
def doctor(*, brief: bool, browser: bool) -> None:
    """Check everything that the lab needs, and say how to mend what is wrong."""
    import asyncio

    from labkit.doctor import examine

    report = asyncio.run(examine(browser=browser or not brief, show=_show if browser else None))
    click.echo(report.sentence if brief and report.good else repr(report))
    if not report.good:
        sys.exit(1)


def _show(address: str) -> None:
    import webbrowser

    if not (has_screen(os.environ) and webbrowser.open(address)):
        click.echo(f"Open {address} in a browser on this machine.", err=True)
