"""Help for an exercise: its hints one after the other, and its solution."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from labkit.checks import find
from labkit.exercises.shelf import EXERCISES
from labkit.views.mime import chosen

__all__ = ["Note", "forget_hints", "hint", "solution"]

#: How many hints have been shown, by the exercise's name, since labkit was imported.
_shown: Final[dict[str, int]] = {}


@dataclass(frozen=True)
class Note:
    """A text that shows itself: plain in print, as Markdown in a notebook.

    Attributes:
        plain: for a terminal.
        markdown: for a notebook.
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
        return {kind: bundle[kind] for kind in chosen(tuple(bundle), include, exclude)}


def hint(name: str) -> Note:
    """Show the next hint of an exercise: a nudge, then a direction, then nearly the answer.

    Args:
        name: the exercise's name, one of ``labkit.EXERCISES``.

    Returns:
        The hint. Behind the third, the third again.

    Raises:
        UnknownName: there is no such exercise.
    """
    exercise = find("exercise", name, EXERCISES)
    number = min(_shown.get(name, 0) + 1, len(exercise.hints))
    _shown[name] = number
    last = number == len(exercise.hints)
    then = f'That was the last; there is labkit.solution("{name}").' if last else "Call again for the next."
    text = exercise.hints[number - 1]
    head = f"Hint {number} of {len(exercise.hints)}"
    plain = "\n".join(line for part in (f"{head}: {text}", then) for line in textwrap.wrap(part, 100))
    return Note(plain, f"**{head}.** {text}\n\n*{then.replace('labkit', '`labkit').replace(').', ')`.')}*")


def solution(name: str) -> Note:
    """Show a handler that keeps every rule of an exercise; there are others.

    Args:
        name: the exercise's name, one of ``labkit.EXERCISES``.

    Returns:
        Its source.

    Raises:
        UnknownName: there is no such exercise.
    """
    source = find("exercise", name, EXERCISES).solution_source
    return Note(source, f"```python\n{source}\n```")


def forget_hints() -> None:
    """Begin with the first hint again, in every exercise."""
    _shown.clear()
