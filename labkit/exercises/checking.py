"""``check()``: a learner's handler, played for each rule of an exercise."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Final

from labkit.checks import find
from labkit.clock import scaled
from labkit.errors import BadHandler
from labkit.exercises.book import mark_done
from labkit.exercises.bugs import find_bug, find_stray_exception
from labkit.exercises.exercise import Exercise, Finding, Handler, Rule, Trial
from labkit.exercises.report import Answer, Report
from labkit.exercises.shelf import EXERCISES
from labkit.exercises.story import Story
from labkit.experiment import Run, play
from labkit.lines import original

__all__ = ["check"]

#: How many experiments are under way at once at most, divided by ``LABKIT_TIME_SCALE``: a learner's heartbeat knows
#: nothing of the scale, and takes a loop that is late for a client that is gone.
_MOST: Final = 20

_Runs = Mapping[tuple[str, Trial], Run]


async def check(name: str, handler: Handler) -> Report:
    """Play a handler against the real faults of an exercise, and tell which of its rules it keeps.

    Args:
        name: the exercise's name, one of ``labkit.EXERCISES``.
        handler: your coroutine function.

    Returns:
        A report that shows itself: each rule with its evidence, the picture of the first failure, and what to do next.

    Raises:
        UnknownName: there is no such exercise.
    """
    exercise = find("exercise", name, EXERCISES)
    try:
        _check_signature(exercise, handler)
        runs = await _play_all(exercise, handler)
    except BadHandler as problem:
        return Report(exercise, (), bug=str(problem))
    for (_, trial), run in runs.items():
        if (bug := find_bug(run, trial)) is not None:
            return Report(exercise, (), bug=bug, run=run, runs=tuple(runs.values()))
    answers = tuple(_judge(rule, exercise, runs) for rule in exercise.rules)
    failed = [answer for answer in answers if answer.state == "broken"] or [a for a in answers if a.state != "kept"]
    for run in () if failed else runs.values():
        if (bug := find_stray_exception(run)) is not None:
            return Report(exercise, (), bug=bug, run=run, runs=tuple(runs.values()))
    report = Report(exercise, answers, run=failed[0].run if failed else None, runs=tuple(runs.values()))
    return report.saved(mark_done(name)) if report.passed else report


def _check_signature(exercise: Exercise, handler: Handler) -> None:
    """Refuse a handler that could not be given what the exercise gives; what else is wrong, the stack tells."""
    if exercise.given is None:
        return
    wanted = list(inspect.signature(exercise.starter).parameters)
    form = f"async def my_handler({', '.join(wanted)})"
    if not callable(handler):
        raise BadHandler(f"the handler is {handler!r}, which cannot be called; give the function itself: {form}")
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(original(handler))):
        raise BadHandler(f"the handler is not a coroutine function; write it as: {form}")
    try:
        inspect.signature(handler).bind(*wanted)
    except TypeError:
        raise BadHandler(f"the handler is called with {' and '.join(wanted)}; write it as: {form}") from None


async def _play_all(exercise: Exercise, handler: Handler) -> _Runs:
    """Play each trial once on each stack, whatever number of rules look at it."""
    wanted = dict.fromkeys(
        (on, trial) for rule in exercise.rules for on in rule.stacks or exercise.stacks for trial in rule.trials
    )
    room = asyncio.Semaphore(max(1, round(_MOST / scaled(1.0))))
    owner = asyncio.current_task()

    async def play_one(on: str, trial: Trial) -> Run:
        try:
            async with room, nullcontext(handler) if exercise.given is None else exercise.given(handler) as played:
                return await play(
                    played, on, trial.fault, messages=trial.messages, patience=trial.patience, **trial.options
                )
        except asyncio.CancelledError as interrupt:
            # An interrupt in one handler ends its run by a cancel; it is meant for the whole check.
            if owner is not None and not owner.cancelling():
                owner.cancel(*interrupt.args)
            raise

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {(on, trial): group.create_task(play_one(on, trial)) for on, trial in wanted}
    except BaseExceptionGroup as group_:
        # One sentence is enough: every run fails of the same.
        raise group_.exceptions[0] from None
    return {key: task.result() for key, task in tasks.items()}


def _judge(rule: Rule, exercise: Exercise, runs: _Runs) -> Answer:
    """Ask each run; the worst of what they say is the answer, and the first that says it is the evidence."""
    found: list[tuple[Finding, Run]] = []
    for on in rule.stacks or exercise.stacks:
        for trial in rule.trials:
            run = runs[on, trial]
            found.append((_settled(rule.test(run), run, trial), run))
    return _worst(rule, found)


def _settled(finding: Finding, run: Run, trial: Trial) -> Finding:
    """A rule is not known to be kept where its fault never struck."""
    story = Story(run)
    if finding.state == "kept" and trial.fault is not None and story.fault is None and story.end is not None:
        return Finding("unknown", f"the fault did not strike: {story.ended}, before it")
    return finding


def _worst(rule: Rule, found: Sequence[tuple[Finding, Run]]) -> Answer:
    for state in ("broken", "unknown", "kept"):
        same = [(finding, run) for finding, run in found if finding.state == state]
        if same:
            finding, run = same[0]
            return Answer(rule, finding.state, finding.evidence, run, len(same), len(found))
    raise AssertionError(f"the rule {rule.name!r} plays nothing")
