"""How times and texts are written, and from when a view counts."""

from __future__ import annotations

import pytest

from labkit.events import make
from labkit.support.wording import plain
from labkit.views.words import duration, milliseconds, zero
from tests.views.stories import Story


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0.0"), (-0.00001, "0.0"), (-0.002, "-2.0"), (0.00006, "0.1"), (1.5003, "1,500.3")],
)
def test_a_time_is_in_milliseconds(seconds: float, written: str) -> None:
    """With one decimal, thousands apart, and no sign before a zero."""
    assert milliseconds(seconds) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0004, "0.4 ms"),
        (0.0394, "39.4 ms"),
        (0.04, "40 ms"),
        (0.999, "999 ms"),
        (1.0, "1.0 s"),
        (1234.5, "1,234.5 s"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, written: str) -> None:
    """A decimal where it is short, and seconds from one second on."""
    assert duration(seconds) == written


def test_a_text_is_one_line_that_does_nothing() -> None:
    """White space is a blank, and other characters that cannot be printed are escapes."""
    assert plain("a\tb\nc\u2028d\x1b[0m\udcff") == "a b c d\\x1b[0m\\udcff"


def test_a_view_counts_from_the_first_connect() -> None:
    """Without one, from the first event; the account of the handler's lines is none that happened."""
    account = make("handler", "lines", "", {"executable": [1], "first": 1}, at=0.5)
    note, later = make("handler", "note", "a step", at=1.0), make("handler", "note", "a step", at=2.0)
    first, second = (make("client", "connect", "connect", at=at) for at in (3.0, 4.0))
    assert zero([account, note, later, first, second]) == (3.0, "connect")
    assert zero([account, note, later]) == (1.0, "the start")
    assert zero(Story().events) == (0.0, "the start")
