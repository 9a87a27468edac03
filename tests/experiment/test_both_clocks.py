"""On the clock that jumps an experiment is the same as on the real one, only that nobody waits for it.

Handlers of ``tests/differential``, and those of ``tests/handlers.py``, are played with faults on both clocks. Equal
must be all findings of the verdict, and the events of each connection on each lane, in their order. Not compared is
what is each run's own: lengths of time, ports, addresses, and the order of events of different lanes, which asyncio
promises between tasks as little as a kernel between sockets. What repeats at once counts once, since how many ticks
pass is a matter of time.

Where two tasks of a handler meet by chance, such as a tick and an answer, the real clock tells more than one story by
itself. Where the first two differ, it is asked again; one of its stories must be that of the clock that jumps. Of a
handler with several tasks, the events of each lane may then have another order, as long as they are the same ones, and
the verdict is the same.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import math
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

import labkit
from labkit.cli.arguments import read_fault
from labkit.support.autojump import AutojumpLoop, ClockName
from tests import handlers
from tests.differential.people import Handler, Person
from tests.differential.story import Seen, squeezed
from tests.differential.test_same_story import OPTIONS, PATIENCE, Case, cases

pytestmark = pytest.mark.skipif(AutojumpLoop.impossible is not None, reason=str(AutojumpLoop.impossible))

#: How many pairs are played at the same time; and how many of those that are asked again.
AT_ONCE, A_FEW = 12, 3
#: How often the real clock is asked for a story of the other, and how often for another story.
AGAIN, TRIES = 12, 3
#: Faults whose client has a process of its own, or whose server a thread: they keep the real clock.
REAL = {"blocked-loop", "frozen-process", "sigint", "sigkill"}
#: So many pairs of all may differ at first, by chance.
RARE = 0.2
#: The other servers of ASGI: in the soak, with the endpoints that uvicorn's own default is played with.
OTHERS = tuple(name for name, stack in labkit.STACKS.items() if stack.interface == "asgi" and name not in OPTIONS)
#: The handlers of tests/handlers.py, by the style of their cleanup; they take each library's argument.
STYLES = (
    handlers.after_the_loop,
    handlers.in_finally,
    handlers.after_except,
    handlers.shielded,
    handlers.awaited_again,
    handlers.three_resources,
)
#: Of the pairs of a stack, one in so many: in every run of the tests; in the soak; and there beside busy processes.
EVERY, SOAK, BUSY = 80, 8, 32


class Told(NamedTuple):
    """What a run tells.

    Attributes:
        lanes: the events of each lane, in order.
        verdict: what the verdict found.
        everything: the events of all lanes, in order.
        tasks: how many tasks of the handler have seen something.
    """

    lanes: dict[str, list[str]]
    verdict: dict[str, Any]
    everything: list[str]
    tasks: int


def timeless(value: Any) -> Any:
    """Take out what is a run's own: lengths of time, ports, addresses in memory."""
    if isinstance(value, str):
        return re.sub(r"\b0x[0-9a-f]+|[\d.,]+ (ms|s)\b|\b\d{5}\b|\d+ bytes", "…", value)
    if isinstance(value, list | tuple):
        return [timeless(each) for each in value]
    return value


def tell(run: labkit.Run, seen: Seen) -> Told:
    """What a run tells."""
    lanes: dict[str, list[str]] = {}
    for event in run.timeline:
        lanes.setdefault(f"{event.lane} {event.connection}", []).append(timeless(f"{event.kind} {event.text}"))
    verdict = {name: timeless(value) for name, value in dataclasses.asdict(run.verdict).items()}
    for name in ("noticed_after", "blocked"):
        verdict[name] = verdict[name] is not None
    everything = [timeless(f"{event.lane} {event.kind} {event.text}") for event in run.timeline]
    return Told(
        {lane: squeezed(lines) for lane, lines in lanes.items()},
        verdict,
        squeezed(everything),
        len(seen.story(math.inf).strands),
    )


async def play(case: Case, clock: ClockName) -> Told:
    """Play a case on a clock."""
    seen = Seen()
    run = await labkit.play(
        seen.record(case.person.handler),
        on=case.on,
        fault=None if case.fault is None else read_fault(case.fault),
        messages=case.person.messages,
        patience=PATIENCE,
        clock=clock,
        **OPTIONS.get(case.on, {}) | dict(case.person.options),
    )
    assert run.clock == clock, run.clock_words
    return tell(run, seen)


