"""``labkit lab``: the notebooks in JupyterLab, which runs in this process as its own ``LabApp``."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import rich_click as click

import labkit
from labkit.cli.course import FIRST, copy_course, find_course
from labkit.errors import LabError

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__ = ["has_screen", "lab"]

_LAST_PORT: Final = 65535
#: If a port is taken, JupyterLab tries others, at most this far away (``jupyter_server.serverapp.random_ports``).
_NEAR: Final = 102


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, _LAST_PORT),
    default=8888,
    show_default=True,
    help="The first port to try; 0 takes any that is free.",
)
def lab(*, folder: Path | None, no_browser: bool, port: int) -> None:
    """Open the notebooks in JupyterLab, on this machine only; Ctrl+C ends it.

    With a DIR, the notebooks are copied into it first; what you have changed there stays as it is.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise LabError("JupyterLab is not installed: python -m pip install 'labkit[notebooks]'")
    root = _notebooks_root() if folder is None else folder.resolve()
    if folder is not None and (kept := copy_course(root)):
        names = ", ".join(file.name for file in kept)
        click.echo(f"Kept as they are, since they differ from the course's: {names}.", err=True)
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if as_root:
        click.echo("Warning: JupyterLab runs as root, so what a notebook does, it does as root.", err=True)
    settings = _settings(root, port, no_browser=no_browser or not has_screen(os.environ), as_root=as_root)
    # A script that starts this command with `&` makes it ignore Ctrl+C, which is then meant for other programs.
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until there is a server to stop
    try:
        server = _start(settings)
        _end_by_signals(server, ignored=ignored)
        click.echo(f"\nJupyterLab is at {_address(server)}\nCtrl+C ends it.\n")
        server.start()
    except KeyboardInterrupt:
        pass


def _settings(root: Path, port: int, *, no_browser: bool, as_root: bool) -> list[str]:
    """The settings as JupyterLab's command-line options, which override the user's own configuration."""
    import zmq

    settings = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--ServerApp.root_dir={root}"]
    if port > _LAST_PORT - _NEAR:  # JupyterLab would try port numbers that do not exist
        settings += ["--ServerApp.port_retries=0"]
    settings += [f"--LabApp.default_url=/lab/tree/{FIRST.as_posix()}"]
    if zmq.has("curve"):  # without encryption, each kernel warns that others can read its traffic
        settings += ["--KernelManager.transport_encryption=auto"]
    # -y: no question after Ctrl+C, not even during the start. Only errors: other logs do not help a learner.
    settings += ["-y", "--ServerApp.log_level=ERROR", "--LabApp.log_level=ERROR"]
    return settings + ["--no-browser"] * no_browser + ["--allow-root"] * as_root


def _start(settings: list[str]) -> ServerApp:
    """Start JupyterLab, so that it listens. It answers requests as soon as its loop runs."""
    # Where it finds this package, jsonschema makes a parser of IRIs as it is imported. That takes longer than all the
    # rest of JupyterLab's start, whose schemas have no IRIs.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from jupyterlab.labapp import LabApp

    # The folder labconfig of the command line turns off the questions about news and updates.
    configs = [str(Path(__file__).resolve().parents[1]), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, configs))
    server: ServerApp = LabApp.initialize_server(settings)
    server.io_loop.run_sync(_one_turn)  # JupyterLab binds its port in the first iteration of the loop
    return server


async def _one_turn() -> None:
    """Let the loop run one iteration."""


def _end_by_signals(server: ServerApp, *, ignored: bool) -> None:
    """Make the first Ctrl+C or SIGTERM end the server and its kernels, without a question."""

    def stop(*_: Any) -> None:
        # A second signal would restart the wait for the kernels, so ignore it. The wait ends in any case, because
        # JupyterLab kills a kernel that does not end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        server.stop(from_signal=True)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else stop)


def _address(server: ServerApp) -> str:
    """The address of the first notebook, with the token. There is no token if the user has set a password."""
    token = server.identity_provider.token
    server.identity_provider.token_generated = False  # otherwise JupyterLab logs the address too
    query = f"?{urlencode({'token': token})}" if token else ""
    return f"{server.connection_url}lab/tree/{FIRST.as_posix()}{query}"


def _notebooks_root() -> Path:
    """Find the folder with the notebooks: this folder or one above it, or else the clone that labkit runs from."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FIRST).is_file():
            return folder
    course = find_course()
    if course is None:
        raise LabError(f"there is no {FIRST.as_posix()} here or above: run this in a clone of the repository")
    if course == Path(labkit.__file__).resolve().parent:
        # Nobody should learn among installed files, which an update replaces.
        raise LabError(
            "there are no notebooks here or above: `labkit lab DIR` copies them into a folder, and opens them"
        )
    return course


def has_screen(environment: Mapping[str, str]) -> bool:
    """Say whether a user could see a browser that is opened here.

    Args:
        environment: the environment variables.

    Returns:
        Whether these variables show a screen. On a build machine and over SSH there is none.
    """
    if environment.get("CI") or environment.get("SSH_CONNECTION"):
        return False
    if sys.platform in {"darwin", "win32"}:
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
