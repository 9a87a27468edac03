"""Finds the line of a function that has caught an exception and not passed it on."""

from __future__ import annotations

import ast
import dis
import inspect
import itertools
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CodeType, FrameType
from typing import Final, Literal, NamedTuple

__all__ = ["Ran", "find_end", "led_by_exception"]

#: The first instruction of what an exception leads to: of an ``except``, a ``finally``, or the end of a ``with``.
_HANDLER: Final = dis.opmap["PUSH_EXC_INFO"]
#: Before it: Python 3.13 tells the line of an ``await`` once more when an exception comes to it.
_COMES: Final = dis.opmap.get("CLEANUP_THROW")

_Try = ast.Try | ast.TryStar
_With = ast.With | ast.AsyncWith
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Ran(NamedTuple):
    """A line that has run.

    Attributes:
        code: the function.
        line: its number in the file.
        held: whether the exception was being handled then, or was about to be.
        free: whether neither it was, nor one that had come up since.
    """

    code: CodeType
    line: int
    held: bool
    free: bool


def led_by_exception(frame: FrameType) -> Literal["to", "away", "no"]:
    """Tell whether an exception leads a function to the line that it is about to run, or away from it."""
    instruction = frame.f_code.co_code[frame.f_lasti] if frame.f_lasti >= 0 else None
    return "to" if instruction == _HANDLER else "away" if instruction == _COMES else "no"


def find_end(code: CodeType, at: int | None, ran: Sequence[Ran]) -> int | None:
    """Find the line that has ended an exception.

    Args:
        code: the function that has caught it, and not raised it again.
        at: the line of the function at which the exception came up.
        ran: the lines that have run since, of this function and of others.

    Returns:
        The line of the ``except`` clause, of the ``with`` statement, or of the statement in a ``finally`` that leaves
        it; None if that cannot be known.
    """
    tree = _tree(code)
    if tree is None or at is None:
        return None
    ends = list(_ends(tree, at))
    mine = [each for each in ran if each.code is code]
    if not mine:
        return ends[0][0] if len(ends) == 1 else None  # nobody watches its lines
    # As soon as a line has run without the exception, it had ended.
    lines = {each.line for each in itertools.takewhile(lambda each: not each.free, mine) if each.held}
    passed = [own for own in ends if lines.intersection(own)]
    return passed[0][0] if passed else None


def _ends(tree: ast.AST, at: int) -> Iterator[range]:
    """The lines of what can end an exception that comes up at a line, from the outside inwards.

    The clauses of one ``try`` are in the opposite order of their lines: the last one that is looked at is the one.
    """
    for node in _outwards_in(tree, at):
        if isinstance(node, _Try):
            if _is_in(at, node.body):
                yield from (range(each.lineno, _last(each.type, each.lineno) + 1) for each in reversed(node.handlers))
            if not _is_in(at, node.finalbody):
                yield from (range(each.lineno, each.lineno + 1) for each in _leaves(node.finalbody, in_loop=False))
        elif isinstance(node, _With) and _is_in(at, node.body):
            yield range(node.lineno, max(_last(item.context_expr, node.lineno) for item in node.items) + 1)


def _outwards_in(tree: ast.AST, at: int) -> Iterator[ast.AST]:
    """The statements of a function around a line, the outermost first."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, _Function | ast.ClassDef):  # that is another function's
            if isinstance(child, ast.stmt) and child.lineno <= at <= (child.end_lineno or child.lineno):
                yield child
            if not isinstance(child, ast.expr):
                yield from _outwards_in(child, at)


def _leaves(body: Sequence[ast.stmt], *, in_loop: bool) -> Iterator[ast.stmt]:
    """The statements of a ``finally`` that leave it, and so drop the exception."""
    for node in body:
        if isinstance(node, ast.Return) or (isinstance(node, ast.Break | ast.Continue) and not in_loop):
            yield node
        elif not isinstance(node, _Function | ast.ClassDef):
            yield from _leaves(_inside(node), in_loop=in_loop or isinstance(node, ast.For | ast.AsyncFor | ast.While))


def _inside(node: ast.stmt) -> list[ast.stmt]:
    """The statements directly inside a compound statement."""
    found: list[ast.stmt] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            found.append(child)
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            found += child.body
    return found


def _is_in(line: int, body: Sequence[ast.stmt]) -> bool:
    return bool(body) and body[0].lineno <= line <= (body[-1].end_lineno or body[-1].lineno)


def _last(node: ast.AST | None, default: int) -> int:
    return getattr(node, "end_lineno", None) or default


@lru_cache(maxsize=64)
def _tree(code: CodeType) -> ast.AST | None:
    """The syntax tree of a function, with the line numbers of its file; None without its source."""
    if code.co_filename == "<string>":
        return None  # what exec() compiles: Python would read the source of another program
    try:
        lines, first = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return None
    ast.increment_lineno(tree, first - 1)
    return next((node for node in ast.walk(tree) if isinstance(node, _Function)), None)
