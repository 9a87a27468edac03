"""Turns Ctrl+C into a cancel, so that what is interrupted can clean up, however often somebody presses it."""

from __future__ import annotations

import asyncio
import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

__all__ = ["Interrupts", "cancel_on_interrupt", "interrupts", "on_interrupt"]

T = TypeVar("T")

#: A handler of a signal, as ``signal.signal`` takes it.
_Handler = Callable[[int, FrameType | None], Any]

#: For so many seconds after the first interrupt, a cleanup is left in peace.
_PEACE: Final = 5.0

#: The functions that run a step of a handler, with their module.
_RUN_A_STEP: Final = {("labkit.watch.cancels", "run_step"), ("labkit.watch.cancels", "tell_cancels")}

#: Modules of the lab from which it may be raised: handlers of its own, and what is called at each of their lines.
_AS_HANDLERS: Final = ("labkit.exercises.", "labkit.watch.lines")


#: Called at each interrupt, in the main thread, between any two steps of what runs there.
on_interrupt: Final[list[Callable[[], None]]] = []


class _Taker:
    """Takes SIGINT in the place of another handler of the signal.

    Args:
        replaces: that handler.

    Attributes:
        replaces: that handler.
    """

    def __init__(self, replaces: _Handler) -> None:
        self.replaces = replaces
        self._users = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take one; this is what ``signal.signal`` calls, between any two steps of what runs in the main thread.

        It tells those who want to know, and leaves the rest to the program whose handler it replaces.
        """
        _tell()
        self.replaces(number, frame)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the signals, while the block runs; blocks may overlap."""
        self._users += 1
        if self._users == 1:
            signal.signal(signal.SIGINT, self)
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and _get_handler() is self:
                signal.signal(signal.SIGINT, self.replaces)


def _tell() -> None:
    for call in tuple(on_interrupt):
        call()


class Interrupts(_Taker):
    """Takes SIGINT, and cancels a task.

    ``KeyboardInterrupt`` would break off whatever happens to run, and leave it half done. In the code of a handler it
    is raised nevertheless, since a handler may keep the loop from everything else; what calls it is prepared for that.

    Args:
        replaces: the handler of the signal in whose place it takes them.

    Attributes:
        count: how many interrupts have come.
        delivered: whether one of them has cancelled the task.
    """

    def __init__(self, replaces: _Handler) -> None:
        super().__init__(replaces)
        self.count = 0
        self.delivered = False
        self._first = math.inf
        self._task: asyncio.Task[Any] | None = None

    def __call__(self, _: int, frame: FrameType | None) -> None:
        """Take one."""
        # Another one may come between any two steps of this: it must not find a first one of long ago.
        self._first = min(self._first, time.monotonic())
        self.count += 1
        if (task := self._task) is not None:
            # In a turn of its own: the loop and its transports are not prepared for a cancel at just any moment. This
            # also wakes a loop in which nothing else happens.
            task.get_loop().call_soon_threadsafe(self._cancel)
        _tell()
        if _in_a_handler(frame) or time.monotonic() - self._first > _PEACE:
            raise KeyboardInterrupt

    @contextmanager
    def cancelling(self, task: asyncio.Task[Any] | None) -> Iterator[None]:
        """Cancel a task at each interrupt, while the block runs.

        Args:
            task: the current task.
        """
        assert task is not None
        before, self._task = task.cancelling(), task
        try:
            yield
        finally:
            if self.count and not self.delivered:
                self._cancel()  # it has come just now
            self._task = None
            # However many there were, they count as one: `asyncio.run` and `asyncio.timeout` ask for the number.
            while self.delivered and task.cancelling() > before + 1:
                task.uncancel()

    async def guard(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, which an interrupt cancels.

        Args:
            coroutine: what to run.

        Returns:
            What it returns.
        """
        if self.count:  # it came before the loop ran
            coroutine.close()
            raise asyncio.CancelledError
        with self.cancelling(asyncio.current_task()):
            return await coroutine

    def _cancel(self) -> None:
        if self._task is None:
            return
        if isinstance(self.replaces, functools.partial) and not self.delivered:
            self.replaces(signal.SIGINT, None)  # that of `asyncio.run`, which cancels the program's main task
        else:
            self._task.cancel()
        self.delivered = True


def _in_a_handler(frame: FrameType | None) -> bool:
    """Whether the code of a handler runs, or of a library that it has called; but not the lab's own."""
    inner = False
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if (module, frame.f_code.co_name) in _RUN_A_STEP:
            return inner
        if module.startswith("labkit.") and not module.startswith(_AS_HANDLERS):
            return False
        inner, frame = True, frame.f_back
    return False


def _get_handler() -> object:
    """The handler of SIGINT in the main thread, which alone has signals; None in the others."""
    return signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Take the interrupts of this process, while the block runs a loop.

    If another program has set a handler of its own for the signal, that one stays.

    Yields:
        What takes them.

    Raises:
        KeyboardInterrupt: an interrupt has ended the block, or has come too late to do so.
    """
    taken = Interrupts(signal.default_int_handler)
    if _get_handler() is not signal.default_int_handler:
        yield taken
        return
    try:
        with taken.installed():
            yield taken
    except asyncio.CancelledError:
        if not taken.count:
            raise
        raise KeyboardInterrupt from None
    # What has returned in spite of its cancel has taken account of the interrupt, as the matrix does.
    if taken.count and not taken.delivered:
        raise KeyboardInterrupt


@contextmanager
def cancel_on_interrupt() -> Iterator[None]:
    """Let each interrupt cancel the current task, while the block runs, in a loop that somebody else runs.

    Under ``asyncio.run`` the first one cancels the main task. The second one would be raised in the middle of the
    cleanup, as ``KeyboardInterrupt``, and end the loop with it; so would the first one in a loop that a program runs by
    hand. Blocks may overlap; the first one's task is cancelled.

    Raises:
        KeyboardInterrupt: an interrupt has cancelled the block, in a loop that a program runs by hand.
    """
    current = _get_handler()
    if isinstance(current, _Taker):
        with current.installed():
            yield
        return
    by_hand = current is signal.default_int_handler
    if not callable(current):
        yield
        return
    if not by_hand and not _is_asyncio_run(current):
        # It is left to the program that takes it, such as a Jupyter kernel; but it ends a step that never ends.
        with _Taker(current).installed():
            yield
        return
    taken = Interrupts(current)
    try:
        with taken.installed(), taken.cancelling(asyncio.current_task()):
            yield
    except asyncio.CancelledError:
        if by_hand and taken.count:
            raise KeyboardInterrupt from None
        raise


def _is_asyncio_run(handler: object) -> bool:
    """Whether it is the handler that ``asyncio.run`` sets."""
    return isinstance(handler, functools.partial) and isinstance(
        getattr(handler.func, "__self__", None), asyncio.Runner
    )
