"""Several strips in words: for a terminal, for a screen reader, and as an HTML table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from labkit.outcome import MEANINGS, badness
from labkit.strikes import BROKEN, Strike, Sweep, fates
from labkit.support.wording import plain
from labkit.support.wrapping import wrap
from labkit.views import html
from labkit.views.strip.words import mark

__all__ = ["by_badness", "in_order", "meaning_of", "several_headline", "strips_alt", "strips_html", "strips_text"]

_HEAD: Final = ("fault", "stack", "outcome", "when the fault struck at", "lines", "noted", "what happened")


def in_order(strikes: Sequence[Strike]) -> list[Strike]:
    """List the moments of a strip in the order that all strips share: the awaits, those between frames, the end."""
    return sorted(strikes, key=lambda strike: (not strike.number, strike.frame is None, strike.frame or strike.number))


def by_badness(sweeps: Sequence[Sweep]) -> list[str]:
    """List the words of all moments, each once, the worst first."""
    strikes = {strike.word: strike for sweep in sweeps for strike in sweep.strikes}
    return sorted(strikes, key=lambda word: (word == BROKEN, badness(strikes[word].outcome)), reverse=True)


def meaning_of(word: str, sweeps: Sequence[Sweep]) -> str:
    """What a word means."""
    if word == BROKEN:
        return "your invariant does not hold"
    return next(MEANINGS[strike.outcome] for sweep in sweeps for strike in sweep.strikes if strike.word == word)


def several_headline(sweeps: Sequence[Sweep], title: str) -> str:
    """Sum up the strips.

    Args:
        sweeps: the moments of each strip.
        title: what was played.

    Returns:
        A sentence such as ``"reset at each moment of order on 3 stacks: 18 moments, 4 of them broken"``.
    """
    strikes = [strike for sweep in sweeps for strike in sweep.strikes]
    many = f"{len(strikes)} moment{'s' * (len(strikes) != 1)}"
    worst, *others = by_badness(sweeps)
    if not others:
        return f"{title}: {many}, always {worst}"
    return f"{title}: {many}, {sum(strike.word == worst for strike in strikes)} of them {worst}"


def strips_text(sweeps: Sequence[Sweep], title: str, notices: Sequence[str] = (), width: int = 100) -> str:
    """Write the strips for a terminal or a build log: a sign for each moment, and below them the worst of each strip.

    Args:
        sweeps: the moments of each strip.
        title: what was played.
        notices: what there is to say of them.
        width: the longest line, in characters.

    Returns:
        The lines, without a newline at the end. A command to copy is not broken.
    """
    out = [*wrap(plain(several_headline(sweeps, title)), width), ""]
    names = [plain(f"{sweep.fault} on {sweep.on}") for sweep in sweeps]
    indent = min(max(map(len, names)) + 2, width // 2)
    for name, sweep in zip(names, sweeps, strict=True):
        signs = wrap("".join(map(mark, in_order(sweep.strikes))), width - indent)
        first, rest = (name.ljust(indent), signs) if len(name) < indent else (" " * indent, signs)
        out += [name] * (len(name) >= indent)
        out += [f"{first if not n else ' ' * indent}{line}" for n, line in enumerate(rest)]
    between = any(strike.frame is not None for sweep in sweeps for strike in sweep.strikes)
    order = "in order" + ", then for each moment between frames" * between
    out += ["", *wrap(f"A sign for each await, {order}; the last one for the end of the conversation.", width)]
    for word in by_badness(sweeps):
        sign = next(mark(strike) for sweep in sweeps for strike in sweep.strikes if strike.word == word)
        out += wrap(f"{sign} {word:<10} {meaning_of(word, sweeps)}", width, rest=" " * 13)
    for name, sweep in zip(names, sweeps, strict=True):
        worst = fates(sweep.strikes)[0]
        if worst.word != "clean":
            noted = f"; noted: {worst.noted}" if worst.notes else "; nothing noted"
            told = f"{name}: {worst.word} at {worst.place}{noted}"
            told += f": {worst.sentence}" if worst.word == "unknown" else ""
            out += ["", *wrap(plain(told), width, rest=" " * 4)]
            out += [f"    again: {worst.again}"] * bool(worst.again)
    for notice in notices:
        out += ["", *wrap(plain(notice), width)]
    return "\n".join(out)


def strips_alt(sweeps: Sequence[Sweep], title: str) -> str:
    """Write the alternative text of the picture."""
    parts = [f"{sweep.fault} on {sweep.on}: {_told(sweep.strikes)}" for sweep in sweeps]
    return plain(f"{several_headline(sweeps, title)}. {'. '.join(parts)}.")


def _told(strikes: Sequence[Strike]) -> str:
    found = fates(strikes)
    words = dict.fromkeys(fate.word for fate in found)
    if len(words) == 1:
        return f"always {found[0].word}"
    return "; ".join(f"{word} at {', '.join(fate.moments for fate in found if fate.word == word)}" for word in words)


def strips_html(sweeps: Sequence[Sweep], title: str, notices: Sequence[str] = ()) -> str:
    """Write the strips as an HTML table, in a closed ``<details>``, and the notices before it."""
    bodies, again = [], []
    for sweep in sweeps:
        found = fates(sweep.strikes)
        bodies.append(
            [
                html.row(
                    html.cell(sweep.fault, scope="row"),
                    *map(html.cell, (sweep.on, fate.word, fate.moments, fate.lines, fate.noted, fate.sentence)),
                )
                for fate in found
            ]
        )
        again += [f"{sweep.fault} on {sweep.on}, again: {fate.again}" for fate in found if fate.again]
    head = html.row(*(html.cell(name, scope="col") for name in _HEAD))
    table = html.table([head], bodies, caption=several_headline(sweeps, title))
    told = [html.element("p", text) for text in (*notices, *again)]
    return html.fragment(*told, html.element("details", html.element("summary", "The same as a table"), table))
