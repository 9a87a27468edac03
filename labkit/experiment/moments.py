"""``moments()``: the same fault at each moment of a handler, one run each."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final, NamedTuple, overload

from labkit.connections import main_of
from labkit.errors import BadValue
from labkit.events import HandlerEnd, HandlerNote, WireFault
from labkit.experiment.between import Kind, frames_of, moments_between
from labkit.experiment.many import Job, Played, check_executor, play_many
from labkit.experiment.play import play
from labkit.experiment.run import Run
from labkit.experiment.shared import keeps_state
from labkit.experiment.strip import Strip, Strips
from labkit.experiment.target import find_here, is_by_library
from labkit.experiment.token import import_name, make_token
from labkit.experiment.when import THROUGH, Await, Frame
from labkit.faults import Fault
from labkit.faults.fault import find_fault
from labkit.stacks import find_stack
from labkit.strikes import Strike
from labkit.support.checks import is_whole
from labkit.support.wording import describe_exception
from labkit.watch.handler import name_of

__all__ = ["moments"]

#: How many runs are played at the same time.
_AT_ONCE: Final = 20

#: What a user's invariant may return.
Holds = Callable[[Run], bool | Awaitable[bool]]

#: Several of a kind. Not any sequence: a text is one too.
Several = list[Any] | tuple[Any, ...]


@overload
async def moments(
    target: Any,
    on: str = ...,
    fault: str | Fault = ...,
    *,
    holds: Holds | None = ...,
    at_most: int = ...,
    executor: Executor | None = ...,
    progress: bool | None = ...,
    **play_options: Any,
) -> Strip: ...


@overload
async def moments(
    target: Any,
    on: Several,
    fault: str | Fault | Several = ...,
    *,
    holds: Holds | None = ...,
    at_most: int = ...,
    executor: Executor | None = ...,
    progress: bool | None = ...,
    **play_options: Any,
) -> Strips: ...


@overload
async def moments(
    target: Any,
    on: str = ...,
    *,
    fault: Several,
    holds: Holds | None = ...,
    at_most: int = ...,
    executor: Executor | None = ...,
    progress: bool | None = ...,
    **play_options: Any,
) -> Strips: ...


async def moments(
    target: Any,
    on: str | Several = "aiohttp",
    fault: str | Fault | Several = "reset",
    *,
    holds: Holds | None = None,
    at_most: int = 100,
    executor: Executor | None = None,
    progress: bool | None = None,
    **play_options: Any,
) -> Strip | Strips:
    """Let the same fault strike at each moment of a handler, once each.

    First the conversation is played to its end, to learn how many times the handler suspends, and which frames pass.
    If the handler ends before, its own end is the last moment, at which there is nothing to strike any more.
    Then, for each of these suspensions, it is played again, and the fault strikes there: ``play(...,
    when=labkit.Await(n))``. So it is between two frames, ``labkit.Frame(n)``, where something is on its way at which no
    suspension finds it: what the handler has sent since the client's last message, or a message that the client has
    sent before the handler waited for it. The moment is a cause and not a time, so the same moment gives the same run.

    Args:
        target: a handler, an application, or the name of one, as for :func:`labkit.play`; or a mapping to one for each
            library or stack, as in ``{"aiohttp": order, "websockets": order_ws}``.
        on: the stack's name, one of ``labkit.STACKS``; or a list of them.
        fault: a fault, or a name in ``labkit.FAULTS``; or a list of them.
        holds: your own invariant: called with each run, and perhaps a coroutine function that looks into your database.
            Where it returns False, the moment is ``broken``, which is worse than anything else.
        at_most: the highest number of moments of a strip. If there are more, an even sample is played, and the strip
            says so.
        executor: whose workers play the moments, as for :func:`labkit.matrix`; ``holds`` is called in this process.
        progress: whether to show a progress bar on stderr; if None, only in a terminal and in a notebook.
        play_options: options of :func:`labkit.play` for every run, such as ``messages`` or ``talk``.

    Returns:
        The strip; or the strips of all pairs, if stacks or faults are given as a list. They display themselves in a
        notebook and in print. An interrupt gives what is done by then.

    Raises:
        BadValue: a value is wrong, or a fault has no moment that can be chosen.
        LabError: as for ``labkit.play``.
    """
    if "when" in play_options:
        raise BadValue("when= is what moments() goes through; leave it out, or use labkit.play")
    if not is_whole(at_most) or at_most < 1:
        raise BadValue(f"at_most={at_most!r}; it takes a whole number from 1")
    if holds is not None and not callable(holds):
        raise BadValue(f"holds={holds!r}; it takes a function of the run, which returns whether the invariant holds")
    pairs = _pairs(target, on, fault)
    check_executor(executor, [pair.job() for pair in pairs], play_options)

    async def judge_last(n: int, played: Played) -> tuple[Played, Strike]:
        first = n < len(pairs)  # what it looks for may be left there by the same play, and not by the next one
        return played, await _judge(pairs[n % len(pairs)], None, played, holds if first else None, play_options)

    scouts = await _scout(pairs, play_options, judge_last)
    talks = play_options.get("talk") is not None
    plans = [_plan(pair, *played, at_most, talks=talks) for pair, played in zip(pairs, scouts, strict=True)]
    todo = [(plan.pair, moment) for plan in plans for moment in plan.moments]

    async def judge(n: int, played: Played) -> tuple[Strike, Run | None]:
        pair, moment = todo[n]
        return await _judge(pair, moment, played, holds, play_options), played.run

    found = await play_many(
        [pair.job(moment) for pair, moment in todo],
        play_options,
        judge,
        at_once=_AT_ONCE,
        executor=executor,
        progress=progress,
    )
    rest, strips = iter(found), []
    for plan in plans:
        played = [next(rest) or (_strike(moment, reason="interrupted"), None) for moment in plan.moments]
        strips.append(_strip(plan, [*played, (plan.through, plan.last.run)]))
    return Strips(tuple(strips)) if isinstance(on, list | tuple) or isinstance(fault, list | tuple) else strips[0]


class _Pair(NamedTuple):
    """A stack and a fault, and what is played on it.

    Attributes:
        named: the name of the target as it was given, for the token.
        target: the handler or the application.
        on: the stack's name.
        fault: the fault.
    """

    named: Any
    target: Any
    on: str
    fault: Fault

    def job(self, moment: _Moment = None) -> Job:
        """The experiment in which the fault strikes at a moment; at the end of the conversation, if None."""
        return Job(self.target, self.on, self.fault, {} if moment is None else {"when": moment})


#: A moment that is played; None for the end of the conversation.
_Moment = Await | Frame | None


def _strike(moment: _Moment, **found: Any) -> Strike:
    match moment:
        case Await(number):
            return Strike(number, **found)
        case Frame(number):
            return Strike(0, frame=number, **found)
        case _:
            return Strike(0, **found)


class _Plan(NamedTuple):
    """The moments to play of a pair; the play at the end of the conversation, its strike, its frames; the notices."""

    pair: _Pair
    moments: list[Await | Frame]
    last: Played
    through: Strike
    frames: list[Kind]
    notices: list[str]


def _pairs(target: Any, on: str | Several, fault: str | Fault | Several) -> list[_Pair]:
    """List the pairs, stack by stack."""
    stacks = [find_stack(name) for name in (on if isinstance(on, list | tuple) else [on])]
    if fault is None:
        raise BadValue("fault=None; it takes a fault, or the name of one, which strikes at each moment")
    faults = [find_fault(each) for each in (fault if isinstance(fault, list | tuple) else [fault])]
    for name, several in (("on", stacks), ("fault", faults)):
        if not several:
            raise BadValue(f"{name}=[]; it takes one or more")
    for each in faults:
        if each.moment == "handshake":
            raise BadValue(f"{each} strikes in the opening handshake, so there is one moment, and labkit.play plays it")
    pairs = []
    for stack in stacks:
        named = target.get(stack.name, target.get(stack.interface)) if is_by_library(target) else target
        if named is None:
            names = ", ".join(map(repr, target)) or "none"
            raise BadValue(f"there is no handler for {stack.name}; the target has {names}")
        here = find_here(named, "the lab does not see the moments of its handlers")
        name = import_name(named)
        pairs += [_Pair(name, here, stack.name, each) for each in faults]
    return list({(pair.on, str(pair.fault)): pair for pair in pairs}.values())


async def _scout(
    pairs: list[_Pair],
    play_options: Mapping[str, Any],
    judge: Callable[[int, Played], Awaitable[tuple[Played, Strike]]],
) -> list[tuple[Played, Strike, Played]]:
    """Play each conversation to its end, and judge it; then once more: is the handler the same each time?

    What is wrong with the arguments is raised by the first play, before there are many.
    """
    first = await judge(0, Played(await play(pairs[0].target, pairs[0].on, pairs[0].fault, **play_options)))

    async def judge_rest(n: int, played: Played) -> tuple[Played, Strike]:
        return await judge(n + 1, played)

    jobs = [pair.job() for pair in (*pairs, *pairs)][1:]
    rest = await play_many(jobs, play_options, judge_rest, at_once=_AT_ONCE, progress=False)
    if None in rest:
        raise asyncio.CancelledError("interrupted before a moment was played")
    played = [first, *filter(None, rest)]
    again = [each for each, _ in played[len(pairs) :]]
    return [(last, strike, more) for (last, strike), more in zip(played[: len(pairs)], again, strict=True)]


def _plan(pair: _Pair, last: Played, through: Strike, again: Played, at_most: int, *, talks: bool) -> _Plan:
    if last.run is None:
        return _Plan(pair, [], last, through, [], [])
    runs = [played.run for played in (last, again) if played.run is not None]
    count, notices = _count(*runs)
    frames, told = _frames(*runs)
    # A fault that waits for a moment of its own lets everything pass before.
    waits = type(pair.fault).due is not Fault.due
    between = [] if waits or not count else moments_between(frames, talks=talks)
    notices += [] if waits or not count else told
    few = len(between) if count + len(between) <= at_most else min(len(between), at_most // 4)
    numbers = _sample(count, at_most - few)
    if len(numbers) < count:
        notices.append(f"The handler suspends {count:,} times; this is an even sample of {len(numbers):,}.")
    if few < len(between):
        notices.append(f"There are {len(between):,} moments between frames; this is an even sample of {few:,}.")
    chosen = [between[n - 1] for n in _sample(len(between), few)]
    return _Plan(pair, [*map(Await, numbers), *map(Frame, chosen)], last, through, frames, notices)


def _frames(*scouts: Run) -> tuple[list[Kind], list[str]]:
    """The frames of the conversation, as far as they are the same each time; and what is to be said of that."""
    first, *others = (frames_of(run.timeline) for run in scouts)
    same = next(
        (n for other in others for n, pair in enumerate(zip(first, other, strict=False)) if len({*pair}) > 1), None
    )
    if same is None:
        return first[: min(map(len, (first, *others)))], []
    return first[:same], [f"Frame {same + 1} is not the same each time, so no moment between later ones is played."]


def _strip(plan: _Plan, played: list[tuple[Strike, Run | None]]) -> Strip:
    notices = list(plan.notices)
    missed = [strike.number for strike, run in played if run is not None and _is_missed(strike, run)]
    if missed:
        which = ", ".join(map(str, missed[:5])) + ("…" if len(missed) > 5 else "")
        kept = " What it keeps for all its clients lives on from play to play." if keeps_state(plan.pair.target) else ""
        notices.append(f"The handler did not come to await {which} again: it is not the same each time.{kept}")
    notices += [told for strike, run in played if run is not None and (told := _doubt(plan, strike, run))]
    played = sorted(played, key=_place)
    strikes, runs = tuple(strike for strike, _ in played), tuple(run for _, run in played)
    notices += dict.fromkeys(f"{strike.reason}." for strike in strikes if strike.reason and strike.verdict is not None)
    handler = name_of(plan.pair.target) if plan.last.run is None else plan.last.run.handler
    return Strip(handler, plan.pair.on, str(plan.pair.fault), strikes, runs, tuple(notices))


def _doubt(plan: _Plan, strike: Strike, run: Run) -> str | None:
    """What there is to say of a moment between frames that may not be the one that was meant."""
    if strike.frame is None:
        return None
    if (fault := run.timeline.first(WireFault)) is None:
        return f"The fault did not strike at {strike.name}: {run.verdict.sentence}"
    if frames_of(run.timeline) != plan.frames[: strike.frame]:
        return f"The frames up to {strike.name} were not the same again."
    if fault.unknown is not None:
        return f"At {strike.name} it is unknown whether the handler had done all that it could: {fault.unknown}."
    return None


def _place(played: tuple[Strike, Run | None]) -> tuple[float, int, int]:
    """The place of a moment among the others; between frames it is before the await at which the handler stands."""
    strike, run = played
    if strike.frame is None:
        return strike.number or math.inf, 1, 0
    fault = None if run is None else run.timeline.first(WireFault)
    return math.inf if fault is None or not fault.waits else fault.waits, 0, strike.frame


def _count(*scouts: Run) -> tuple[int, list[str]]:
    """How many times the handler had suspended when the conversation was through; and what is to be said of that."""
    counts = [count for run in scouts if (count := _suspended(run)) is not None]
    if not counts:
        return 0, ["The fault did not strike when the conversation was to be through."]
    notices = []
    if len(set(counts)) > 1:
        words = " and ".join(map(str, counts))
        notices.append(f"The handler is not the same each time: it suspended {words} times.")
    if not max(counts):
        notices.append("The handler never suspends in the conversation, so there is no moment to choose.")
    return max(counts), notices


def _suspended(run: Run) -> int | None:
    """How many times the handler had suspended when the conversation was through, or when it had ended before that."""
    fault = run.timeline.first(WireFault)
    return _suspended_at_its_end(run) if fault is None else fault.waits or 0


def _suspended_at_its_end(run: Run) -> int | None:
    number = main_of(run.timeline)
    ends = [end.waits for end in run.timeline.until_stop().all(HandlerEnd) if end.connection in {None, number}]
    return ends[0] if ends else None


def _is_missed(strike: Strike, run: Run) -> bool:
    """Whether the handler has ended before it came to an await again."""
    missing = run.verdict.struck is False and strike.number > 0
    return missing and ((count := _suspended_at_its_end(run)) is None or count < strike.number)


def _sample(count: int, at_most: int) -> list[int]:
    """The numbers from 1 to the count; or an even sample of them, with the first and the last."""
    if count <= at_most:
        return list(range(1, count + 1))
    if not at_most:
        return []
    return sorted({1 + round(n * (count - 1) / max(1, at_most - 1)) for n in range(at_most)})


async def _judge(
    pair: _Pair, moment: _Moment, played: Played, holds: Holds | None, play_options: Mapping[str, Any]
) -> Strike:
    """Tell what came of the fault at a moment."""
    run = played.run
    if run is None:
        return _strike(moment, reason=played.reason or "")
    fault = run.timeline.first(WireFault)
    notes = run.timeline.until_stop().all(HandlerNote)
    before = [note.text for note in notes if fault is not None and note.at <= fault.at]
    strike = _strike(
        moment,
        line=None if fault is None else fault.line,
        done=tuple(before),
        notes=tuple(note.text for note in notes),
        verdict=run.verdict,
        token=make_token(pair.named, pair.on, pair.fault, moment or THROUGH, **play_options),
    )
    if holds is None:
        return strike
    try:
        held = holds(run)
        if inspect.isawaitable(held):
            held = await held
    except Exception as problem:
        return replace(strike, holds=None, reason=f"holds() raised {describe_exception(problem)}")
    return replace(strike, holds=bool(held))
