"""The command line: ``labkit play``, ``labkit matrix``, ``labkit doctor``, ``labkit lab`` and the rest."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import importlib.util
import inspect
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from labkit.arguments import load_handler, read_fault, read_option
from labkit.clock import scaled
from labkit.errors import LabError

__all__ = ["main"]

#: The notebook that `labkit lab` opens.
FIRST: Final = Path("notebooks", "00-start-here.ipynb")
#: Seconds that JupyterLab has to start; it takes two or three.
STARTING: Final = 60.0


class _Group(click.Group):
    """Turns the lab's errors into one sentence, and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise _Sentence(str(error)) from error
        except asyncio.CancelledError as interrupt:  # as of a handler that raises KeyboardInterrupt
            raise _Sentence(f"interrupted: {interrupt}") from interrupt


class _Sentence(click.ClickException):
    """A mistake in the use of the command, told in one sentence."""

    exit_code = 2


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="labkit", message="labkit %(version)s, The Disconnect Lab")
def main() -> None:
    """What happens to a WebSocket handler when its client goes away?"""


# --- play ------------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("handler", metavar="FILE_OR_MODULE:HANDLER")
@click.option("--on", default="aiohttp", show_default=True, help="The stack; `labkit stacks` lists them.")
@click.option(
    "--fault", default="reset", show_default=True, help="`labkit faults` lists them; with knobs: 'close(code=4000)'"
)
@click.option("--message", "messages", multiple=True, help="What the client sends; may be given many times.")
@click.option("--patience", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait for the handler.")
@click.option("--client", default="labkit", show_default=True, help="Who talks to it: labkit, aiohttp or websockets.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the server's library.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict and the events as JSON.")
def play(
    *,
    handler: str,
    on: str,
    fault: str,
    messages: tuple[str, ...],
    patience: float | None,
    client: str,
    options: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> None:
    """Let a client go away from a handler, and tell what happened.

    For example: labkit play server.py:echo --on websockets --fault reset
    """
    import labkit

    function = load_handler(handler)
    settings: dict[str, Any] = dict(read_option(option) for option in options)
    if taken := settings.keys() & inspect.signature(labkit.play).parameters.keys():
        raise _Sentence(
            f"{min(taken)!r} is not an option of the server's library; `labkit play --help` lists the lab's"
        )
    if messages:
        settings["messages"] = messages
    if patience is not None:
        settings["patience"] = patience
    run = labkit.run(labkit.play(function, on=on, fault=read_fault(fault), client=client, **settings))
    _draw(run, png)
    if as_json:
        story = {name: getattr(run, name) for name in ("handler", "on", "fault")}
        story |= {"verdict": dataclasses.asdict(run.verdict), "events": [event._asdict() for event in run.timeline]}
        click.echo(json.dumps(story, indent=2, default=_plain, ensure_ascii=False))
    else:
        click.echo(str(run))


@main.command()
@click.argument("handlers", metavar="FILE_OR_MODULE:HANDLER...", nargs=-1, required=True)
@click.option("--on", multiple=True, help="A stack; may be given many times. Without it, all.")
@click.option("--fault", "faults", multiple=True, help="A fault; may be given many times. Without it, all.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of `labkit.play`.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write the chart to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print a row for each cell, as JSON.")
def matrix(
    *,
    handlers: tuple[str, ...],
    on: tuple[str, ...],
    faults: tuple[str, ...],
    options: tuple[str, ...],
    png: Path | None,
    as_json: bool,
) -> None:
    """Play handlers on stacks against faults, and tell the outcomes.

    For example: labkit matrix server.py:echo server.py:better --on websockets
    """
    import labkit

    functions = [load_handler(handler) for handler in handlers]
    settings = dict(read_option(option) for option in options)
    struck = [read_fault(fault) for fault in faults] or None
    table = labkit.run(labkit.matrix(functions, on=on or None, faults=struck, **settings))
    _draw(table, png)
    click.echo(json.dumps(table.rows(), indent=2, ensure_ascii=False) if as_json else str(table))


def _draw(thing: Any, png: Path | None) -> None:
    if png is None:
        return
    try:
        thing.plot().savefig(png, format="png")
    except OSError as error:
        raise _Sentence(f"cannot write {png}: {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    """What JSON makes of a value that it does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, AbstractSet):
        return sorted(value)
    return str(value)


# --- exercises -------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("exercise", metavar="EXERCISE")
@click.argument("handler", metavar="FILE_OR_MODULE:HANDLER")
def check(exercise: str, handler: str) -> None:
    """Check a handler against the rules of an exercise; `labkit exercises` lists them.

    For example: labkit check unclean-exit server.py:handler
    """
    import labkit

    report = labkit.run(labkit.check(exercise, load_handler(handler)))
    click.echo(str(report))
    if not report.passed:
        sys.exit(1)


@main.command()
def exercises() -> None:
    """List the exercises, and what is done."""
    import labkit

    click.echo(str(labkit.progress()))


# --- faults, stacks --------------------------------------------------------------------------------------------------


@main.command()
@click.argument("name", required=False)
def faults(name: str | None) -> None:
    """List the faults; or tell all about the one of a NAME."""
    from labkit import FAULTS
    from labkit.faults import find_fault

    if name is not None:
        click.echo(find_fault(name).about)
    else:
        _list({name: _first_line(fault) for name, fault in FAULTS.items()})


@main.command()
def stacks() -> None:
    """List the stacks: server libraries with their settings."""
    from labkit import STACKS

    _list({name: _first_line(stack) for name, stack in STACKS.items()})


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
    """Try what the lab needs, and say how to mend what is missing."""
    from labkit.doctor import examine

    report = asyncio.run(examine(browser=browser or not brief, show=_show if browser else None))
    click.echo(report.sentence if brief and report.good else repr(report))
    if not report.good:
        sys.exit(1)


def _show(address: str) -> None:
    if not (_has_screen(os.environ) and webbrowser.open(address)):
        click.echo(f"Open {address} in a browser on this machine.", err=True)


# --- lab -------------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option("--port", default=8888, show_default=True, help="The first port to try; 0 takes any that is free.")
def lab(*, no_browser: bool, port: int) -> None:
    """Open the notebooks in JupyterLab, on this machine only; Ctrl+C ends it."""
    root = _notebooks_root()
    if importlib.util.find_spec("jupyterlab") is None:
        raise _Sentence("JupyterLab is not installed: python -m pip install 'labkit[notebooks]'")
    no_browser = no_browser or not _has_screen(os.environ)
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if as_root:
        click.echo("Warning: JupyterLab runs as root, so what a notebook does, it does as root.", err=True)
    command = _jupyter(root, port, no_browser=no_browser, as_root=as_root)
    environment = dict(os.environ)
    # By the environment, where other users of the machine cannot read it.
    environment["JUPYTER_TOKEN"] = environment.get("JUPYTER_TOKEN") or secrets.token_hex(16)
    # The folder labconfig beside this file: no question about news and updates over what is pinned.
    configs = [str(Path(__file__).resolve().parent), environment.get("JUPYTER_CONFIG_PATH", "")]
    environment["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, configs))
    sys.exit(_serve(command, environment, root))


def _jupyter(root: Path, port: int, *, no_browser: bool, as_root: bool) -> list[str]:
    import zmq

    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{FIRST.as_posix()}"]
    if zmq.has("curve"):  # else each kernel warns that what goes to and from it can be listened to
        command += ["--KernelManager.transport_encryption=auto"]
    # -y: Ctrl+C ends the server without asking. The logs of a server that works are noise to a learner.
    command += ["-y", "--ServerApp.log_level=ERROR", "--LabApp.log_level=ERROR"]
    return command + ["--no-browser"] * no_browser + ["--allow-root"] * as_root


def _notebooks_root() -> Path:
    """Find the folder that holds the notebooks: here or above, else where labkit was installed from."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / FIRST).is_file():
            return folder
    raise _Sentence(f"there is no {FIRST.as_posix()} here or above: run this in a clone of the repository")


def _has_screen(environment: Mapping[str, str]) -> bool:
    if environment.get("CI") or environment.get("SSH_CONNECTION"):
        return False
    if sys.platform in {"darwin", "win32"}:
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _serve(command: Sequence[str], environment: Mapping[str, str], root: Path) -> int:
    """Run JupyterLab until it ends; Ctrl+C and SIGTERM end it, and only then this."""
    started = time.time()
    server = subprocess.Popen(command, env=environment, cwd=root)  # noqa: S603 - the command is made above
    # A terminal sends Ctrl+C to both; the server ends itself, with its kernels, and this waits for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    if (address := _address(server, started)) is not None:
        click.echo(f"\nJupyterLab is at {address}\nCtrl+C ends it.\n")
    code = server.wait()
    return 0 if code in {0, -signal.SIGTERM} else code


def _listens(url: str) -> bool:
    place = urlsplit(url)
    try:
        with socket.create_connection((place.hostname or "", place.port or 80), timeout=1):
            return True
    except OSError:
        return False


def _address(server: subprocess.Popen[bytes], started: float) -> str | None:
    """Wait until the server tells where it listens; None if it ends before.

    A server that was killed leaves its note behind, and its number may come round again: an older note is not this
    server's. The second is for file systems that keep no fractions.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    told = Path(jupyter_runtime_dir(), f"jpserver-{server.pid}.json")
    deadline = time.monotonic() + scaled(STARTING)
    while server.poll() is None and time.monotonic() < deadline:
        try:
            info = json.loads(told.read_text()) if told.stat().st_mtime > started - 1 else None
        except (OSError, ValueError):  # not there yet, or half written
            info = None
        if info is None or not _listens(info["url"]):  # it writes its note a moment before it listens
            time.sleep(0.05)
            continue
        token = f"?token={info['token']}" if info["token"] else ""
        return f"{info['url']}lab/tree/{FIRST.as_posix()}{token}"
    return None
