"""What is played: a handler, an application, or the name of one."""

from __future__ import annotations

from typing import Any

from labkit.support.names import load_name

__all__ = ["find_target"]


def find_target(target: Any) -> Any:
    """Find what is to be played.

    Args:
        target: the handler or the application itself; or its name, such as ``"package.module:echo"``.

    Returns:
        The handler or the application.

    Raises:
        BadValue: a name leads to nothing.
    """
    return load_name(target) if isinstance(target, str) else target
