"""A handler's own bugs, told apart from a rule that it breaks."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from labkit.exercises.exercise import Trial
from labkit.exercises.story import Story
from labkit.experiment import Run
from labkit.faults import InducedError
from labkit.timeline import Event

__all__ = ["find_bug", "find_stray_exception"]

#: More lines than this are a storm: nobody reads them, and they hide what matters.
_STORM: Final = 200

#: Exceptions that no fault causes, whenever they come.
_MISTAKES: Final = re.compile(
    r"(NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SystemExit|AttributeError: module)\b"
)
#: The same before the fault; after it they may come of what the library hands out.
_EARLY_MISTAKES: Final = re.compile(r"(AttributeError|TypeError|LookupError|IndexError|KeyError)\b")


def find_bug(run: Run, trial: Trial) -> str | None:
    """Look for a bug of the handler's own.

    Args:
        run: the handler, played.
        trial: how.

    Returns:
        A sentence that names it, or None.
    """
    story = Story(run)
    if (storm := _storm(story)) is not None:
        return storm
    end, fault = story.end, story.fault
    if end is not None and end.data["ending"] == "raised":
        before = fault is None or end.at < fault.at
        exception = end.data["exception"]
        early = _EARLY_MISTAKES.match(exception) or not (trial.trap or end.data["loss"])
        if _MISTAKES.match(exception) or (before and early):
            return _raised(story, end, "before any fault" if before else "after the fault, and not because of it")
    if trial.answered and fault is not None and (end is None or end.at > fault.at):
        sent = [event for event in story.all("client", "send") if event.at < fault.at]
        came = any(event.at < fault.at for event in story.all("client", "recv"))
        if sent and not came:
            said = f"the client sent {sent[0].text} at {story.at(sent[0])} and had no answer by {story.at(fault)}"
            return f"your handler hangs, or forgets to answer: {said}{_line(story, fault.at)}"
    return None


def find_stray_exception(run: Run) -> str | None:
    """Look for an exception that no rule of the exercise asks about: a handler that keeps its rules may have one still.

    Args:
        run: the handler, played; it keeps every rule.

    Returns:
        A sentence that names it, or None.
    """
    story = Story(run)
    end = story.end
    if end is None or end.data["ending"] != "raised" or end.data["loss"] or _INDUCED in end.data["exception"]:
        return None
    return _raised(story, end, "which breaks no rule, and is not meant to be")


#: What the fault ``handler-error`` raises.
_INDUCED: Final = f"{InducedError.__qualname__}: "


def _raised(story: Story, end: Event, when: str) -> str:
    return f"your handler raised {end.data['exception']}, at {story.at(end)}, {when}{_line(story)}{_library(story.run)}"


def _storm(story: Story) -> str | None:
    """Look for what goes on and on."""
    seen = Counter(event.kind for event in story.all("handler", "print", "note", "notice"))
    if seen["print"] > _STORM:
        told = f"printed {seen['print']:,} lines in {story.waited}"
        return f"your handler {told}; take the print away, or use labkit.note once"
    if seen["notice"] > _STORM:
        told = f"was told {seen['notice']:,} times that the connection is over, and asked it again"
        return f"your handler {told}: leave the loop when the exception comes"
    if seen["note"] > _STORM:
        return f"your handler noted {seen['note']:,} things in {story.waited}; note once what matters"
    return None


def _line(story: Story, until: float = float("inf")) -> str:
    lines = [event for event in story.all("handler", "line") if event.at <= until]
    if not lines:
        return ""
    number, text = f"line {lines[-1].data['line']}", lines[-1].text.strip()
    return f"; the last new line that ran was {number}" + ("" if text == number else f": {text}")


def _library(run: Run) -> str:
    """What the verdict says of a handler that was written for another library."""
    _, found, told = run.verdict.sentence.partition("this one expects something else: ")
    return f"; {told.rstrip('?')}?" if found else ""
