"""Records which lines of a handler ran, and when each line first ran.

Python 3.12 and later have ``sys.monitoring`` (PEP 669), which costs nothing outside the handler. Python 3.11 has only
``sys.settrace``, one per thread. If a debugger or a coverage tool holds it, the lab leaves it alone, and the answer is
*unknown*.

To watch a line costs more than most lines. So that a loop that computes does not look like a block of the lab's own
making, a line that runs again and again before the next ``await`` is let alone until then.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Final

from labkit.events import HandlerLine, HandlerLines
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.helpers import find_helpers, with_nested
from labkit.watch.suspended import frames
from labkit.watch.swallowed import cancels_fly, note_line
from labkit.watch.threads import carry_scope

__all__ = ["executable", "original", "waits_at", "watch"]

_TOOL_NAME = "labkit"

#: So often, a line runs again before it is let alone: with ``sys.monitoring``, which lets single lines alone, so that
#: nothing is missed; and with ``sys.settrace``, which lets alone a function, after some milliseconds.
_AGAIN: Final = 10 if sys.version_info >= (3, 12) else 10_000


def original(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Find the function that the author wrote.

    Args:
        handler: a function, a method, a ``functools.partial``, a decorated function or an object with ``__call__``.

    Returns:
        The wrapped function, or ``handler`` itself if it wraps none.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    handler = inspect.unwrap(handler)
    if not inspect.isclass(handler) and not hasattr(handler, "__code__") and hasattr(type(handler), "__call__"):  # noqa: B004 - the method is wanted
        handler = inspect.unwrap(type(handler).__call__)
    return getattr(handler, "__func__", handler)


def waits_at(coroutine: Any, handler: Callable[..., Any]) -> int | None:
    """Find the line at which a handler waits.

    Args:
        coroutine: what runs it, and waits for something now.
        handler: the handler.

    Returns:
        The line of the handler's own ``await``, in its file, whatever it awaits there; None if it has not been found.
    """
    code = getattr(original(handler), "__code__", None)
    return next((frame.f_lineno for frame in frames(coroutine) if frame.f_code is code), None)


def executable(code: CodeType) -> set[int]:
    """List the lines that can run.

    Args:
        code: a function's code.

    Returns:
        The numbers of the lines for which the compiler made instructions, including those of nested functions. The
        function's own ``def`` line (or its first decorator's line) is left out, since it runs before the handler.
    """
    lines = {line for _, _, line in code.co_lines() if line is not None} - {code.co_firstlineno}
    for nested in code.co_consts:
        if isinstance(nested, CodeType):
            lines |= executable(nested)
    return lines


class _Function:
    """A function that is watched: the handler, or a helper that it may call; with the functions inside it.

    Args:
        code: its code.
    """

    def __init__(self, code: CodeType) -> None:
        self.source: list[str] | None = None
        self.first = code.co_firstlineno
        self.codes = list(with_nested(code))
        self.lines = executable(code)
        self.seen: set[tuple[int, int | None]] = set()
        # What exec() compiles is "<string>"; so is the program of `python -c`, whose text Python 3.13 would give.
        if code.co_filename != "<string>":
            with contextlib.suppress(OSError, TypeError):
                self.source, self.first = inspect.getsourcelines(code)


class _Account:
    """The lines of a handler, and of its helpers that have run, in one experiment."""

    def __init__(self, timeline: Timeline, handler: _Function, helpers: Sequence[_Function]) -> None:
        self.timeline = timeline
        self.handler = handler
        self.called: dict[int | None, list[_Function]] = {}
        self.let_alone: set[tuple[_Function, int | None]] = set()
        self.functions = {code: function for function in (*helpers, handler) for code in function.codes}

    def ran(self, here: Scope, code: CodeType, line: int) -> None:
        """Record that a line has run, with the connection's number; only the first time."""
        function = self.functions.get(code)
        if function is None or (line, here.number) in function.seen or line not in function.lines:
            return
        function.seen.add((line, here.number))
        if function is not self.handler and function not in self.called.get(here.number, ()):
            self.called.setdefault(here.number, []).append(function)
            self.tell(here)
        index = line - function.first
        source = function.source or ()
        text = source[index].strip() if 0 <= index < len(source) else f"line {line}"
        here.record(HandlerLine(line, text=text))

    def missed(self) -> str | None:
        """Say why lines may have run that were not seen to; None if there are none."""
        for function, number in self.let_alone:
            if not function.lines <= {line for line, seen_by in function.seen if seen_by == number}:
                return "a loop of it ran too often for each line to be watched"
        return None

    def tell(self, here: Scope, problem: str | None = None) -> None:
        """Record which lines can run on a connection, or on all; or why that is not watched."""
        every = dict.fromkeys(itertools.chain(*self.called.values()))
        called = [*every] if here.number is None else self.called[here.number]
        lines = self.handler.lines.union(*(helper.lines for helper in called))
        text = None if self.handler.source is None else "".join(self.handler.source)
        helpers = [(helper.first, "".join(helper.source)) for helper in called if helper.source is not None]
        tool = None if problem else _tool.name
        here.record(HandlerLines(sorted(lines), tool, problem, text, self.handler.first, helpers))


