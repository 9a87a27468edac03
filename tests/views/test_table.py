"""A small table, for a notebook and for a terminal."""

from __future__ import annotations

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
