"""Running a coroutine from code that is not one."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from labkit.errors import BadValue, LabError

__all__ = ["run"]

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, for synchronous callers.

    In a script this is ``asyncio.run``. Where a loop is already running (a widget's callback, ``%run`` in a
    notebook), that loop is made re-entrant with nest-asyncio, there and then, and stays so: nest-asyncio has no way
    back. Cells need neither, they may ``await``.

    Args:
        coroutine: what to run, such as ``labkit.play(handler)``.

    Returns:
        What it returns; what it raises, passes.

    Raises:
        BadValue: it is not a coroutine.
        LabError: a loop is running and nest-asyncio is not installed, or cannot patch this loop.
    """
    awaitable = inspect.iscoroutine(coroutine)
    if not awaitable:
        raise BadValue(f"labkit.run takes a coroutine, such as labkit.play(handler); this is {coroutine!r}")
    loop = _running_loop()
    if loop is None:
        return asyncio.run(coroutine)
    try:
        _make_reentrant(loop)
    except LabError:
        coroutine.close()
        raise
    return loop.run_until_complete(coroutine)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _make_reentrant(loop: asyncio.AbstractEventLoop) -> None:
    # nest-asyncio breaks asyncio.current_task on Python 3.14; its maintained fork has the same interface.
    name = "nest_asyncio2" if sys.version_info >= (3, 14) else "nest_asyncio"
    try:
        nest = __import__(name)
    except ImportError:
        package = name.replace("_", "-")
        raise LabError(f"a loop is running here; install {package}, or await the coroutine instead") from None
    try:
        nest.apply(loop)
    except ValueError as problem:
        raise LabError(f"a loop is running here that cannot be made re-entrant ({problem}); await instead") from None
