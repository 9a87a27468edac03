"""The report of ``check()``, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final
from xml.etree.ElementTree import Element

from labkit.exercises.exercise import Exercise, Rule, RuleState
from labkit.exercises.hints import IN_PYTHON, Place
from labkit.experiment.run import Run
from labkit.support.wording import plain
from labkit.support.wrapping import wrap
from labkit.views import html
from labkit.views.mime import choose

__all__ = ["Report", "RuleResult"]

_SIGNS: Final[dict[RuleState, str]] = {"kept": "✓", "broken": "✗", "unknown": "?"}
#: Where the text of a rule begins.
_INDENT: Final = " " * 11


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule.

    Attributes:
        rule: the rule.
        state: ``"kept"`` if it is kept in every run, ``"broken"`` if a run breaks it, otherwise ``"unknown"``.
        evidence: what the first run with that state shows.
        run: that run.
        count: the number of runs with that state.
        total: the number of all runs for the rule.
        late: for an unknown rule: whether more time might settle it.
    """

    rule: Rule
    state: RuleState
    evidence: str
    run: Run
    count: int
    total: int
    late: bool = False

    @property
    def where(self) -> str:
        """The run that the evidence is from, in words."""
        also = f" ({self.count} of {self.total} runs)" if self.state != "kept" and self.total > 1 else ""
        return f"{self.run.on}, fault {self.run.fault}{also}"


@dataclass(frozen=True)
class Report:
    """The report of ``labkit.check``.

    Attributes:
        exercise: the exercise.
        results: the result of each rule; empty if the handler has a bug, because then the rules are not checked.
        bug: a sentence about the handler's own bug; None if it has none.
        run: the run of the first failure, or None.
        runs: all runs.
        notice: a sentence about a problem with the file of the learner's progress; empty if there is none.
    """

    exercise: Exercise
    results: tuple[RuleResult, ...]
    bug: str | None = None
    run: Run | None = None
    runs: tuple[Run, ...] = ()
    notice: str = ""

    @property
    def passed(self) -> bool:
        """Whether every rule is kept; an unknown one is not."""
        return self.bug is None and all(result.state == "kept" for result in self.results)

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the rules that are broken."""
        return tuple(result.rule.name for result in self.results if result.state == "broken")

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names of the rules that are unknown."""
        return tuple(result.rule.name for result in self.results if result.state == "unknown")

    @property
    def sentence(self) -> str:
        """The report in one sentence."""
        name = self.exercise.name
        if self.bug is not None:
            return f"{name}: a bug of the handler's own, so no rule was asked."
        kept = sum(result.state == "kept" for result in self.results)
        done = " Well done." if self.passed else ""
        return f"{name}: {kept} of {len(self.results)} rules kept.{done}"

    @property
    def next(self) -> str:
        """What to do next, in Python."""
        return self._next(IN_PYTHON)

    def _next(self, place: Place) -> str:
        name = self.exercise.name
        if self.bug is not None:
            return "Mend that first, then check again."
        if self.passed:
            return f"Compare yours with {place.solution(name)}; {place.progress} shows what is left."
        if not self.broken:
            [result, *_] = [result for result in self.results if result.state == "unknown"]
            then = (
                "Check again; on a slow machine set LABKIT_TIME_SCALE=3."
                if result.late
                else "Change the handler, so that a run can show it, and check again."
            )
            return f'Nothing is known to be broken, but "{result.rule.name}" is unknown: its evidence says why. {then}'
        return f'Look at "{self.broken[0]}" first, change the handler, check again. Stuck? {place.hint(name)}'

    def saved(self, notice: str) -> Report:
        """Return the report with a sentence about the file of the learner's progress, if there is one."""
        return replace(self, notice=notice)

    def text(self, width: int = 100, place: Place = IN_PYTHON) -> str:
        """Write the report for a terminal or a build log.

        Args:
            width: the longest line, in characters.
            place: where it is read, which says how to ask for help there.

        Returns:
            The lines, without a newline at the end.
        """
        out = [*wrap(self.sentence, width), ""]
        if self.bug is not None:
            out += [*wrap(plain(f"! {self.bug}"), width, rest="  "), ""]
        for result in self.results:
            first_line = f"{_SIGNS[result.state]} {result.state:<7}  {result.rule.name}: {result.rule.says}"
            out += wrap(first_line, width, rest=_INDENT)
            for line in (result.evidence, f"on {result.where}"):
                out += wrap(plain(line), width, _INDENT, _INDENT)
        if self.results:
            out.append("")
        out += wrap(f"Next: {self._next(place)}", width)
        return "\n".join([*out, *wrap(plain(self.notice), width)])

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _html(self) -> str:
        parts = [html.element("p", html.element("strong", *html.code(self.sentence)))]
        if self.bug is not None:
            parts.append(html.element("p", "! ", *html.code(self.bug)))
        if self.results:
            header = html.row(*(html.cell(name, scope="col") for name in ("", "rule", "evidence", "run")))
            parts.append(html.table([header], [list(map(_row, self.results))]))
        parts.append(html.element("p", "Next: ", *html.code(self.next)))
        if self.notice:
            parts.append(html.element("p", *html.code(self.notice)))
        if self.run is None:
            return html.fragment(*parts)
        parts.append(html.element("p", f"The first failure: {self.run.on}, fault {self.run.fault}"))
        picture: str = self.run._repr_mimebundle_(include=["text/html"])["text/html"]
        return html.fragment(*parts) + picture

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        makers = {"text/plain": self.__str__, "text/html": self._html}
        return {kind: makers[kind]() for kind in choose(tuple(makers), include, exclude)}


def _row(result: RuleResult) -> Element:
    says = html.element("span", *html.code(result.rule.says), style="font-weight:normal")
    return html.row(
        html.cell(f"{_SIGNS[result.state]} {result.state}", style="white-space:nowrap"),
        html.cell(*html.code(result.rule.name), html.element("br"), says, scope="row"),
        html.cell(*html.code(result.evidence)),
        html.cell(*html.code(result.where)),
    )
