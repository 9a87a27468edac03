"""Many clients, a row for each: what is drawn, and what is said of it."""

from __future__ import annotations

import html
import re

import pytest
from matplotlib.colors import to_hex

from labkit.errors import BadValue, UnknownName
from labkit.events import make
from labkit.timeline import Timeline
from labkit.views.canvas.palette import THEMES
from labkit.views.canvas.picture import Picture
from labkit.views.deliveries import deliveries


def told(*moments: tuple[float, str, str, str]) -> Timeline:
    return Timeline.of([make("client", kind, text, {"who": who}, at=at) for at, kind, text, who in moments])


STORY = told(
    (1.000, "send", "+", "Ann"),
    (1.005, "recv", "1", "Ann"),
    (1.006, "recv", "1", "<Ben>"),
    (1.007, "ended", "1006", "<Ben>"),
    (1.100, "recv", "2", "Ann"),
    (1.101, "recv", "3", "Ann"),
    (9.000, "recv", "9", "a stranger"),
)


def test_it_is_told_in_words() -> None:
    """From the same events, in milliseconds since the first; and content is escaped."""
    picture = deliveries({"A day": STORY}, ["Ann", "<Ben>", "Cleo"])
    assert picture.alt == (
        "A day. Ann received 1 at 5.0 ms, 2 at 100 ms, 3 at 101 ms; sent at 0.0 ms. "
        "<Ben> received 1 at 6.0 ms; its connection ended at 7.0 ms. Cleo received nothing. "
    )
    page = picture._repr_mimebundle_()["text/html"]
    assert html.escape(picture.alt) in page
    assert re.search(r"&lt;Ben&gt;", page)


def test_arrivals_that_are_too_near_share_a_label() -> None:
    """2 and 3 are a hundredth of the width apart."""
    picture = deliveries({"A day": STORY}, ["Ann", "<Ben>"])
    labels = [text.get_text() for text in picture.axes[0].texts if text.get_gid() == "label"]
    assert labels == ["1", "2–3", "1"]


def test_a_line_ends_where_the_connection_does() -> None:
    """Ben's is shorter; that of one who stays leads to the edge."""
    picture = deliveries({"A day": STORY}, ["Ann", "<Ben>"])
    (lives,) = [artist for artist in picture.axes[0].collections if artist.get_gid() == "lives"]
    ann, ben = (path.vertices[-1][0] for path in lives.get_paths())
    assert ben < ann / 2


def test_panels_have_one_axis() -> None:
    """The same moment is at the same place in both, though the one is over sooner."""
    other = told((5.000, "send", "+", "Ann"), (5.005, "recv", "1", "Ann"))
    picture = deliveries({"one": STORY, "other": other}, ["Ann"])
    (sent,) = [artist for artist in picture.axes[0].collections if artist.get_gid() == "send"][:1]
    received = [a.get_offsets().tolist() for a in picture.axes[0].collections if a.get_gid() == "recv"]
    assert received[0][0][0] == pytest.approx(received[1][0][0])
    assert len(sent.get_offsets()) == 1


def test_in_the_dark_too() -> None:
    """The background is opaque in either theme."""
    light, dark = (deliveries({"": STORY}, ["Ann"], theme=theme).get_facecolor() for theme in ("light", "dark"))
    assert light != dark
    assert light[3] == dark[3] == 1


def test_what_cannot_be_drawn_is_refused() -> None:
    """Nothing to draw, no room, no such theme."""
    with pytest.raises(BadValue, match="no events"):
        deliveries({"A day": STORY}, ["Zoe"])
    with pytest.raises(BadValue, match="no events"):
        deliveries({}, ["Ann"])
    with pytest.raises(BadValue, match="width"):
        deliveries({"A day": STORY}, ["Ann"], width=1)
    with pytest.raises(UnknownName):
        deliveries({"A day": STORY}, ["Ann"], theme="sepia")


def drawn(picture: Picture, gid: str) -> list[tuple[float, float]]:
    """The positions of the marks of a kind, those of the key left out."""
    return [
        (float(x), float(y))
        for x, y in next(a for a in picture.axes[0].collections if a.get_gid() == gid).get_offsets()
    ]


def written(picture: Picture, gid: str) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.get_position() for text in picture.axes[0].texts if text.get_gid() == gid}


def test_time_runs_from_the_left_to_the_right_edge() -> None:
    """The first of all moments is at 0 ms, and the last one at the end of the lines; round marks are in between."""
    picture = deliveries({"": told((0.0, "send", "+", "Ann"), (0.2, "recv", "1", "Ann"))}, ["Ann"])
    ticks = written(picture, "tick")
    assert list(ticks) == ["0", "50", "100", "150", "200"]
    assert [drawn(picture, "send")[0][0], drawn(picture, "recv")[0][0]] == pytest.approx(
        [ticks["0"][0], ticks["200"][0]]
    )
    [line] = next(a for a in picture.axes[0].collections if a.get_gid() == "lives").get_segments()
    assert line[1][0] == pytest.approx(ticks["200"][0])


