"""The matrix in words: for terminals, for screen readers, and for pages."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from labkit.outcome import OUTCOMES, Cell
from labkit.views.bundle import matrix_bundle
from labkit.views.chart.words import chart_alt, chart_html, chart_text, headline
from tests.views.tables import HANDLERS, cell, cells


def test_as_text_each_stack_is_a_block_and_each_fault_a_row() -> None:
    """With the sign and the word of each cell, and a legend of the words that are there."""
    given = [
        cell(word, handler, "aiohttp", fault)
        for handler, words in {"echo": ("clean", "cut", "raised"), "a_better_echo": ("clean", "clean", "noisy")}.items()
        for word, fault in zip(words, ("close", "going-away", "fin"), strict=True)
    ]
    expected = """
6 cells: 3 clean, 1 noisy, 1 raised, 1 cut

aiohttp
                       echo         a_better_echo
-------------------------------------------------
closing    close       ● clean      ● clean
           going-away  ✖ cut        ● clean
transport  fin         ◆ raised     ▲ noisy

● clean      the handler ended, its cleanup was complete, nothing was left and nobody complained
▲ noisy      a warning, an error, or an exception that nobody retrieved was reported
◆ raised     an exception came out of the handler
✖ cut        a cleanup began and was cut short
"""
    assert chart_text(given) == expected.strip("\n")


@pytest.mark.parametrize("given", [cells(), cells(1, 1, 1), [cell("cut", "h" * 200, fault="close(" + "x" * 200)]])
def test_no_line_is_longer_than_a_terminal(given: list[Cell]) -> None:
    """A hundred columns; handlers that have no room side by side come in another block."""
    shown = chart_text(given)
    assert max(map(len, shown.splitlines())) <= 100
    for name in {c.handler for c in given if len(c.handler) < 24}:
        assert name in shown
    many = [cell("clean", f"handler_number_{n}") for n in range(12)]
    assert max(map(len, chart_text(many).splitlines())) <= 100
    assert all(f"handler_number_{n}" in chart_text(many) for n in range(12))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_has_it_all(width: int) -> None:
    """Fewer handlers side by side, and no families where these have no room; the names stay apart."""
    shown = chart_text(cells(), width)
    assert max(map(len, shown.splitlines())) <= width
    assert all(f" {handler}" in shown for handler in HANDLERS)
    # Python 3.12.1 takes a name of a comprehension for one of the function, in another comprehension of it.
    assert {each.fault for each in cells()} <= set(shown.split())
    long = [cell("cut", f"handler_{n}_{'h' * 200}", fault="close(" + "x" * 200) for n in range(3)]
    assert max(map(len, chart_text(long, width).splitlines())) <= width
    assert all(f"handler_{n}" in chart_text(long, width) for n in range(3))


def test_the_reasons_of_cells_without_a_run_are_told() -> None:
    """Once each, with a few of the cells."""
    lost = [Cell("echo", "aiohttp", "transport", fault, reason="interrupted") for fault in ("fin", "reset", "a", "b")]
    shown = chart_text([*lost, cell("clean", fault="close")])
    assert shown.endswith(
        "unknown: echo on aiohttp, fin; echo on aiohttp, reset; echo on aiohttp, a and 1 more: interrupted"
    )


def test_the_headline_counts_from_good_to_bad() -> None:
    """One cell is one cell."""
    assert headline([cell("cut")]) == "1 cell: 1 cut"
    assert headline([cell("cut"), cell("clean"), cell("cut")]) == "3 cells: 1 clean, 2 cut"


def test_the_alternative_text_tells_each_row_the_worst_first() -> None:
    """From the same cells, and as long as an alternative text may be."""
    given = [
        cell("clean", fault="fin"),
        cell("cut", fault="reset"),
        cell("clean", "other"),
        cell("clean", "other", fault="reset"),
    ]
    assert chart_alt(given) == (
        "A chart of handlers on stacks against faults. 4 cells: 3 clean, 1 cut. echo on aiohttp: cut against reset; "
        "clean against the other. other on aiohttp: clean against all faults."
    )
    assert len(chart_alt(cells())) <= 1200
    assert chart_alt(cells()).endswith(" more rows.")
    assert chart_alt([cell("cut")]).endswith("echo on aiohttp: cut against fin.")


class Page(HTMLParser):
    """Collects the tags of a page, and what stands in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep a text with its tag."""
        self.said.append((self.tags[-1][0], data))

    def of(self, tag: str, scope: str | None = None) -> list[dict[str, str | None]]:
        """The tags of a name, and of a scope."""
        return [attrs for name, attrs in self.tags if name == tag and (scope is None or attrs.get("scope") == scope)]


def test_as_a_table_every_head_says_of_what() -> None:
    """Columns, rows and their groups are marked as such, for those who hear the page."""
    page = Page(chart_html(cells()))
    assert len(page.of("td")) == 375 + 1
    assert len(page.of("th", "col")) == 25 + 1
    assert len(page.of("th", "row")) == 15
    assert [attrs["colspan"] for attrs in page.of("th", "colgroup")] == ["5", "4", "3", "2", "4", "1", "4", "2"]
    assert {attrs["colspan"] for attrs in page.of("th", "rowgroup")} == {"26"}
    assert len(page.of("th", "rowgroup")) == len(page.of("tbody")) == 3
    assert len(page.of("caption")) == len(page.of("details")) == len(page.of("summary")) == 1
    assert ("caption", headline(cells())) in page.said
    assert {word for tag, word in page.said if tag == "dt"} == set(OUTCOMES)
    assert [text for tag, text in page.said if tag == "th"].count(HANDLERS[0]) == 3


def test_a_cell_of_the_table_tells_its_sentence() -> None:
    """Escaped, as all that comes from a handler."""
    lost = Cell("<b>", "aiohttp", "transport", "reset", reason='ValueError: "<i>"')
    shown = chart_html([cell("cut", "<b>"), lost])
    # As HTML has it: inside the quotes of an attribute `<` stands for itself.
    assert 'title="fin: <b&gt; on aiohttp was <cut&gt;."' in shown
    assert 'title="ValueError: &quot;<i&gt;&quot;"' in shown
    assert "<b>" not in shown


@pytest.mark.parametrize(
    ("include", "exclude", "kinds"),
    [
        (None, None, {"text/plain", "image/png", "text/html"}),
        (["text/plain"], None, {"text/plain"}),
        (None, ["text/html"], {"text/plain", "image/png"}),
    ],
)
def test_include_and_exclude_are_honoured(
    include: list[str] | None, exclude: list[str] | None, kinds: set[str]
) -> None:
    """The table stands beneath the picture, and only there."""
    bundle = matrix_bundle(cells(1, 1, 2), include, exclude)
    assert set(bundle) == kinds
    if "text/html" in kinds:
        assert bundle["text/html"].index("<img") < bundle["text/html"].index("<details>")
        assert bundle["text/html"].endswith(chart_html(cells(1, 1, 2)))


def test_three_cells_of_a_reason_are_named() -> None:
    """All of them, so that there are no more."""
    lost = [Cell("echo", "aiohttp", "transport", fault, reason="interrupted") for fault in ("fin", "reset", "a")]
    assert chart_text(lost).endswith("echo on aiohttp, fin; echo on aiohttp, reset; echo on aiohttp, a: interrupted")


def test_a_long_fault_keeps_its_distance() -> None:
    """It is cut at 38 characters, and two blanks stand before the outcome."""
    assert f"{'x' * 37}…  ✖ cut" in chart_text([cell("cut", fault="x" * 60)])


@pytest.mark.parametrize("handlers", range(20, 40))
def test_the_rows_told_and_the_rows_left_are_all(handlers: int) -> None:
    """In twelve hundred characters, with the number of the rest in the singular where it is one."""
    told = chart_alt([cell("clean", f"handler_{n}") for n in range(handlers)])
    assert len(told) <= 1200
    shown = told.count(" on aiohttp: clean against fin.")
    left = handlers - shown
    assert told.endswith({0: "against fin.", 1: " 1 more row."}.get(left, f" {left} more rows."))
    # The next row would not have had room.
    assert left == 0 or len(told) + len("handler_10 on aiohttp: clean against fin. ") > 1200


def test_a_control_character_in_a_name_does_nothing() -> None:
    """A screen reader and a page get an escape."""
    assert "\\x1b[31m on aiohttp: cut" in chart_alt([cell("cut", "\x1b[31m")])
