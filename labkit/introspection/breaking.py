"""Ends a step that never gives its loop back, by an exception that is raised inside it.

In the main thread a signal breaks a call of C too, such as ``time.sleep``; elsewhere the exception comes between two
instructions.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from labkit.introspection.place import Called, stack_from, stack_of

__all__ = ["Breaker", "Stopped", "was_stopped"]

#: The signals that break a call of C in the main thread, such as ``time.sleep``. By default, nothing follows from them.
#: Two that come together are raised one after the other: the second one in what has caught the first.
_SIGNALS: Final = [getattr(signal, name) for name in ("SIGURG", "SIGCONT") if hasattr(signal, name)]

#: So often a step is asked to end with one signal, before it is asked with two.
_PATIENT: Final = 10


class Stopped(BaseException):
    """Raised in code of a handler that keeps the loop to itself, when the patience is over."""


def was_stopped(exception: BaseException) -> bool:
    """Tell whether an exception is the lab's own, or a group of which it is a member.

    Args:
        exception: the exception.
    """
    if isinstance(exception, BaseExceptionGroup):
        return exception.subgroup(Stopped) is not None
    return isinstance(exception, Stopped)


class Breaker:
    """Ends steps of the running thread's loop.

    Args:
        may_break: tells of a stack whether a step runs there that is to be ended, and may be here.

    Attributes:
        thrown: whether Python may have been told to raise the exception in the thread.
    """

    def __init__(self, may_break: Callable[[list[Called]], bool]) -> None:
        self.thrown = False
        self._may_break: Final = may_break
        self._thread: Final = threading.get_ident()
        self._lock: Final = threading.Lock()
        self._signals: list[signal.Signals] = []
        self._tracer: Any = None

    # In the loop's own thread.

    def enter(self) -> None:
        """Prepare for a step that must be ended."""
        if threading.current_thread() is threading.main_thread():
            self._signals = [each for each in _SIGNALS if signal.getsignal(each) == signal.SIG_DFL]
            for each in self._signals:
                signal.signal(each, self._take_signal)

    def leave(self) -> None:
        """Undo what ``enter`` has done."""
        for each in self._signals:
            if signal.getsignal(each) == self._take_signal:
                signal.signal(each, signal.SIG_DFL)

    def step_ended(self) -> None:
        """Note that a step has ended: nothing is raised in the next one."""
        try:
            if self.thrown:
                self._take_back()
        except Stopped:
            self._take_back()
        if self._tracer is not None:
            if sys.gettrace() is None:  # it was raised in what Python calls at each line
                sys.settrace(self._tracer)
            self._tracer = None

    def _take_signal(self, _: int, frame: FrameType | None) -> None:
        if self._may_break(stack_from(frame)):
            self._tracer = sys.gettrace() or self._tracer
            raise Stopped

    def _take_back(self) -> None:
        """Have the exception raised here, if it has not been raised before."""
        with self._lock:
            self.thrown = False
        # Whether one is pending cannot be told, and Python 3.11 gets into an endless loop where None takes its place.
        # So another one takes its place.
        with contextlib.suppress(Stopped):
            self._raise_soon()
            while True:
                pass

    # In the watching thread.

    def ask(self, times: int) -> None:
        """Ask the step that runs to end.

        Args:
            times: how often it has been asked, this time included.
        """
        if not self._signals:
            self._throw()
        for each in self._signals[: 1 if times <= _PATIENT else None]:
            signal.pthread_kill(self._thread, each)

    def _throw(self) -> None:
        """Have the exception raised between two instructions of the loop's thread, unless the step ends before."""
        with self._lock:
            self.thrown = True
            if self._may_break(stack_of(self._thread)):
                self._raise_soon()

    def _raise_soon(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Stopped))
