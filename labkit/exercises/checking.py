"""``check()``: it plays a learner's handler for each rule of an exercise."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import Final
from weakref import WeakKeyDictionary

from labkit.clients.template import one_template
from labkit.errors import BadHandler
from labkit.events import HandlerBlocked
from labkit.exercises.bugs import (
    find_blocks,
    find_bug,
    find_endless_block,
    find_forgotten_await,
    find_stray_exception,
)
from labkit.exercises.exercise import Exercise, ExerciseHandler, Rule, Ruling, Trial
from labkit.exercises.hints import hold_hint
from labkit.exercises.progress_file import mark_done
from labkit.exercises.punctual import Turns, was_held_up
from labkit.exercises.registry import EXERCISES
from labkit.exercises.report import Report, RuleResult
from labkit.exercises.summary import Summary
from labkit.experiment.clocks import AUTOJUMP, on_autojump, one_autojump_loop, why_real
from labkit.experiment.play import play, when_blocked
from labkit.experiment.run import Run
from labkit.support.autojump import ClockName
from labkit.support.checks import find
from labkit.support.clock import scaled
from labkit.support.descriptors import descriptors_for, room_for
from labkit.support.loop import check_loop
from labkit.watch.handler import may_be_awaited, original

__all__ = ["check"]

#: The highest number of experiments at the same time in a loop, however many checks run in it; divided by
#: ``LABKIT_TIME_SCALE``. That does not slow down a learner's heartbeat, which would take a late loop for a client that
#: is gone.
_MOST: Final = 20

#: How often a run is played again, by itself, whose events the lateness of a busy machine makes undecided.
_AGAIN: Final = 2

_limits: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()

_Runs = dict[tuple[str, Trial], Run]


class _Endless(Exception):
    """A handler does not give the loop back in a run, and would do so in each: one is enough.

    Args:
        run: the run.
        bug: a sentence about it.
    """

    def __init__(self, run: Run, bug: str) -> None:
        super().__init__()
        self.run = run
        self.bug = bug


class _Blocks(Exception):
    """A handler keeps the loop again and again, and so holds up all its runs.

    Args:
        experiments: those that show it best: the one that lasts longest, and the one in which it does.
    """

    def __init__(self, *experiments: tuple[str, Trial]) -> None:
        super().__init__()
        self.experiments = experiments


async def check(name: str, handler: ExerciseHandler, *, clock: ClockName = "real") -> Report:
    """Play a handler against the real faults of an exercise, and report which of its rules it keeps.

    Args:
        name: the exercise's name, one of ``labkit.EXERCISES``.
        handler: your coroutine function.
        clock: the clock of the runs, as for :func:`labkit.play`.

    Returns:
        A report that displays itself: each rule with its evidence, the picture of the first failure, and what to do
        next.

    Raises:
        UnknownName: there is no such exercise.
        LabError: no loop of asyncio runs the caller.
    """
    exercise = find("exercise", name, EXERCISES)
    check_loop()
    hold_hint(name)
    try:
        _check_signature(exercise, handler)
        async with one_template(), one_autojump_loop(clock) as time, Turns().watched(time) as turns:
            runs = await _play_all(exercise, handler, clock)
            await _play_again(exercise, handler, runs, turns, clock)
    except BadHandler as problem:
        return Report(exercise, (), bug=str(problem))
    except _Endless as problem:
        return Report(exercise, (), bug=problem.bug, run=problem.run, runs=(problem.run,))
    for (_, trial), run in sorted(runs.items(), key=lambda item: find_forgotten_await(item[1]) is None):
        if (bug := find_bug(run, trial)) is not None:
            return Report(exercise, (), bug=bug, run=run, runs=tuple(runs.values()))
    results = tuple(_judge(rule, exercise, runs) for rule in exercise.rules)
    broken = [result for result in results if result.state == "broken"]
    failed = broken or [result for result in results if result.state == "unknown"]
    for run in () if failed else runs.values():
        if (bug := find_stray_exception(run)) is not None:
            return Report(exercise, (), bug=bug, run=run, runs=tuple(runs.values()))
    report = Report(exercise, results, run=failed[0].run if failed else None, runs=tuple(runs.values()))
    return report.saved(mark_done(name)) if report.passed else report


def _check_signature(exercise: Exercise, handler: ExerciseHandler) -> None:
    """Refuse a handler that does not accept the arguments of the exercise. The stack checks everything else."""
    if exercise.given is None:
        return
    parameters = list(inspect.signature(exercise.starter).parameters)
    form = f"async def my_handler({', '.join(parameters)})"
    if not callable(handler):
        raise BadHandler(f"the handler is {handler!r}, which cannot be called; give the function itself: {form}")
    if not may_be_awaited(handler):
        raise BadHandler(f"the handler is not a coroutine function; write it as: {form}")
    try:
        # As it is called: a decorator may supply arguments of the function beneath.
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    called_with = f"the handler is called with {' and '.join(parameters)}"
    try:
        signature.bind(*parameters)
    except TypeError:
        raise BadHandler(f"{called_with}; write it as: {form}") from None
    names = [name for name in signature.parameters if name in parameters]
    if names != sorted(names, key=parameters.index):
        raise BadHandler(f"{called_with}, in this order, and takes {' and '.join(names)}; write it as: {form}")


async def _play_all(exercise: Exercise, handler: ExerciseHandler, clock: ClockName) -> _Runs:
    """Play each trial; if the handler holds up all of them by itself, only the one that shows it."""
    try:
        return await _play_side_by_side(exercise, handler, clock, watch=not exercise.works)
    except _Blocks as found:
        await _play_alone(exercise, handler, found, clock)
        return await _play_side_by_side(exercise, handler, clock, watch=False)


async def _play_side_by_side(exercise: Exercise, handler: ExerciseHandler, clock: ClockName, *, watch: bool) -> _Runs:
    """Play each trial once on each stack, even if many rules need it; but none after one that had to be ended.

    Args:
        exercise: the exercise.
        handler: the learner's handler.
        clock: the clock of the runs.
        watch: whether to stop at once if the handler keeps the loop again and again in one of them.
    """
    experiments = dict.fromkeys(each for rule in exercise.rules for each in exercise.experiments(rule))
    # Those that may wait for long begin first: the short ones are played beside them, and not before.
    in_turn = sorted(experiments, key=lambda experiment: experiment[1].patience, reverse=True)
    most = room_for(_descriptors(experiments), max(1, round(_MOST / scaled(1.0))))
    limit = _limits.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(most))
    owner = asyncio.current_task()
    blocks: asyncio.Future[_Blocks] = asyncio.get_running_loop().create_future()

    async def play_one(on: str, trial: Trial) -> Run:
        if watch:
            when_blocked.set(_tell_often(blocks, _Blocks(in_turn[0], (on, trial))))
        try:
            async with limit:
                run = await _play_one(exercise, handler, on, trial, clock)
        except asyncio.CancelledError as interrupt:
            # An interrupt that a handler raises cancels its run only. It is meant for the whole check, so pass it on.
            if owner is not None and not owner.cancelling():
                owner.cancel(*interrupt.args)
            raise
        if (bug := find_endless_block(run)) is not None:
            raise _Endless(run, bug)
        return run

    async def stop_if_it_blocks() -> None:
        raise await blocks

    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(stop_if_it_blocks())
            tasks = {(on, trial): group.create_task(play_one(on, trial)) for on, trial in in_turn}
            await asyncio.wait(tasks.values())
            watching.cancel()
    except BaseExceptionGroup as group_:
        # All runs fail for the same reason, so one sentence is enough.
        raise group_.exceptions[0] from None
    return {key: tasks[key].result() for key in experiments}


def _tell_often(blocks: asyncio.Future[_Blocks], found: _Blocks) -> Callable[[HandlerBlocked], None]:
    """Make what counts the blocks of one run, in whatever thread that is, and settles a future if they are many."""
    loop, kept = asyncio.get_running_loop(), list[HandlerBlocked]()

    def settle() -> None:
        if not blocks.done():
            blocks.set_result(found)

    def tell(block: HandlerBlocked) -> None:
        kept.append(block)
        if find_blocks(kept) is not None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle)

    return tell


async def _play_alone(exercise: Exercise, handler: ExerciseHandler, found: _Blocks, clock: ClockName) -> None:
    """Play by itself a handler that blocked; if it does so again, neither its other runs nor the machine did it."""
    for on, trial in dict.fromkeys(found.experiments):
        run = await _play_one(exercise, handler, on, trial, clock)
        if (bug := find_endless_block(run) or find_blocks(run.timeline.all(HandlerBlocked))) is not None:
            raise _Endless(run, bug)


def _descriptors(experiments: Iterable[tuple[str, Trial]]) -> int:
    return descriptors_for(max((trial.options.get("clients", 1) for _, trial in experiments), default=1))


async def _play_one(exercise: Exercise, handler: ExerciseHandler, on: str, trial: Trial, clock: ClockName) -> Run:
    async def stage() -> Run:
        async with nullcontext(handler) if exercise.given is None else exercise.given(handler) as played:
            return await play(
                played, on, trial.fault, messages=trial.messages, patience=trial.patience, clock=clock, **trial.options
            )

    _forget_warnings(handler)
    # What the handler is given belongs to the loop in which it runs.
    jumps = exercise.given is not None and clock == AUTOJUMP and why_real((handler,), None) is None
    return await (on_autojump(stage) if jumps else stage())


async def _play_again(
    exercise: Exercise, handler: ExerciseHandler, runs: _Runs, turns: Turns, clock: ClockName
) -> None:
    """Play those runs again, each by itself, in which a busy machine may have been to blame.

    A handler that waits for an answer with a limit of its own takes a late loop for a client that is gone.
    """
    turns.keep_for(*runs.values())
    for rule in exercise.rules:
        for on, trial in exercise.experiments(rule):
            for _ in range(_AGAIN):
                run = runs[on, trial]
                if not _is_in_doubt(rule, run, trial) or _is_for_another(rule, run, trial, exercise):
                    break
                runs[on, trial] = await _play_one(exercise, handler, on, trial, clock)
                turns.keep_for(runs[on, trial])
                if find_bug(runs[on, trial], trial) is not None:
                    return  # by itself, it did it again: the machine was not to blame
            ruling = _judge_run(rule, runs[on, trial], trial)
            if ruling.state == "broken" and not ruling.late:
                break  # one run is enough


def _is_for_another(rule: Rule, run: Run, trial: Trial, exercise: Exercise) -> bool:
    """Tell whether it is another rule that a run breaks, and what this one says follows from that alone.

    Of a handler that still runs, for example, it is neither known what it leaves behind, nor does it matter yet what it
    has not closed.
    """
    asks = (each for each in exercise.rules if (run.on, trial) in exercise.experiments(each))
    rulings = {each.name: _judge_run(each, run, trial) for each in asks}
    if rulings.pop(rule.name).state == "unknown":
        return any(each.state == "broken" for each in rulings.values())
    return Summary(run).end is None and any(each.sure for each in rulings.values())


def _is_in_doubt(rule: Rule, run: Run, trial: Trial) -> bool:
    if find_forgotten_await(run) is not None:
        return False
    ruling = _judge_run(rule, run, trial)
    if was_held_up(run):
        return (ruling.state != "kept" and not ruling.sure) or find_bug(run, trial) is not None
    return ruling.late


def _forget_warnings(handler: ExerciseHandler) -> None:
    """Have Python warn of a coroutine that is not awaited in each run; by itself, it warns once of each line."""
    names = getattr(original(handler), "__globals__", {})
    names.pop("__warningregistry__", None)


def _judge(rule: Rule, exercise: Exercise, runs: _Runs) -> RuleResult:
    """Apply a rule to each of its runs; the worst ruling counts, with the evidence of the first such run."""
    rulings: list[tuple[Ruling, Run]] = []
    for on, trial in exercise.experiments(rule):
        run = runs[on, trial]
        rulings.append((_judge_run(rule, run, trial), run))
    return _worst(rule, rulings)


def _judge_run(rule: Rule, run: Run, trial: Trial) -> Ruling:
    """Apply a rule to a run. If the fault never struck, nothing is kept; it is unknown."""
    ruling, summary = rule.test(run), Summary(run)
    if ruling.state == "kept" and trial.fault is not None and summary.fault is None and summary.end is not None:
        return Ruling("unknown", f"the fault did not strike: {summary.ended}, before it")
    return ruling


def _worst(rule: Rule, rulings: Sequence[tuple[Ruling, Run]]) -> RuleResult:
    for state in ("broken", "unknown", "kept"):
        same = [(ruling, run) for ruling, run in rulings if ruling.state == state]
        if same:
            ruling, run = same[0]
            late = all(each.late for each, _ in same)
            return RuleResult(rule, ruling.state, ruling.evidence, run, len(same), len(rulings), late)
    raise AssertionError(f"the rule {rule.name!r} has no trials")
