"""Claims about behaviour beside what was measured: right, wrong, or it depends on what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from labkit.errors import BadValue
from labkit.views import html
from labkit.views.mime import choose
from labkit.views.table import Table

__all__ = ["Answer", "Claim", "Claims", "claims"]

Answer = Literal["right", "wrong", "it depends", "unknown"]

_HEAD: Final = ("claim", "right or wrong", "as measured here", "source")

#: How a reader names a case, by whether the claim held in it.
_WORDS: Final[Mapping[bool | None, str]] = {True: "right", False: "wrong", None: "unknown"}


@dataclass(frozen=True)
class Claim:
    """A claim, with the cases in which it was tried.

    Attributes:
        text: the claim; what stands between backticks is code.
        cases: whether it held, by what the case is called; None where the run cannot tell.
        source: the https address where it is made; empty if it has none.
    """

    text: str
    cases: Mapping[str, bool | None]
    source: str = ""

    @property
    def answer(self) -> Answer:
        """Whether the claim is right, wrong, depends on the case, or was decided by no case."""
        known = {held for held in self.cases.values() if held is not None}
        if not known:
            return "unknown"
        return "it depends" if len(known) == 2 else "right" if known == {True} else "wrong"

    @property
    def measured(self) -> str:
        """The cases, each with the word for it where they differ."""
        held = {word: [case for case, each in self.cases.items() if each is value] for value, word in _WORDS.items()}
        groups = [(word, ", ".join(cases)) for word, cases in held.items() if cases]
        return groups[0][1] if len(groups) == 1 else "; ".join(f"{word}: {cases}" for word, cases in groups)


@dataclass(frozen=True)
class Claims:
    """A table of claims, which displays itself.

    Attributes:
        claims: the claims, in order.
    """

    claims: tuple[Claim, ...]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answer to each claim, in order."""
        return tuple(claim.answer for claim in self.claims)

    def __str__(self) -> str:
        rows = tuple((each.text, each.answer, each.measured, each.source) for each in self.claims)
        width = len(_HEAD) if any(each.source for each in self.claims) else len(_HEAD) - 1
        return str(Table(_HEAD[:width], tuple(row[:width] for row in rows)))

    def __repr__(self) -> str:
        return str(self)

    def _html(self) -> str:
        head = html.row(*(html.cell(name, scope="col") for name in _HEAD[:3]))
        return html.fragment(html.table([head], [[_row(claim) for claim in self.claims]]))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        bundle = {"text/plain": str(self), "text/html": self._html()}
        return {kind: bundle[kind] for kind in choose(list(bundle), include, exclude)}


def _row(claim: Claim) -> html.Element:
    link = html.element("a", urlsplit(claim.source).hostname or "", href=claim.source)
    source: list[html.Content] = [" (", link, ")"] if claim.source else []
    answer = html.element("strong", claim.answer)
    return html.row(
        html.cell(*html.code(claim.text), *source, scope="row", style="font-weight:normal;max-width:26em"),
        html.cell(answer, style="white-space:nowrap"),
        html.cell(*html.code(claim.measured), style="max-width:30em"),
    )


def claims(*rows: Sequence[Any]) -> Claims:
    """Put claims about behaviour beside what was measured.

    Args:
        rows: for each claim a tuple of its text, its cases and its source. The cases are a dictionary from what a case
            is called, such as ``"by default"``, to whether the claim held in it: True, False, or None for unknown. The
            source is the https address where the claim is made; it may be left out.

    Returns:
        A table that displays itself: each claim is right, wrong, or depends on the case.

    Raises:
        BadValue: a row is not such a tuple.
    """
    return Claims(tuple(_parse(number, row) for number, row in enumerate(rows, 1)))


def _parse(number: int, row: Sequence[Any]) -> Claim:
    if not isinstance(row, Sequence) or isinstance(row, str) or not 2 <= len(row) <= 3:
        raise BadValue(f'claim {number} is {row!r}; it takes ("what is said", {{"by default": True}}, "https://…")')
    text, cases, source = (*row, "")[:3]
    if not isinstance(text, str) or not text:
        raise BadValue(f"claim {number} begins with {text!r}; it takes the claim as a text")
    if not isinstance(cases, Mapping) or not cases:
        raise BadValue(f'claim {number} has the cases {cases!r}; it takes a dictionary such as {{"by default": True}}')
    for case, held in cases.items():
        if held is not None and not isinstance(held, bool):
            raise BadValue(f"claim {number}, case {case!r}, is {held!r}; it takes True, False, or None for unknown")
    if not isinstance(source, str) or (source and urlsplit(source).scheme != "https"):
        raise BadValue(f"claim {number} has the source {source!r}; it takes an https address")
    return Claim(text, {str(case): held for case, held in cases.items()}, source)
