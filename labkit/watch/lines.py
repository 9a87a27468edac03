"""Records which lines of a handler ran, and when each line first ran.

Python 3.12 and later have ``sys.monitoring``, which costs nothing outside the handler. Python 3.11 has only
``sys.settrace``, one per thread. If a debugger or a coverage tool holds it, the lab leaves it alone, and the answer is
*unknown*.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import threading
import tokenize
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, Final, TypeVar

from labkit.events import HandlerLine, HandlerLines
from labkit.introspection.helpers import find_helpers, with_nested
from labkit.introspection.suspended import frames
from labkit.remains.threads import carry_scope
from labkit.support.forked import Shared
from labkit.support.replacing import InCommon
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.lines_tool import OFTEN, Tool
from labkit.watch.swallowed import note_line, on_flight

#: The methods of class-based handlers: of aiohttp's ``web.View``, since a WebSocket begins with GET, and of Starlette's
#: ``WebSocketEndpoint``; and the frameworks whose own methods are nobody's handler.
_METHODS: Final = ("get", "on_receive", "on_connect", "on_disconnect")
_FRAMEWORKS: Final = frozenset({"aiohttp", "starlette"})

K = TypeVar("K")

__all__ = ["begin_connection", "executable", "gather", "leave_out", "original", "waits_at", "watch", "watch_too"]


def original(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Find the function that the author wrote.

    Args:
        handler: a function, a method, a ``functools.partial``, a decorated function, an object with ``__call__``, or a
            class such as aiohttp's ``web.View`` or Starlette's ``WebSocketEndpoint``.

    Returns:
        The wrapped function, or ``handler`` itself if it wraps none.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    handler = inspect.unwrap(handler)
    if inspect.isclass(handler) and hasattr(handler, "__await__"):
        handler = inspect.unwrap(_main_method(handler))
    if not inspect.isclass(handler) and not hasattr(handler, "__code__") and hasattr(type(handler), "__call__"):  # noqa: B004 - the method is wanted
        handler = inspect.unwrap(type(handler).__call__)
    return getattr(handler, "__func__", handler)


def _main_method(handler: type[Any]) -> Any:
    """The method of a class-based handler that stands for it; the others of its file are its helpers."""
    own = [base for base in handler.__mro__ if base.__module__.partition(".")[0] not in _FRAMEWORKS]
    members = {name: getattr(handler, name) for base in own for name in vars(base) if name in _METHODS}
    return next((members[name] for name in _METHODS if name in members), handler)


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


class _Source:
    """What does not change of a function, with the functions inside it.

    Args:
        code: its code.
    """

    def __init__(self, code: CodeType) -> None:
        self.lines_of_all: list[str] | None = None
        self.first = code.co_firstlineno
        self.codes = list(with_nested(code))
        self.lines = executable(code)
        self.bits = {line: 1 << place for place, line in enumerate(self.lines)}
        # What exec() compiles is "<string>"; so is the program of `python -c`, whose text Python 3.13 would give.
        if code.co_filename != "<string>":
            # A file that has changed since may hold anything by now.
            with contextlib.suppress(OSError, TypeError, SyntaxError, tokenize.TokenError):
                self.lines_of_all, self.first = inspect.getsourcelines(code)
        self._texts: dict[int, str] = {}

    def text(self, line: int) -> str:
        """The text of a line, the same object for each connection."""
        if (found := self._texts.get(line)) is None:
            index, source = line - self.first, self.lines_of_all or ()
            found = source[index].strip() if 0 <= index < len(source) else f"line {line}"
            self._texts[line] = found
        return found

    @functools.cached_property
    def text_of_all(self) -> str | None:
        """All of it; None if that is not at hand."""
        return None if self.lines_of_all is None else "".join(self.lines_of_all)


@functools.lru_cache(maxsize=256)
def _source_of(_: int, code: CodeType) -> _Source:
    """Read a function's source once; by the code's id too, since codes of other comments are equal."""
    return _Source(code)


class _Function:
    """A function that is watched: the handler, or a helper that it may call; with the functions inside it.

    Args:
        code: its code.
        name: its name, if it is not in the handler's file.

    Attributes:
        name: its name, if it is not in the handler's file.
        source: what does not change of it.
    """

    def __init__(self, code: CodeType, name: str = "") -> None:
        self.name = name
        self.source = source = _source_of(id(code), code)
        self.codes, self.lines, self.first = source.codes, source.lines, source.first
        # Which lines have run, by connection: a bit for each, since there may be thousands of connections.
        self._seen: dict[int | None, int] = {}
        self._bits, self._all = source.bits, (1 << len(source.bits)) - 1

    def sees(self, line: int, number: int | None) -> bool:
        """Note that a line runs on a connection; return whether it can, and does so for the first time."""
        seen, bit = self._seen.get(number, 0), self._bits.get(line, 0)
        if seen & bit == bit:
            return False
        self._seen[number] = seen | bit
        return True

    def has_seen_any(self, number: int | None) -> bool:
        """Whether a line has run on a connection."""
        return bool(self._seen.get(number))

    def has_seen_all(self, number: int | None) -> bool:
        """Whether each line has run on a connection."""
        return self._seen.get(number, 0) == self._all


class _Account:
    """The lines of a handler, and of its helpers that have run, in one experiment."""

    def __init__(self, timeline: Timeline, handler: _Function, helpers: Sequence[_Function]) -> None:
        self.timeline = timeline
        self.handler = handler
        self.called: dict[int | None, tuple[_Function, ...]] = {}
        self._told: dict[tuple[_Function, ...], tuple[Any, ...]] = {}
        self.let_alone: dict[tuple[_Function, int | None], str] = {}
        self.codes = [*{id(code): code for function in (*helpers, handler) for code in function.codes}.values()]
        self.functions = {id(code): function for function in (*helpers, handler) for code in function.codes}
        self.connections: set[int | None] = set()
        self.outlined: set[int | None] = set()
        self._known: dict[tuple[int, int | None], int] = {}
        self._shared: dict[int | None, Shared] = {}

    def begin(self, number: int) -> None:
        """Note that a connection begins."""
        with _counting:
            if number not in self.connections:
                self.connections.add(number)
                for code in self.functions:
                    _connections[code] = _connections.get(code, 0) + 1

    def end(self) -> None:
        """Take back what is known."""
        with _counting:
            for code in self.functions:
                _take(_connections, code, len(self.connections))
            for key, count in self._known.items():
                _take(_known, key, count)
            self.connections.clear()  # what another thread still learns is nobody's

    def _learn(self, function: _Function, code: CodeType, line: int, number: int | None) -> None:
        """Note that a line has run on a connection, and perhaps all lines of its function."""
        learnt: list[tuple[int, int | None]] = [(id(code), line)]
        if function.has_seen_all(number):
            learnt += [(id(each), None) for each in function.codes]
        with _counting:
            if number in self.connections:
                for key in learnt:
                    self._known[key] = self._known.get(key, 0) + 1
                    _known[key] = _known.get(key, 0) + 1

    def ran(self, here: Scope, code: CodeType, line: int) -> None:
        """Record that a line has run, with the connection's number; only the first time."""
        function = self.functions.get(id(code))
        if function is None or here.number in self.outlined or not function.sees(line, here.number):
            return
        self._learn(function, code, line, here.number)
        self._call(here, function)
        here.record(HandlerLine(line, function.name, text=function.source.text(line)))

    def _call(self, here: Scope, function: _Function) -> None:
        """Note that a function has run, whose lines can all run from now on."""
        if function is not self.handler and function not in (called := self.called.get(here.number, ())):
            self.called[here.number] = (*called, function)
            self.tell(here)

    @functools.cached_property
    def _shareable(self) -> list[tuple[_Function, int | None]]:
        """What a forked process may tell: that a line has run; with None, that a function was let alone."""
        return [(each, line) for each in dict.fromkeys(self.functions.values()) for line in (*sorted(each.lines), None)]

    def share(self, number: int | None) -> None:
        """Have the processes that a connection's code forks from now on tell which lines run there."""
        if number not in self._shared:
            self._shared[number] = Shared(len(self._shareable))

    def ran_in_fork(self, here: Scope, code: CodeType, line: int) -> None:
        """Tell the process of the lab that a line has run in this one, which was forked."""
        function = self.functions.get(id(code))
        if function is not None and function.sees(line, here.number):
            self._tell_parent(here, function, line)

    def let_alone_in_fork(self, here: Scope, function: _Function) -> None:
        """Tell the process of the lab that lines of a function may run unseen in this one, which was forked."""
        self._tell_parent(here, function, None)

    def _tell_parent(self, here: Scope, function: _Function, line: int | None) -> None:
        if (shared := self._shared.get(here.number)) is not None:
            shared.note(self._shareable.index((function, line)), self.timeline.now())

    def gather(self) -> None:
        """Record which lines have run in processes that were forked, and nowhere else."""
        for number, shared in self._shared.items():
            for index, at in sorted(shared.noted(), key=lambda noted: noted[1]):
                function, line = self._shareable[index]
                if line is None:
                    self.let_alone.setdefault((function, number), OFTEN)
                elif function.sees(line, number):
                    here = Scope(self.timeline, "handler", number)
                    self._call(here, function)
                    here.record_at(at, HandlerLine(line, function.name, text=function.source.text(line)))

    def missed(self, why: str | None) -> str | None:
        """Say why lines may have run that were not seen to; None if there are none.

        Args:
            why: why any line may have been missed; None if it may not.
        """
        if why is not None:
            for number in self.connections - self.outlined:
                self.let_alone.update(((each, number), why) for each in self.functions.values())
        for (function, number), reason in self.let_alone.items():
            if number is None and not function.has_seen_any(None):
                continue  # a server that starts has computed, and no handler
            if not function.has_seen_all(number):
                return reason
        return None

    def tell(self, here: Scope, problem: str | None = None) -> None:
        """Record which lines can run on a connection, or on all; or why that is not watched."""
        if here.number is None:
            called = tuple(dict.fromkeys(itertools.chain(*self.called.values())))
        else:
            called = self.called[here.number]
        if called not in self._told:  # most connections call the same ones, so their events share what they tell
            self._told[called] = self._describe(called)
        lines, helpers, elsewhere = self._told[called]
        tool = None if problem else _tool.name
        text = self.handler.source.text_of_all
        here.record(HandlerLines(lines, tool, problem, text, self.handler.first, helpers, elsewhere))

    def _describe(self, called: tuple[_Function, ...]) -> tuple[Any, ...]:
        """The lines that can run of the handler and its helpers; the helpers' sources; and the same in other files."""
        own = [each for each in called if not each.name]
        lines = sorted(self.handler.lines.union(*(helper.lines for helper in own)))
        helpers = [(helper.first, helper.source.text_of_all) for helper in own if helper.source.text_of_all is not None]
        others = [each for each in called if each.name]
        elsewhere = [(each.name, sorted(each.lines), each.first, each.source.text_of_all) for each in others]
        return lines, helpers, elsewhere


