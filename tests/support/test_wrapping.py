"""Text in lines: broken between words, wherever that is possible."""

from __future__ import annotations

import pytest

from labkit.support.wrapping import beside, list_names, wrap

URL = "websockets.exceptions.ConnectionClosedError:"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("a text that is longer than a line", 16, ["a text that is", "longer than a", "line"]),
        ("no break-down here", 12, ["no", "break-down", "here"]),
        (f"raised {URL} gone", 30, ["raised websockets.exceptions.", "ConnectionClosedError: gone"]),
        ("x" * 25, 10, ["x" * 10, "x" * 10, "x" * 5]),
        ("it took 12.5 ms", 12, ["it took", "12.5 ms"]),
        ("then `labkit hint goodbye` helps", 22, ["then", "`labkit hint goodbye`", "helps"]),
        ("", 10, []),
    ],
)
def test_a_text_is_broken_between_words(text: str, width: int, lines: list[str]) -> None:
    """A number keeps its unit, and code stays whole; only a word wider than a line is broken, behind a dot."""
    assert wrap(text, width) == lines


def test_a_word_goes_to_the_next_line_before_it_is_broken() -> None:
    """What the first line begins with may leave less room than the others have."""
    assert wrap("ConnectionClosedError: gone", 30, "17.8  handler  ◉ notice  ", "   ") == [
        "17.8  handler  ◉ notice",
        "   ConnectionClosedError: gone",
    ]


def test_a_text_stands_beside_its_name_or_below_it() -> None:
    """Below, where less than twenty columns are left for it."""
    assert beside("ok  name    ", "what there is to say", 32) == ["ok  name    what there is to say"]
    assert beside("ok     a name    ", "what there is to say", 30) == ["ok  a name", "    what there is to say"]
    assert beside(" " * 17, "and more", 30) == ["    and more"]


def test_names_are_listed_with_their_texts() -> None:
    """Each text in one column; without a width, a line for each name."""
    rows = {"slow": "The network is slow.", "x": "Nothing."}
    assert list_names(rows, 20) == ["slow", "    The network is", "    slow.", "x", "    Nothing."]
    assert list_names(rows) == ["slow  The network is slow.", "x     Nothing."]
    assert list_names({}) == []
