"""Puts a stand-in in the place of a member of a class or a module, for as long as anybody needs it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Final

__all__ = ["MISSING", "InCommon", "replace"]

#: Stands for the member that a class does not have, where its objects have an attribute of that name.
MISSING: Final = object()

#: What is replaced now: how many need it, what was there before, and what stands in for it.
_replaced: Final[dict[tuple[type | ModuleType, str], tuple[int, Any, Any]]] = {}
_lock: Final = threading.Lock()  # a server may run in a thread of its own


def replace(owner: type | ModuleType, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Replace a member of a class or a module. All who need it at the same time share one stand-in.

    Args:
        owner: the class or the module that defines the member; or the class whose objects have it as an attribute.
        name: the member's name.
        make: makes the stand-in from the member as it is, or from ``MISSING``; called for the first who needs it.

    Returns:
        Call it, once, when it is no longer needed. The last call puts back what was there, unless other code has
        replaced it meanwhile.
    """
    with _lock:
        count, before, stand_in = _replaced.get((owner, name), (0, None, None))
        if not count:
            before = vars(owner).get(name, MISSING)
            stand_in = make(before)
            setattr(owner, name, stand_in)
        _replaced[owner, name] = count + 1, before, stand_in
    return partial(_leave, owner, name)


def _leave(owner: type | ModuleType, name: str) -> None:
    with _lock:
        count, before, stand_in = _replaced.pop((owner, name))
        if count > 1:
            _replaced[owner, name] = count - 1, before, stand_in
        elif vars(owner).get(name) is not stand_in:
            return
        elif before is MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


class InCommon:
    """Blocks that all who are in them at the same time have in common: the first enters them, and the last leaves.

    Who comes when other modules have been imported meanwhile enters them once more, since those may have something to
    replace.

    Args:
        blocks: make the blocks, in the order in which they are entered.
    """

    def __init__(self, *blocks: Callable[[], AbstractContextManager[object]]) -> None:
        self._blocks = blocks
        # By the number of modules: how many are inside, and what leaves the blocks.
        self._entered: dict[int, tuple[int, ExitStack]] = {}
        self._lock = threading.Lock()  # a server may run in a thread of its own

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Be inside the blocks, while this block runs."""
        with self._lock:
            modules = len(sys.modules)
            users, leave = self._entered.get(modules) or (0, self._enter())
            self._entered[modules] = users + 1, leave
        try:
            yield
        finally:
            with self._lock:
                users, leave = self._entered.pop(modules)
                if users > 1:
                    self._entered[modules] = users - 1, leave
                else:
                    leave.close()

    def _enter(self) -> ExitStack:
        with ExitStack() as undo:
            for block in self._blocks:
                undo.enter_context(block())
            return undo.pop_all()
