"""Limits of time as people keep them in a file of their own; handlers of other files use them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Bucket", "Throttle", "Visit", "age"]


class Bucket:
    """It is empty after a while."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    @property
    def is_empty(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._ends


class Throttle:
    """Its clock can be replaced, as in a test."""

    clock: Callable[[], float] = staticmethod(time.perf_counter)


@dataclass
class Visit:
    """It knows when it began."""

    began: float = field(default_factory=time.time)


def age(began: float, now: Callable[[], float] = time.monotonic) -> float:
    """How long ago it began."""
    return now() - began


stamp = functools.partial(time.time)
