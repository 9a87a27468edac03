"""Writing HTML, such as tables, for every object that displays itself in a notebook.

The elements are those of ``xml.etree`` in the standard library, which escapes every text. A character that no page may
hold, such as a control character or half of a surrogate pair, is written as an escape of Python's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element, tostring

from labkit.support.wording import plain

__all__ = ["Content", "Element", "cell", "code", "element", "fragment", "row", "table"]

#: Jupyter's own style aligns cells to the right, which suits numbers only.
_CELL: Final = "text-align:left;vertical-align:top"

Content = str | Element


def element(tag: str, *content: Content, **attributes: str | int) -> Element:
    """Make an element.

    Args:
        tag: the name of the element.
        content: texts and elements, in order.
        attributes: the attributes; empty ones are left out.

    Returns:
        The element.
    """
    made = Element(tag, {name: plain(str(value)) for name, value in attributes.items() if value != ""})
    for part in content:
        if isinstance(part, Element):
            made.append(part)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + plain(part)
        else:
            made.text = (made.text or "") + plain(part)
    return made


def cell(*content: Content, scope: str = "", span: int = 0, title: str = "", style: str = "") -> Element:
    """Make a cell of a table.

    Args:
        content: texts and elements.
        scope: for a header cell, ``"row"``, ``"col"``, ``"rowgroup"`` or ``"colgroup"``; empty for a data cell.
        span: the number of columns that the cell spans; 0 for one.
        title: the tooltip.
        style: further CSS declarations.

    Returns:
        A ``th`` or a ``td``.
    """
    tag = "th" if scope else "td"
    style = f"{_CELL};{style}" if style else _CELL
    return element(tag, *content, scope=scope, colspan=span or "", title=title, style=style)


def row(*cells: Element, style: str = "") -> Element:
    """Make a row of a table."""
    return element("tr", *cells, style=style)


def table(
    header_rows: Sequence[Element],
    bodies: Iterable[Sequence[Element]],
    *,
    caption: str = "",
    groups: Sequence[int] = (),
    style: str = "",
) -> Element:
    """Make a table.

    Args:
        header_rows: the rows of the ``thead``.
        bodies: the rows of each ``tbody``.
        caption: what the table says, in one sentence; empty for no caption.
        groups: the number of columns in each group of columns, from left to right; empty for no groups.
        style: CSS declarations for the table.

    Returns:
        The table.
    """
    made = element("table", style=style)
    if caption:
        made.append(element("caption", caption, style="caption-side:top;text-align:left;text-wrap:balance"))
    made.extend(element("colgroup", span=span) for span in groups)
    made.append(element("thead", *header_rows))
    made.extend(element("tbody", *rows) for rows in bodies)
    return made


def code(text: str) -> list[Content]:
    """Turn the parts of a text between backticks into ``code`` elements, unless a backtick has no partner."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return [text]
    return [element("code", part) if n % 2 else part for n, part in enumerate(parts)]


def fragment(*elements: Element) -> str:
    """Write elements as HTML, one after the other."""
    return "".join(tostring(one, encoding="unicode", method="html") for one in elements)
