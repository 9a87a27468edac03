"""The doctor's report, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from labkit.views.table import table

__all__ = ["Diagnosis", "Examination", "Status"]

Status = Literal["ok", "bad", "unknown"]

_MARKS: Final[dict[Status, str]] = {"ok": "✓ ok", "bad": "✗ bad", "unknown": "? unknown"}


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check.

    Attributes:
        name: what was checked.
        ok: ``"ok"``, ``"bad"``, or ``"unknown"`` if the check was not possible.
        found: the result in words.
        mend: what to do about it; empty if there is nothing to do.
    """

    name: str
    ok: Status
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Examination:
    """The results of all checks; a notebook displays them as a table, a terminal as text."""

    findings: tuple[Diagnosis, ...]

    @property
    def good(self) -> bool:
        """Whether no check is bad; unknown ones do not count."""
        return all(finding.ok != "bad" for finding in self.findings)

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        bad = [finding.name for finding in self.findings if finding.ok == "bad"]
        unknown = [finding.name for finding in self.findings if finding.ok == "unknown"]
        if bad:
            return f"The lab will not work as it should; to mend: {', '.join(bad)}."
        if unknown:
            return f"The lab works; what could not be tried: {', '.join(unknown)}."
        return f"The lab works: all {len(self.findings)} checks passed."

    def __repr__(self) -> str:
        wide = max((len(finding.name) for finding in self.findings), default=0)
        mark = max(len(text) for text in _MARKS.values())
        lines = [self.sentence, ""]
        for finding in self.findings:
            lines.append(f"{_MARKS[finding.ok]:<{mark}}  {finding.name:<{wide}}  {finding.found}")
            if finding.mend:
                lines.append(f"{'':<{mark}}  {'':<{wide}}  → {finding.mend}")
        return "\n".join(lines)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        # Each result has a word, so that a reader needs no colours.
        rows = [(finding.name, _MARKS[finding.ok], finding.found, finding.mend) for finding in self.findings]
        bundle = table(("Checked", "Result", "Found", "To mend it"), *rows, caption=self.sentence)._repr_mimebundle_(
            include, exclude
        )
        return bundle | ({"text/plain": repr(self)} if "text/plain" in bundle else {})
