"""Memory that a process shares with those that it forks, so that it learns what they saw."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Final

__all__ = ["Shared"]

_DOUBLE: Final = 8

#: A clock may read zero, which stands for never.
_SOON: Final = 1e-9


class Shared:
    """When each of some things first happened in a forked process. It holds no file descriptor.

    Args:
        count: how many things there are.
    """

    def __init__(self, count: int) -> None:
        self._times = memoryview(mmap.mmap(-1, max(count, 1) * _DOUBLE)).cast("d")

    def note(self, index: int, at: float) -> None:
        """Note that something has happened; to be called in the forked process.

        Args:
            index: which of the things.
            at: the reading of the experiment's clock, which the processes share.
        """
        if not self._times[index]:
            self._times[index] = max(at, _SOON)

    def noted(self) -> Iterator[tuple[int, float]]:
        """List what has happened by now, and when it first did."""
        yield from ((index, at) for index, at in enumerate(self._times) if at)
