"""The sequence picture: what is drawn, where, and in which colour."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from labkit.errors import BadValue, UnknownName
from labkit.timeline import Timeline
from labkit.views.canvas.palette import THEMES
from labkit.views.canvas.picture import Picture
from labkit.views.sequence.view import sequence
from tests.views import stories
from tests.views.stories import Story

LIGHT = THEMES["light"]
STORIES = [
    stories.echo_reset,
    stories.short,
    stories.long,
    stories.truncated,
    stories.silence,
    stories.goodbye,
    stories.unaware,
]


def texts(picture: Picture, gid: str) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in picture.axes[0].texts if text.get_gid() == gid]


def collection(picture: Picture, gid: str) -> Any:
    return next(artist for artist in picture.axes[0].collections if artist.get_gid() == gid)


def gids(picture: Picture) -> set[str | None]:
    return {artist.get_gid() for artist in picture.axes[0].collections}


def lane(picture: Picture, name: str) -> float:
    return next(t.get_position()[0] for t in picture.axes[0].texts if t.get_gid() == "lane" and t.get_text() == name)


def row(picture: Picture, label: str) -> float:
    """The height of the mark with a label: that of its time, which stands in the same row."""
    axes = picture.axes[0]
    times = [text for text in axes.texts if text.get_gid() == "time"]
    return float(times[texts(picture, "label").index(label)].get_position()[1])


def test_time_runs_down_a_row_for_each_event() -> None:
    """Every event has a row of its own, lower than the one before, with its time since connect at the left."""
    picture = sequence(*stories.short().told)
    times = [text for text in picture.axes[0].texts if text.get_gid() == "time"]
    assert [text.get_text() for text in times] == ["0.0", "0.1", "0.2", "0.5", "0.6"]
    heights = [text.get_position()[1] for text in times]
    assert all(upper + 0.2 < lower for upper, lower in itertools.pairwise(heights))


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("width", [5.0, 8.0])
def test_no_label_lies_on_another(story: Callable[[], Story], width: float) -> None:
    """No two texts overlap, and none leaves the sheet, whether there are 5 events, 20 or 60."""
    picture = sequence(*story().told, width=width)
    canvas = picture.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    picture.set_dpi(192)
    with mpl.rc_context({"text.hinting": "none"}):
        boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in picture.axes[0].texts]
    for (text, box), (other, its_box) in itertools.combinations(boxes, 2):
        assert not box.overlaps(its_box), f"{text!r} lies on {other!r}"
    right, top = picture.bbox.size
    for text, box in boxes:
        assert min(box.x0, box.y0, right - box.x1, top - box.y1) >= 0, f"{text!r} leaves the sheet"


@pytest.mark.parametrize("story", STORIES)
def test_a_label_lies_on_no_mark_and_no_bar(story: Callable[[], Story]) -> None:
    """A label may hide a line, but not a mark, nor a bar of another lane."""
    picture = sequence(*story().told)
    canvas = picture.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    axes = picture.axes[0]
    labels = [text for text in axes.texts if text.get_gid() in {"label", "remark", "time"}]
    shapes = [path.get_extents() for path in collection(picture, "bars").get_paths()]
    for marks in axes.collections:
        if str(marks.get_gid()).startswith("marks:"):
            shapes += [mpl.transforms.Bbox.from_bounds(x - 0.03, y - 0.03, 0.06, 0.06) for x, y in marks.get_offsets()]
    for text in labels:
        box = text.get_window_extent(canvas.get_renderer()).transformed(axes.transData.inverted())
        assert not any(box.overlaps(shape) for shape in shapes), f"{text.get_text()!r} lies on a mark"


def test_lanes_stand_in_order_and_only_those_that_have_events() -> None:
    """Client, wire and handler are always there; cleanup and loop where something happened."""
    assert texts(sequence(*stories.short().told), "lane") == ["client", "wire", "handler"]
    picture = sequence(*stories.truncated().told)
    assert texts(picture, "lane") == ["client", "wire", "handler", "cleanup", "loop"]
    places = [lane(picture, name) for name in texts(picture, "lane")]
    assert places == sorted(places)


def test_labels_stand_at_the_outer_side_of_a_conversation() -> None:
    """The client's at its left and the handler's at its right, so that the arrows have the middle."""
    picture = sequence(*stories.echo_reset().told)
    sides = {t.get_text(): t.get_ha() for t in picture.axes[0].texts if t.get_gid() == "label"}
    assert (sides["connect"], sides["echo starts"]) == ("right", "left")


def test_chosen_lanes_are_drawn_alone() -> None:
    """``lanes`` leaves the others out, with their events."""
    picture = sequence(*stories.echo_reset().told, lanes=["handler", "cleanup"])
    assert texts(picture, "lane") == ["handler", "cleanup"]
    assert "connect" not in texts(picture, "label")


def test_a_message_is_an_arrow_from_its_sender_to_its_receiver() -> None:
    """The arrow runs down from lane to lane in the sender's hue, with the wire's frame as a tick on it."""
    picture = sequence(*stories.echo_reset().told)
    client, wire, handler = (lane(picture, name) for name in ("client", "wire", "handler"))
    there, back = collection(picture, "arrows").get_segments()
    assert client < there[0][0] < wire < there[1][0] < handler
    assert client < back[1][0] < wire < back[0][0] < handler
    assert there[0][1] < there[1][1]
    assert back[0][1] < back[1][1]
    assert len(collection(picture, "heads").get_paths()) == 2
    assert [x for x, _ in collection(picture, "wire-marks").get_offsets()] == [wire, wire]
    assert not [text for text in texts(picture, "label") if "TEXT" in text]


def test_a_lost_message_is_dashed_and_ends_in_a_cross_at_the_wire() -> None:
    """What the wire swallows has no arrow's head, and its colour is the alarm's."""
    picture = sequence(*stories.silence().told)
    arrows = collection(picture, "arrows")
    crosses = collection(picture, "marks:lost").get_offsets()
    wire = lane(picture, "wire")
    assert [x for x, _ in crosses] == [wire, wire]
    # Two messages that arrived, the client's that did not, and the library's own PING.
    assert len(arrows.get_segments()) == 4
    assert len(collection(picture, "heads").get_paths()) == 2
    dashed = [pattern is not None for _, pattern in arrows.get_linestyles()]
    assert sorted(dashed) == [False, False, True, True]
    for segment, is_dashed, colour in zip(arrows.get_segments(), dashed, arrows.get_colors(), strict=True):
        assert (to_hex(colour) == LIGHT.alarm) == is_dashed
        if is_dashed:
            assert abs(segment[1][0] - wire) < 0.1
    assert "lost ← PING 'abcd'" in texts(picture, "label")


def test_a_close_frame_runs_through_the_wire_to_who_is_told() -> None:
    """The client's Close goes to its frame on the wire and on to the handler's notice; the server's, to the client."""
    picture = sequence(*stories.goodbye().told)
    lanes = {name: lane(picture, name) for name in ("client", "wire", "handler")}
    ways = [
        tuple(min(lanes, key=lambda name, x=x: abs(lanes[name] - x)) for x, _ in segment)  # type: ignore[misc]
        for segment in collection(picture, "arrows").get_segments()
    ]
    messages = {("client", "handler"), ("handler", "client")}
    assert set(ways) == messages | {("client", "wire"), ("wire", "handler"), ("wire", "client")}
    assert {"→ Close 1000", "← Close 1000", "send Close 1000 'bye'", "recv Close 1000"} <= {*texts(picture, "label")}


