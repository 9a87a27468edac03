"""The MIME bundles of a run, of a matrix and of a strip: for notebooks, terminals and screen readers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from labkit.outcome import Cell
from labkit.strikes import Strike, Sweep
from labkit.timeline import Timeline
from labkit.views.chart.words import chart_html, chart_text
from labkit.views.mime import choose
from labkit.views.strip.several import strips_html, strips_text
from labkit.views.strip.words import strip_html, strip_text
from labkit.views.text import text

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["matrix_bundle", "mimebundle", "strip_bundle", "strips_bundle"]


def mimebundle(
    timeline: Timeline,
    verdict: Verdict | None,
    clock: str = "",
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> dict[str, Any]:
    """Make the MIME bundle of a run, as ``_repr_mimebundle_`` returns it.

    The picture is drawn once for both ``image/png`` and ``text/html``; JupyterLab displays only the latter. If only
    text is asked for, nothing is drawn and matplotlib is not loaded.

    Args:
        timeline: the events.
        verdict: what the events prove, or None.
        clock: what there is to say of the clock, or "".
        include: the MIME types to make; all if None.
        exclude: the MIME types not to make.

    Returns:
        ``text/plain`` with the text timeline, ``image/png`` in base64, and ``text/html`` with one ``<img>``.
    """
    kinds = choose(("text/plain", "image/png", "text/html"), include, exclude)
    result: dict[str, Any] = {}
    if "text/plain" in kinds:
        result["text/plain"] = text(timeline, verdict, clock=clock)
    if "image/png" in kinds or "text/html" in kinds:
        from labkit.views.sequence.view import sequence

        result |= sequence(timeline, verdict).bundle(kinds)
    return result


def matrix_bundle(
    cells: Sequence[Cell], include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, Any]:
    """Make the MIME bundle of a matrix.

    Args:
        cells: the cells.
        include: the MIME types to make; all if None.
        exclude: the MIME types not to make.

    Returns:
        ``text/plain`` with the matrix as text, ``image/png`` in base64, and ``text/html`` with one ``<img>`` and a
        ``<details>`` element that holds the matrix as a table.
    """
    kinds = choose(("text/plain", "image/png", "text/html"), include, exclude)
    result: dict[str, Any] = {}
    if "text/plain" in kinds:
        result["text/plain"] = chart_text(cells)
    if "image/png" in kinds or "text/html" in kinds:
        from labkit.views.chart.view import chart

        result |= chart(cells).bundle(kinds)
    if "text/html" in result:
        result["text/html"] += chart_html(cells)
    return result


def strip_bundle(
    strikes: Sequence[Strike],
    first: int,
    source: str,
    title: str,
    notices: Sequence[str],
    *,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> dict[str, Any]:
    """Make the MIME bundle of a strip.

    Args:
        strikes: the moments, in order.
        first: the number of the source's first line.
        source: the handler's source.
        title: what was played.
        notices: what the strip leaves out or cannot vouch for.
        include: the MIME types to make; all if None.
        exclude: the MIME types not to make.

    Returns:
        ``text/plain`` with the strip as text, ``image/png`` in base64, and ``text/html`` with one ``<img>`` and a
        ``<details>`` element that holds the strip as a table.
    """
    kinds = choose(("text/plain", "image/png", "text/html"), include, exclude)
    result: dict[str, Any] = {}
    if "text/plain" in kinds:
        result["text/plain"] = strip_text(strikes, title, notices)
    if "image/png" in kinds or "text/html" in kinds:
        from labkit.views.strip.view import strip

        result |= strip(strikes, first, source, title=title).bundle(kinds)
    if "text/html" in result:
        result["text/html"] += strip_html(strikes, title, notices)
    return result


def strips_bundle(
    sweeps: Sequence[Sweep],
    title: str,
    notices: Sequence[str],
    *,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> dict[str, Any]:
    """Make the MIME bundle of several strips.

    Args:
        sweeps: the moments of each strip.
        title: what was played.
        notices: what there is to say of them.
        include: the MIME types to make; all if None.
        exclude: the MIME types not to make.

    Returns:
        As for one strip.
    """
    kinds = choose(("text/plain", "image/png", "text/html"), include, exclude)
    result: dict[str, Any] = {}
    if "text/plain" in kinds:
        result["text/plain"] = strips_text(sweeps, title, notices)
    if "image/png" in kinds or "text/html" in kinds:
        from labkit.views.strip.several_view import strips

        result |= strips(sweeps, title=title).bundle(kinds)
    if "text/html" in result:
        result["text/html"] += strips_html(sweeps, title, notices)
    return result
