"""Handlers of signals that a handler sets with ``signal.signal``; they are the whole process's."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from labkit.introspection.origin import find_origin
from labkit.remains.started import Numbered, starts_here
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["watch_signals"]


#: Those that are set, by the numbers of the signals.
_known: Final[dict[int, Signal]] = {}


class Signal(Numbered):
    """A signal's handler that was set, and not set back.

    Args:
        here: the scope of the code that has set it.
        line: the line of the user's code that has set it, in words; None if that is not known.
        number: the signal's number.
        before: what handled the signal before.
    """

    known = _known
    came = "set"
    over = "has been set back"

    def __init__(self, here: Scope, line: str | None, number: int, before: Any) -> None:
        super().__init__(here, "signal", signal.Signals(number).name, line, number)
        self.before: Final = before
        self._now = signal.getsignal(number)

    @property
    def title(self) -> str:
        """What it is."""
        return f"handler of {self.name}"

    @property
    def alive(self) -> bool:
        """Whether it still handles the signal."""
        return super().alive and signal.getsignal(self._number) == self._now

    def look(self) -> None:
        """Look whether another one handles the signal."""
        if not self.alive:
            self.end()

    async def stop(self) -> None:
        """Set it back."""
        with contextlib.suppress(ValueError, TypeError):  # another thread's loop; or no handler of Python's
            signal.signal(self._number, self.before)
        self.end()


@contextmanager
def watch_signals() -> Iterator[None]:
    """Remember the signals' handlers that lines of handlers set, while the block runs."""
    undo = replace(signal, "signal", _Setting)
    try:
        yield
    finally:
        undo()


class _Setting:
    """A stand-in for ``signal.signal``. It is no function, since a class would take that for a method."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = self._function(*args, **kwargs)
        number = int(args[0] if args else kwargs["signalnum"])
        if (known := _known.get(number)) is not None:
            known.look()
            before = known.before
        now = signal.getsignal(number)
        if now != before and (found := starts_here()) is not None and found[0].number is not None:
            here, starts = found
            origin = find_origin(sys._getframe(1), starts.file)  # noqa: SLF001 - who calls it
            if origin.by_users and not origin.modules:
                _known[number] = each = Signal(here, origin.line, number, before)
                starts.add(each)
        return before
