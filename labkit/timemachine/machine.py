"""``time_machine()``: a handler on another version of its library, in an interpreter that has that version."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit.errors import BadValue, LabError
from labkit.experiment.run import Run, load
from labkit.faults import FAULTS
from labkit.stacks import STACKS
from labkit.support.checks import check_seconds, find
from labkit.timemachine.installing import check_requirement, install
from labkit.timemachine.packing import pack
from labkit.timemachine.programs import run_program

__all__ = ["time_machine"]


async def time_machine(
    version: str,
    handler: Callable[..., Any],
    on: str = "aiohttp",
    fault: str = "reset",
    *,
    messages: Sequence[str] = ("hello",),
    patience: float = 2.0,
    **server_options: Any,
) -> Run:
    """Play a handler on another version of its library, beside the one that is installed.

    The version is installed into the user's cache the first time, and an interpreter of its own imports it from there.
    Everything else is as it is here: Python, the lab, the server, the wire and the client.

    Args:
        version: the library and its version, such as ``"aiohttp==3.8.1"``.
        handler: a function whose source is known. It may use modules, numbers and texts, and functions like itself.
        on: the stack's name, one of that library.
        fault: the name of a fault, one of ``labkit.FAULTS``.
        messages: what the client sends.
        patience: as for ``labkit.play``, in seconds.
        server_options: as for ``labkit.play``; JSON must be able to hold them.

    Returns:
        The run. ``run.timeline.select("handler", "start")[0].library`` names the version.

    Raises:
        BadValue, UnknownName, BadHandler: an argument is not right.
        LabError: the version cannot be installed here, or does not run on this Python.
    """
    wanted = check_requirement(version)
    if find("stack", on, STACKS).distribution != wanted.name:
        raise BadValue(f"the stack is {on!r}, which is not of {wanted.name}")
    check_seconds("patience", patience)
    find("fault", fault, FAULTS)
    source = pack(handler)
    try:
        trip = json.dumps([handler.__name__, on, fault, list(messages), patience, server_options])
    except TypeError as problem:
        raise BadValue(f"the time machine takes what JSON can hold: {problem}") from None
    folder = await install(wanted)
    with tempfile.TemporaryDirectory(prefix="labkit-") as luggage:
        module, recording = Path(luggage, "handler.py"), Path(luggage, "run.json")
        await asyncio.to_thread(module.write_text, source, "utf-8")
        await _travel(
            folder, module, recording, trip, f"{wanted} on Python {sys.version_info[0]}.{sys.version_info[1]}"
        )
        return load(recording)


async def _travel(folder: Path, module: Path, recording: Path, trip: str, where: str) -> None:
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(folder), str(root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "labkit.timemachine", str(module), str(recording), trip]
    if (failed := await run_program(command, {**os.environ, "PYTHONPATH": path})) is not None:
        raise LabError(f"{where} did not play: {failed}")
