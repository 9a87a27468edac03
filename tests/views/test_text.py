"""The timeline as text."""

from __future__ import annotations

import pytest

from labkit.errors import BadValue
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


@pytest.mark.parametrize("width", [60, 100])
def test_no_line_is_longer_than_the_width(width: int) -> None:
    """Long texts go on in the next line, under their beginning."""
    for told in (stories.long().told, stories.truncated().told, stories.silence().told):
        assert max(map(len, text(*told, width=width).splitlines())) <= width


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
    with pytest.raises(BadValue, match="60 columns or more"):
        text(Timeline.of([]), width=20)