@pytest.mark.parametrize(
    ("last", "step"), [(0.008, "1"), (0.009, "2"), (0.016, "2"), (0.017, "5"), (0.041, "10"), (0.0008, "0.1")]
)
def test_the_axis_has_nine_marks_at_most(last: float, step: str) -> None:
    """A step is 1, 2 or 5, times a power of ten."""
    picture = deliveries({"": told((0.0, "send", "+", "Ann"), (last, "recv", "1", "Ann"))}, ["Ann"])
    assert list(written(picture, "tick"))[1] == step
    assert 4 <= len(written(picture, "tick")) <= 9


def test_a_single_moment_is_drawn() -> None:
    """It takes no time at all."""
    picture = deliveries({"": told((1.0, "recv", "1", "Ann"))}, ["Ann"])
    assert len(drawn(picture, "recv")) == 1


def test_a_label_is_above_its_arrival_and_a_press_below_the_line() -> None:
    """So neither hides the other; the name stands beside the line."""
    picture = deliveries({"": STORY}, ["Ann"])
    line = written(picture, "name")["Ann"][1]
    assert {y for _, y in drawn(picture, "recv")} == {line}
    assert drawn(picture, "send")[0][1] > line
    assert all(y < line for _, y in written(picture, "label").values())


def test_a_shared_label_stands_in_the_middle() -> None:
    """Three arrivals, each near to the one before, are named from the first to the last."""
    near = told(
        (0.0, "send", "+", "Ann"),
        *((0.05 + n / 1000, "recv", str(n), "Ann") for n in range(9)),
        (0.1, "recv", "z", "Ann"),
    )
    picture = deliveries({"": near}, ["Ann"])
    labels = written(picture, "label")
    assert list(labels) == ["0–8", "z"]
    arrivals = [x for x, _ in drawn(picture, "recv")]
    assert labels["0–8"][0] == pytest.approx((arrivals[0] + arrivals[8]) / 2)


def test_the_key_names_the_kinds_that_are_there() -> None:
    """Nobody's connection ends here; each kind has its colour, and the end of a connection that of failure."""
    assert list(written(deliveries({"": STORY}, ["Ann"]), "key")) == ["sends", "receives"]
    picture = deliveries({"": STORY}, ["Ann", "<Ben>"])
    assert list(written(picture, "key")) == ["sends", "receives", "its connection ends"]
    light = THEMES["light"]
    colours = {a.get_gid(): to_hex(a.get_facecolor()[0]) for a in picture.axes[0].collections if len(a.get_facecolor())}
    assert (colours["send"], colours["recv"], colours["ended"]) == (
        light.hues["handler"],
        light.hues["client"],
        light.alarm,
    )


def test_only_the_clients_own_events_are_drawn() -> None:
    """What a handler sends to Ann is not what Ann sends."""
    sent = make("handler", "send", "'1'", {"who": "Ann"}, at=1.0)
    picture = deliveries({"": Timeline.of([sent, make("client", "recv", "1", {"who": "Ann"}, at=1.5)])}, ["Ann"])
    assert picture.alt == "Ann received 1 at 0.0 ms. "


def test_texts_are_taken_as_they_are() -> None:
    """A name or a message with a control character or an emoji does nothing but stand there."""
    picture = deliveries({"": told((0.0, "send", "+", "🚪\x07"), (0.01, "recv", "\x1b[31m", "🚪\x07"))}, ["🚪\x07"])
    assert picture.alt == r"🚪\x07 received \x1b[31m at 10 ms; sent at 0.0 ms. "
    assert list(written(picture, "name")) == [r"\U0001f6aa\x07"]
    assert list(written(picture, "label")) == [r"\x1b[31m"]


def test_a_panel_without_events_is_drawn_beside_one_with_events() -> None:
    """A client without events has its row too."""
    picture = deliveries({"one": told(), "other": STORY}, ["Ann", "Cleo"])
    assert list(written(picture, "title")) == ["one", "other"]
    assert "one. Ann received nothing. Cleo received nothing. other. " in picture.alt


@pytest.mark.parametrize("width", [4, 40])
def test_the_narrowest_and_the_widest_picture(width: float) -> None:
    """Both ends of the range are drawn, and no more."""
    assert deliveries({"": STORY}, ["Ann"], width=width).get_figwidth() == width
    for beyond in (3.9, 40.1):
        with pytest.raises(BadValue, match="4 to 40 inches"):
            deliveries({"": STORY}, ["Ann"], width=beyond)
