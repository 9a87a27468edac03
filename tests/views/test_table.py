"""A small table, for a notebook and for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from labkit.errors import BadValue
from labkit.views.table import table


def test_in_print_the_columns_are_aligned() -> None:
    """Long cells are wrapped inside their column."""
    shown = str(table(("claim", "what happened"), ("short", 3), ("word " * 20, None), caption="Measured"))
    lines = shown.splitlines()
    assert lines[0] == "Measured"
    at = lines[2].index("what happened")
    assert lines[4][at:] == "3"
    assert max(map(len, lines)) <= 60 + 2 + len("what happened")


def test_in_a_notebook_it_is_accessible() -> None:
    """Heads of rows and columns are marked as such, and content is escaped."""
    bundle = table(("a", "b"), ("<b>", "&"), caption="<i>")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    page = bundle["text/html"]
    assert page.count('scope="col"') == 2
    assert page.count('scope="row"') == 1
    assert "&lt;b&gt;" in page
    assert "&amp;" in page
    assert "<caption" in page
    assert set(table(("a",))._repr_mimebundle_(include=["text/html"])) == {"text/html"}


def test_a_folded_table_shows_its_caption() -> None:
    """In a notebook, until somebody opens it; in print everything is there."""
    made = replace(table(("a",), ("b",), caption="Nine events"), folded=True)
    page = made._repr_mimebundle_()["text/html"]
    assert page.startswith("<details><summary>Nine events</summary><table")
    assert "<caption" not in page
    assert str(made).splitlines()[0] == "Nine events"
    assert str(made).splitlines()[-1] == "b"


def test_a_short_head_of_a_row_is_not_broken() -> None:
    """At a hyphen, say; a long one may be, or it would push the other columns out of the page."""
    page = table(("fault",), ("second-cancel",), ("a fault with knobs, " * 3,))._repr_mimebundle_()["text/html"]
    assert page.count("white-space:nowrap") == 1
    assert page.index("white-space:nowrap") < page.index("second-cancel")


def test_what_a_terminal_would_act_on_is_written_out() -> None:
    """A handler's exception may hold anything; neither form passes it on, and both can be saved."""
    made = table(("found",), ("\x1b[31mred \udcff\nnext",), caption="\x07")
    assert str(made).splitlines()[-1] == "\\x1b[31mred \\udcff next"
    for form in made._repr_mimebundle_().values():
        form.encode()
        assert not {"\x1b", "\x07"} & set(form)


@pytest.mark.parametrize(
    ("head", "rows", "sentence"),
    [
        ((), [], "a table needs the names of its columns"),
        (("a", "b"), [(1, 2), (3,)], "row 2 of the table is ('3',); it takes a cell for each of a, b"),
        (("a",), [("x", "y")], "row 1 of the table is ('x', 'y'); it takes a cell for each of a"),
        (("a",), [()], "row 1 of the table is (); it takes a cell for each of a"),
        (("a", "b"), ["xy"], "row 1 of the table is 'xy'; it takes a tuple or a list of cells"),
        (("a",), [5], "row 1 of the table is 5; it takes a tuple or a list of cells"),
        ("ab", [], "the head of the table is 'ab'; it takes a tuple or a list of cells"),
    ],
)
def test_a_table_that_cannot_be_made_is_told_in_one_sentence(head: Any, rows: Iterable[Any], sentence: str) -> None:
    """With what was given, and what would do."""
    with pytest.raises(BadValue) as raised:
        table(head, *rows)
    assert str(raised.value).startswith(sentence)


def test_its_rows_may_come_from_anywhere() -> None:
    """A generator, say; each is read once."""
    assert table(("n", "square"), *((n, n * n) for n in (2, 3)), (n for n in (4, 16))).rows[1:] == (
        ("3", "9"),
        ("4", "16"),
    )


def test_a_cell_of_sixty_characters_is_one_line() -> None:
    """A longer one goes on beneath, where the other cells of its row are empty."""
    assert str(table(("a", "b"), ("x" * 60, "y"))).splitlines()[2:] == [f"{'x' * 60}  y"]
    assert str(table(("a", "b"), (f"{'x' * 59} z", "y"))).splitlines()[2:] == ["x" * 59 + "  y", "z"]


def test_an_empty_cell_and_an_empty_caption() -> None:
    """An empty cell takes its place, and a table without a caption begins with its head."""
    assert str(table(("a", "b"), ("", "y"))).splitlines() == ["a  b", "-  -", "   y"]
    assert str(table(("a", ""), ("", ""), ("x", ""))).splitlines() == ["a", "-  ", "", "x"]


def test_a_narrow_table_breaks_the_widest_column() -> None:
    """Between words, so that each line fits."""
    rows = table(("name", "says"), ("one", "a text of some words"), ("two", ""), caption="What the table says.")
    assert rows.text(16).splitlines() == [
        "What the table",
        "says.",
        "",
        "name  says",
        "----  ----------",
        "one   a text of",
        "      some words",
        "two",
    ]


def test_a_table_that_does_not_fit_is_a_list() -> None:
    """Each row, with the names of its columns: no word is broken, and none is lost."""
    rows = table(("exercise", "done", "to do"), ("unclean-exit", "-", "give it back"), ("recv", "✓ today", "both ends"))
    assert rows.text(20).splitlines() == [
        "unclean-exit",
        "  done: -",
        "  to do: give it",
        "    back",
        "",
        "recv",
        "  done: ✓ today",
        "  to do: both ends",
    ]
