"""What the command line plays: the handler or the application that a name leads to."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from labkit.support.names import load_name

__all__ = ["load_target"]


def load_target(name: str) -> Any:
    """Load what is to be played; an application that a file has made is made anew for each play.

    As in production, where a server that starts has nothing of the one before: an application of ASGI, and a manager of
    connections in its module, would keep what an earlier fault has left there; one of aiohttp runs once.

    Args:
        name: ``FILE:NAME`` or ``MODULE:NAME``.

    Returns:
        The handler or the application, or what makes it.

    Raises:
        BadValue: the name leads to nothing.
    """
    from labkit.stacks.asgi import is_app

    found = load_name(name)
    if inspect.isroutine(found) or inspect.isclass(found) or not (is_app(found) or _is_aiohttps(found)):
        return found

    def make() -> Any:
        """Run the file again, and give its application."""
        return load_name(name, anew=True)

    make.__name__ = make.__qualname__ = name.rpartition(":")[2]
    make.named = name  # type: ignore[attr-defined] # for its token: another program can import the application itself
    return make


def _is_aiohttps(found: Any) -> bool:
    aiohttp = sys.modules.get("aiohttp.web")
    return aiohttp is not None and isinstance(found, aiohttp.Application)
