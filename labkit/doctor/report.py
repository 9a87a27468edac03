"""The doctor's report, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from labkit.support.wrapping import beside, wrap
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

    def text(self, width: int = 100) -> str:
        """Write the results for a terminal or a build log.

        Args:
            width: the longest line, in characters.

        Returns:
            The lines, without a newline at the end.
        """
        wide = max((len(finding.name) for finding in self.findings), default=0)
        mark = max(len(text) for text in _MARKS.values())
        lines = [*wrap(self.sentence, width), ""]
        for finding in self.findings:
            name = f"{_MARKS[finding.ok]:<{mark}}  {finding.name:<{wide}}  "
            lines += beside(name, finding.found, width)
            if finding.mend:
                lines += beside(" " * len(name), f"→ {finding.mend}", width)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        # Each result has a word, so that a reader needs no colours.
        rows = [(finding.name, _MARKS[finding.ok], finding.found, finding.mend) for finding in self.findings]
        head = ("Checked", "Result", "Found", "To mend it")
        columns = len(head) if any(finding.mend for finding in self.findings) else len(head) - 1
        shown = table(head[:columns], *(row[:columns] for row in rows), caption=self.sentence)
        bundle = shown._repr_mimebundle_(include, exclude)
        return bundle | ({"text/plain": repr(self)} if "text/plain" in bundle else {})
