"""The graders agree with a plain server and a raw socket on each mutant of a solution."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

import labkit
from tests.exercises.oracle import GOALS, STUCK, build, is_wrong, mutants

#: Exercises whose checks are short, each with how many mutants are left out between two that everybody tries.
_SHORT = {"goodbye": 6, "recv": 6, "unclean-exit": 4, "one-cancel": 10, "second-cancel": 12, "members": 5}

#: All of them take an hour and more, with little beside them: on a busy machine a grader may rightly say "unknown".
WHOLE = pytest.mark.skipif(not os.environ.get("LABKIT_ALL_MUTANTS"), reason="only with LABKIT_ALL_MUTANTS=1")

EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in _SHORT else pytest.mark.soak) for name in GOALS]
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))


class Odds(NamedTuple):
    """Where grader and oracle differ."""

    missed: list[str]
    refused: list[str]
    wrong: int


async def compare(name: str, some: Iterable[tuple[str, str]], *, stuck: bool) -> Odds:
    """Put mutants to the oracle and then to the grader; tell where they differ, and how many are wrong.

    Args:
        name: the exercise.
        some: the mutants.
        stuck: whether to grade those too that never yield, which takes a while.
    """
    few, odds = asyncio.Semaphore(3), Odds([], [], 0)

    async def decide(source: str) -> str:
        async with few:
            return await is_wrong(name, source)

    async def grade(what: str, source: str, fault: str) -> None:
        async with few:
            report = await labkit.check(name, build(name, source))
        if fault and report.passed:
            odds.missed.append(f"{what} ({fault})\n{source}")
        # Python warns of a coroutine that nobody awaits, even where it does no harm; so does the lab.
        if not fault and not report.passed and "await" not in what:
            odds.refused.append(f"{what}\n{source}\n{report}")

    some = list(some)
    faults = await asyncio.gather(*(decide(source) for _, source in some))
    decided = [(what, source, fault) for (what, source), fault in zip(some, faults, strict=True)]
    await asyncio.gather(*(grade(*one) for one in decided if STUCK not in one[2]))
    for one in decided:
        if stuck and STUCK in one[2]:  # it stops the others' loop too
            await grade(*one)
    return odds._replace(wrong=sum(map(bool, faults)))


def test_the_oracle_knows_each_exercise() -> None:
    """A new one has its goal there too."""
    assert set(GOALS) == set(labkit.EXERCISES)


@EACH
async def test_the_oracle_finds_nothing_wrong_with_the_solution(name: str) -> None:
    """Or it would prove nothing."""
    assert await is_wrong(name, labkit.EXERCISES[name].solution_source) == ""


@EACH
async def test_the_oracle_finds_the_starter_wrong(name: str) -> None:
    """As everybody does."""
    assert await is_wrong(name, labkit.EXERCISES[name].starter_source)


async def test_the_oracle_does_not_mind_a_busy_machine() -> None:
    """A program that gets no time, for half of what its limits are, is not late."""
    source = labkit.EXERCISES["receive-timeout"].solution_source.replace(
        "while True:", "while __import__('time').sleep(0.05) is None:"
    )
    assert "sleep" in source
    assert await is_wrong("receive-timeout", source) == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("forever", ["pass", "await asyncio.sleep(0)"])
async def test_the_oracle_ends_a_handler_that_cannot_be_stopped(forever: str) -> None:
    """And says so, whether it never yields or takes no cancel."""
    source = f"""
async def my_handler(websocket):
    while True:
        try:
            {forever}
        except asyncio.CancelledError:
            pass
"""
    assert STUCK in await is_wrong("recv", source)  # where a client is quiet for the shortest time
    gc.collect()  # here, Python may complain of what was broken off


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of those that had to be stopped
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("name", "every"),
    [
        *(pytest.param(name, every, id=f"{name}-sample") for name, every in _SHORT.items()),
        *(
            pytest.param(name, 1, id=f"{name}-all", marks=[pytest.mark.soak, pytest.mark.timeout(3600), WHOLE])
            for name in GOALS
        ),
    ],
)
async def test_each_mutant_is_told_right_from_wrong(name: str, every: int) -> None:
    """What breaks the goal on a plain server is caught, and what behaves is accepted."""
    some = list(mutants(labkit.EXERCISES[name].solution_source))[::every]
    odds = await compare(name, some, stuck=every == 1)
    gc.collect()
    assert not odds.missed, "\n\n".join(odds.missed)
    assert not odds.refused, "\n\n".join(odds.refused)
    assert odds.wrong >= 2
