"""A run, or a matrix, in all the forms that a notebook, a terminal or a screen reader takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from labkit.outcome import Cell
from labkit.timeline import Timeline
from labkit.views.chart_words import chart_html, chart_text
from labkit.views.mime import chosen
from labkit.views.text import text

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["matrix_bundle", "mimebundle"]


def mimebundle(
    timeline: Timeline,
    verdict: Verdict | None,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> dict[str, Any]:
    """Make what ``_repr_mimebundle_`` returns.

    JupyterLab prefers ``text/html``, so the picture is shown once; it is drawn once for both forms, and not at all,
    nor is matplotlib loaded, where only text is wanted.

    Args:
        timeline: the events.
        verdict: what they prove, or None.
        include: MIME types; all, if None.
        exclude: MIME types that are not wanted.

    Returns:
        ``text/plain`` with the text timeline, ``image/png`` in base64, and ``text/html`` with one ``<img>``.
    """
    kinds = chosen(("text/plain", "image/png", "text/html"), include, exclude)
    result: dict[str, Any] = {}
    if "text/plain" in kinds:
        result["text/plain"] = text(timeline, verdict)
    if "image/png" in kinds or "text/html" in kinds:
        from labkit.views.sequence import sequence

        result |= sequence(timeline, verdict).bundle(kinds)
    return result


def matrix_bundle(
    cells: Sequence[Cell], include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, Any]:
    """Make the same of a matrix.

    Args:
        cells: the cells.
        include: MIME types; all, if None.
        exclude: MIME types that are not wanted.

    Returns:
        ``text/plain`` with the table as text, ``image/png`` in base64, and ``text/html`` with one ``<img>`` and, folded
        beneath it, the same as a table.
    """
    kinds = chosen(("text/plain", "image/png", "text/html"), include, exclude)
    result: dict[str, Any] = {}
    if "text/plain" in kinds:
        result["text/plain"] = chart_text(cells)
    if "image/png" in kinds or "text/html" in kinds:
        from labkit.views.chart import chart

        result |= chart(cells).bundle(kinds)
    if "text/html" in result:
        result["text/html"] += chart_html(cells)
    return result
