"""The lab checks itself: what it needs is tried here, not assumed."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import platform
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from labkit.clock import scaled
from labkit.doctor.browser import watch_a_page, watch_this_page
from labkit.doctor.report import Finding, Report
from labkit.errors import BadValue

__all__ = ["examine"]

#: The oldest python that the lab runs on.
OLDEST: Final = (3, 11)
#: The signals that faults send to a client in a process of its own.
SIGNALS: Final = ("SIGINT", "SIGKILL", "SIGSTOP", "SIGCONT")
#: How many round trips the median is taken of.
ECHOES: Final = 20
#: Seconds after which a connection over loopback counts as impossible.
PATIENCE: Final = 5.0


async def examine(*, browser: bool = True, show: Callable[[str], None] | None = None) -> Report:
    """Try what the lab needs: the python, the packages, loopback, a WebSocket, the kernel, the signals, the browser.

    Args:
        browser: whether to look at the browser's WebSocket.
        show: opens an address in a browser; then a page of the doctor's own is tried, not the notebook's.

    Returns:
        The findings; it takes about a quarter of a second, and opens sockets on loopback only. With ``show`` it waits
        until a browser has answered, a minute at most, times ``LABKIT_TIME_SCALE``.
    """
    findings = [_python(), _packages(), _loopback(), await _websocket(), _inner_loop(), _kernel(), _signals(), _waits()]
    if browser:
        findings.append(await (watch_this_page() if show is None else watch_a_page(show)))
    return Report(tuple(findings))


def _python() -> Finding:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Finding("Python", "bad", found, f"Install Python {oldest} or newer, then make the environment anew.")
    return Finding("Python", "ok", found)


class _Need(NamedTuple):
    name: str
    asked: str
    installed: str | None
    fits: bool


def _needs(extra: str) -> list[_Need]:
    """Read what the installed labkit asks for on this python, with an extra or with none (an empty string)."""
    from packaging.requirements import Requirement

    needs = []
    for text in importlib.metadata.requires("labkit") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            needs.append(_Need(requirement.name, str(requirement.specifier), None, fits=False))
        else:
            fits = requirement.specifier.contains(installed, prereleases=True)
            needs.append(_Need(requirement.name, str(requirement.specifier), installed, fits))
    return needs


def _packages() -> Finding:
    mend = "In the lab's folder: python -m pip install -r requirements.txt"
    try:
        core, all_of_them = _needs(""), _needs("notebooks")
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", "unknown", "labkit itself is not installed, so what it asks for is not known", mend)
    wrong = [
        f"{need.name}{need.asked} is asked for, {need.installed or 'none'} is installed"
        for need in all_of_them
        # A package that only the notebooks need may be missing, not be wrong.
        if not need.fits and (need.installed is not None or need in core)
    ]
    if wrong:
        return Finding("packages", "bad", "; ".join(wrong), mend)
    return Finding("packages", "ok", ", ".join(f"{need.name} {need.installed}" for need in all_of_them if need.fits))


def _patience() -> float:
    try:
        return scaled(PATIENCE)
    except BadValue:  # a finding of its own, below
        return PATIENCE


def _loopback() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(_patience())
            port = server.getsockname()[1]
            socket.create_connection(("127.0.0.1", port), timeout=_patience()).close()
            server.accept()[0].close()
    except OSError as error:
        return Finding(
            "loopback",
            "bad",
            f"127.0.0.1 cannot be listened on or connected to: {error}",
            "Let programs use 127.0.0.1: look at the firewall, the container's network and the proxy settings.",
        )
    return Finding("loopback", "ok", f"127.0.0.1 takes connections (port {port} was free)")


async def _websocket() -> Finding:
    try:
        from websockets.asyncio.client import connect
        from websockets.asyncio.server import ServerConnection, serve
    except ImportError as error:
        return Finding("websocket", "bad", str(error), "python -m pip install 'websockets>=14'")

    async def echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    took = []
    try:
        async with asyncio.timeout(_patience()), serve(echo, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as client:
                for number in range(ECHOES):
                    began = time.perf_counter()
                    await client.send(sent := f"echo {number}")
                    answer = await client.recv()
                    took.append(time.perf_counter() - began)
                    if answer != sent:
                        return Finding("websocket", "bad", f"{sent!r} came back as {answer!r}", "Report this, please.")
    except Exception as error:
        found = f"no echo over loopback: {type(error).__name__}: {error}".removesuffix(": ")
        return Finding("websocket", "bad", found, "See loopback; else reinstall: python -m pip install -U websockets")
    median = sorted(took)[len(took) // 2]
    return Finding("websocket", "ok", f"an echo over loopback takes {median * 1000:.2f} ms (median of {ECHOES})")


def _inner_loop() -> Finding:
    # labkit.run() needs it where a loop runs already; a script, pytest and the command line do without.
    name = "nest_asyncio" if sys.version_info < (3, 14) else "nest_asyncio2"
    distribution = name.replace("_", "-")
    try:
        importlib.import_module(name)
        version = importlib.metadata.version(distribution)
    except ImportError:
        return Finding(
            "inner loop",
            "unknown",
            f"{distribution} is not installed; labkit.run() works in scripts, not inside a notebook",
            "python -m pip install 'labkit[notebooks]'",
        )
    return Finding("inner loop", "ok", f"{distribution} {version}, for labkit.run() inside a notebook")


def _kernel() -> Finding:
    mend = "python -m pip install 'labkit[notebooks]'"
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return Finding("kernel", "unknown", "Jupyter is not installed; only the notebooks need it", mend)
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
        kernel = importlib.metadata.version("ipykernel")
    except (NoSuchKernel, importlib.metadata.PackageNotFoundError):
        return Finding("kernel", "bad", "no kernel named python3", "python -m pip install ipykernel")
    program = spec.argv[0]
    if shutil.which(program) is None:
        found = f"the kernel python3 starts {program}, which does not exist"
        return Finding("kernel", "bad", found, "python -m ipykernel install --sys-prefix")
    return Finding("kernel", "ok", f"{spec.display_name}, ipykernel {kernel}")


def _signals() -> Finding:
    missing = [name for name in SIGNALS if not hasattr(signal, name)]
    if missing:
        found = f"{platform.system()} has no {', '.join(missing)}"
        return Finding("signals", "unknown", found, "Faults that need them say so; all others work.")
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        found = "SIGINT is ignored here, and so by the processes that start from here"
        return Finding("signals", "unknown", found, "Start the lab in the foreground, without nohup or a trailing &.")
    return Finding("signals", "ok", ", ".join(SIGNALS))


def _waits() -> Finding:
    try:
        scale = scaled(1.0)
    except BadValue as error:
        return Finding("waits", "bad", str(error), "Unset LABKIT_TIME_SCALE, or set it to 1.")
    return Finding("waits", "ok", f"multiplied by {scale:g} (LABKIT_TIME_SCALE)")