#: The accounts of the running experiments, by the id of the timeline.
_accounts: dict[int, list[_Account]] = {}


#: How many connections may run a function; and on how many of them a line of it has run, or each line (None).
#: By the id of the code: to compare two codes, Python computes from all that is in them.
_connections: Final[dict[int, int]] = {}
_known: Final[dict[tuple[int, int | None], int]] = {}
_counting: Final = threading.Lock()  # experiments may run in several threads


def _take(counts: dict[K, int], key: K, count: int) -> None:
    """Count less; what nobody counts any more is forgotten."""
    left = counts.pop(key, 0) - count
    if left > 0:
        counts[key] = left


class _Listener:
    """Gives the tool's word to the accounts of the experiment in whose scope the code runs.

    Attributes:
        forked: whether this is a process that was forked, whose timelines nobody reads.
    """

    def __init__(self) -> None:
        self.forked = False

    def ran(self, code: CodeType, line: int) -> None:
        note_line(code, line)
        here = scope.get()
        if here is not None:
            for account in _accounts.get(id(here.timeline), ()):
                (account.ran_in_fork if self.forked else account.ran)(here, code, line)

    def is_known(self, code: CodeType, line: int | None = None) -> bool:
        if self.forked:
            return line is not None or self._has_told_all(code)
        return 0 < _known.get((id(code), line), 0) == _connections.get(id(code))

    def _has_told_all(self, code: CodeType) -> bool:
        """Whether each line of a function has been told, in a process that was forked: once is enough."""
        here = scope.get()
        known = [] if here is None else [each.functions.get(id(code)) for each in _accounts.get(id(here.timeline), ())]
        return all(each is None or each.has_seen_all(here and here.number) for each in known)

    def let_alone(self, code: CodeType | None = None, why: str = OFTEN) -> None:
        here = scope.get()
        for account in () if here is None else _accounts.get(id(here.timeline), ()):
            for function in account.functions.values() if code is None else [account.functions.get(id(code))]:
                if function is not None and here is not None and here.number not in account.outlined:
                    account.let_alone.setdefault((function, here.number), why)
                    if self.forked:
                        account.let_alone_in_fork(here, function)