#: The accounts of the running experiments, by the id of the timeline.
_accounts: dict[int, list[_Account]] = {}


def _ran(code: CodeType, line: int) -> None:
    note_line(code, line)
    here = scope.get()
    if here is not None:
        for account in _accounts.get(id(here.timeline), ()):
            account.ran(here, code, line)


def _let_alone(code: CodeType) -> None:
    """Note that a function's lines are not watched until its next ``await``."""
    here = scope.get()
    if here is not None:
        for account in _accounts.get(id(here.timeline), ()):
            if (function := account.functions.get(code)) is not None:
                account.let_alone.add((function, here.number))


if sys.version_info >= (3, 12):

    class _Monitoring:
        """Lines through ``sys.monitoring``."""

        name = "sys.monitoring"
        _EVENTS = (
            sys.monitoring.events.LINE,
            sys.monitoring.events.PY_START,
            sys.monitoring.events.PY_RESUME,
            sys.monitoring.events.PY_YIELD,
        )

        def __init__(self) -> None:
            self._tool: int | None = None
            self._users: dict[CodeType, int] = {}
            self._lock = threading.Lock()
            self._ran: Counter[tuple[CodeType, int]] = Counter()
            self._lets_alone = False
            self._loops: list[int] = []  # the threads of the loops whose handlers are watched

        def enter(self, codes: list[CodeType]) -> str | None:
            """Begin to watch; return why that is impossible, or None."""
            with self._lock:
                why = self._enter(codes)
                if why is None:
                    self._loops.append(threading.get_ident())
                return why

        def leave(self, codes: list[CodeType]) -> str | None:
            """End what :meth:`enter` began; return why lines may have been missed, or None."""
            with self._lock:
                self._leave(codes)
                self._loops.remove(threading.get_ident())
            return None

        def in_thread(self) -> Callable[[], None]:
            """Watch in another thread too; here, the tool watches every thread."""
            return lambda: None

        def _enter(self, codes: list[CodeType]) -> str | None:
            monitoring = sys.monitoring
            if self._tool is None:
                # Python reserves 0, 1, 2 and 5, for debuggers, coverage, profilers and optimizers (sys.monitoring).
                free = [tool for tool in (4, 3) if monitoring.get_tool(tool) is None]
                if not free:
                    return "other tools hold every free place in sys.monitoring"
                self._tool = free[0]
                monitoring.use_tool_id(self._tool, _TOOL_NAME)
                for event in self._EVENTS:
                    turn = self._on_line if event == monitoring.events.LINE else self._on_turn
                    monitoring.register_callback(self._tool, event, turn)
            for code in codes:
                self._users[code] = self._users.get(code, 0) + 1
                monitoring.set_local_events(self._tool, code, sum(self._EVENTS))
            return None

        def _on_line(self, code: CodeType, line: int) -> Any:
            _ran(code, line)
            self._ran[code, line] += 1
            if self._ran[code, line] <= _AGAIN or cancels_fly():
                return None
            # It is let alone in every thread: another one may come to the line for the first time.
            if {*self._loops} != {threading.get_ident()}:
                return None
            self._lets_alone = True
            return sys.monitoring.DISABLE

        def _on_turn(self, *_: Any) -> None:
            """Watch all lines again: a function begins, waits, or goes on."""
            self._ran.clear()
            if self._lets_alone:
                self._lets_alone = False
                sys.monitoring.restart_events()

        def _leave(self, codes: list[CodeType]) -> None:
            assert self._tool is not None
            for code in codes:
                self._users[code] -= 1
                if not self._users[code]:
                    del self._users[code]
                    sys.monitoring.set_local_events(self._tool, code, 0)
            if not self._users:
                for event in self._EVENTS:
                    sys.monitoring.register_callback(self._tool, event, None)
                sys.monitoring.free_tool_id(self._tool)
                self._tool = None

    _tool = _Monitoring()