def test_an_open_end_is_still_running() -> None:
    """A lifetime without an end fades at the lower edge, and a note says so; one that ended has none."""
    timeline = Story().opened().said().struck("blackhole").timeline
    picture = sequence(timeline)
    assert texts(picture, "remark") == ["still open", "still running"]
    assert texts(sequence(*stories.goodbye().told), "remark") == []
    bottom = max(path.get_extents().y1 for path in collection(picture, "bars").get_paths())
    assert bottom > row(picture, "fault: blackhole")


def test_what_the_lab_stopped_was_still_running() -> None:
    """Where the lab ends the experiment, a note stands beside what ran on, and its end is no failure."""
    picture = sequence(*stories.unaware().told)
    assert texts(picture, "remark") == ["still open", "still running"]
    faces = {to_hex(colour) for colour in collection(picture, "marks:break").get_facecolors()}
    assert faces == {LIGHT.hues["handler"]}
    assert "stopped" in gids(picture)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_only_failures_have_the_colour_of_failure(theme: str) -> None:
    """Vermilion marks are the fault, the reset, what was cancelled, truncated or left behind; nothing else is."""
    picture = sequence(*stories.truncated().told, theme=theme)
    red = set()
    for marks in picture.axes[0].collections:
        if str(marks.get_gid()).startswith("marks:"):
            for (_, y), colour in zip(marks.get_offsets(), marks.get_facecolors(), strict=True):
                if to_hex(colour) == THEMES[theme].alarm:
                    red.add(round(float(y), 3))
    written = {
        t.get_text().replace("\n", " ") for t in picture.axes[0].texts if t.get_color() == THEMES[theme].alarm_ink
    }
    assert len(red) == 10
    assert written == {
        "fault: reset",
        "RST to the server",
        "RST to the client",
        "ended: reset",
        "cancelled by RequestHandler.connection_lost (aiohttp)",
        "cancelled by shutdown (asyncio)",
        "lock: truncated",
        "cancelled",
        "leaked: task 'Task-7' (release)",
        next(text for text in written if text.startswith("Task exception was")),
    }


