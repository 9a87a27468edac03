"""Installs a version of a library into a folder of its own, in the user's cache."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import platformdirs
from filelock import AsyncFileLock
from packaging.requirements import InvalidRequirement, Requirement

from labkit.errors import BadValue, LabError
from labkit.timemachine.programs import run_program

__all__ = ["check_requirement", "install"]

#: The libraries whose versions can be had.
_LIBRARIES: Final = ("aiohttp", "websockets")


def check_requirement(text: str) -> Requirement:
    """Read what is asked for.

    Args:
        text: a library and its version, such as ``"aiohttp==3.8.1"``.

    Returns:
        The requirement.

    Raises:
        BadValue: it is something else.
    """
    try:
        wanted = Requirement(text)
    except (InvalidRequirement, TypeError):
        wanted = Requirement("nothing")
    exact = [each.operator for each in wanted.specifier] == ["=="] and "*" not in str(wanted.specifier)
    if wanted.name not in _LIBRARIES or not exact or wanted.url or wanted.extras or wanted.marker:
        raise BadValue(f"the version is {text!r}; it takes one such as 'aiohttp==3.8.1' or 'websockets==15.0'")
    return wanted


async def install(wanted: Requirement) -> Path:
    """Install a library, unless a run before has done so.

    Args:
        wanted: the library and its version.

    Returns:
        The folder to import it from.

    Raises:
        LabError: it cannot be installed here; the message has the installer's last line.
    """
    cache = platformdirs.user_cache_path("labkit") / "versions"
    folder = cache / f"{wanted.name}-{next(iter(wanted.specifier)).version}-{sys.implementation.cache_tag}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        async with AsyncFileLock(f"{folder}.lock"):
            if not folder.is_dir():
                await _install_aside(wanted, folder)
    except OSError as problem:
        raise LabError(f"{wanted} cannot be installed into {cache}: {problem.strerror or problem}") from None
    return folder


async def _install_aside(wanted: Requirement, folder: Path) -> None:
    """Install into another folder first, so that the real one is never there in part."""
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        # Old versions have no wheels for a Python that came after them. Without extensions, no compiler is needed.
        environment = {**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"}
        failed = await run_program([*_installer(), "--target", str(aside), str(wanted)], environment)
        if failed is not None:
            raise LabError(f"{wanted} cannot be installed here: {failed}")
        await asyncio.to_thread(aside.rename, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _installer() -> list[str]:
    """The beginning of the command that installs: uv where it is, since it takes a fraction of the time, or pip."""
    if (uv := shutil.which("uv")) is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
