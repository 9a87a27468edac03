"""What is played: a handler, an application, the name of one, a URL, or a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.errors import BadValue
from labkit.experiment.elsewhere import Elsewhere
from labkit.experiment.processes import Process
from labkit.support.names import load_name

__all__ = ["find_here", "find_target", "is_by_library"]


def find_target(target: Any, *, allow_remote: bool = False) -> Any:
    """Find what is to be played.

    Args:
        target: the handler or the application itself; its name, such as ``"package.module:echo"``; the URL of a server;
            or what ``labkit.process`` gives.
        allow_remote: whether the URL may be on another machine.

    Returns:
        The handler, the application, an ``Elsewhere``, or a ``Process``.

    Raises:
        BadValue: a name leads to nothing; or a URL is wrong, or on another machine.
    """
    if not isinstance(target, str):
        return target
    if "://" in target:
        return Elsewhere.of(target, allow_remote=allow_remote)
    return load_name(target)


def is_by_library(target: Any) -> bool:
    """Tell whether a target has a handler for each library. An application of aiohttp is a mapping too, and none."""
    return isinstance(target, Mapping) and not callable(target)


def find_here(target: Any, what: str) -> Any:
    """Find what the lab can host itself.

    Args:
        target: as for ``find_target``.
        what: what cannot be done with a server elsewhere, and what can, as the end of a sentence.

    Returns:
        The handler or the application.

    Raises:
        BadValue: a name leads to nothing; or the target is a server of its own.
    """
    found = find_target(target, allow_remote=True)
    if isinstance(found, Elsewhere | Process):
        raise BadValue(f"{found.name} is a server of its own; {what}")
    return found
