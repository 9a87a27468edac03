"""What to mend in a handler that a fault has struck at each of its moments: each finding in one sentence."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from labkit.strikes import Strike, moments_of
from labkit.verdict import Verdict

__all__ = ["advise"]

#: What is said of a task that goes on when it is cancelled.
_REFUSES: Final = ", which refuses to end"


def advise(strikes: Sequence[Strike], *, cancelled: bool, source: tuple[int, str] = (1, "")) -> tuple[str, ...]:
    """Tell what is to be mended.

    Args:
        strikes: the moments, in order.
        source: the number of the first line of the handler's source, and the source, if it is at hand.
        cancelled: whether the fault was ``cancel``, after which a handler has to end, its limit of time has to fire,
            and nothing may be left.

    Returns:
        For each finding a sentence: where it was, what went wrong, at which moments, and what mends it.
    """
    found: dict[tuple[str, str], list[Strike]] = {}
    for strike in strikes:
        if strike.verdict is not None and strike.verdict.struck:
            each = [
                *_swallowed(strike.verdict, source),
                *(_after_a_cancel(strike, strike.verdict) if cancelled else ()),
            ]
            for finding in each:
                found.setdefault(finding, []).append(strike)
    return tuple(f"{what} (at {moments_of(those)}): {mending}." for (what, mending), those in found.items())


def _swallowed(verdict: Verdict, source: tuple[int, str]) -> Iterator[tuple[str, str]]:
    if verdict.swallowed is None:
        return
    if verdict.ending == "running":
        cost = "so the handler does not end"
    elif verdict.timed_out is False:
        cost = "so asyncio.timeout around the handler does not fire"
    else:
        cost = "so who has cancelled is not told that it came through"
    for line in verdict.swallowed:
        yield f"Line {line} swallows the cancel, {cost}", _mend(line, *source)


def _mend(line: int, first: int, source: str) -> str:
    """What lets a cancel pass at the line at which it has ended."""
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(source))))
    except SyntaxError:  # a handler whose source is no whole statement, such as a lambda
        nodes = []
    at = line - first + 1
    for node in nodes:
        if isinstance(node, ast.Try) and (left := next((each for each in node.finalbody if _spans(each, at)), None)):
            leaves = [each for each in ast.walk(left) if isinstance(each, ast.Return | ast.Break | ast.Continue)]
            if word := next((type(each).__name__.lower() for each in leaves if each.lineno == at), None):
                return f"leave the `{word}` out of the `finally`, which drops whatever is raised"
    for node in nodes:
        if isinstance(node, ast.With | ast.AsyncWith) and node.lineno <= at < node.body[0].lineno:
            return "what stands in the `with` must let a cancel pass, such as `suppress(Exception)`"
    return "end the clause with `raise`, after the cleanup"


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _after_a_cancel(strike: Strike, verdict: Verdict) -> Iterator[tuple[str, str]]:
    """What a handler has to do when it is cancelled, and has not done."""
    at = "The handler" if strike.line is None else f"Cancelled at line {strike.line}, the handler"
    if verdict.ending == "running" and not verdict.swallowed:
        left = (each for each in verdict.leaked or () if each.startswith("task ") and each.endswith(_REFUSES))
        if task := next(left, "").removesuffix(_REFUSES):
            what = f"{at} did not end while the patience lasted, nor did {task}, which goes on when it is cancelled"
            yield what, "let the cancel pass in that task too"
        else:
            yield f"{at} did not end while the patience lasted", "give its cleanup a limit, such as `asyncio.timeout`"
    if verdict.timed_out is False and verdict.ending == "returned" and verdict.swallowed == ():
        what = f"{at} returned, and the cancel did not come out, so asyncio.timeout around it does not fire"
        yield what, "let the cancel pass, and leave `uncancel()` to who has cancelled"
    if verdict.timed_out is False and verdict.ending == "raised":
        kind = (verdict.exception or "").partition(":")[0]
        what = f"{at} raised {kind} in place of the cancel, so asyncio.timeout around it does not fire"
        yield what, "catch the errors of the cleanup inside of it, and let the cancel pass"
    if verdict.ending != "running" and verdict.cleanup == "missing":
        yield f"{at} left something open", "open it with `async with`, or close it in a `finally`"
    if verdict.ending != "running" and verdict.leaked:
        what = f"{at} left behind: {', '.join(verdict.leaked)}"
        yield what, "end it, and wait for its end, before the handler ends; a task group does both"
