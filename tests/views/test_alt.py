"""The picture in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labkit.timeline import Timeline
from labkit.verdict import judge
from labkit.views.alt import alt_text
from tests.views import stories
from tests.views.stories import Story


def test_it_tells_the_verdict_then_the_way_to_the_fault_then_what_followed() -> None:
    """The account is made of whole sentences, in this order."""
    timeline, verdict = stories.short().told
    assert alt_text(timeline, verdict) == (
        f"{verdict.sentence} "
        "Before the fault, in the 0.2 ms since connect, 2 events: the client sent 0 and received 0 messages,"
        " the handler sent 0 and received 0 messages. "
        "Then the fault strikes: fin. "
        "After 0.3 ms the handler is told: the loop ends. "
        "After 0.4 ms the handler ends: returned."
    )


def test_without_a_fault_each_event_is_told() -> None:
    """Times then count from connect."""
    told = alt_text(Story().opened().said(answer=False).timeline, None)
    assert told.startswith("At 0.0 ms the client connects. At 0.3 ms the wire takes the client's connection.")
    assert told.endswith("At 2.8 ms the handler receives 'hello'.")


@pytest.mark.parametrize("size", [5, 30, 200])
def test_it_is_bounded_and_says_how_many_more(size: int) -> None:
    """Twelve hundred characters are the most; the events told and those left make all."""
    story = Story().struck("slow-link")
    for n in range(size):
        story.then("handler", "note", f"step {n}")
    told = alt_text(*story.told)
    assert len(told) <= 1200
    after = told.split("Then the fault strikes: slow-link.")[1]
    left = int(after.split(".")[-2].split()[0]) if after.endswith("more events.") else 0
    assert after.count("the handler notes") + left == size


def test_a_message_with_braces_is_quoted_as_it_is() -> None:
    """JSON is a common message."""
    story = Story().then("client", "send", """'{"a": {}, "source": "{source}"}'""")
    assert """the client sends '{"a": {}, "source": "{source}"}'.""" in alt_text(story.timeline, None)


def test_nothing_happened() -> None:
    """An empty timeline is told as such."""
    timeline = Timeline.of([])
    assert alt_text(timeline, judge(timeline)).endswith("No events were recorded.")


def test_a_lane_that_was_not_recorded_is_not_spoken_of() -> None:
    """No handler event is there, so how many messages the handler received is not known."""
    timeline = Timeline()
    timeline.record("client", "send", "'hello'")
    timeline.record("wire", "fault", "reset", {"fault": "reset", "family": "transport", "knobs": {}})
    assert "1 event: the client sent 1 and received 0 messages." in alt_text(timeline, None)


def test_a_long_sentence_leaves_room_for_the_events() -> None:
    """A verdict of many complaints is cut at 600 characters, and each event's text at 120."""
    story = Story().opened().then("handler", "note", "x" * 500).struck().ended("raised", "ValueError: " + "no " * 400)
    timeline, verdict = story.told
    verdict = replace(verdict, sentence="word " * 400)
    told = alt_text(timeline, verdict)
    sentence, _, rest = told.partition("…")
    assert len(sentence) <= 599
    assert rest.startswith(" Before the fault, ")
    ends = rest.partition("the handler ends: ")[2]
    assert ends.endswith("….")
    assert len(ends.removesuffix(".")) <= 120


def test_a_sentence_has_no_control_characters() -> None:
    """The verdict quotes an exception, which may hold anything."""
    timeline, verdict = stories.short().told
    told = alt_text(timeline, replace(verdict, sentence="ValueError: \x1b[31m\nno"))
    assert told.startswith("ValueError: \\x1b[31m no ")


def test_one_more_event_is_one_event() -> None:
    """Where only the last one does not fit, the number has no plural."""
    story = Story().struck("slow-link")
    while not alt_text(story.timeline, None).endswith(" more event."):
        assert len(story.events) < 50
        story.then("handler", "note", "x" * 100)
    assert alt_text(story.timeline, None).endswith(" 1 more event.")
