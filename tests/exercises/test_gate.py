"""Every exercise is what it says: its starter fails by a rule, its solution passes, its wrong handlers are caught."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import labkit
from labkit.exercises import Exercise, Report
from labkit.exercises.exercise import ExerciseHandler
from labkit.support.autojump import ClockName
from tests.exercises.alone import with_one_rule

EXERCISES = list(labkit.EXERCISES.values())
#: The notebooks check some exercises with the clock that jumps, so that nobody waits.
on_each_clock = pytest.mark.parametrize("clock", ["real", "autojump"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))


@on_each_clock
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
async def test_the_starter_fails_by_a_rule(exercise: Exercise, clock: ClockName) -> None:
    """And not by an error: there is something to learn."""
    report = await labkit.check(exercise.name, exercise.starter, clock=clock)
    assert report.bug is None, report
    assert report.broken, report


@on_each_clock
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
async def test_the_solution_passes(exercise: Exercise, clock: ClockName) -> None:
    """On every stack that the exercise names."""
    report = await labkit.check(exercise.name, exercise.solution, clock=clock)
    assert report.passed, report
    assert {run.on for run in report.runs} == set(exercise.stacks)


@pytest.mark.soak
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
async def test_the_solution_passes_ten_times_in_a_row(exercise: Exercise) -> None:
    """No luck is needed."""
    for _ in range(10):
        report = await labkit.check(exercise.name, exercise.solution)
        assert report.passed, report


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["its rule", "every rule"])
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
async def test_each_wrong_handler_is_caught_by_the_rule_that_names_it(
    exercise: Exercise, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    """By its rule, whichever others it breaks; a few are checked side by side, so that the loop is not late."""
    few = asyncio.Semaphore(3)
    alone = with_one_rule(exercise.name, monkeypatch)

    async def check(handler: ExerciseHandler) -> Report:
        async with few:
            return await labkit.check(exercise.name if whole else alone[exercise.wrong[handler]], handler)

    blocking = [handler for handler in exercise.wrong if handler.__name__.startswith("blocks")]  # the others' loop too
    polite = [handler for handler in exercise.wrong if handler not in blocking]
    reports = dict(zip(polite, await asyncio.gather(*map(check, polite)), strict=True))
    for handler in blocking:
        reports[handler] = await check(handler)
    for handler, rule in exercise.wrong.items():
        report = reports[handler]
        assert report.bug is None, f"{handler.__name__}: {report}"
        assert rule in report.broken, f"{handler.__name__}: {report}"


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_everything_is_written(exercise: Exercise) -> None:
    """Three hints that differ, a goal, two wrong handlers or more, each with a rule that exists."""
    assert labkit.EXERCISES[exercise.name] is exercise
    assert len(set(exercise.hints)) == 3
    assert all(len(text) > 20 for text in (*exercise.hints, exercise.goal, exercise.title))
    assert set(exercise.stacks) <= set(labkit.STACKS)
    assert len(exercise.wrong) >= 2
    assert set(exercise.wrong.values()) <= {rule.name for rule in exercise.rules}
    assert all(rule.trials and rule.says.endswith(".") for rule in exercise.rules)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_the_sources_can_be_pasted(exercise: Exercise) -> None:
    """They compile as a cell does, under the learner's own name, and name nothing of this package's insides."""
    for source in (exercise.starter_source, exercise.solution_source):
        assert source.startswith("async def my_handler(")
        assert "noqa" not in source
        compile(source, "cell", "exec")


def test_there_are_enough() -> None:
    """Ten or more, and one at least for each notebook from 01 to 09."""
    assert len(EXERCISES) >= 10
    assert {exercise.notebook for exercise in EXERCISES} == {f"{number:02}" for number in range(1, 10)}
