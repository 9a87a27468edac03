"""What a plain server and a raw socket see of a learner's handler. Nothing here asks the lab."""

from __future__ import annotations

from tests.exercises.oracle.goals import GOALS
from tests.exercises.oracle.judge import is_wrong
from tests.exercises.oracle.mutants import build, mutants
from tests.exercises.oracle.stage import STUCK

__all__ = ["GOALS", "STUCK", "build", "is_wrong", "mutants"]