def test_what_follows_the_fault_is_shaded() -> None:
    """The shade begins at the fault's row and ends where the lab ends the experiment."""
    picture = sequence(*stories.echo_reset().told)
    shade = collection(picture, "shade").get_paths()[0].get_extents()
    assert row(picture, "recv 'hello'") < shade.y0 < row(picture, "fault: reset")
    assert row(picture, "returned") < shade.y1 < row(picture, "the lab ends the experiment")
    calm = Story().opened().said().timeline
    assert "shade" not in gids(sequence(calm))


def test_idle_time_is_folded() -> None:
    """A pause takes one row, whatever its length, and says how long it was."""
    assert texts(sequence(*stories.silence().told), "fold") == ["⋯ 950 ms idle ⋯", "⋯ 200 ms idle ⋯", "⋯ 500 ms idle ⋯"]
    assert texts(sequence(*stories.unaware().told), "fold") == ["⋯ 2.0 s idle ⋯"]
    assert texts(sequence(*stories.short().told), "fold") == []


@pytest.mark.parametrize("limit", [5, 12, 30])
def test_past_the_limit_the_fault_and_the_end_are_kept(limit: int) -> None:
    """Rows are left out where least happens, and counted: shown and left out make all."""
    everything = sequence(*stories.long(30).told, limit=1000)
    picture = sequence(*stories.long(30).told, limit=limit)
    labels, folds = texts(picture, "label"), texts(picture, "fold")
    assert len(labels) + len(folds) <= limit
    assert "fault: reset" in labels
    assert any(label.startswith("raised ConnectionClosedError") for label in labels)
    hidden = sum(int(fold.removeprefix("+").split()[0]) for fold in folds)
    assert hidden + len(labels) == len(texts(everything, "label"))
    assert folds[0].endswith("more events")
    assert "+1 more events" not in folds


def test_the_title_is_the_verdicts_sentence() -> None:
    """The sentence is broken into lines that fit; a title of one's own takes its place, an empty one none."""
    timeline, verdict = stories.truncated().told
    written = texts(sequence(timeline, verdict), "title")
    assert " ".join(written) == verdict.sentence
    assert len(written) > 1
    assert texts(sequence(timeline, verdict, title="Mine"), "title") == ["Mine"]
    assert texts(sequence(timeline, verdict, title=""), "title") == []
    assert texts(sequence(timeline), "title") == []


def test_a_title_too_long_for_the_sheet_is_cut() -> None:
    """Eight lines are the most; an ellipsis says that there was more."""
    written = texts(sequence(stories.short().timeline, title="word " * 400), "title")
    assert len(written) == 8
    assert written[-1].endswith("…")


def test_texts_are_taken_as_they_are() -> None:
    """Neither mathematics nor control characters nor letters that the font lacks do anything but stand there."""
    story = Story().opened().then("handler", "print", "$x^2$ \x1b[31m 你\tend", stream="stdout").said("'$\\\\frac$'")
    picture = sequence(story.timeline)
    assert r"print '$x^2$ \x1b[31m \u4f60 end'" in texts(picture, "label")
    assert picture.png().startswith(b"\x89PNG")


def test_lines_are_hidden_unless_asked_for() -> None:
    """The lines of the handler are drawn with ``lines=True``; their account never is."""
    story = Story().opened().then("handler", "lines", "", executable=[7], first=6)
    story.then("handler", "line", "await ws.close()", line=7)
    assert not [text for text in texts(sequence(story.timeline), "label") if "await" in text]
    assert "line 7: await ws.close()" in texts(sequence(story.timeline, lines=True), "label")
    assert "lines" not in texts(sequence(story.timeline, lines=True), "label")


def test_a_dark_picture_has_a_background_of_its_own() -> None:
    """Both themes are opaque, so that they can be read on any page."""
    for name, theme in THEMES.items():
        picture = sequence(*stories.short().told, theme=name)
        assert to_hex(picture.get_facecolor(), keep_alpha=True) == theme.background + "ff"


