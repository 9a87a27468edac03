"""How a text is broken into lines."""

from __future__ import annotations

from labkit.views.canvas.ruler import Ruler

RULER = Ruler(8.0)


def test_a_text_that_fits_is_one_line() -> None:
    """It is not broken for the sake of balance."""
    text = "five words in one line"
    assert RULER.balance(text, RULER.width(text), 4) == [text]


def test_lines_are_about_equally_long() -> None:
    """Two lines have to be, and the second one would have a single word; nothing is lost on the way."""
    text = "some words that leave a single one over"
    max_width = RULER.width(text.removesuffix(" over"))
    assert RULER.wrap(text, max_width, 4) == [text.removesuffix(" over"), "over"]
    first, second = RULER.balance(text, max_width, 4)
    assert f"{first} {second}" == text
    assert RULER.width(second) > RULER.width(first) / 2


def test_a_text_of_too_many_lines_is_shortened() -> None:
    """The last line says that there was more, and no line is too wide."""
    lines = RULER.balance("word " * 100, 1.0, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert max(map(RULER.width, lines)) <= 1.0


def test_a_number_and_what_it_counts_stay_together() -> None:
    """A line does not begin with a lonely "s"; an "s" that is no unit is a word."""
    assert RULER.wrap("after 46.6 s; 9 steps", 0.01, 9)[1:2] == [RULER.fit("46.6 s;", 0.01)]
    assert RULER.wrap("close code 1006; 1 complaint; 2 complaints.", 0.01, 9)[-1] == RULER.fit("2 complaints.", 0.01)
    text = "noticed after 46.6 s and returned"
    assert RULER.wrap(text, RULER.width("noticed after 46.6"), 9)[:2] == ["noticed after", "46.6 s and"]
