"""How Python tells which line runs: ``sys.monitoring`` (PEP 669), or ``sys.settrace`` where Python is 3.11.

To be told of a line costs more than most lines, and code that computes must not look like a block of the lab's making.
So a tool lets alone what can tell nothing new. With ``sys.monitoring`` that is a single line: one that has run on every
connection, until another connection begins; and one that runs again and again, until the step of the loop ends.
``sys.settrace`` can only let alone a whole function; or, since it is called at each call of one, everything until
the step ends, and each step of the loop, or part of one, in which nothing of a handler's runs. In either case all lines
count while a cancel is on its way through a handler.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from types import CodeType, FrameType
from typing import Any, Protocol

from labkit.introspection.alone import has_alone, watchers
from labkit.introspection.origin import is_users
from labkit.introspection.place import bounds
from labkit.introspection.steps import scope_of_handle
from labkit.timeline import Scope, scope
from labkit.watch.block import current_step, step_began, step_runners, when_step_ends
from labkit.watch.swallowed import cancels_fly

__all__ = ["OFTEN", "Tool"]

_TOOL_NAME = "labkit"

#: Why lines may be missed: what computes is let alone.
OFTEN = "a loop of it ran too often for each line to be watched"


class Listener(Protocol):
    """Who is told of the lines."""

    def ran(self, code: CodeType, line: int) -> None:
        """Take a line that is about to run."""

    def is_known(self, code: CodeType, line: int | None = None) -> bool:
        """Tell whether a line has run on every connection; or, without one, whether all lines of the function have."""

    def let_alone(self, code: CodeType | None = None, why: str = OFTEN) -> None:
        """Note that lines of a function may be missed from now on, or of every function; and why."""


if sys.version_info >= (3, 12):
    #: So often, a line runs again before it is let alone.
    _AGAIN = 10

    class Tool:
        """Lines through ``sys.monitoring``, which is one for all threads.

        Args:
            listener: who is told of the lines.
        """

        name = "sys.monitoring"

        def __init__(self, listener: Listener) -> None:
            self._listener = listener
            self._tool: int | None = None
            self._users: Counter[int] = Counter()  # by the id of a code, which takes less than to compare codes
            self._lock = threading.Lock()
            self._again: dict[tuple[int, int], int] = {}  # how often, in one step
            self._step: float | None = None  # when that step began
            self._lets_alone = False
            self._step_ends = False  # it is told when the step ends
            self._loops: list[int] = []  # the threads of the loops whose handlers are watched

        def enter(self, codes: list[CodeType]) -> str | None:
            """Begin to watch; return why that is impossible, or None."""
            with self._lock:
                if self._tool is None:
                    # Python reserves 0, 1, 2 and 5, for debuggers, coverage, profilers and optimizers (sys.monitoring).
                    free = [tool for tool in (4, 3) if sys.monitoring.get_tool(tool) is None]
                    if not free:
                        return "other tools hold every free place in sys.monitoring"
                    self._tool = free[0]
                    sys.monitoring.use_tool_id(self._tool, _TOOL_NAME)
                    sys.monitoring.register_callback(self._tool, sys.monitoring.events.LINE, self._on_line)
                for code in codes:
                    self._users[id(code)] += 1
                    sys.monitoring.set_local_events(self._tool, code, sys.monitoring.events.LINE)
                self._loops.append(threading.get_ident())
            self.look_again()
            return None

        def leave(self, codes: list[CodeType]) -> str | None:
            """End what :meth:`enter` began; return why lines may have been missed, or None."""
            with self._lock:
                assert self._tool is not None
                self._loops.remove(threading.get_ident())
                for code in codes:
                    self._users[id(code)] -= 1
                    if not self._users[id(code)]:
                        del self._users[id(code)]
                        sys.monitoring.set_local_events(self._tool, code, 0)
                if not self._users:
                    sys.monitoring.register_callback(self._tool, sys.monitoring.events.LINE, None)
                    sys.monitoring.free_tool_id(self._tool)
                    self._tool = None
            return None

        def in_thread(self) -> Callable[[], None]:
            """Watch in another thread too; here, the tool watches every thread."""
            return lambda: None

        def look_again(self) -> None:
            """Let nothing alone for now: what was known may be new to somebody."""
            if self._lets_alone:
                self._lets_alone = False
                self._again.clear()
                sys.monitoring.restart_events()

        def begin_fork(self) -> None:
            """Watch in a process that was just forked: here, as before."""

        def _on_line(self, code: CodeType, line: int) -> Any:
            self._listener.ran(code, line)
            if cancels_fly():
                return None
            if not self._listener.is_known(code, line):
                # It is let alone in every thread: another one may come to the line for the first time.
                if self._counts(code, line) <= _AGAIN or {*self._loops} != {threading.get_ident()}:
                    return None
                if not self._step_ends and not when_step_ends(self._step_has_ended):
                    return None
                self._step_ends = True
            self._lets_alone = True
            return sys.monitoring.DISABLE

        def _counts(self, code: CodeType, line: int) -> int:
            """Count how often a line has run in this step; in a crowd, each handler has a step of its own."""
            if (step := step_began()) != self._step:
                self._step = step
                self._again.clear()
            self._again[id(code), line] = times = self._again.get((id(code), line), 0) + 1
            return times

        def _step_has_ended(self) -> None:
            self._step_ends = False
            self.look_again()
else:
    #: So often, a function's lines run again before it is let alone; so often it is called before everything is.
    _AGAIN = 5_000

    #: Why lines may be missed: somebody else has the trace, or Python has ended it, as it does after an error in it.
    _TAKEN = "a debugger, a coverage tool, or an error at the limit of recursion ended sys.settrace during the run"

    class _Traced(threading.local):
        """What the tool does in a thread.

        Attributes:
            users: how many experiments watch lines there.
            rests: whether everything is let alone until the step ends.
            quiet: whether nothing of a handler's runs now.
            depth: how many steps of loops run; nest-asyncio runs steps within a step.
            taken: whether something else has taken over ``sys.settrace``.
        """

        users = 0
        rests = False
        quiet = False
        depth = 0
        taken = False

    class Tool:
        """Lines through ``sys.settrace``; each thread has its own.

        Args:
            listener: who is told of the lines.
        """

        name = "sys.settrace"

        def __init__(self, listener: Listener) -> None:
            self._listener = listener
            self._users: Counter[int] = Counter()  # by the id of a code, which takes less than to compare codes
            self._lock = threading.Lock()
            self._here = _Traced()
            self._calls = 0  # in the step that runs
            self._step: object = None  # at the last look; uvloop tells of no step that begins
            self._installed = 0  # how many of the functions are not the user's, so that a library may run them too
            self._told: dict[tuple[int, Scope | None], set[int]] = {}  # the lines that need not be told again
            # Each access to `self._trace` makes a new bound method; `leave` must find the one that it set.
            self._mine = self._trace

        def enter(self, codes: list[CodeType]) -> str | None:
            """Begin to watch; return why that is impossible, or None."""
            here, holder = self._here, sys.gettrace()
            if holder is not None and holder is not self._mine:
                return "a debugger or a coverage tool holds sys.settrace"
            here.users += 1
            if here.users == 1:
                here.quiet = here.rests = here.taken = False
                sys.settrace(self._mine)
                step_runners[threading.get_ident()] = self._run_step
                watchers[threading.get_ident()] = self
            with self._lock:
                self._installed += _count_installed(codes)
                self._users.update(map(id, codes))
            self._told.clear()
            return None

        def leave(self, codes: list[CodeType]) -> str | None:
            """End what :meth:`enter` began; return why lines may have been missed, or None."""
            here = self._here
            self._told.clear()
            self._change()
            here.users -= 1
            with self._lock:
                self._installed -= _count_installed(codes)
                self._users -= Counter(map(id, codes))
            if not here.users:
                del step_runners[threading.get_ident()], watchers[threading.get_ident()]
                self._step = None
                if sys.gettrace() is self._mine:
                    sys.settrace(None)
            return _TAKEN if here.taken else None

        def in_thread(self) -> Callable[[], None]:
            """Watch in the thread that calls this, until it calls what this returns."""
            if sys.gettrace() is not None:
                return lambda: None
            sys.settrace(self._mine)
            return lambda: sys.settrace(None)

        def look_again(self) -> None:
            """Let nothing alone for now; here, what is let alone is looked at again by itself."""

        def begin_fork(self) -> None:
            """Watch in a process that was just forked; whatever rested may be new to it, and its step does not end."""
            self._change(rests=False)

        def _run_step(self, run: Callable[[asyncio.Handle], None], handle: asyncio.Handle) -> None:
            """Run a step of the loop, and watch it only if it may be a handler's: each call of a function is told."""
            here = self._here
            # First what is true of most steps in a crowd.
            quiet = (not self._installed and has_alone(handle)) or _is_nobodys(handle)
            if quiet and here.quiet:
                run(handle)
                return
            before = here.quiet if here.depth else True
            here.depth += 1
            self._calls = 0
            try:
                self._change(quiet=quiet)
                run(handle)
            finally:
                here.depth -= 1
                if sys.gettrace() is not self._wanted:
                    context: Context = getattr(handle, "_context")  # noqa: B009 - asyncio has no public way to ask
                    context.copy().run(self._look_after_trace)
                self._change(quiet=before)

        def begin(self) -> bool:
            """Watch from now on, since code of the user's may run; return whether it was let alone."""
            here = self._here
            if not here.quiet or not here.users:
                return False
            here.quiet = False
            self._calls = 0
            # As `_change` does, in fewer steps: this is done at each await of a handler.
            here.taken = here.taken or sys.gettrace() is not None
            if not here.taken and not here.rests:
                sys.settrace(self._mine)
            return True

        def end(self) -> None:
            """Let the rest of the step alone."""
            here = self._here
            if sys.gettrace() is not (None if here.rests else self._mine):
                self._look_after_trace()
            here.quiet = True
            if not here.taken:
                sys.settrace(None)

        def _look_after_trace(self) -> None:
            """See whether the thread's trace is as it was left; if somebody has one of his own, leave it alone."""
            here, holder = self._here, sys.gettrace()
            if here.taken or not here.users or holder is (wanted := self._wanted):
                return
            here.taken = holder is not None
            if not here.taken:
                self._listener.let_alone(why=_TAKEN)
                sys.settrace(wanted)

        def _change(self, *, quiet: bool | None = None, rests: bool | None = None) -> None:
            """Turn the thread's trace on or off; if somebody else has meanwhile, note that, and leave it alone."""
            here = self._here
            self._look_after_trace()
            here.quiet = here.quiet if quiet is None else quiet
            here.rests = here.rests if rests is None else rests
            if here.users and not here.taken and sys.gettrace() is not (wanted := self._wanted):
                sys.settrace(wanted)

        @property
        def _wanted(self) -> Callable[..., Any] | None:
            return None if self._here.quiet or self._here.rests else self._mine

        def _trace(self, frame: FrameType, _: str, __: Any) -> Any:
            """Watch a function that begins, or a coroutine that goes on, up to its next ``await``."""
            self._calls += 1
            if self._calls > _AGAIN:
                self._rest()
            if id(frame.f_code) not in self._users:
                return None
            if self._listener.is_known(frame.f_code) and not cancels_fly():
                frame.f_trace_lines = False  # that of the last call, if there was one
                return None
            told = set[int]() if cancels_fly() else self._told_of(frame.f_code)
            again = 0
            frame.f_trace_lines = True

            def on_line(frame: FrameType, event: str, _: Any) -> Any:
                nonlocal again
                if event == "line":
                    line = frame.f_lineno
                    if line not in told:
                        told.add(line)
                        again = 0
                        self._listener.ran(frame.f_code, line)
                    elif (again := again + 1) > _AGAIN:
                        self._listener.let_alone(frame.f_code)
                        frame.f_trace_lines = False  # until the next call of `_trace` for this frame
                return on_line

            return on_line

        def _told_of(self, code: CodeType) -> set[int]:
            """The lines of a function that have been told where the running code belongs: the next call is another."""
            key = id(code), scope.get()
            if (found := self._told.get(key)) is None:
                found = self._told[key] = set()
            return found

        def _rest(self) -> None:
            """Let everything alone until the step ends, if all these calls were in one step of the loop."""
            self._calls = 0
            before, self._step = self._step, current_step()
            in_one_step = self._here.depth > 0 or self._step is before
            if self._step is None or not in_one_step or cancels_fly():
                return
            if when_step_ends(self._go_on):
                self._listener.let_alone()
                self._change(rests=True)

        def _go_on(self) -> None:
            self._change(rests=False)

    def _is_nobodys(handle: asyncio.Handle) -> bool:
        """Whether a step is no server's."""
        return (of := scope_of_handle(handle)) is None or of.lane == "client"

    def _count_installed(codes: list[CodeType]) -> int:
        return sum(not is_users(code.co_filename) for code in codes)

    bounds.add(Tool._run_step.__code__)  # noqa: SLF001 - below it is the loop
