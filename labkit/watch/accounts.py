"""The account of an experiment's lines: which can run, which have run, and on which connection."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import threading
import tokenize
from collections.abc import Sequence
from types import CodeType
from typing import Any, Final, TypeVar

from labkit.events import HandlerLine, HandlerLines
from labkit.introspection.helpers import with_nested
from labkit.support.forked import Shared
from labkit.timeline import Scope, Timeline
from labkit.watch.lines_tool import OFTEN

__all__ = ["Account", "Function", "executable", "forget", "is_known"]

K = TypeVar("K")

#: How many connections may run a function; and on how many of them a line of it has run, or each line (None).
#: By the id of the code: to compare two codes, Python computes from all that is in them.
_connections: Final[dict[int, int]] = {}
_known: Final[dict[tuple[int, int | None], int]] = {}
_counting: Final = threading.Lock()  # experiments may run in several threads


def is_known(code: CodeType, line: int | None) -> bool:
    """Tell whether nothing is new any more of a function, wherever it runs.

    Args:
        code: its code, or that of a function inside it.
        line: the number of a line, or None for all of its lines.

    Returns:
        Whether that has run on each connection that may run the function.
    """
    return 0 < _known.get((id(code), line), 0) == _connections.get(id(code))


def forget() -> None:
    """Forget what a process was forked with."""
    with _counting:
        _connections.clear()
        _known.clear()


def _take(counts: dict[K, int], key: K, count: int) -> None:
    """Count less; what nobody counts any more is forgotten."""
    left = counts.pop(key, 0) - count
    if left > 0:
        counts[key] = left


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


class Source:
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
def _source_of(_: int, code: CodeType) -> Source:
    """Read a function's source once; by the code's id too, since codes of other comments are equal."""
    return Source(code)


class Function:
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


class Account:
    """The lines of a handler, and of its helpers that have run, in one experiment.

    Args:
        timeline: where to record.
        handler: the handler.
        helpers: what it may call, as far as that is watched.
        tool: the name of the tool that watches the lines.

    Attributes:
        codes: the codes of all functions.
        functions: the functions by the ids of their codes, and of the codes inside them.
        let_alone: why lines of a function may have run unseen on a connection.
        outlined: the connections whose lines are not watched.
    """

    def __init__(self, timeline: Timeline, handler: Function, helpers: Sequence[Function], tool: str) -> None:
        self.timeline = timeline
        self._tool = tool
        self.handler = handler
        self.called: dict[int | None, tuple[Function, ...]] = {}
        self._told: dict[tuple[Function, ...], tuple[Any, ...]] = {}
        self.let_alone: dict[tuple[Function, int | None], str] = {}
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

    def _learn(self, function: Function, code: CodeType, line: int, number: int | None) -> None:
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

    def _call(self, here: Scope, function: Function) -> None:
        """Note that a function has run, whose lines can all run from now on."""
        if function is not self.handler and function not in (called := self.called.get(here.number, ())):
            self.called[here.number] = (*called, function)
            self.tell(here)

    @functools.cached_property
    def _shareable(self) -> list[tuple[Function, int | None]]:
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

    def let_alone_in_fork(self, here: Scope, function: Function) -> None:
        """Tell the process of the lab that lines of a function may run unseen in this one, which was forked."""
        self._tell_parent(here, function, None)

    def _tell_parent(self, here: Scope, function: Function, line: int | None) -> None:
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
        tool = None if problem else self._tool
        text = self.handler.source.text_of_all
        here.record(HandlerLines(lines, tool, problem, text, self.handler.first, helpers, elsewhere))

    def _describe(self, called: tuple[Function, ...]) -> tuple[Any, ...]:
        """The lines that can run of the handler and its helpers; the helpers' sources; and the same in other files."""
        own = [each for each in called if not each.name]
        lines = sorted(self.handler.lines.union(*(helper.lines for helper in own)))
        helpers = [(helper.first, helper.source.text_of_all) for helper in own if helper.source.text_of_all is not None]
        others = [each for each in called if each.name]
        elsewhere = [(each.name, sorted(each.lines), each.first, each.source.text_of_all) for each in others]
        return lines, helpers, elsewhere
