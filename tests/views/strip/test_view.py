"""The strip: what is drawn and told, and that it can be read."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image

from labkit.errors import BadValue, UnknownName
from labkit.strikes import Strike, Sweep, fates, ranges
from labkit.verdict import Verdict
from labkit.views.bundle import strip_bundle
from labkit.views.canvas.palette import THEMES
from labkit.views.strip.several import strips_text
from labkit.views.strip.several_view import strips
from labkit.views.strip.view import strip
from labkit.views.strip.words import strip_alt, strip_text
from tests.views.tables import cell

SOURCE = "async def order(websocket):\n    async for _ in websocket:\n        await charge()\n        await write()\n"


def verdict(word: str) -> Verdict:
    made = cell(word).verdict
    assert made is not None
    return made


def strikes(count: int = 6) -> list[Strike]:
    """The second third of the moments is cut with a note, the last broken."""
    made = []
    for n in range(count):
        late = 3 * n >= count
        notes = ("charged",) if late else ()
        made.append(Strike(n + 1, 2 + n % 3, notes, notes, None, verdict("cut" if late else "clean")))
    return [*made[:-1], Strike(0, 2, ("charged", "written"), ("charged", "written"), False, verdict("clean"))]


def test_fates_are_folded_the_worst_first() -> None:
    """A moment at which the user's invariant is broken is worse than any verdict."""
    found = [(fate.letter, fate.word, fate.moments, fate.lines) for fate in fates(strikes())]
    assert found == [
        ("A", "broken", "through", "2"),
        ("B", "cut", "await 3–5", "2–4"),
        ("C", "clean", "await 1–2", "2–3"),
    ]


def between() -> list[Strike]:
    """Two awaits, and between them the moment after the second frame, at which the invariant is broken."""
    first, second = (Strike(n, 2, ("charged",), ("charged",), None, verdict("clean")) for n in (1, 2))
    return [first, Strike(0, 2, ("charged",), ("charged",), False, verdict("clean"), frame=2), second]


@pytest.mark.parametrize("theme", list(THEMES))
def test_a_moment_between_frames_has_its_own_box_and_name(theme: str) -> None:
    """In the picture of one strip, in that of several, in the text, and for a screen reader."""
    alike = [replace(strike, holds=None) for strike in between()]
    for moments in (between(), alike):
        picture = strip(moments, 1, SOURCE, title="reset at each moment of order", theme=theme)
        assert [text.get_text() for text in picture.axes[0].texts if text.get_gid() == "moment"] == ["1", "f2", "2"]
    sweeps = [Sweep("reset", "aiohttp", between()), Sweep("reset", "websockets", strikes())]
    several = strips(sweeps, title="reset at each moment of order", theme=theme)
    moments = [text.get_text() for text in several.axes[0].texts if text.get_gid() == "moment"]
    assert moments == ["1", "2", "3", "4", "5", "f2", "end"]
    told = strips_text(sweeps, "reset at each moment of order")
    assert "reset on aiohttp     ●●✗" in told
    assert "then for each moment between frames; the last one for the end" in told
    assert "reset on aiohttp: broken at frame 2" in told
    assert "A, broken, at frame 2, lines 2; B, clean, at await 1–2" in strip_alt(between(), "reset")
    assert between()[1].row()["moment"] == "frame 2"


def test_numbers_are_written_in_short() -> None:
    """Those in a row as one."""
    assert ranges([1, 2, 3, 5, 8, 9]) == "1–3, 5, 8–9"
    assert ranges([]) == ""


@pytest.mark.parametrize("theme", list(THEMES))
@pytest.mark.parametrize("count", [1, 6, 100])
def test_it_is_drawn_in_its_bounds(theme: str, count: int) -> None:
    """No text leaves the picture, whatever the number of moments; the letters of the fates are in it."""
    picture = strip(strikes(count), 1, SOURCE, title="reset at each moment of order", theme=theme)
    image = Image.open(io.BytesIO(picture.png()))
    assert image.width < 2500
    renderer = picture.canvas.get_renderer()  # type: ignore[attr-defined] # the canvas is Agg's
    bounds = picture.bbox
    for text in picture.axes[0].texts:
        extent = text.get_window_extent(renderer)
        assert extent.x0 >= bounds.x0 - 1, text.get_text()
        assert extent.x1 <= bounds.x1 + 1, text.get_text()
    letters = {text.get_text() for text in picture.axes[0].texts if text.get_gid() == "letter"}
    assert letters == {fate.letter for fate in fates(strikes(count))}


def test_the_text_the_table_and_the_alt_text_say_the_same() -> None:
    """Each fate with its moments, lines and notes; and the notices."""
    bundle = strip_bundle(strikes(), 1, SOURCE, "reset at each moment of order", ["It is <not> the same."])
    assert bundle["text/plain"] == strip_text(strikes(), "reset at each moment of order", ["It is <not> the same."])
    for form in (bundle["text/plain"], bundle["text/html"]):
        for word in ("6 moments, 3 fates, the worst is broken", "await 3–5", "2–4", "charged", "the same."):
            assert word in form
    assert "&lt;not&gt;" in bundle["text/html"]
    assert "A, broken, at through, lines 2" in bundle["text/html"]


def test_a_strip_that_cannot_be_drawn_is_told_in_one_sentence() -> None:
    """Without moments, or in a theme that is not there."""
    with pytest.raises(BadValue, match="there are no moments to draw"):
        strip([])
    with pytest.raises(UnknownName, match="theme"):
        strip(strikes(), theme="pink")
