"""Exercises with one rule each: to see that it catches a handler, only its own runs need be played."""

from __future__ import annotations

from dataclasses import replace

import pytest

import labkit

__all__ = ["with_one_rule"]


def with_one_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Register an exercise once for each of its rules, as if that were the only one.

    What a rule says does not depend on the others.

    Args:
        name: the exercise's name.
        monkeypatch: puts the table of exercises back at the end of the test.

    Returns:
        For each rule's name, the name of the exercise that has it alone.
    """
    exercise = labkit.EXERCISES[name]
    names = {rule.name: f"{name} {rule.name}" for rule in exercise.rules}
    for rule in exercise.rules:
        alone = names[rule.name]
        monkeypatch.setitem(labkit.EXERCISES, alone, replace(exercise, name=alone, rules=(rule,)))
    return names