_listener: Final = _Listener()
_tool = Tool(_listener)
_carrying: Final = InCommon(functools.partial(carry_scope, _tool.in_thread))
on_flight.append(_tool.look_again)


def _before_fork() -> None:
    here = scope.get()
    if here is not None and not _listener.forked:
        for account in _accounts.get(id(here.timeline), ()):
            account.share(here.number)


def _in_fork() -> None:
    _listener.forked = True
    _tool.begin_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before_fork, after_in_child=_in_fork)


def _begin_here() -> None:
    """Forget what a process was forked with that plays experiments of its own, as an executor's worker does."""
    if _listener.forked:
        _listener.forked = False
        with _counting:
            for each in (_accounts, _connections, _known):
                each.clear()


def gather(timeline: Timeline) -> None:
    """Record which lines have run only in processes that the handler has forked; at the end this is done anyway.

    Args:
        timeline: the experiment's timeline.
    """
    for account in _accounts.get(id(timeline), ()):
        account.gather()


def begin_connection(timeline: Timeline, number: int) -> None:
    """Note that a handler is called, whose lines are to be seen though those of others are known.

    Args:
        timeline: the experiment's timeline.
        number: the number of the connection.
    """
    for account in _accounts.get(id(timeline), ()):
        account.begin(number)
    _tool.look_again()


