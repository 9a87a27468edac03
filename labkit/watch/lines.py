"""Records which lines of a handler ran, and when each line first ran.

Python 3.12 and later have ``sys.monitoring``, which costs nothing outside the handler. Python 3.11 has only
``sys.settrace``, one per thread. If a debugger or a coverage tool holds it, the lab leaves it alone, and the answer is
*unknown*.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, Final

from labkit.events import HandlerLines
from labkit.introspection.helpers import find_helpers, with_nested
from labkit.remains.threads import carry_scope
from labkit.support.replacing import InCommon
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.accounts import Account, Function, forget, is_known
from labkit.watch.handler import original
from labkit.watch.lines_tool import OFTEN, Tool
from labkit.watch.swallowed import note_line, on_flight

__all__ = ["begin_connection", "gather", "leave_out", "watch", "watch_too"]

#: The accounts of the running experiments, by the id of the timeline.
_accounts: dict[int, list[Account]] = {}


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
        return is_known(code, line)

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
        _accounts.clear()
        forget()


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


def _watched_too(handler: CodeType, known: set[CodeType]) -> Iterator[Function]:
    """The other functions that are watched, besides those that are known."""
    known = {*known, *with_nested(handler)}
    for each in _too:
        code = each.__code__
        if code not in known:
            own = code.co_filename == handler.co_filename
            yield Function(code, "" if own else f"{each.__module__}.{each.__qualname__}".replace(".<locals>", ""))
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
    helpers = [Function(each.__code__) for each in find_helpers(handler, function)]
    helpers += _watched_too(code, {each for helper in helpers for each in helper.codes})
    account = Account(timeline, Function(code), helpers, _tool.name)
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
