"""The writer of HTML tables: what others read with their ears, and what no text can break out of."""

from __future__ import annotations

import pytest

from labkit.views import html


def test_texts_and_elements_stand_in_their_order() -> None:
    """Texts between elements too; an element without an end has none."""
    made = html.element("p", "one ", "two ", html.element("b", "three"), " four", html.element("br"), "five", " six")
    assert html.fragment(made, html.element("hr")) == "<p>one two <b>three</b> four<br>five six</p><hr>"


def test_an_empty_attribute_is_left_out() -> None:
    """A number is no empty one, not even 0."""
    assert html.fragment(html.element("ol", start=0, title="")) == '<ol start="0"></ol>'


@pytest.mark.parametrize("text", ["<b>", "&amp;", '"', "]]>", "<!--", "\x1b[31m", "\x00", "\udcff", "é→✗"])
def test_every_text_is_escaped(text: str) -> None:
    """As content and as an attribute; and a notebook can save it."""
    page = html.fragment(html.cell(text, html.element("br"), text, title=text))
    inside = page.partition(">")[2].removesuffix("</td>").replace("<br>", "")
    quoted = page.split('title="')[1].split('" style')[0]
    assert not {"<", "\x1b", "\x00"} & set(inside)
    assert not {'"', ">", "\x1b", "\x00"} & set(quoted)
    assert page.encode()


def test_a_cell_is_data_or_the_head_of_something() -> None:
    """A head says of what: a column, a row, or a group of either; data may take several columns too."""
    assert html.fragment(html.cell("x")).startswith("<td style=")
    head = html.cell("x", scope="colgroup", span=3, style="color:inherit")
    assert html.fragment(head) == (
        '<th scope="colgroup" colspan="3" style="text-align:left;vertical-align:top;color:inherit">x</th>'
    )


def test_a_table_says_what_it_shows_and_what_belongs_together() -> None:
    """The caption comes first, then the groups of columns, the head and the bodies; what is empty is left out."""
    rows = [[html.row(html.element("td", "1"))], [html.row(html.element("td", "2"), style="color:inherit")]]
    head = html.row(html.element("th", "n"))
    assert html.fragment(html.table([head], rows, caption="<all>", groups=[1, 2], style="border:0")) == (
        '<table style="border:0">'
        '<caption style="caption-side:top;text-align:left;text-wrap:balance">&lt;all&gt;</caption>'
        '<colgroup span="1"></colgroup><colgroup span="2"></colgroup><thead><tr><th>n</th></tr></thead>'
        '<tbody><tr><td>1</td></tr></tbody><tbody><tr style="color:inherit"><td>2</td></tr></tbody></table>'
    )
    assert html.fragment(html.table([head], [])) == "<table><thead><tr><th>n</th></tr></thead></table>"


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("send `x<y` first", "<p>send <code>x&lt;y</code> first</p>"),
        ("`a``b`", "<p><code>a</code><code>b</code></p>"),
        ("one ` is left <over>", "<p>one ` is left &lt;over&gt;</p>"),
        ("", "<p></p>"),
    ],
)
def test_what_stands_between_backticks_is_code(text: str, page: str) -> None:
    """Unless a backtick has no fellow: then all of it is text."""
    assert html.fragment(html.element("p", *html.code(text))) == page