def leave_out(timeline: Timeline, number: int) -> None:
    """Note that a handler is called whose lines are not watched.

    Args:
        timeline: the experiment's timeline.
        number: the number of the connection.
    """
    for account in _accounts.get(id(timeline), ()):
        account.outlined.add(number)


#: The functions in other files than a handler's whose lines are watched too; one may be there several times.
_too: Final[list[FunctionType]] = []


@contextmanager
def watch_too(functions: Sequence[FunctionType]) -> Iterator[None]:
    """Let experiments that begin while the block runs watch the lines of other functions too, where handlers call them.

    Args:
        functions: the functions, in any file.
    """
    _too.extend(functions)
    try:
        yield
    finally:
        for each in functions:
            _too.remove(each)


def _watched_too(handler: CodeType, known: set[CodeType]) -> Iterator[_Function]:
    """The other functions that are watched, besides those that are known."""
    known = {*known, *with_nested(handler)}
    for each in _too:
        code = each.__code__
        if code not in known:
            own = code.co_filename == handler.co_filename
            yield _Function(code, "" if own else f"{each.__module__}.{each.__qualname__}".replace(".<locals>", ""))
            known.update(with_nested(code))


@contextmanager
def watch(handler: Callable[..., Any], timeline: Timeline) -> Iterator[None]:
    """Record when each line of a handler first runs in the experiment of a timeline.

    First comes a ``lines`` event: the lines that can run, the source, and the tool that watches the lines, or why no
    tool can. A second one follows if another tool has taken over.

    Args:
        handler: the handler.
        timeline: the experiment's timeline; only code that runs in its scope is recorded.
    """
    _begin_here()
    function = original(handler)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        timeline.append(HandlerLines([], None, "the handler is not Python code", None, 0))
        yield
        return
    helpers = [_Function(each.__code__) for each in find_helpers(handler, function)]
    helpers += _watched_too(code, {each for helper in helpers for each in helper.codes})
    account = _Account(timeline, _Function(code), helpers)
    codes = account.codes
    problem = _tool.enter(codes)
    account.tell(Scope(timeline, "handler"), problem)
    if problem is not None:
        yield
        return
    _accounts.setdefault(id(timeline), []).append(account)
    try:
        with _carrying():
            yield
    finally:
        account.gather()
        _accounts[id(timeline)].remove(account)
        problem = account.missed(_tool.leave(codes))
        account.end()
        if not _accounts[id(timeline)]:
            del _accounts[id(timeline)]
        if problem is not None:
            account.tell(Scope(timeline, "handler"), problem)
