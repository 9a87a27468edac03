"""The sequence picture: time runs down, lanes are columns, and a message is an arrow from one to another."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from labkit.errors import BadValue
from labkit.timeline import Timeline
from labkit.views.alt import alt_text
from labkit.views.artists import Artists
from labkit.views.drawing import Drawing
from labkit.views.geometry import columns_of, label_of, sheet_of
from labkit.views.layout import plan
from labkit.views.palette import find_theme
from labkit.views.picture import Picture
from labkit.views.ruler import Ruler, drawable
from labkit.views.words import plain

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["sequence"]

#: Points; and how many lines a title may take.
_TITLE, _LABEL, _MOST = 11.0, 8.0, 8


def sequence(
    timeline: Timeline,
    verdict: Verdict | None = None,
    *,
    title: str | None = None,
    limit: int = 60,
    width: float = 8.0,
    theme: str = "light",
    lanes: Collection[Any] | None = None,
    lines: bool = False,
) -> Picture:
    """Draw the sequence picture.

    Each event is a mark in a row of its own: the shape says the kind, the hue the lane, and vermilion a fault or a
    failure. Bars are lifetimes; arrows are messages, on which a small square is the wire's own sight of the frame.

    Args:
        timeline: the events.
        verdict: what they prove; its sentence is the title.
        title: another title; an empty one for none.
        limit: how many rows to draw at most, 5 or more; the others are told as ``+N more events``.
        width: inches, 4 or more.
        theme: ``"light"`` or ``"dark"``; either has a background of its own.
        lanes: the lanes to draw; those that have events, if None, and always client, wire and handler.
        lines: whether the lines of the handler are events too.

    Returns:
        A matplotlib figure, outside pyplot; it shows itself in a notebook.

    Raises:
        BadValue: the limit or the width is too small.
        UnknownName: there is no such theme or lane.
    """
    if limit < 5:
        raise BadValue(f"limit={limit!r}; it takes 5 rows or more")
    if not 4 <= width <= 40:
        raise BadValue(f"width={width!r}; it takes 4 to 40 inches")
    if lanes is not None and not lanes:
        raise BadValue("lanes is empty; it takes the names of one lane or more, or None for all that have events")
    colours = find_theme(theme)
    plan_ = plan(timeline, limit=limit, lanes=lanes, lines=lines)
    heading = title if title is not None else verdict.sentence if verdict is not None else ""
    written = Ruler(_TITLE, "bold").balance(drawable(plain(heading)), width - 0.3, _MOST)
    columns = columns_of(plan_, width)
    ruler, bold = Ruler(_LABEL), Ruler(_LABEL, "bold")
    labels = [label_of(mark, plan_, columns, bold if mark.failed else ruler) for mark in plan_.marks]
    sheet = sheet_of(plan_, columns, labels, len(written))

    picture = Picture(alt_text(timeline, verdict), (width, sheet.height), colours.background)
    drawing = Drawing(Artists(picture, width, sheet.height), plan_, sheet, colours)
    drawing.ground()
    drawing.bars()
    drawing.arrows()
    drawing.folds()
    drawing.marks()
    drawing.labels(labels, _LABEL)
    drawing.head(written, _TITLE)
    return picture
