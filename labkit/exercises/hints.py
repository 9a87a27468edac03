"""Help with an exercise: its hints, one at a time, and its solution."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from labkit.exercises.registry import EXERCISES
from labkit.support.checks import find
from labkit.support.wrapping import wrap
from labkit.views.mime import choose

__all__ = ["IN_A_SHELL", "IN_PYTHON", "HelpText", "Place", "forget_hints", "hint", "hold_hint", "solution"]

#: How many hints of each exercise have been given since labkit was imported.
_hints_given: Final[dict[str, int]] = {}

#: The exercises that were checked after their last hint.
_checked: Final[set[str]] = set()


class Place(NamedTuple):
    """How to ask for help where a text is read.

    Attributes:
        call: the call or the command, with ``{what}`` and ``{name}``, an exercise's.
        progress: what shows the progress.
    """

    call: str
    progress: str

    def hint(self, name: str) -> str:
        """What gives a hint of an exercise."""
        return self.call.format(what="hint", name=name)

    def solution(self, name: str) -> str:
        """What gives the solution of an exercise."""
        return self.call.format(what="solution", name=name)


IN_PYTHON: Final = Place('labkit.{what}("{name}")', "labkit.progress()")
IN_A_SHELL: Final = Place("`labkit {what} {name}`", "`labkit progress`")


@dataclass(frozen=True)
class HelpText:
    """A text that displays itself: plain in print, and as Markdown in a notebook.

    Attributes:
        plain: the text for a terminal.
        markdown: the text for a notebook.
    """

    plain: str
    markdown: str

    def __str__(self) -> str:
        return self.plain

    def __repr__(self) -> str:
        return self.plain

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        bundle = {"text/plain": self.plain, "text/markdown": self.markdown}
        return {kind: bundle[kind] for kind in choose(tuple(bundle), include, exclude)}


def hint(name: str) -> HelpText:
    """Show the next hint of an exercise. The first hint is small; the third is nearly the solution.

    The first call after a check shows the last hint again, so that to run a whole notebook again spends none.

    Args:
        name: the exercise's name, one of ``labkit.EXERCISES``.

    Returns:
        The hint. After the third hint, the third one again.

    Raises:
        UnknownName: there is no such exercise.
    """
    exercise = find("exercise", name, EXERCISES)
    given = _hints_given.get(name, 0)
    number = given if given and name in _checked else min(given + 1, len(exercise.hints))
    _hints_given[name] = number
    _checked.discard(name)
    last = number == len(exercise.hints)
    then = f"That was the last; there is {IN_PYTHON.solution(name)}." if last else "Call again for the next."
    text = exercise.hints[number - 1]
    heading = f"Hint {number} of {len(exercise.hints)}"
    plain = "\n".join(line for part in (f"{heading}: {text}", then) for line in wrap(part, 100))
    return HelpText(plain, f"**{heading}.** {text}\n\n*{then.replace('labkit', '`labkit').replace(').', ')`.')}*")


def solution(name: str) -> HelpText:
    """Show a handler that keeps every rule of an exercise. Other solutions may be right too.

    Args:
        name: the exercise's name, one of ``labkit.EXERCISES``.

    Returns:
        The source of the handler.

    Raises:
        UnknownName: there is no such exercise.
    """
    source = find("exercise", name, EXERCISES).solution_source
    return HelpText(source, f"```python\n{source}\n```")


def hold_hint(name: str) -> None:
    """Make the next call of ``hint`` show the last hint of an exercise again, since a check came between.

    Args:
        name: the exercise's name.
    """
    _checked.add(name)


def forget_hints() -> None:
    """Make every exercise begin with its first hint again."""
    _hints_given.clear()
    _checked.clear()
