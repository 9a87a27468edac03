"""A handler's own bugs, told apart from a rule that it breaks."""

from __future__ import annotations

import re
from typing import Final

from labkit.exercises.exercise import Trial
from labkit.exercises.story import Story
from labkit.experiment import Run

__all__ = ["find_bug"]

#: More lines than this are a storm: nobody reads them, and they hide what matters.
_STORM: Final = 200

#: Exceptions that no fault causes, whenever they come.
_MISTAKES: Final = re.compile(r"(NameError|UnboundLocalError|ImportError|ModuleNotFoundError)\b")
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
    prints = sum(1 for _ in story.all("handler", "print"))
    if prints > _STORM:
        return f"your handler printed {prints:,} lines in {story.waited}; take the print away, or use labkit.note once"
    end, fault = story.end, story.fault
    if end is not None and end.data["ending"] == "raised":
        before = fault is None or end.at < fault.at
        exception = end.data["exception"]
        early = _EARLY_MISTAKES.match(exception) or not (trial.trap or end.data["loss"])
        if _MISTAKES.match(exception) or (before and early):
            when = "before any fault" if before else "after the fault, and not because of it"
            return f"your handler raised {exception}, at {story.at(end)}, {when}{_line(story)}{_library(run)}"
    if trial.answered and fault is not None and (end is None or end.at > fault.at):
        sent = [event for event in story.all("client", "send") if event.at < fault.at]
        came = any(event.at < fault.at for event in story.all("client", "recv"))
        if sent and not came:
            said = f"the client sent {sent[0].text} at {story.at(sent[0])} and had no answer by {story.at(fault)}"
            return f"your handler hangs before it answers: {said}{_line(story)}"
    return None


def _line(story: Story) -> str:
    lines = list(story.all("handler", "line"))
    if not lines:
        return ""
    number, text = f"line {lines[-1].data['line']}", lines[-1].text.strip()
    return f"; the last new line that ran was {number}" + ("" if text == number else f": {text}")


def _library(run: Run) -> str:
    """What the verdict says of a handler that was written for another library."""
    _, found, told = run.verdict.sentence.partition("this one expects something else: ")
    return f"; {told.rstrip('?')}?" if found else ""
