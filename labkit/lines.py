"""Which lines of a handler ran, and when each first did.

Python 3.12 and later tell through ``sys.monitoring`` (PEP 669), which costs nothing outside the handler. Python 3.11
has only ``sys.settrace``, one per thread: where a debugger or a coverage tool holds it, the lab gives way and the
answer is *unknown*.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from labkit.timeline import Timeline, place

__all__ = ["executable", "original", "watch"]

_TOOL_NAME = "labkit"


def original(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Find the function that the author wrote.

    Args:
        handler: a function, a method, a ``functools.partial``, a decorated function or an object with ``__call__``.

    Returns:
        The function beneath, or ``handler`` itself where there is none.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    handler = inspect.unwrap(handler)
    if not inspect.isclass(handler) and not hasattr(handler, "__code__") and hasattr(type(handler), "__call__"):  # noqa: B004 - the method is wanted
        handler = inspect.unwrap(type(handler).__call__)
    return getattr(handler, "__func__", handler)


def executable(code: CodeType) -> set[int]:
    """Tell which lines can run.

    Args:
        code: a function's code.

    Returns:
        The numbers of the lines for which the compiler made instructions, those of nested functions included. The
        ``def`` line (or the first decorator's) of the function itself runs before the handler does and is left out.
    """
    lines = {line for _, _, line in code.co_lines() if line is not None} - {code.co_firstlineno}
    for nested in _nested(code):
        lines |= executable(nested)
    return lines


def _nested(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _family(code: CodeType) -> Iterator[CodeType]:
    yield code
    for nested in _nested(code):
        yield from _family(nested)


class _Ledger:
    """The lines of one handler that ran in one experiment."""

    def __init__(self, source: list[str] | None, first: int) -> None:
        self.source = source
        self.first = first
        self.seen: set[int] = set()


#: For each experiment under way, by the id of its timeline, the ledgers by code.
_ledgers: dict[int, dict[CodeType, _Ledger]] = {}


def _ran(code: CodeType, line: int) -> None:
    here = place.get()
    if here is None:
        return
    ledger = _ledgers.get(id(here.timeline), {}).get(code)
    if ledger is None or line in ledger.seen:
        return
    ledger.seen.add(line)
    index = line - ledger.first
    text = ledger.source[index].strip() if ledger.source and 0 <= index < len(ledger.source) else f"line {line}"
    here.timeline.record("handler", "line", text, {"line": line})


if sys.version_info >= (3, 12):

    class _Monitoring:
        """Lines through ``sys.monitoring``."""

        name = "sys.monitoring"

        def __init__(self) -> None:
            self._tool: int | None = None
            self._users: dict[CodeType, int] = {}
            self._lock = threading.Lock()

        def enter(self, codes: list[CodeType]) -> str | None:
            """Begin to watch; return why that cannot be done, or None."""
            with self._lock:
                return self._enter(codes)

        def leave(self, codes: list[CodeType]) -> str | None:
            """End what :meth:`enter` began; return why lines may have been missed, or None."""
            with self._lock:
                self._leave(codes)
            return None

        def _enter(self, codes: list[CodeType]) -> str | None:
            monitoring = sys.monitoring
            if self._tool is None:
                # 0, 1, 2 and 5 are set aside for debuggers, coverage, profilers and optimizers.
                free = [tool for tool in (4, 3) if monitoring.get_tool(tool) is None]
                if not free:
                    return "other tools hold every free place in sys.monitoring"
                self._tool = free[0]
                monitoring.use_tool_id(self._tool, _TOOL_NAME)
                monitoring.register_callback(self._tool, monitoring.events.LINE, _ran)
            for code in codes:
                self._users[code] = self._users.get(code, 0) + 1
                monitoring.set_local_events(self._tool, code, monitoring.events.LINE)
            return None

        def _leave(self, codes: list[CodeType]) -> None:
            assert self._tool is not None
            for code in codes:
                self._users[code] -= 1
                if not self._users[code]:
                    del self._users[code]
                    sys.monitoring.set_local_events(self._tool, code, 0)
            if not self._users:
                sys.monitoring.register_callback(self._tool, sys.monitoring.events.LINE, None)
                sys.monitoring.free_tool_id(self._tool)
                self._tool = None

    _tool = _Monitoring()
else:

    class _Settrace(threading.local):
        """Lines through ``sys.settrace``, for Python 3.11; each thread has its own."""

        name = "sys.settrace"

        def __init__(self) -> None:
            self._users: dict[CodeType, int] = {}
            # Kept, since each access makes a new bound method, and the end must recognise it.
            self._mine = self._trace

        def enter(self, codes: list[CodeType]) -> str | None:
            """Begin to watch; return why that cannot be done, or None."""
            holder = sys.gettrace()
            if holder is None:
                sys.settrace(self._mine)
            elif holder is not self._mine:
                return "a debugger or a coverage tool holds sys.settrace"
            for code in codes:
                self._users[code] = self._users.get(code, 0) + 1
            return None

        def leave(self, codes: list[CodeType]) -> str | None:
            """End what :meth:`enter` began; return why lines may have been missed, or None."""
            for code in codes:
                self._users[code] -= 1
                if not self._users[code]:
                    del self._users[code]
            if sys.gettrace() is not self._mine:
                return "a debugger or a coverage tool took over sys.settrace during the run"
            if not self._users:
                sys.settrace(None)
            return None

        def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code not in self._users:
                return None
            if event == "line":
                _ran(frame.f_code, frame.f_lineno)
            return self._mine

    _tool = _Settrace()


@contextmanager
def watch(handler: Callable[..., Any], timeline: Timeline) -> Iterator[None]:
    """Record when each line of a handler first runs in the experiment of a timeline.

    A ``lines`` event opens the account: the lines that can run, the source, and the tool that tells, or why none can.

    Args:
        handler: the handler.
        timeline: the experiment's; only code that runs in its place is recorded.
    """
    function = original(handler)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        timeline.record("handler", "lines", "", _account(None, set(), None, 0, "the handler is not Python code"))
        yield
        return
    try:
        source, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        source, first = None, code.co_firstlineno
    lines, codes = executable(code), list(_family(code))
    problem = _tool.enter(codes)
    timeline.record("handler", "lines", "", _account(_tool.name, lines, source, first, problem))
    if problem is not None:
        yield
        return
    ledger = _Ledger(source, first)
    _ledgers.setdefault(id(timeline), {}).update(dict.fromkeys(codes, ledger))
    try:
        yield
    finally:
        if id(timeline) in _ledgers:
            for member in codes:
                _ledgers[id(timeline)].pop(member, None)
            if not _ledgers[id(timeline)]:
                del _ledgers[id(timeline)]
        problem = _tool.leave(codes)
        if problem is not None:
            timeline.record("handler", "lines", "", _account(_tool.name, lines, source, first, problem))


def _account(
    tool: str | None, lines: set[int], source: list[str] | None, first: int, problem: str | None
) -> dict[str, Any]:
    return {
        "executable": sorted(lines),
        "tool": None if problem else tool,
        "why": problem,
        "source": None if source is None else "".join(source),
        "first": first,
    }
