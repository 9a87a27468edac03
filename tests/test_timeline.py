"""The timeline: events in order, from any thread, and something to wait for."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest

from labkit.clock import now, scaled
from labkit.timeline import LANES, Event, Timeline


def test_events_are_kept_in_order() -> None:
    """What is recorded comes back, with seconds since the timeline began."""
    timeline = Timeline()
    timeline.record("client", "send", "'hello'", {"length": 5})
    timeline.record("handler", "recv")
    first, second = timeline
    assert (first.lane, first.kind, first.text, first.data) == ("client", "send", "'hello'", {"length": 5})
    assert (second.text, dict(second.data)) == ("", {})
    assert 0 <= first.at <= second.at
    assert len(timeline) == 2
    assert timeline[1] == second


def test_select_picks_by_lane_and_kind() -> None:
    """A lane, one or more kinds, or neither."""
    timeline = Timeline()
    for lane in LANES:
        timeline.record(lane, "start")
        timeline.record(lane, "end")
    assert len(timeline.select()) == 10
    assert [event.kind for event in timeline.select("wire")] == ["start", "end"]
    assert [event.lane for event in timeline.select(None, "end")] == list(LANES)
    assert len(timeline.select("loop", "start", "end")) == 2


def test_a_timeline_is_rebuilt_from_its_events() -> None:
    """The same events come out of the copy."""
    events = [Event(0.5, "wire", "fault", "reset", {"fault": "reset"}), Event(0.75, "loop", "stop", "", {})]
    assert list(Timeline.of(events)) == events


def test_threads_lose_no_event() -> None:
    """Events may be recorded from any thread."""
    timeline = Timeline()

    def work() -> None:
        for _ in range(2000):
            timeline.record("handler", "print")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(timeline) == 8000


async def test_until_finds_what_is_there_already() -> None:
    """An event that has happened counts, unless the search starts behind it."""
    timeline = Timeline()
    timeline.record("client", "recv")
    event = await timeline.until(lambda event: event.kind == "recv")
    assert event == timeline[0]
    assert await timeline.until(lambda event: event.kind == "recv", 0.01, start=1) is None


async def test_until_wakes_when_it_happens() -> None:
    """The waiter goes on at the event, also when another thread records it; and stops listening."""
    asyncio.get_running_loop().set_debug(True)  # so that a call from the wrong thread is an error
    timeline = Timeline()
    waiter = asyncio.ensure_future(timeline.until(lambda event: event.kind == "end", scaled(5)))
    await asyncio.sleep(0)
    timeline.record("handler", "start")
    for _ in range(3):  # the waiter looks, and waits again
        await asyncio.sleep(0)
    threading.Thread(target=timeline.record, args=("handler", "end")).start()
    event = await waiter
    assert event is not None
    assert event.kind == "end"
    assert not timeline._listeners


async def test_until_gives_up() -> None:
    """None says that the time was up; a cancel passes."""
    timeline = Timeline()
    assert await timeline.until(lambda event: True, 0.01) is None
    waiter = asyncio.ensure_future(timeline.until(lambda event: True))
    await asyncio.sleep(0)
    waiter.cancel()
    assert (await asyncio.gather(waiter, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert not timeline._listeners


async def test_until_passes_on_what_the_test_raises() -> None:
    """A slip in the test is told to who waits, and nobody listens on."""
    timeline = Timeline()
    timeline.record("client", "send")
    with pytest.raises(KeyError):
        await timeline.until(lambda event: bool(event.data["length"]))
    assert not timeline._listeners


async def test_many_may_wait_for_different_events() -> None:
    """Each goes on at its own event, and the events between are seen by all."""
    timeline = Timeline()
    kinds = ["send", "recv", "end"]
    waiters = [
        asyncio.ensure_future(timeline.until(lambda event, kind=kind: event.kind == kind, scaled(5))) for kind in kinds
    ]
    await asyncio.sleep(0)
    for kind in reversed(kinds):
        timeline.record("client", kind)
    assert [event.kind for event in await asyncio.gather(*waiters) if event] == kinds
    assert not timeline._listeners


async def test_an_event_from_a_thread_finds_a_loop_that_is_closed() -> None:
    """Whoever records is not troubled by somebody who waited in a loop that is gone."""
    timeline = Timeline()

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()
        waiter = loop.create_task(timeline.until(lambda event: False))
        loop.run_until_complete(asyncio.sleep(0))
        abandoned.append(waiter)
        loop.close()

    abandoned: list[asyncio.Task[object]] = []
    await asyncio.to_thread(elsewhere)
    timeline.record("client", "send")
    assert len(timeline) == 1
    abandoned.pop().get_coro().close()  # type: ignore[union-attr]


def test_a_reader_may_record_while_it_reads() -> None:
    """Iterating goes over the events that were there when it began."""
    timeline = Timeline()
    timeline.record("client", "send")
    for event in itertools.islice(timeline, 10):
        timeline.record("client", "recv", event.text)
    assert [event.kind for event in timeline] == ["send", "recv"]
    assert timeline[-1].kind == "recv"
    assert repr(timeline) == "<Timeline of 2 events>"


async def test_an_event_from_another_process_takes_its_place() -> None:
    """It comes late and stands where it happened; who waits for it is woken all the same."""
    timeline = Timeline()
    timeline.record("wire", "first")
    between = now()
    timeline.record("wire", "second")
    waiting = asyncio.create_task(timeline.until(lambda event: event.kind == "between", scaled(10), start=2))
    await asyncio.sleep(0)
    timeline.record_at(between, "client", "between", "from afar", {"a": 1})
    event = await waiting
    assert event is not None
    assert [e.kind for e in timeline] == ["first", "between", "second"]
    assert (timeline[1], timeline[-1].kind, len(timeline)) == (event, "second", 3)
