"""The sequence picture: time runs down, lanes are columns, and messages are arrows between the lanes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from labkit.errors import BadValue
from labkit.support.wording import plain
from labkit.timeline import Timeline
from labkit.views.alt import alt_text
from labkit.views.canvas.artists import Artists
from labkit.views.canvas.palette import find_theme
from labkit.views.canvas.picture import Picture
from labkit.views.canvas.ruler import Ruler, drawable
from labkit.views.sequence.drawing import Drawing
from labkit.views.sequence.geometry import columns_of, label_of, sheet_of
from labkit.views.sequence.plan import plan

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["sequence"]

#: The size of the title and of the labels, in points; and the highest number of lines in a title.
_TITLE, _LABEL, _MAX_LINES = 11.0, 8.0, 8


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

    Each event is a mark in its own row. The shape shows the kind of event and the hue shows the lane; vermilion always
    means a fault or a failure. Bars are lifetimes. Arrows are messages; a small square on an arrow shows that the wire
    saw the frame.

    Args:
        timeline: the events.
        verdict: what the events prove; its sentence is the title.
        title: a title instead of the verdict's sentence; an empty string for no title.
        limit: the highest number of rows, 5 or more. ``+N more events`` replaces the events that do not fit.
        width: the width in inches, 4 to 40.
        theme: ``"light"`` or ``"dark"``; each has its own opaque background.
        lanes: the lanes to draw. If None: client, wire and handler, and every other lane that has events.
        lines: whether to draw an event for each line of the handler too.

    Returns:
        A matplotlib figure, independent of pyplot; a notebook displays it.

    Raises:
        BadValue: the limit or the width is out of its range, or ``lanes`` is empty.
        UnknownName: there is no such theme or lane.
    """
    if limit < 5:
        raise BadValue(f"limit={limit!r}; it takes 5 rows or more")
    if not 4 <= width <= 40:
        raise BadValue(f"width={width!r}; it takes 4 to 40 inches")
    if lanes is not None and not lanes:
        raise BadValue("lanes is empty; it takes the names of one lane or more, or None for all that have events")
    colours = find_theme(theme)
    layout = plan(timeline, limit=limit, lanes=lanes, lines=lines)
    heading = title if title is not None else verdict.sentence if verdict is not None else ""
    title_lines = Ruler(_TITLE, "bold").balance(drawable(plain(heading)), width - 0.3, _MAX_LINES)
    columns = columns_of(layout, width)
    ruler, bold = Ruler(_LABEL), Ruler(_LABEL, "bold")
    labels = [label_of(mark, layout, columns, bold if mark.failed else ruler) for mark in layout.marks]
    sheet = sheet_of(layout, columns, labels, len(title_lines))

    picture = Picture(alt_text(timeline, verdict), (width, sheet.height), colours)
    drawing = Drawing(Artists(picture, width, sheet.height), layout, sheet, colours)
    drawing.background()
    drawing.bars()
    drawing.arrows()
    drawing.folds()
    drawing.marks()
    drawing.labels(labels, _LABEL)
    drawing.header(title_lines, _TITLE)
    return picture
