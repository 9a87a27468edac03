"""Follows a cancel through a handler, and finds out where it ends: who catches it there and does not pass it on.

A cancel of a task is a promise: ``CancelledError`` comes out of it at the end. ``asyncio.timeout``, a task group and a
shutdown wait for that. Catching it, cleaning up and raising it again keeps the promise, and so does whoever calls
``Task.uncancel()`` for it, as ``asyncio.timeout`` does for its own. To see the difference takes two looks: whether the
coroutine still handles the cancel when it waits the next time, and who called ``uncancel()`` during that.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Literal, NamedTuple

from labkit.introspection.clauses import Ran, find_end, led_by_exception
from labkit.introspection.origin import is_users, name_file
from labkit.introspection.suspended import frames, handled, is_open
from labkit.remains.tasks import describe_task
from labkit.watch.disconnects import with_origins

__all__ = ["Cancel", "Followed", "Swallow", "Unasked", "cancels_fly", "find_line", "note_line", "on_flight"]

#: Where a coroutine stood when a cancel came: in each function, from the outside inwards, the line.
Stood = tuple[tuple[CodeType, int], ...]


class Cancel(NamedTuple):
    """A cancel of a task: who has cancelled it, if that is known; and what the cancel is for."""

    by: str | None
    whose: Literal["limit", "group", "other"]

    @classmethod
    def of_all(cls, cancels: Sequence[Cancel]) -> Cancel:
        """Make one of several that come together, as one exception."""
        names = dict.fromkeys(cancel.by or "somebody unknown" for cancel in cancels)
        by = " and ".join(names) if any(cancel.by for cancel in cancels) else None
        owners = [cancel.whose for cancel in cancels]
        return cls(by, next((whose for whose in owners if whose != "other"), "other"))


class Swallow(NamedTuple):
    """Where a cancel has ended.

    Attributes:
        cancel: the cancel.
        stood: where the coroutine stood when it came.
        code: the function that has caught it; None if it ended in what the coroutine awaits, such as another task.
        line: the line of that function which ended it; None if that is unknown.
        then: what the coroutine did next: it went ``on``, or it ``returned``.
    """

    cancel: Cancel
    stood: Stood
    code: CodeType | None
    line: int | None
    then: Literal["on", "returned"]


class Unasked(NamedTuple):
    """A cancel in which a coroutine ends, though nobody has asked it of its task.

    Attributes:
        how: where it comes from, in words that follow "cancelled".
        own: whether it is known that only code of the user's can be behind it.
    """

    how: str
    own: bool


def _cancelled_part(awaited: object) -> object:
    """What was cancelled of what a coroutine has waited for: of ``asyncio.gather``, the first that was."""
    parts = getattr(awaited, "_children", ())
    return next((part for part in parts if part.cancelled()), awaited)


def _is_of_library(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is None or not is_users(code.co_filename)


@dataclass(eq=False)
class _Flying:
    """A cancel that has come to the coroutine, and for which it still owes something.

    Attributes:
        exception: the exception, which the lab keeps no longer than until the cancel has ended.
        cancel: the cancel; several that came together are one.
        stood: where the coroutine stood.
        owed: for how many calls of ``cancel()`` it stands, less those that ``uncancel()`` has taken back.
        ran: the lines that have run since.
    """

    exception: BaseException
    cancel: Cancel
    stood: Stood
    owed: int
    ran: list[Ran] = field(default_factory=list)

    def is_behind(self, exception: BaseException | None) -> bool:
        return exception is not None and any(each is self.exception for each in with_origins(exception))


#: The cancels that are under way in any handler; lines are noted only meanwhile.
_flying: list[_Flying] = []

#: Called when one begins its way.
on_flight: list[Callable[[], None]] = []


def note_line(code: CodeType, line: int) -> None:
    """Note that a line of a handler, or of its helpers, is about to run, as Python tells a tool that watches it.

    Args:
        code: the function, whose frame is on the stack.
        line: the line.
    """
    if _flying:
        now = sys.exc_info()[1]
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as traceback and logging do
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        led = "no" if frame is None else led_by_exception(frame)
        for flying in _flying if led != "away" else ():
            held = led == "to" or now is flying.exception
            flying.ran.append(Ran(code, line, held, free=not held and not flying.is_behind(now)))


def cancels_fly() -> bool:
    """Tell whether a cancel is under way in any handler: then each line that runs matters."""
    return bool(_flying)


class Followed:
    """The cancels of one task, on their way through its coroutine.

    Args:
        coroutine: what runs in the task.
        on_swallow: called when one has ended there.

    Attributes:
        asked: those that have not come to the coroutine yet; without any, ``goes_on`` has nothing to do.
        under_way: those that have come to it; without any, ``waits`` has nothing to do.
        unasked: how the coroutine has ended in a cancel that nobody asked of its task; None if it has not.
    """

    __slots__ = ("_coroutine", "_has_ended_some", "_on_swallow", "_passed_on", "asked", "unasked", "under_way")

    def __init__(self, coroutine: Any, on_swallow: Callable[[Swallow], None]) -> None:
        self._coroutine = coroutine
        self._on_swallow = on_swallow
        # Most handlers are never cancelled.
        self.asked: Sequence[Cancel] = ()
        self.under_way: Sequence[_Flying] = ()
        self._has_ended_some = False
        self._passed_on: tuple[BaseException, object] | None = None
        self.unasked: Unasked | None = None

    def cancelled(self, cancel: Cancel) -> bool:
        """Note that somebody cancels the task.

        Returns:
            Whether a cancel is under way already that has not come to the coroutine: it gets one exception for both.
        """
        self.asked = [*self.asked, cancel]
        return len(self.asked) > 1

    def uncancelled(self, frame: FrameType | None) -> None:
        """Note that somebody takes a cancel back.

        Args:
            frame: the frame that calls ``uncancel()``.
        """
        now = sys.exc_info()[1]
        package = "" if frame is None else str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == "labkit":
            return  # the lab's own cancel, which the handler never sees
        # A limit of time takes its cancel back also where it never got it; that is no sign that all is well.
        by_users = package not in _MACHINERY
        for flying in reversed(self.under_way):
            if flying.owed and (by_users or flying.is_behind(now)):
                flying.owed -= 1
                return
        if self.asked:
            self.asked = self.asked[:-1]

    def comes(self, exception: BaseException, awaited: object = None) -> None:
        """Note that an exception is about to be raised in the coroutine.

        Args:
            exception: the exception.
            awaited: what the coroutine has waited for.
        """
        asked, self.asked = self.asked, ()
        if not isinstance(exception, asyncio.CancelledError):
            return
        if not asked:
            self._passed_on = exception, awaited
        else:
            flying = _Flying(exception, Cancel.of_all(asked), self._stands(), len(asked))
            self.under_way = [*self.under_way, flying]
            _flying.append(flying)
            for call in on_flight:
                call()

    def goes_on(self) -> None:
        """Note that the coroutine goes on with the result of what it awaited."""
        asked, self.asked = self.asked, ()
        if asked:
            # What it awaited was cancelled in its place, and has not passed that on.
            self._has_ended_some = True
            self._on_swallow(Swallow(Cancel.of_all(asked), self._stands(), None, None, "on"))

    def waits(self) -> None:
        """Note that the coroutine waits for something."""
        if self.under_way and is_open(self._coroutine):
            alive = list(handled(self._coroutine))
            for flying in list(self.under_way):
                if not any(map(flying.is_behind, alive)):
                    self._end(flying, "on")

    def returned(self) -> None:
        """Note that the coroutine has returned."""
        for flying in list(self.under_way):
            self._end(flying, "returned")

    def raised(self, exception: BaseException) -> None:
        """Note that an exception has come out of the coroutine."""
        if isinstance(exception, asyncio.CancelledError) and not any(
            each.is_behind(exception) for each in self.under_way
        ):
            self.unasked = self._find_unasked(exception)
        for flying in list(self.under_way):
            if isinstance(exception, asyncio.CancelledError) or flying.is_behind(exception):
                self._forget(flying)
            else:
                self._end(flying, "on")  # it went on until this happened

    def close(self) -> None:
        """Follow no longer."""
        self._passed_on = None
        for flying in list(self.under_way):
            self._forget(flying)

    def _end(self, flying: _Flying, then: Literal["on", "returned"]) -> None:
        self._forget(flying)
        # Of the frames through which it came, the outermost is the one that has caught it.
        frame, at = next(traceback.walk_tb(flying.exception.__traceback__), (None, None))
        if flying.owed and frame is not None:
            self._has_ended_some = True
            line = find_end(frame.f_code, at, flying.ran)
            self._on_swallow(Swallow(flying.cancel, flying.stood, frame.f_code, line, then))

    def _find_unasked(self, exception: BaseException) -> Unasked | None:
        """Find out where a cancel comes from that ends the coroutine, though nobody has asked it of the task."""
        if self._passed_on is not None and any(each is self._passed_on[0] for each in with_origins(exception)):
            what = _cancelled_part(self._passed_on[1])
            if isinstance(what, asyncio.Task):
                return Unasked(f"with the task {describe_task(what)}, which it awaited", own=not _is_of_library(what))
            return Unasked("with a future that it awaited", own=False)
        if self._has_ended_some:
            return None  # it may be one that the coroutine has held back until now
        # Of the user's frames the outermost; behind it there may be those of a task whose result was asked.
        places = traceback.walk_tb(exception.__traceback__)
        line = next((line for frame, line in places if is_users(frame.f_code.co_filename)), None)
        where = "" if line is None else f", in line {line}"
        return Unasked(f"though nobody cancelled it{where}", own=True)

    def _stands(self) -> Stood:
        return tuple((frame.f_code, frame.f_lineno) for frame in frames(self._coroutine))

    def _forget(self, flying: _Flying) -> None:
        self.under_way = [each for each in self.under_way if each is not flying]
        _flying.remove(flying)


def find_line(swallow: Swallow, file: str) -> tuple[int | None, str | None] | None:
    """Find out where in the user's code a cancel has ended.

    Args:
        swallow: where it has ended.
        file: the handler's file.

    Returns:
        The line in the handler's file, or None where it is not known; and what ended the cancel, in words, if that is
        other code. Nothing, if a library ended it.
    """
    code = swallow.code
    if code is not None and code.co_filename == file:
        return swallow.line, None
    own = [n for n, (each, _) in enumerate(swallow.stood) if each.co_filename == file]
    line = swallow.stood[own[-1]][1] if own else None
    if code is None:
        return line, "the task that it awaited"
    if not is_users(code.co_filename):
        return None
    where = ("" if swallow.line is None else f"line {swallow.line} of ") + name_file(code.co_filename)
    return line, f"{code.co_qualname.replace('.<locals>', '')} ({where})"


#: Packages that take back the cancels that are their own.
_MACHINERY = frozenset({"asyncio", "anyio", "async_timeout", "aiohttp"})