def test_an_empty_timeline_is_a_picture_too() -> None:
    """Where nothing happened, the three lanes stand alone."""
    picture = sequence(Timeline.of([]))
    assert texts(picture, "lane") == ["client", "wire", "handler"]
    assert texts(picture, "label") == []
    assert picture.png()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"limit": 2}, BadValue, "5 rows or more"),
        ({"width": 3.9}, BadValue, "4 to 40 inches"),
        ({"width": 40.1}, BadValue, "4 to 40 inches"),
        ({"theme": "drak"}, UnknownName, "Did you mean 'dark'"),
        ({"lanes": ["client", "wires"]}, UnknownName, "Did you mean 'wire'"),
        ({"lanes": []}, BadValue, "one lane or more"),
    ],
)
def test_a_wrong_option_is_told_in_one_sentence(options: dict[str, Any], error: type[Exception], says: str) -> None:
    """The error says what would do."""
    with pytest.raises(error, match=says):
        sequence(stories.short().timeline, **options)


@pytest.mark.parametrize("width", [4, 40])
def test_the_narrowest_and_the_widest_picture(width: float) -> None:
    """Both ends of the range are drawn."""
    assert sequence(stories.short().timeline, width=width).get_figwidth() == width


@pytest.mark.parametrize(("source", "left"), [("client", True), ("server", False)])
def test_the_arrow_of_a_frame_that_nobody_sent_comes_from_its_senders_side(source: str, left: bool) -> None:
    """A PING of the client's library comes from the left, and one of the server's from the right."""
    length = 11 if source == "client" else 7
    story = Story().opened().framed(source, "'abcde'", "PING")
    story.then("wire", "lost", f"{length} bytes lost", source=source, length=length, link=0)
    picture = sequence(story.timeline)
    [(start, end)] = collection(picture, "arrows").get_segments()
    assert bool(start[0] < end[0]) is left
    assert start[1] < end[1]


def test_a_message_is_marked_where_its_arrow_crosses_the_wire() -> None:
    """The mark of the wire lies on the line from the sender to the receiver."""
    picture = sequence(Story().opened().said(answer=False).timeline)
    [(start, end)] = collection(picture, "arrows").get_segments()
    [(x, y)] = collection(picture, "wire-marks").get_offsets()
    assert start[1] < y < end[1]
    assert y - start[1] == pytest.approx((end[1] - start[1]) * (x - start[0]) / (end[0] - start[0]), abs=0.02)


def test_a_label_has_the_background_on_which_it_stands() -> None:
    """Plain before the fault, shaded after it, and grey after the lab's own end."""
    picture = sequence(*stories.unaware().told)
    found = [to_hex(colour) for colour in collection(picture, "boxes").get_facecolors()]
    marks = texts(picture, "label")
    fault, stop = marks.index("fault: fin"), marks.index("the lab ends the experiment")
    assert set(found[:fault]) == {LIGHT.background}
    assert set(found[fault:stop]) == {LIGHT.shaded}
    assert set(found[stop:]) == {LIGHT.stopped}


def test_overlapping_resources_stand_side_by_side() -> None:
    """Three resources that are held at once have three lines, none upon another."""
    picture = sequence(*stories.truncated().told)
    held = {round(float(line[0][0]), 3) for line in collection(picture, "held").get_segments()}
    assert len(held) == 3


def test_a_resource_that_nobody_closes_is_named_so() -> None:
    """A handler that ends without closing what it opened leaves a line to the lower edge, and a note."""
    story = Story().opened().cleanup("database", "open").said().ended()
    assert "never closed" in texts(sequence(story.timeline), "remark")


def test_no_figure_is_left_open() -> None:
    """A picture is outside pyplot, which is not even loaded."""
    code = (
        "import sys; from tests.views import stories; from labkit.views.sequence.view import sequence;"
        "sequence(*stories.short().told).png(); print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_long_picture_has_few_artists() -> None:
    """Sixty rows share their collections; an artist for each thing would take seconds to draw."""
    picture = sequence(*stories.long().told)
    assert len(picture.axes[0].collections) < 30


def test_the_labs_end_needs_no_lane_of_its_own() -> None:
    """The loop has a lane where it tells of something; the lab's own end alone stands with its relay."""
    heads = [
        {t.get_text() for t in sequence(*story.told).axes[0].texts} & {"loop"}
        for story in (stories.echo_reset(), stories.truncated())
    ]
    assert heads == [set(), {"loop"}]
