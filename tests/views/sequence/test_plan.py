"""The plan of the sequence picture: rows, folds, and what connects them."""

from __future__ import annotations

import pytest

from labkit.events import make
from labkit.timeline import Timeline
from labkit.views.sequence.plan import Plan, Point, plan
from tests.views.stories import Story


def labels(planned: Plan) -> list[str]:
    return [mark.label for mark in planned.marks]


@pytest.mark.parametrize(("seconds", "folds"), [(0.039, []), (0.04, ["⋯ 40 ms idle ⋯"])])
def test_a_pause_of_forty_milliseconds_is_folded(seconds: float, folds: list[str]) -> None:
    """A shorter one is not."""
    events = [make("handler", "note", "one", at=0.0), make("handler", "note", "two", at=seconds)]
    assert [fold.text for fold in plan(Timeline.of(events)).folds] == folds


def test_time_in_which_events_are_left_out_is_not_idle() -> None:
    """Something happened every 10 ms, so the only fold is that of the events."""
    story = Story()
    for n in range(30):
        story.then("handler", "note", f"step {n}", wait=10)
    planned = plan(story.timeline, limit=10)
    [fold] = planned.folds
    assert fold.text == f"+{30 - len(planned.marks)} more events"
    assert planned.rows == len(planned.marks) + 1


def test_the_shade_begins_at_the_first_fault() -> None:
    """A second fault is an event like others."""
    planned = plan(Story().struck("slow-link").then("handler", "note", "slower").struck("reset").timeline)
    assert planned.fault == 0


def test_what_the_lab_breaks_is_no_failure() -> None:
    """The same RST is a failure before the lab ends the experiment, and none after it."""
    story = Story().then("wire", "reset", "RST", link=0, source="client")
    story.stopped().then("wire", "reset", "RST", link=0, source="wire", to="client")
    assert [mark.failed for mark in plan(story.timeline).marks if mark.shape == "break"] == [True, False]


def test_a_message_that_is_lost_after_the_lab_ends_the_experiment_is_no_failure() -> None:
    """Both arrows end at the wire; only the first one says failure."""
    story = Story().then("client", "send", "'a'").framed("client", "'a'")
    story.then("wire", "lost", "7 bytes from the client lost", source="client", length=7, link=0).stopped()
    story.then("client", "send", "'b'").framed("client", "'b'")
    story.then("wire", "lost", "7 bytes from the client lost", source="client", length=7, link=0)
    assert [(arrow.lost, arrow.failed) for arrow in plan(story.timeline).arrows] == [(True, True), (True, False)]


@pytest.mark.parametrize(("source", "side", "sender"), [("client", "left", "client"), ("server", "right", "handler")])
def test_a_lost_frame_of_the_library_comes_from_its_senders_side(source: str, side: str, sender: str) -> None:
    """Nobody in the timeline sent the PING, so its arrow begins beside the wire, where its sender is."""
    length = 11 if source == "client" else 7
    story = Story().framed(source, "'abcde'", "PING")
    story.then("wire", "lost", f"{length} bytes lost", source=source, length=length, link=0)
    [arrow] = plan(story.timeline).arrows
    assert arrow.start == Point(0, "wire", from_side=side)
    assert arrow.end == Point(0, "wire")
    assert (arrow.lane, arrow.lost) == (sender, True)


def test_what_is_withheld_is_called_so() -> None:
    """Bytes are lost; a frame that the fault holds back is withheld."""
    story = Story().closed("client")
    story.then("wire", "lost", "Close from the client withheld", source="client", length=8, link=0, what="Close")
    assert labels(plan(story.timeline)) == ["withheld → Close 1000"]
    story = Story().closed("client")
    story.then("wire", "lost", "8 bytes from the client lost", source="client", length=8, link=0)
    assert labels(plan(story.timeline)) == ["lost → Close 1000"]


def test_a_mark_knows_where_its_message_runs_to() -> None:
    """The client's messages run to the right, and the handler's to the left; what is no message runs nowhere."""
    planned = plan(Story().said("'hello'").then("handler", "note", "done").timeline)
    assert [(mark.label, mark.flow) for mark in planned.marks] == [
        ("send 'hello'", "right"),
        ("recv 'hello'", "right"),
        ("send 'hello'", "left"),
        ("recv 'hello'", "left"),
        ("note: done", ""),
    ]


def test_resources_that_overlap_have_a_slot_each() -> None:
    """Marks and bars of one resource share its slot; a slot is free again when its resource is closed."""
    story = Story().cleanup("database", "open", number=1).cleanup("lock", "open", number=2)
    story.cleanup("database", "closing", "closed", number=1).cleanup("cache", "open", number=3)
    planned = plan(story.timeline)
    assert [mark.slot for mark in planned.marks] == [0, 1, 0, 0, 0]
    assert {bar.slot for bar in planned.bars} == {0, 1}
