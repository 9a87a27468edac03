"""The lab checks itself: each function here tries one thing that the lab needs."""

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

from labkit.doctor.browser import watch_a_page, watch_this_page
from labkit.doctor.report import Diagnosis, Examination
from labkit.errors import BadValue
from labkit.support.clock import scaled

__all__ = ["examine"]

#: The oldest Python version that the lab runs on.
OLDEST: Final = (3, 11)
#: The signals that faults and the lab send to a client in a separate process.
SIGNALS: Final = ("SIGINT", "SIGKILL", "SIGSTOP", "SIGCONT")
#: The number of round trips from which the median is computed.
ECHOES: Final = 20
#: How long a connection over loopback may take, in seconds.
PATIENCE: Final = 5.0


async def examine(*, browser: bool = True, show: Callable[[str], None] | None = None) -> Examination:
    """Check what the lab needs: Python, the packages, loopback, a WebSocket, the kernel, the signals, the browser.

    This takes about a quarter of a second and opens sockets on loopback only. With ``show`` it also waits for a
    browser, at most a minute, multiplied by ``LABKIT_TIME_SCALE``.

    Args:
        browser: whether to check the browser's WebSocket.
        show: a function that opens an address in a browser. If given, the doctor opens its own page and checks that,
            instead of the notebook's page.

    Returns:
        The results of all checks.
    """
    findings = [_python(), _packages(), _loopback(), await _websocket(), _inner_loop(), _kernel(), _signals(), _waits()]
    if browser:
        findings.append(await (watch_this_page() if show is None else watch_a_page(show)))
    return Examination(tuple(findings))


def _python() -> Diagnosis:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Diagnosis("Python", "bad", found, f"Install Python {oldest} or newer, then make the environment anew.")
    return Diagnosis("Python", "ok", found)


class _Need(NamedTuple):
    name: str
    specifier: str
    installed: str | None
    fits: bool


def _needs(extra: str) -> list[_Need]:
    """Read the requirements of the installed labkit for this Python, with an extra or without one (empty string)."""
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


def _packages() -> Diagnosis:
    mend = "In the lab's folder: python -m pip install -r requirements.txt"
    try:
        core, all_of_them = _needs(""), _needs("notebooks")
    except importlib.metadata.PackageNotFoundError:
        return Diagnosis(
            "packages", "unknown", "labkit itself is not installed, so what it asks for is not known", mend
        )
    wrong = [
        f"{need.name}{need.specifier} is asked for, {need.installed or 'none'} is installed"
        for need in all_of_them
        # A package that only the notebooks need may be missing, but its version must not be wrong.
        if not need.fits and (need.installed is not None or need in core)
    ]
    if wrong:
        return Diagnosis("packages", "bad", "; ".join(wrong), mend)
    return Diagnosis("packages", "ok", ", ".join(f"{need.name} {need.installed}" for need in all_of_them if need.fits))


def _patience() -> float:
    try:
        return scaled(PATIENCE)
    except BadValue:  # _waits() reports it
        return PATIENCE


def _loopback() -> Diagnosis:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(_patience())
            port = server.getsockname()[1]
            socket.create_connection(("127.0.0.1", port), timeout=_patience()).close()
            server.accept()[0].close()
    except OSError as error:
        return Diagnosis(
            "loopback",
            "bad",
            f"127.0.0.1 cannot be listened on or connected to: {error}",
            "Let programs use 127.0.0.1: look at the firewall, the container's network and the proxy settings.",
        )
    return Diagnosis("loopback", "ok", f"127.0.0.1 takes connections (port {port} was free)")


async def _websocket() -> Diagnosis:
    try:
        from websockets.asyncio.client import connect
        from websockets.asyncio.server import ServerConnection, serve
    except ImportError as error:
        return Diagnosis("websocket", "bad", str(error), "python -m pip install 'websockets>=14'")

    async def echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    durations = []
    try:
        async with asyncio.timeout(_patience()), serve(echo, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as client:
                for number in range(ECHOES):
                    began = time.perf_counter()
                    await client.send(sent := f"echo {number}")
                    received = await client.recv()
                    durations.append(time.perf_counter() - began)
                    if received != sent:
                        return Diagnosis(
                            "websocket", "bad", f"{sent!r} came back as {received!r}", "Report this, please."
                        )
    except Exception as error:
        found = f"no echo over loopback: {type(error).__name__}: {error}".removesuffix(": ")
        return Diagnosis("websocket", "bad", found, "See loopback; else reinstall: python -m pip install -U websockets")
    median = sorted(durations)[len(durations) // 2]
    return Diagnosis("websocket", "ok", f"an echo over loopback takes {median * 1000:.2f} ms (median of {ECHOES})")


def _inner_loop() -> Diagnosis:
    # labkit.run() needs it only if a loop is already running, as in a notebook. Scripts and pytest do without it.
    name = "nest_asyncio" if sys.version_info < (3, 14) else "nest_asyncio2"
    distribution = name.replace("_", "-")
    try:
        importlib.import_module(name)
        version = importlib.metadata.version(distribution)
    except ImportError:
        return Diagnosis(
            "inner loop",
            "unknown",
            f"{distribution} is not installed; labkit.run() works in scripts, not inside a notebook",
            "python -m pip install 'labkit[notebooks]'",
        )
    return Diagnosis("inner loop", "ok", f"{distribution} {version}, for labkit.run() inside a notebook")


def _kernel() -> Diagnosis:
    mend = "python -m pip install 'labkit[notebooks]'"
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return Diagnosis("kernel", "unknown", "Jupyter is not installed; only the notebooks need it", mend)
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
        kernel = importlib.metadata.version("ipykernel")
    except (NoSuchKernel, importlib.metadata.PackageNotFoundError):
        return Diagnosis("kernel", "bad", "no kernel named python3", "python -m pip install ipykernel")
    program = spec.argv[0]
    if shutil.which(program) is None:
        found = f"the kernel python3 starts {program}, which does not exist"
        return Diagnosis("kernel", "bad", found, "python -m ipykernel install --sys-prefix")
    return Diagnosis("kernel", "ok", f"{spec.display_name}, ipykernel {kernel}")


def _signals() -> Diagnosis:
    missing = [name for name in SIGNALS if not hasattr(signal, name)]
    if missing:
        found = f"{platform.system()} has no {', '.join(missing)}"
        return Diagnosis("signals", "unknown", found, "Faults that need them say so; all others work.")
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        found = "SIGINT is ignored here, and so by the processes that start from here"
        return Diagnosis("signals", "unknown", found, "Start the lab in the foreground, without nohup or a trailing &.")
    return Diagnosis("signals", "ok", ", ".join(SIGNALS))


def _waits() -> Diagnosis:
    try:
        scale = scaled(1.0)
    except BadValue as error:
        return Diagnosis("waits", "bad", str(error), "Unset LABKIT_TIME_SCALE, or set it to 1.")
    return Diagnosis("waits", "ok", f"multiplied by {scale:g} (LABKIT_TIME_SCALE)")
