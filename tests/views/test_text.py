"""The timeline as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labkit.errors import BadValue
from labkit.events import make
from labkit.timeline import Timeline
from labkit.verdict import judge
from labkit.views.text import text
from tests.views import stories
from tests.views.stories import Story


def test_it_reads_like_a_log() -> None:
    """The sentence, the events in columns with a rule before the fault, the findings."""
    assert text(*stories.short().told) == "\n".join(
        [
            "fin: echo on websockets noticed after 0.3 ms and returned; close code 1006; which lines ran is",
            "unknown.",
            "",
            "       ms   lane     event (time since connect)",
            "      0.0   client   ● connect        connect ws://127.0.0.1:4711/",
            "      0.1   handler  ● start          echo starts",
            "──────────  the fault " + "─" * 78,
            "      0.2!  wire     ★ fault          fin",
            "      0.5   handler  ◉ notice         the loop ends",
            "      0.6   handler  ■ end            returned",
            "",
            "ending      returned",
            "exception   none",
            "close code  1006",
            "noticed     yes, 0.3 ms after the fault",
            "never ran   unknown",
            "cleanup     none",
            "leaked      nothing",
            "complaints  none",
        ]
    )


def test_every_finding_of_the_verdict_is_told() -> None:
    """What was left behind, and every complaint, has a line."""
    written = text(*stories.truncated().told)
    assert "cleanup     truncated" in written
    assert "leaked      task 'Task-7' (release)" in written
    assert "complaints  Task exception was never retrieved: ValueError: the order was lost" in written


def test_idle_time_is_told() -> None:
    """A pause is a line between the events."""
    assert "        ⋯   950 ms idle" in text(stories.silence().timeline).splitlines()


def test_the_labs_own_end_is_set_apart() -> None:
    """What it cancels has no sign of failure."""
    after = text(stories.unaware().timeline).split("the lab's doing from here on")[1]
    assert "cancelled by the lab" in after
    assert "!" not in after


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_line_is_longer_than_the_width(width: int) -> None:
    """Long texts go on in the next line, under their beginning, and no word is broken."""
    words = set(text(*stories.echo_reset().told, width=200).split())
    for told in (stories.long().told, stories.truncated().told, stories.silence().told, stories.echo_reset().told):
        assert max(map(len, text(*told, width=width).splitlines())) <= width
    short = {word for word in words if len(word) < 20 and "─" not in word}
    assert short <= set(text(*stories.echo_reset().told, width=width).split())


def test_below_a_hundred_columns_each_is_as_wide_as_what_it_holds() -> None:
    """So the texts have room beside their kinds at sixty."""
    written = text(stories.short().timeline, width=60).splitlines()
    assert written[:2] == [
        " ms   lane     event (time since connect)",
        "0.0   client   ● connect  connect ws://127.0.0.1:4711/",
    ]


def test_on_a_narrow_terminal_the_texts_go_on_below() -> None:
    """They begin behind their kinds, and go on below the lane."""
    assert text(stories.short().timeline, width=40).splitlines()[:5] == [
        " ms   lane     event (time since",
        "               connect)",
        "0.0   client   ● connect  connect",
        "        ws://127.0.0.1:4711/",
        "0.1   handler  ● start  echo starts",
    ]


def test_a_long_text_goes_on_under_itself() -> None:
    """A wrapped text stays in its column."""
    written = text(stories.echo_reset().timeline).splitlines()
    (first,) = (n for n, line in enumerate(written) if "connection ended" in line)
    assert written[first + 1] == " " * written[first].index("connection") + "reset by peer"


def test_lines_are_hidden_unless_asked_for() -> None:
    """The lines that ran are events on demand."""
    timeline = Story().opened().then("handler", "line", "await ws.close()", line=7).timeline
    assert "await" not in text(timeline)
    assert "line           7: await ws.close()" in text(timeline, lines=True)


def test_control_characters_do_nothing() -> None:
    """A terminal is not told to change colours, or to go to the next line."""
    written = text(Story().then("handler", "print", "\x1b[31mred\r\nnext", stream="stdout").timeline)
    assert "\x1b" not in written
    assert len(written.splitlines()) == 2


def test_nothing_happened() -> None:
    """An empty timeline says so."""
    timeline = Timeline.of([])
    assert "no events" in text(timeline, judge(timeline))


def test_a_narrow_width_is_refused() -> None:
    """The error says what would do."""
    with pytest.raises(BadValue, match="40 columns or more"):
        text(Timeline.of([]), width=20)


def test_a_flood_is_folded_as_in_the_picture() -> None:
    """What matters stays, and the lines say how many events are left out; none is lost in the count."""
    story = Story().opened()
    for number in range(1000):
        story.then("handler", "print", f"line {number}", stream="stdout", wait=0.001)
    story.reset().noticed().ended().stopped()
    written = text(story.timeline).splitlines()
    assert len(written) < 80
    (fold,) = (line for line in written if "more events" in line)
    left_out = int(fold.split("+")[1].split()[0])
    rows = [line for line in written if line.strip()[0].isdigit()]
    assert len(rows) + left_out == len(story.timeline)
    for kind in ("connect", "start", "fault", "notice", "end", "stop"):
        assert any(f" {kind} " in line for line in rows), kind


def test_the_sight_of_a_message_on_the_wire_is_not_counted() -> None:
    """Ten messages there and back are forty events and twenty frames: in sixty rows all of them are written."""
    story = Story().opened()
    for number in range(10):
        story.said(f"'{number}'")
    assert len(story.timeline) > 60
    assert "more event" not in text(story.timeline)
    assert "more event" in text(story.timeline, limit=20)


def test_a_small_limit_is_refused() -> None:
    """The error says what would do."""
    with pytest.raises(BadValue, match="5 events or more"):
        text(Timeline.of([]), limit=4)


def test_a_pause_of_forty_milliseconds_is_idle_time() -> None:
    """As in the picture."""
    events = [make("handler", "note", "one", at=0.0), make("handler", "note", "two", at=0.04)]
    assert "        ⋯   40 ms idle" in text(Timeline.of(events)).splitlines()


def test_time_in_which_events_are_left_out_is_not_idle() -> None:
    """Something happened every 10 ms."""
    story = Story()
    for n in range(30):
        story.then("handler", "note", f"step {n}", wait=10)
    written = text(story.timeline, limit=10)
    assert "more events" in written
    assert "idle" not in written


def test_what_happens_before_the_labs_own_end_has_its_sign_of_failure() -> None:
    """The same RST is a failure before it, and the lab's doing after it."""
    story = Story().then("wire", "reset", "RST", link=0, source="client")
    story.stopped().then("wire", "reset", "RST", link=0, source="wire", to="client")
    resets = [line for line in text(story.timeline).splitlines() if " reset " in line]
    assert ["!" in line for line in resets] == [True, False]


def test_an_event_without_a_text_has_its_line() -> None:
    """The lane and the kind say what it is."""
    written = text(Story().then("handler", "note", "").timeline).splitlines()
    assert written[1] == "      0.0   handler  · note"


def test_the_findings_of_a_verdict_in_words() -> None:
    """A close code of 0 is one, no line is as good as a number, and no finding goes to a terminal as it is."""
    timeline, verdict = stories.short().told
    found = replace(verdict, close_code=0, lines_never_ran=(), sentence="the sentence\x1b[31m")
    written = text(timeline, found)
    assert written.startswith("the sentence\\x1b[31m\n")
    assert "close code  0\n" in written
    assert "never ran   no line\n" in written
    assert "never ran   line 7\n" in text(timeline, replace(verdict, lines_never_ran=(7,)))
    assert "never ran   lines 7, 9\n" in text(timeline, replace(verdict, lines_never_ran=(7, 9)))
    assert "close code  none\n" in text(timeline, replace(verdict, close_code=None))
