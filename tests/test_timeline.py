"""The timeline: events in order, from any thread, and something to wait for."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from typing import Any

import pytest

import labkit
from labkit.events import LANES, ClientSend, HandlerEnd, LinkEvent, WireFault, make
from labkit.support.clock import now, scaled
from labkit.timeline import Timeline


def test_events_are_kept_in_order() -> None:
    """What is recorded comes back, with seconds since the timeline began."""
    timeline = Timeline()
    timeline.record("client", "send", "'hello'", {"length": 5})
    timeline.record("handler", "recv")
    first, second = timeline
    assert (first.lane, first.kind, first.text) == ("client", "send", "'hello'")
    assert first.data == {"opcode": None, "length": 5}
    assert (second.text, second.data) == ("", {"opcode": None, "length": None})
    assert 0 <= first.at <= second.at
    assert len(timeline) == 2
    assert timeline[1] == second


def test_select_picks_by_lane_and_kind() -> None:
    """A lane, one or more kinds, or neither."""
    timeline = Timeline()
    for lane in LANES:
        timeline.record(lane, "this")
        timeline.record(lane, "that")
    assert len(timeline.select()) == 2 * len(LANES)
    assert [event.kind for event in timeline.select("wire")] == ["this", "that"]
    assert [event.lane for event in timeline.select(None, "that")] == list(LANES)
    assert len(timeline.select("loop", "this", "that")) == 2


def test_a_timeline_is_rebuilt_from_its_events() -> None:
    """The same events come out of the copy."""
    events = [make("wire", "fault", "reset", {"fault": "reset"}, at=0.5), make("loop", "stop", at=0.75)]
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
    waiter = asyncio.ensure_future(timeline.until(lambda event: event.kind == "send", scaled(5)))
    await asyncio.sleep(0)
    timeline.record("handler", "recv")
    for _ in range(3):  # the waiter looks, and waits again
        await asyncio.sleep(0)
    threading.Thread(target=timeline.record, args=("handler", "send")).start()
    event = await waiter
    assert event is not None
    assert event.kind == "send"
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
        await timeline.until(lambda event: bool(event.data["nothing"]))
    assert not timeline._listeners


async def test_many_may_wait_for_different_events() -> None:
    """Each goes on at its own event, and the events between are seen by all."""
    timeline = Timeline()
    kinds = ["send", "recv", "ended"]
    waiters = [
        asyncio.ensure_future(timeline.until(lambda event, kind=kind: event.kind == kind, scaled(5))) for kind in kinds
    ]
    await asyncio.sleep(0)
    for kind in reversed(kinds):
        timeline.record("client", kind)
    assert [event.kind for event in await asyncio.gather(*waiters) if event] == kinds
    assert not timeline._listeners


async def test_many_events_of_one_step_wake_a_loop_once() -> None:
    """A handler may record a thousand in a step; and who clears it in time misses none that come after."""
    timeline = Timeline()
    with timeline.changes() as changed:
        for _ in range(3):
            for _ in range(100):
                timeline.record("client", "send")
            assert len(asyncio.get_running_loop()._ready) == 1  # type: ignore[attr-defined]
            await changed.wait()
            changed.clear()


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
    gc.collect()  # asyncio complains of the task now, and not during the experiment of a later test


async def test_an_event_of_the_loops_own_thread_need_not_wake_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it hears of it all the same; one of another thread wakes the loop, which may sleep."""
    loop, woken = asyncio.get_running_loop(), list[str]()

    def wake(*args: Any) -> Any:
        woken.append(threading.current_thread().name)
        return type(loop).call_soon_threadsafe(loop, *args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", wake)
    timeline = Timeline()
    for kind in ("here", "there"):
        waiting = asyncio.create_task(timeline.until(lambda event, kind=kind: event.kind == kind, scaled(10)))
        await asyncio.sleep(0)
        if kind == "here":
            timeline.record("client", kind)
        else:
            thread = threading.Thread(target=timeline.record, args=("client", kind), name="other")
            thread.start()
            thread.join()
        assert (await waiting) is not None
    assert woken == ["other"]


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
    timeline.append_at(between, make("client", "between", "from afar", {"a": 1}))
    event = await waiting
    assert event is not None
    assert [e.kind for e in timeline] == ["first", "between", "second"]
    assert (timeline[1], timeline[-1].kind, len(timeline)) == (event, "second", 3)


def told() -> Timeline:
    """A message, a fault, a message, the lab's own end, and what came of that."""
    return Timeline.of(
        [
            make("client", "send", "'one'"),
            make("wire", "fault", "reset", {"fault": "reset"}),
            make("client", "send", "'two'"),
            make("loop", "stop"),
            make("handler", "cancelled", "by the lab"),
        ]
    )


def test_events_are_found_by_their_class() -> None:
    """The first, the last, and all of a kind, or of a few."""
    timeline = told()
    first, last = timeline.first(ClientSend), timeline.last(ClientSend)
    assert (first and first.text, last and last.text) == ("'one'", "'two'")
    assert [event.text for event in timeline.all(ClientSend, WireFault)] == ["'one'", "reset", "'two'"]
    assert timeline.first(HandlerEnd) is timeline.last(HandlerEnd) is None
    assert timeline.all(HandlerEnd) == []


def test_a_timeline_is_cut_at_its_landmarks() -> None:
    """What came until the lab ended the experiment, what came from the fault on, and both."""
    timeline = told()
    assert [event.kind for event in timeline.until_stop()] == ["send", "fault", "send"]
    assert [event.kind for event in timeline.since_fault()] == ["fault", "send", "stop", "cancelled"]
    assert [event.kind for event in timeline.until_stop().since_fault()] == ["fault", "send"]
    assert repr(timeline.until_stop()) == "<Events of 3 events>"
    assert [event.kind for event in timeline[1:3]] == ["fault", "send"]


def test_without_landmarks_nothing_is_cut_and_nothing_found() -> None:
    """Where the lab has not ended it, all counts; where no fault struck, nothing followed it."""
    timeline = Timeline.of([make("client", "send", "'one'")])
    assert list(timeline.until_stop()) == list(timeline)
    assert list(timeline.since_fault()) == []


async def test_code_that_runs_in_a_scope_is_recorded() -> None:
    """Its notes and its resources, and those of the tasks that it starts; behind the block nothing is."""
    timeline = Timeline()

    async def elsewhere() -> None:
        labkit.note("in a task")

    with timeline.scope():
        labkit.note("in the block")
        async with labkit.resource("lock"):
            await asyncio.create_task(elsewhere())
    labkit.note("behind it")
    assert [(event.lane, event.text) for event in timeline.select(None, "note", "open")] == [
        ("handler", "in the block"),
        ("cleanup", "lock"),
        ("handler", "in a task"),
    ]


def test_a_kind_is_found_by_what_it_is_made_of() -> None:
    """All that names a link of the wire is a ``LinkEvent``; of no kind at all there is nothing."""
    link, end = make("wire", "link", data={"link": 0}), make("wire", "closed", data={"link": 0})
    timeline = Timeline.of([make("client", "send", "'one'"), link, end])
    assert timeline.all(LinkEvent) == [link, end]
    assert (timeline.first(LinkEvent), timeline.last(LinkEvent)) == (link, end)
    assert timeline.all() == []
