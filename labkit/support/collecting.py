"""How often Python looks for garbage in all that it has."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["old_garbage_waits"]

#: Python looks so many times at what is young, and then once at all that it has; by itself, it would do so 10 times.
_TIMES: Final = 100


class _Seldom:
    """What is set, for as long as anybody needs it."""

    def __init__(self) -> None:
        self._users = 0
        self._lock = threading.Lock()  # loops in several threads may play experiments

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._before = gc.get_threshold()
                gc.set_threshold(*self._before[:2], max(self._before[2], _TIMES))
                self._set = gc.get_threshold()

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and gc.get_threshold() == self._set:  # else somebody else has set it meanwhile
                gc.set_threshold(*self._before)


_seldom: Final = _Seldom()


@contextmanager
def old_garbage_waits() -> Iterator[None]:
    """Have Python look less often at all that it has, while the block plays many experiments.

    Each experiment ends with a look at what is young, and what its neighbours use is then young no longer. Python takes
    that for a heap that grows, and would look through all of it at every twentieth experiment. Some megabytes of
    garbage may wait meanwhile.
    """
    _seldom.enter()
    try:
        yield
    finally:
        _seldom.leave()
