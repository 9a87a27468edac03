"""What a handler may call: resources on the cleanup lane, and notes; and that both are harmless anywhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

import labkit
from labkit.errors import BadValue
from labkit.timeline import Scope, Timeline, scope


@pytest.fixture
def timeline() -> Iterator[Timeline]:
    """The timeline of an experiment in whose scope the test runs."""
    timeline = Timeline()
    token = scope.set(Scope(timeline, "handler"))
    yield timeline
    scope.reset(token)


async def test_a_resource_tells_its_life(timeline: Timeline) -> None:
    """Open, closing, closed."""
    async with labkit.resource("database", closing=0.01) as database:
        assert database.name == "database"
    assert [(event.kind, event.text) for event in timeline.select("cleanup")] == [
        ("open", "database"),
        ("closing", "database"),
        ("closed", "database"),
    ]
    assert len({event.data["id"] for event in timeline}) == 1


async def test_a_cancel_truncates_the_closing_that_is_in_flight(timeline: Timeline) -> None:
    """Of three resources in a stack, one is cut short; the exits of the others run."""

    async def work() -> None:
        async with AsyncExitStack() as stack:
            for name in ("first", "second", "third"):
                await stack.enter_async_context(labkit.resource(name, closing=0.02))

    task = asyncio.ensure_future(work())
    await timeline.until(lambda event: event.kind == "closing")
    task.cancel()
    await asyncio.wait([task])
    assert [(e.kind, e.text) for e in timeline.select("cleanup", "closed", "truncated")] == [
        ("truncated", "third"),
        ("closed", "second"),
        ("closed", "first"),
    ]


async def test_outside_an_experiment_nothing_is_recorded_and_nothing_breaks() -> None:
    """A handler that uses them runs anywhere."""
    assert scope.get() is None
    labkit.note("nobody listens")
    async with labkit.resource("database", closing=0.001):
        pass
    database = await labkit.resource("database").open()
    await database.close()


def test_a_note_keeps_what_json_can_hold(timeline: Timeline) -> None:
    """Finite numbers and texts stay, anything else becomes its repr."""
    labkit.note("commit", rows=3, what=object, why=None, part=0.5, all=float("inf"))
    [event] = timeline.select("handler", "note")
    assert event.text == "commit"
    assert json.loads(json.dumps(dict(event.data))) == {
        "rows": 3,
        "what": "<class 'object'>",
        "why": None,
        "part": 0.5,
        "all": "inf",
    }


@pytest.mark.parametrize("closing", [-1, "1", True, None, float("nan"), float("inf")])
def test_closing_takes_seconds(closing: Any) -> None:
    """One sentence says what it takes."""
    with pytest.raises(BadValue, match=r"closing=.*; it takes a number of seconds of 0 or more"):
        labkit.resource("database", closing=closing)


async def test_a_name_is_text(timeline: Timeline) -> None:
    """What else it may be, the views get its text."""
    async with labkit.resource(7):  # type: ignore[arg-type]
        pass
    assert {(event.text, event.data["resource"]) for event in timeline} == {("7", "7")}


async def test_closing_belongs_where_the_resource_was_made(timeline: Timeline) -> None:
    """Also if it is a callback without the context that closes it: the lane is that of the maker."""
    database = await labkit.resource("database").open()
    token = scope.set(None)
    await asyncio.create_task(database.close())
    scope.reset(token)
    assert [event.kind for event in timeline.select("cleanup")] == ["open", "closing", "closed"]


async def test_a_note_is_told_where_it_is_made(timeline: Timeline) -> None:
    """In a task and in a thread of the handler too, on the handler's lane."""

    async def work() -> None:
        labkit.note("task")

    await asyncio.create_task(work())
    await asyncio.to_thread(labkit.note, "thread")
    assert [(event.lane, event.text) for event in timeline] == [("handler", "task"), ("handler", "thread")]


async def test_closing_takes_its_time(timeline: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds that were asked for, times the scale."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", "2")
    async with labkit.resource("database", closing=0.03):
        pass
    _, closing, closed = timeline.select("cleanup")
    assert closed.at - closing.at >= 0.055
    assert repr(labkit.resource("database", closing=0.5)) == "resource('database', closing=0.5)"


async def test_two_of_one_name_are_two(timeline: Timeline) -> None:
    """Events of the same resource share an id, and nobody else has it."""
    async with labkit.resource("connection"), labkit.resource("connection"):
        pass
    ids = [event.data["id"] for event in timeline.select("cleanup")]
    assert len(set(ids)) == 2
    assert [ids.count(number) for number in ids] == [3] * 6
