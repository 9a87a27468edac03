"""All exercises, by name. Each has a file, such as ``n02_unclean_exit.py`` for an exercise of notebook 02."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Final

from labkit.exercises.exercise import Exercise

__all__ = ["EXERCISES"]


def _all() -> dict[str, Exercise]:
    files = sorted(path.stem for path in Path(__file__).parent.glob("n*.py") if re.match(r"n\d\d_", path.name))
    exercises: list[Exercise] = [import_module(f"labkit.exercises.{name}").EXERCISE for name in files]
    return {exercise.name: exercise for exercise in exercises}


#: The exercises by name, in the order of the notebooks.
EXERCISES: Final[dict[str, Exercise]] = _all()
