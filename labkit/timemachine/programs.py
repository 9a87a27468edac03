"""Runs a program to its end, and leaves none behind."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence

__all__ = ["run_program"]


async def run_program(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Run a program; if the caller is cancelled, the program is killed.

    Args:
        command: the program and its arguments.
        environment: its environment.

    Returns:
        The last line that it has written, if it has failed; None if it has not.
    """
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not process.returncode:
        return None
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
