"""The strip in words: for a terminal, for a screen reader, and as an HTML table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from labkit.outcome import MEANINGS
from labkit.strikes import BROKEN, Fate, Strike, fates
from labkit.support.wording import plain
from labkit.support.wrapping import wrap
from labkit.views import html
from labkit.views.chart.grid import LOOKS

__all__ = ["headline", "mark", "meaning", "sign", "strip_alt", "strip_html", "strip_text"]

#: The sign of a moment at which the user's own invariant does not hold.
_BROKEN: Final = "✗"
_HEAD: Final = ("", "outcome", "when the fault struck at", "lines", "noted", "what happened")


def mark(strike: Strike) -> str:
    """The sign of what came of a moment, in a text."""
    return _BROKEN if strike.word == BROKEN else LOOKS[strike.outcome].sign


def sign(fate: Fate) -> str:
    """The sign of what can become of a handler, in a text."""
    return mark(fate.strikes[0])


def meaning(fate: Fate) -> str:
    """What its word means."""
    return "your invariant does not hold" if fate.word == BROKEN else MEANINGS[fate.outcome]


def headline(strikes: Sequence[Strike], title: str) -> str:
    """Sum up the moments.

    Args:
        strikes: the moments.
        title: what was played.

    Returns:
        A sentence such as ``"reset at each moment of order on aiohttp: 12 moments, 4 fates, the worst is cut"``.
    """
    found = fates(strikes)
    many = f"{len(strikes)} moment{'s' * (len(strikes) != 1)}"
    if len({fate.word for fate in found}) == 1:
        return f"{title}: {many}, always {found[0].word}"
    return f"{title}: {many}, {len(found)} fates, the worst is {found[0].word}"


def strip_text(strikes: Sequence[Strike], title: str, notices: Sequence[str] = (), width: int = 100) -> str:
    """Write the strip for a terminal or a build log.

    Args:
        strikes: the moments.
        title: what was played.
        notices: what the strip leaves out or cannot vouch for.
        width: the longest line, in characters.

    Returns:
        The lines, without a newline at the end. A command to copy is not broken.
    """
    out = wrap(plain(headline(strikes, title)), width)
    for fate in fates(strikes):
        noted = f"; noted: {fate.noted}" if fate.notes else "; nothing noted"
        first = f"{sign(fate)} {fate.letter} {fate.word:<10} {fate.place}{noted}"
        out += ["", *wrap(plain(first), width, rest=" " * 15)]
        out += wrap(plain(fate.sentence), width, " " * 4, " " * 4)
        out += [f"    again: {fate.again}"] * bool(fate.again)
    for notice in notices:
        out += ["", *wrap(plain(notice), width)]
    return "\n".join(out)


def strip_alt(strikes: Sequence[Strike], title: str) -> str:
    """Write the alternative text of the picture."""
    parts = [
        f"{fate.letter}, {fate.word}, at {fate.moments}" + (f", lines {fate.lines}" if fate.lines else "")
        for fate in fates(strikes)
    ]
    return plain(f"{headline(strikes, title)}. {'; '.join(parts)}.")


def strip_html(strikes: Sequence[Strike], title: str, notices: Sequence[str] = ()) -> str:
    """Write the strip as an HTML table, in a closed ``<details>``, and the notices below it."""
    rows = tuple(
        (fate.letter, fate.word, fate.moments, fate.lines, fate.noted, fate.sentence) for fate in fates(strikes)
    )
    body = [html.row(html.cell(row[0], scope="row"), *map(html.cell, row[1:])) for row in rows]
    head = html.row(*(html.cell(name, scope="col") for name in _HEAD))
    table = html.table([head], [body], caption=headline(strikes, title))
    summary = html.element("summary", "The same as a table")
    told = [html.element("p", notice) for notice in notices]
    told += [html.element("p", f"{fate.letter} again: {fate.again}") for fate in fates(strikes) if fate.again]
    return html.fragment(*told, html.element("details", summary, table))
