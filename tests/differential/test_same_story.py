"""What a handler sees in the lab is what it sees without the lab: a plain server, and a raw socket as the client.

The calls of the connection's methods, their results, their exceptions with causes and codes, their order, and how the
handler ends: ``story.py`` writes them down, in both worlds the same. ``on_aiohttp.py``, ``on_asgi.py`` and
``on_websockets.py`` have the handlers, ``plain.py`` and ``peer.py`` the world without the lab. Some stories are a
matter of chance on a plain server too, such as whether a tick is sent once more in the moment of a reset. There, the
lab's story must be one that the plain server tells as well, when it is asked again and again, with the fault a little
later each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from difflib import unified_diff
from typing import NamedTuple

import pytest

import labkit
from labkit.cli.arguments import read_fault
from labkit.events import LoopStop, WireFault
from labkit.faults.fault import find_fault
from labkit.support.clock import scaled
from tests.differential import on_aiohttp, on_asgi, on_websockets, plain
from tests.differential.people import People, Person
from tests.differential.story import Seen, Story

#: How long a handler may take after the fault, in seconds; more than any of them takes if it ends.
PATIENCE = 1.5
#: Settings that make ends come within the patience.
OPTIONS = {
    "aiohttp": {"shutdown_timeout": scaled(0.05)},
    "aiohttp-cancel": {"shutdown_timeout": scaled(0.05)},
    "asgi": {},
    "websockets": {"close_timeout": scaled(0.3)},
}
STACKS = tuple(OPTIONS)
#: How many comparisons run at the same time.
IN_A_CROWD, A_FEW = 30, 3
#: How often the plain server is asked for a story of the lab's, each time at another moment. On a starved machine the
#: lab may tell one that comes once in thousands; what the lab itself changes, it changes again.
AGAIN, TRIES = 25, 3

#: How many stories may differ from each plain one in nothing but the order in which two tasks of the handler had their
#: turns in one moment: a coincidence that a plain server shows too, but not when it is asked. It is more frequent on a
#: starved machine.
RARE = 0.1

#: Of the comparisons of a handler, every so many is made in every run of the tests; all of them in the soak.
EVERY = 16
#: A process for each of these costs half a second.
IN_A_PROCESS = {"frozen-process", "sigint", "sigkill"}


class Case(NamedTuple):
    """One handler, on one stack, with one fault."""

    person: Person
    on: str
    fault: str | None

    def __str__(self) -> str:
        return f"{self.person.name} on {self.on}, {self.fault}"

    async def in_the_lab(self) -> tuple[Story, int]:
        """What the handler sees in the lab, before the lab itself ends it; and in how many lines before the fault."""
        seen = Seen()
        run = await labkit.play(
            seen.record(self.person.handler),
            on=self.on,
            fault=None if self.fault is None else read_fault(self.fault),
            messages=self.person.messages,
            patience=PATIENCE,
            **OPTIONS[self.on] | dict(self.person.options),
        )
        fault, stop = run.timeline.first(WireFault), run.timeline.first(LoopStop)
        assert stop is not None
        began = run.timeline.began
        return seen.story(began + stop.at), 0 if fault is None else seen.so_far(began + fault.at)

    async def on_plain(self, after: int, attempt: int = 0) -> Story:
        """What the handler sees on a plain server, where the fault strikes behind as many lines."""
        options = OPTIONS[self.on] | dict(self.person.options)
        given = (self.person.handler, self.on, self.fault, self.person.messages, scaled(PATIENCE), options)
        return await plain.play(*given, after=after, attempt=attempt)


def people(on: str) -> People:
    """The handlers for the stack's library."""
    by_library = {"asgi": on_asgi.PEOPLE, "websockets": on_websockets.PEOPLE}
    return by_library.get(on, on_aiohttp.PEOPLE)


def cases(on: str) -> list[Case]:
    """Every handler of the stack's library, with every fault."""
    return [
        Case(person, on, fault)
        for number, person in enumerate(people(on))
        for fault in plain.ACTS
        if fault not in IN_A_PROCESS or number < 2
    ]


