"""Changes one thing in a handler at a time: an await, a statement, a branch, a limit, an order."""

from __future__ import annotations

import ast
import copy
import linecache
import sys
from collections.abc import Callable, Iterator
from typing import Any

import labkit

__all__ = ["build", "mutants"]


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Change one thing in a handler: yield what was changed, and the new source."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for number, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node):
            mutant = copy.deepcopy(tree)
            change(list(ast.walk(mutant))[number])
            text = ast.unparse(ast.fix_missing_locations(mutant))
            if text not in seen:
                seen.add(text)
                yield f"line {getattr(node, 'lineno', 0)}: {what}", text


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.Await):
            yield "without await", lambda it, field=field: setattr(it, field, getattr(it, field).value)
        if field in {"body", "orelse", "finalbody"} and isinstance(value, list) and not isinstance(node, ast.Module):
            for at, statement in enumerate(value):
                yield f"without {ast.unparse(statement)!r}", lambda it, f=field, at=at: _drop(getattr(it, f), at)
                if at:
                    yield "in another order", lambda it, f=field, at=at: _swap(getattr(it, f), at)
    yield from _other_branches(node)
    yield from _other_values(node)


def _other_branches(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    match node:
        case ast.Try(handlers=[_, _, *_]):
            yield "branches in another order", lambda it: it.handlers.reverse()
            for at in range(len(node.handlers)):
                yield f"without except {at}", lambda it, at=at: it.handlers.pop(at)
        case ast.Try(handlers=[_], finalbody=[_, *_]):
            yield "without except", lambda it: it.handlers.pop()
        case ast.Try(handlers=[], finalbody=[_, *_]):
            yield "without finally", _after
        case ast.ExceptHandler(type=ast.expr()):
            for kind in ("Exception", "ConnectionError", "ConnectionClosed", "ConnectionClosedError", "TimeoutError"):
                yield f"except {kind}", lambda it, kind=kind: setattr(it, "type", ast.Name(kind))
        case ast.AsyncWith() | ast.With():
            yield "without with", _bare


def _other_values(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    match node:
        case ast.Tuple(elts=[ast.Constant() | ast.Name() as first, _, *_], ctx=ast.Load()):
            for at in range(len(node.elts)):
                yield f"narrower by {at}", lambda it, at=at: it.elts.pop(at)
            codes = [ast.Constant(code) for code in (1002, 1006, 1011, 4000)]
            for more in (
                codes if isinstance(first, ast.Constant) else [ast.Name("Exception"), ast.Name("BaseException")]
            ):
                yield f"wider by {ast.unparse(more)}", lambda it, more=more: it.elts.append(more)
        case ast.IfExp():
            yield "the other way round", _turn
        case ast.UnaryOp(op=ast.Not()):
            yield "always", lambda it: setattr(it, "operand", ast.Constant(False))
        case ast.If():
            yield "always", lambda it: setattr(it, "test", ast.Constant(True))
        case ast.Constant(value=str(word)):
            yield "another word", lambda it, word=word: setattr(it, "value", f"{word}!")
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as number) if number:
            for factor in (4, 0.25):
                yield f"{factor} times", lambda it, n=number * factor: setattr(it, "value", n)


def _drop(body: list[ast.stmt], at: int) -> None:
    body[at] = ast.Pass()


def _swap(body: list[ast.stmt], at: int) -> None:
    body[at - 1], body[at] = body[at], body[at - 1]


def _turn(choice: ast.IfExp) -> None:
    choice.body, choice.orelse = choice.orelse, choice.body


def _after(it: ast.Try) -> None:
    """Do what stands in ``finally`` after the rest, as long as that ends well."""
    it.handlers.append(ast.ExceptHandler(type=ast.Name("ZeroDivisionError"), body=[ast.Pass()]))
    it.body.extend(it.finalbody)
    it.finalbody = []


def _bare(it: ast.AsyncWith | ast.With) -> None:
    """Do what stands in ``with`` without it."""
    it.items = [ast.withitem(context_expr=ast.Call(ast.Name("_nothing"), [], []))]


def build(name: str, source: str, **others: Any) -> Any:
    """Make the handler from its source, in the names of the exercise's own module, and others."""
    solution: Any = labkit.EXERCISES[name].solution
    names = {**vars(sys.modules[solution.__module__]), "_nothing": _Nothing, **others}
    file = f"<mutant {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), names)
    return names["my_handler"]


class _Nothing:
    """A context manager, of both kinds, that does nothing."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...