else:

    class _Settrace:
        """Lines through ``sys.settrace``, for Python 3.11; each thread has its own."""

        name = "sys.settrace"

        def __init__(self) -> None:
            self._users: dict[CodeType, int] = {}
            self._lock = threading.Lock()
            self._in_thread = threading.local()
            # Each access to `self._trace` makes a new bound method; `leave` must find the one that it set.
            self._mine = self._trace

        def enter(self, codes: list[CodeType]) -> str | None:
            """Begin to watch; return why that is impossible, or None."""
            holder = sys.gettrace()
            if holder is None:
                sys.settrace(self._mine)
            elif holder is not self._mine:
                return "a debugger or a coverage tool holds sys.settrace"
            self._in_thread.users = getattr(self._in_thread, "users", 0) + 1
            with self._lock:
                for code in codes:
                    self._users[code] = self._users.get(code, 0) + 1
            return None

        def leave(self, codes: list[CodeType]) -> str | None:
            """End what :meth:`enter` began; return why lines may have been missed, or None."""
            self._in_thread.users -= 1
            with self._lock:
                for code in codes:
                    self._users[code] -= 1
                    if not self._users[code]:
                        del self._users[code]
            if sys.gettrace() is not self._mine:
                return "a debugger or a coverage tool took over sys.settrace during the run"
            if not self._in_thread.users:
                sys.settrace(None)
            return None

        def in_thread(self) -> Callable[[], None]:
            """Watch in the thread that calls this, until it calls what this returns."""
            if sys.gettrace() is not None:
                return lambda: None
            sys.settrace(self._mine)
            return lambda: sys.settrace(None)

        def _trace(self, frame: FrameType, _: str, __: Any) -> Any:
            """Watch a function that begins, or a coroutine that goes on, up to its next ``await``."""
            if frame.f_code not in self._users:
                return None
            seen: set[int] = set()
            again = 0
            frame.f_trace_lines = True

            def on_line(frame: FrameType, event: str, _: Any) -> Any:
                nonlocal again
                if event != "line":
                    return on_line
                if (line := frame.f_lineno) not in seen:
                    seen.add(line)
                    again = 0
                    _ran(frame.f_code, line)
                elif (again := again + 1) > _AGAIN:
                    _let_alone(frame.f_code)
                    frame.f_trace_lines = False  # until the next call of `_trace` for this frame, after its `await`
                return on_line

            return on_line

    _tool = _Settrace()


@contextmanager
def watch(handler: Callable[..., Any], timeline: Timeline) -> Iterator[None]:
    """Record when each line of a handler first runs in the experiment of a timeline.

    First comes a ``lines`` event: the lines that can run, the source, and the tool that watches the lines, or why no
    tool can. A second one follows if another tool has taken over.

    Args:
        handler: the handler.
        timeline: the experiment's timeline; only code that runs in its scope is recorded.
    """
    function = original(handler)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        timeline.append(HandlerLines([], None, "the handler is not Python code", None, 0))
        yield
        return
    helpers = [_Function(each.__code__) for each in find_helpers(handler, function)]
    account = _Account(timeline, _Function(code), helpers)
    codes = list(account.functions)
    problem = _tool.enter(codes)
    account.tell(Scope(timeline, "handler"), problem)
    if problem is not None:
        yield
        return
    _accounts.setdefault(id(timeline), []).append(account)
    try:
        with carry_scope(_tool.in_thread):
            yield
    finally:
        _accounts[id(timeline)].remove(account)
        if not _accounts[id(timeline)]:
            del _accounts[id(timeline)]
        problem = _tool.leave(codes) or account.missed()
        if problem is not None:
            account.tell(Scope(timeline, "handler"), problem)
