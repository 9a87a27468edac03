"""The lab's clock, and the scale on which it waits."""

from __future__ import annotations

import os
import time
from typing import Final

from labkit.errors import BadValue

__all__ = ["now", "scaled"]

#: Seconds on a monotonic clock; ``perf_counter`` has the finest grain on every platform.
now: Final = time.perf_counter


def scaled(seconds: float) -> float:
    """Stretch a wait for the machine it runs on.

    Args:
        seconds: the wait on a quiet machine.

    Returns:
        ``seconds`` times the environment variable ``LABKIT_TIME_SCALE`` (1 where it is not set).

    Raises:
        BadValue: the variable is not a positive number.
    """
    text = os.environ.get("LABKIT_TIME_SCALE", "1")
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise BadValue(f"LABKIT_TIME_SCALE is {text!r}; it takes a positive number, such as 1 or 3")
    return seconds * scale
