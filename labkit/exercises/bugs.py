"""Finding a handler's own bugs. A bug is reported instead of the rules, which would only show its effects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from labkit.events import (
    ClientRecv,
    ClientSend,
    HandlerBlocked,
    HandlerCancelled,
    HandlerEnd,
    HandlerLine,
    HandlerLog,
    HandlerNote,
    HandlerNotice,
    HandlerPrint,
    LoopException,
)
from labkit.exercises.exercise import Trial
from labkit.exercises.summary import Summary, milliseconds
from labkit.experiment.run import Run

__all__ = ["find_blocks", "find_bug", "find_endless_block", "find_forgotten_await", "find_stray_exception"]

#: More printed lines, notes or notices than this are a flood: nobody reads them, and they hide everything else.
_FLOOD: Final = 200

#: So many steps that keep the loop, and for so many seconds in all, are no accident: the handler blocks in its loop.
_OFTEN: Final = (10, 1.0)

#: Exceptions that no fault causes, before or after it.
_MISTAKES: Final = re.compile(
    r"(NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SystemExit|AttributeError: module)\b"
)
#: Exceptions that are mistakes before the fault. After it, they may result from what the library returns.
_EARLY_MISTAKES: Final = re.compile(r"(AttributeError|TypeError|LookupError|IndexError|KeyError)\b")
#: A set that is used as a connection, or the other way round.
_SWAPPED: Final = re.compile(r"'Members' object|got Members|'ServerConnection' object has no attribute '(add|update)'")
#: Python's warning of a coroutine, and what aiohttp logs of a handler that returns no response.
_NEVER_AWAITED: Final = re.compile(r":(\d+): RuntimeWarning: coroutine '(.+)' was never awaited")
_NO_RESPONSE: Final = re.compile(r"Missing return statement|should return a response instance")


def find_bug(run: Run, trial: Trial) -> str | None:
    """Look for a bug in the handler itself.

    Args:
        run: a run of the handler.
        trial: how it was played.

    Returns:
        A sentence that names the bug, or None.
    """
    summary = Summary(run)
    for found in (_flood(summary), find_endless_block(run), find_forgotten_await(run), _not_returned(summary)):
        if found is not None:
            return found
    end, fault = summary.end, summary.fault
    if end is not None and end.exception is not None:
        before = fault is None or end.at < fault.at
        exception = end.exception
        early = _is(_EARLY_MISTAKES, exception) or not (trial.trap or end.loss)
        if _is(_MISTAKES, exception) or (before and early):
            return _raised(summary, end, "before any fault" if before else "after the fault, and not because of it")
    if trial.answered and fault is not None and (end is None or end.at > fault.at):
        sent = [event for event in summary.events.all(ClientSend) if event.at < fault.at]
        answered = any(event.at < fault.at for event in summary.events.all(ClientRecv))
        if sent and not answered:
            waited = f"the client sent {sent[0].text} at {summary.at(sent[0])} and had no answer by {summary.at(fault)}"
            return f"your handler hangs, or forgets to answer: {waited}{_line(summary, fault.at)}"
    return _in_a_task(summary)


def find_stray_exception(run: Run) -> str | None:
    """Look for an exception that no rule of the exercise checks. A handler may keep all rules and still raise one.

    A ``CancelledError`` of the handler's own, when nobody has cancelled it, is one too.

    Args:
        run: a run of a handler that keeps every rule.

    Returns:
        A sentence that names the exception, or None.
    """
    summary = Summary(run)
    end = summary.end
    if end is None:
        return None
    why = "which breaks no rule, and is not meant to be"
    if end.unasked is not None and end.own and summary.events.first(HandlerCancelled) is None:
        return f"{summary.struck}; your handler ended as cancelled, {end.unasked}, at {summary.at(end)}, {why}"
    if end.exception is None or end.loss or end.induced:
        return None
    return _raised(summary, end, why)


def _raised(summary: Summary, end: HandlerEnd, when: str) -> str:
    swapped = "; are its two arguments swapped?" if _SWAPPED.search(end.exception or "") else ""
    told = f"your handler raised {end.exception}, at {summary.at(end)}, {when}{_line(summary)}"
    return told + (swapped or _library(summary.run))


def _is(mistakes: re.Pattern[str], exception: str) -> bool:
    """Whether an exception, or a member of a group, is a mistake."""
    group, bracket, members = exception.partition(" [")
    if "ExceptionGroup" in group.partition(":")[0] and bracket:
        return any(_is(mistakes, member) for member in members.removesuffix("]").split("; "))
    return mistakes.match(exception) is not None


def find_forgotten_await(run: Run) -> str | None:
    """Look for a coroutine that the handler has made and not awaited. Python warns of it on stderr, in one run of many.

    Args:
        run: a run of the handler.

    Returns:
        A sentence that names it, or None.
    """
    for event in Summary(run).events.all(HandlerPrint):
        if found := _NEVER_AWAITED.search(event.text):
            return f"your handler calls {found[2]}() without await, in line {found[1]}, so nothing happens there"
    return None


def find_endless_block(run: Run) -> str | None:
    """Look for a step of the handler that did not give the loop back, so that the lab had to end it.

    Args:
        run: a run of the handler.

    Returns:
        A sentence that names the line, or None.
    """
    for block in run.timeline.all(HandlerBlocked):
        if block.ended:
            where = "" if block.line is None else f", in line {block.line}"
            kept = f"your handler kept the loop for {milliseconds(block.seconds)}{where}, until the lab ended it"
            return f"{kept}: nothing else can run there before the next `await` that waits"
    return None


def find_blocks(blocks: Sequence[HandlerBlocked]) -> str | None:
    """Look whether a handler keeps the loop again and again: then it does so in each run, and holds up all of them.

    Args:
        blocks: the steps of one run in which the handler kept the loop.

    Returns:
        A sentence that names the line, or None.
    """
    seconds = sum(block.seconds for block in blocks)
    if len(blocks) < _OFTEN[0] or seconds < _OFTEN[1]:
        return None
    [(line, _)] = Counter(block.line for block in blocks).most_common(1)
    where = "" if line is None else f", in line {line}"
    kept = f"your handler kept the loop {len(blocks):,} times, for {milliseconds(seconds)} in all{where}"
    return f"{kept}: nothing else can run there meanwhile; wait with `await`"


def _not_returned(summary: Summary) -> str | None:
    """Look for a handler of aiohttp that returns something else than its response."""
    for event in summary.events.all(HandlerLog):
        if _NO_RESPONSE.search(event.text) and summary.end is not None and summary.end.ending == "returned":
            returned = "nothing" if "Missing" in event.text else "no response"
            return (
                f"your handler returned {returned} at {summary.at(summary.end)}, and the log has: {event.text}; end it "
                "with `return ws`"
            )
    return None


def _in_a_task(summary: Summary) -> str | None:
    """Look for a mistake in a task that the handler has started; the loop reports what nobody retrieves."""
    for event in summary.events.all(LoopException):
        if event.exception is not None and _is(_MISTAKES, event.exception):
            return f"a task of your handler raised {event.exception}, by {summary.at(event)}"
    return None


def _flood(summary: Summary) -> str | None:
    """Look for something that the handler repeats without end."""
    count = Counter(event.kind for event in summary.events.all(HandlerPrint, HandlerNote, HandlerNotice))
    if count["print"] > _FLOOD:
        printed = f"printed {count['print']:,} lines in {summary.waited}"
        return f"your handler {printed}; take the print away, or use labkit.note once"
    if count["notice"] > _FLOOD:
        noticed = f"was told {count['notice']:,} times that the connection is over, and asked it again"
        return f"your handler {noticed}: leave the loop when the exception comes"
    if count["note"] > _FLOOD:
        return f"your handler noted {count['note']:,} things in {summary.waited}; note once what matters"
    return None


def _line(summary: Summary, until: float = float("inf")) -> str:
    lines = [event for event in summary.events.all(HandlerLine) if event.at <= until]
    if not lines:
        return ""
    number, text = f"line {lines[-1].where}", lines[-1].text.strip()
    return f"; the last new line that ran was {number}" + ("" if text == number else f": {text}")


def _library(run: Run) -> str:
    """The question at the end of the verdict's sentence if the handler was written for another library."""
    _, separator, question = run.verdict.sentence.partition("this one expects something else: ")
    return f"; {question.rstrip('?')}?" if separator else ""
