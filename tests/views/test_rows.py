"""Many clients, a row for each: what is drawn, and what is said of it."""

from __future__ import annotations

import html
import re

import pytest

from labkit.errors import BadValue, UnknownName
from labkit.timeline import Event, Timeline
from labkit.views.rows import rows


def told(*moments: tuple[float, str, str, str]) -> Timeline:
    return Timeline.of([Event(at, "client", kind, text, {"who": who}) for at, kind, text, who in moments])


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
    picture = rows({"A day": STORY}, ["Ann", "<Ben>", "Cleo"])
    assert picture.alt == (
        "A day. Ann received 1 at 5.0 ms, 2 at 100 ms, 3 at 101 ms; sent at 0.0 ms. "
        "<Ben> received 1 at 6.0 ms; its connection ended at 7.0 ms. Cleo received nothing. "
    )
    page = picture._repr_mimebundle_()["text/html"]
    assert html.escape(picture.alt) in page
    assert re.search(r"&lt;Ben&gt;", page)


def test_arrivals_that_are_too_near_share_a_label() -> None:
    """2 and 3 are a hundredth of the width apart."""
    picture = rows({"A day": STORY}, ["Ann", "<Ben>"])
    labels = [text.get_text() for text in picture.axes[0].texts if text.get_gid() == "label"]
    assert labels == ["1", "2–3", "1"]


def test_a_line_ends_where_the_connection_does() -> None:
    """Ben's is shorter; that of one who stays leads to the edge."""
    picture = rows({"A day": STORY}, ["Ann", "<Ben>"])
    (lives,) = [artist for artist in picture.axes[0].collections if artist.get_gid() == "lives"]
    ann, ben = (path.vertices[-1][0] for path in lives.get_paths())
    assert ben < ann / 2


def test_panels_have_one_axis() -> None:
    """The same moment is at the same place in both, though the one is over sooner."""
    other = told((5.000, "send", "+", "Ann"), (5.005, "recv", "1", "Ann"))
    picture = rows({"one": STORY, "other": other}, ["Ann"])
    (sent,) = [artist for artist in picture.axes[0].collections if artist.get_gid() == "send"][:1]
    received = [a.get_offsets().tolist() for a in picture.axes[0].collections if a.get_gid() == "recv"]
    assert received[0][0][0] == pytest.approx(received[1][0][0])
    assert len(sent.get_offsets()) == 1


def test_in_the_dark_too() -> None:
    """The background is opaque in either theme."""
    light, dark = (rows({"": STORY}, ["Ann"], theme=theme).get_facecolor() for theme in ("light", "dark"))
    assert light != dark
    assert light[3] == dark[3] == 1


def test_what_cannot_be_drawn_is_refused() -> None:
    """Nothing to draw, no room, no such theme."""
    with pytest.raises(BadValue, match="no events"):
        rows({"A day": STORY}, ["Zoe"])
    with pytest.raises(BadValue, match="no events"):
        rows({}, ["Ann"])
    with pytest.raises(BadValue, match="width"):
        rows({"A day": STORY}, ["Ann"], width=1)
    with pytest.raises(UnknownName):
        rows({"A day": STORY}, ["Ann"], theme="sepia")