def chosen(on: str) -> list[Case]:
    """Some for every day: each handler meets some of the faults, and each fault some of the handlers."""
    faults, handlers = list(plain.ACTS), people(on)
    return [case for case in cases(on) if (faults.index(case.fault) + handlers.index(case.person)) % EVERY == 0]


class Result(NamedTuple):
    """How many comparisons there were, by how they went; and in words what differs."""

    counts: Counter[str]
    differences: list[str]


async def compare(cases: list[Case]) -> Result:
    """Compare all, many at the same time; what hundreds of servers log stays out of pytest's report."""
    reporting, logging.root.handlers = logging.root.handlers, [logging.NullHandler()]
    try:
        return await _compare(cases)
    finally:
        logging.root.handlers = reporting


async def _compare(cases: list[Case]) -> Result:
    counts: Counter[str] = Counter()
    by_themselves: list[Case] = []
    differences: list[str] = []

    async def look(case: Case) -> None:
        lab_story, after = await case.in_the_lab()
        try:
            plain_story = await case.on_plain(after)
        except plain.NotStaged:
            counts["not staged"] += 1
            return
        if lab_story.lines == plain_story.lines:
            counts["the same at once"] += 1
        else:
            by_themselves.append(case)

    async def look_again(case: Case) -> None:
        for _ in range(TRIES):
            lab_story, after = await case.in_the_lab()
            plain_stories: list[Story] = []
            while len(plain_stories) < AGAIN:
                plain_stories.append(await case.on_plain(after, len(plain_stories)))
                if lab_story.lines == plain_stories[-1].lines:
                    counts["one of several"] += 1
                    return
            if all(
                any(lines == story.strands.get(strand) for story in plain_stories)
                for strand, lines in lab_story.strands.items()
            ):
                counts["tasks in another order"] += 1
                return
        difference = unified_diff(plain_stories[0].lines, lab_story.lines, "plain", "lab", lineterm="")
        differences.append("\n".join([str(case), *difference]))

    await _at_once(IN_A_CROWD, look, cases)
    # Where a crowd shares the loop, a timer of the library may be late in one of the two worlds. A few do not do that.
    await _at_once(A_FEW, look_again, by_themselves)
    return Result(counts, differences)


async def _at_once(most: int, look: Callable[[Case], Awaitable[None]], cases: list[Case]) -> None:
    room = asyncio.Semaphore(most)

    async def one(case: Case) -> None:
        async with room:
            await look(case)

    async with asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(one(case))


async def find_no_difference(cases: list[Case]) -> None:
    """Compare, and print how many there were and how much of it was chance."""
    result = await compare(cases)
    print(dict(result.counts))  # noqa: T201 - a soak's figures
    assert not result.differences, "\n\n".join(result.differences)
    assert result.counts["tasks in another order"] <= RARE * result.counts.total()


def test_every_fault_is_compared() -> None:
    """Except those of the handshake, where no handler starts; each with at least thirty handlers."""
    compared = {find_fault(read_fault(name)).name for name in plain.ACTS if name is not None}
    assert compared == {fault.name for fault in labkit.FAULTS.values() if fault.family != "handshake"}
    for on in STACKS:
        assert len(people(on)) >= (10 if on == "asgi" else 30)
        if on != "asgi":
            assert {case.fault for case in chosen(on)} >= set(plain.ACTS) - IN_A_PROCESS
        assert {case.person.name for case in chosen(on)} == {person.name for person in people(on)}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("on", STACKS)
async def test_the_lab_tells_no_story_of_its_own(on: str) -> None:
    """Thirty handlers and more a library, against some of the faults each: the lab's story is the plain server's."""
    await find_no_difference(chosen(on))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("on", STACKS)
async def test_every_handler_meets_every_fault(on: str) -> None:
    """The same, with all of them."""
    await find_no_difference(cases(on))