def differences(one: Told, other: Told) -> list[str]:
    """In what two differ."""
    lanes = sorted(one.lanes.keys() | other.lanes.keys())
    found = [
        f"{lane}: {one.lanes.get(lane)}\n   {other.lanes.get(lane)}"
        for lane in lanes
        if one.lanes.get(lane) != other.lanes.get(lane)
    ]
    return found + [
        f"{name}: {value}\n   {other.verdict[name]}"
        for name, value in one.verdict.items()
        if value != other.verdict[name]
    ]


def are_the_same_sets(one: Told, other: Told) -> bool:
    """Whether two runs of a handler with several tasks differ in nothing but the order of their events."""
    sets = [{lane: set(lines) for lane, lines in each.lanes.items()} for each in (one, other)]
    return one.tasks > 1 and sets[0] == sets[1] and one.verdict == other.verdict


async def compare(given: Sequence[Case]) -> tuple[Counter[str], list[str]]:
    """Compare pairs: how many there were, by how they went; and in words what differs."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    again: list[Case] = []

    async def look(case: Case) -> None:
        real, jumped = await play(case, "real"), await play(case, "autojump")
        if differences(real, jumped):
            again.append(case)
        elif real.everything == jumped.everything:
            counts["the same in one order"] += 1
        else:
            counts["the same lane by lane"] += 1

    async def look_again(case: Case) -> None:
        for _ in range(TRIES):
            jumped, real = await play(case, "autojump"), []
            while len(real) < AGAIN:
                real.append(await play(case, "real"))
                if not differences(real[-1], jumped):
                    counts["one of several"] += 1
                    return
            if any(are_the_same_sets(jumped, each) for each in real):
                counts["tasks in another order"] += 1
                return
        wrong.append("\n".join([str(case), *differences(real[0], jumped)]))

    await _at_once(AT_ONCE, look, given)
    await _at_once(A_FEW, look_again, again)
    return counts, wrong


async def _at_once(most: int, look: Callable[[Case], Awaitable[None]], given: Sequence[Case]) -> None:
    room = asyncio.Semaphore(most)

    async def one(case: Case) -> None:
        async with room:
            await look(case)

    async with asyncio.TaskGroup() as group:
        for case in given:
            group.create_task(one(case))


def silent(handler: Callable[[Any], Awaitable[Any]]) -> Handler:
    """A handler that writes nothing down."""

    @functools.wraps(handler)
    async def played(given: Any, _: Seen) -> Any:
        return await handler(given)

    return played


def all_of(on: str) -> list[Case]:
    """Every handler with every fault that can have the clock that jumps; those alike far from each other."""
    people = [Person(silent(handler)) for handler in STYLES]
    found = [case._replace(on=on) for case in cases("asgi" if on in OTHERS else on)]
    found += [Case(person, on, fault) for person in people for fault in {case.fault: None for case in found}]
    found = [case for case in found if case.fault not in REAL]
    random.Random(0).shuffle(found)
    return found


async def find_no_difference(given: Sequence[Case]) -> Counter[str]:
    """Compare, and print how many there were and how much of it was chance."""
    reporting, logging.root.handlers = logging.root.handlers, [logging.NullHandler()]
    try:
        counts, wrong = await compare(given)
    finally:
        logging.root.handlers = reporting
    print(dict(counts))  # noqa: T201 - a soak's figures
    assert not wrong, "\n\n".join(wrong)
    return counts


@contextmanager
def beside(busy: int) -> Iterator[None]:
    """Run some processes that never rest, while the block runs."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


@pytest.mark.parametrize("on", OPTIONS)
async def test_some_pairs_are_the_same(on: str) -> None:
    """For every day, a few of each stack."""
    await find_no_difference(all_of(on)[::EVERY])


async def test_timers_that_meet_do_so_on_both_clocks() -> None:
    """A ping is due a moment before a proxy's limit: less than what the system's own waits are rounded up to."""
    pairs = [case for case in all_of("websockets") if case.person.name == "with_keepalive"]
    pairs = [case for case in pairs if str(case.fault).startswith("idle-timeout")]
    assert len(pairs) == 2
    await find_no_difference(pairs * 2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("busy", "step"), [(0, SOAK), (6, BUSY)])
@pytest.mark.parametrize("on", [*OPTIONS, *OTHERS])
@pytest.mark.xdist_group("busy")
async def test_many_pairs_are_the_same(on: str, busy: int, step: int) -> None:
    """Some 800 in all, and some 200 on the other servers of ASGI; also beside six processes that never rest."""
    with beside(busy):
        counts = await find_no_difference(all_of(on)[::step])
    # Beside busy processes the real clock alone tells more than one story of many handlers.
    assert busy or counts["one of several"] <= RARE * counts.total()
