"""What ``check()`` answers, for a terminal and for a notebook."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from labkit.exercises.exercise import Exercise, Rule, State
from labkit.experiment import Run
from labkit.views.mime import chosen

__all__ = ["Answer", "Report"]

_SIGNS: Final[dict[State, str]] = {"kept": "✓", "broken": "✗", "unknown": "?"}
_WIDTH: Final = 100


@dataclass(frozen=True)
class Answer:
    """What became of one rule.

    Attributes:
        rule: the rule.
        state: kept in every run, broken in one, or unknown.
        evidence: what the first run of that state shows.
        run: that run.
        count: how many runs are of that state.
        total: how many runs were asked.
    """

    rule: Rule
    state: State
    evidence: str
    run: Run
    count: int
    total: int

    @property
    def where(self) -> str:
        """Which run the evidence is from."""
        also = f" ({self.count} of {self.total} runs)" if self.state != "kept" and self.total > 1 else ""
        return f"{self.run.on}, fault {self.run.fault}{also}"


@dataclass(frozen=True)
class Report:
    """What ``labkit.check`` found.

    Attributes:
        exercise: the exercise.
        answers: what became of each rule; empty, where a bug kept the rules from being asked.
        bug: the handler's own bug, in a sentence; None where there is none.
        run: the run of the first failure, or None.
        runs: all runs.
        notice: what went wrong with the note of the progress; empty, if nothing did.
    """

    exercise: Exercise
    answers: tuple[Answer, ...]
    bug: str | None = None
    run: Run | None = None
    runs: tuple[Run, ...] = ()
    notice: str = ""

    @property
    def passed(self) -> bool:
        """Whether every rule is known to be kept."""
        return self.bug is None and all(answer.state == "kept" for answer in self.answers)

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the rules that are broken."""
        return tuple(answer.rule.name for answer in self.answers if answer.state == "broken")

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names of the rules of which the runs do not tell."""
        return tuple(answer.rule.name for answer in self.answers if answer.state == "unknown")

    @property
    def sentence(self) -> str:
        """All of it in a sentence."""
        name = self.exercise.name
        if self.bug is not None:
            return f"{name}: a bug of the handler's own, so no rule was asked."
        kept = sum(answer.state == "kept" for answer in self.answers)
        done = " Well done." if self.passed else ""
        return f"{name}: {kept} of {len(self.answers)} rules kept.{done}"

    @property
    def next(self) -> str:
        """What to do next."""
        name = self.exercise.name
        if self.bug is not None:
            return "Mend that first, then check again."
        if self.passed:
            return f'Compare yours with labkit.solution("{name}"); labkit.progress() shows what is left.'
        if not self.broken:
            return (
                f'Nothing is known to be broken, but "{self.unknown[0]}" is unknown: its evidence says why. Check '
                "again; on a slow machine set LABKIT_TIME_SCALE=3."
            )
        return f'Look at "{self.broken[0]}" first, change the handler, check again. Stuck? labkit.hint("{name}")'

    def saved(self, notice: str) -> Report:
        """Add what went wrong with the note of the progress, if something did."""
        return replace(self, notice=notice)

    def __str__(self) -> str:
        out = [self.sentence, ""]
        if self.bug is not None:
            out += [*textwrap.wrap(f"! {self.bug}", _WIDTH, subsequent_indent="  "), ""]
        for answer in self.answers:
            head = f"{_SIGNS[answer.state]} {answer.state:<7}  {answer.rule.name}: {answer.rule.says}"
            out += textwrap.wrap(head, _WIDTH, subsequent_indent=" " * 11)
            for line in (answer.evidence, f"on {answer.where}"):
                out += textwrap.wrap(line, _WIDTH, initial_indent=" " * 11, subsequent_indent=" " * 11)
        if self.answers:
            out.append("")
        out += textwrap.wrap(f"Next: {self.next}", _WIDTH)
        return "\n".join([*out, *filter(None, [self.notice])])

    def __repr__(self) -> str:
        return str(self)

    def _html(self) -> str:
        left = ' style="text-align:left;vertical-align:top"'
        whole = ' style="text-align:left;vertical-align:top;white-space:nowrap"'
        head = "".join(f'<th scope="col"{left}>{name}</th>' for name in ("", "rule", "evidence", "run"))
        rows = "".join(
            f"<tr><td{whole}>{_SIGNS[answer.state]} {answer.state}</td>"
            f'<th scope="row"{left}>{_code(answer.rule.name)}<br>'
            f'<span style="font-weight:normal">{_code(answer.rule.says)}</span></th>'
            f"<td{left}>{_code(answer.evidence)}</td><td{left}>{_code(answer.where)}</td></tr>"
            for answer in self.answers
        )
        parts = [f"<p><strong>{_code(self.sentence)}</strong></p>"]
        if self.bug is not None:
            parts.append(f"<p>! {_code(self.bug)}</p>")
        if rows:
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
        parts.append(f"<p>Next: {_code(self.next)}</p>")
        if self.notice:
            parts.append(f"<p>{_code(self.notice)}</p>")
        if self.run is not None:
            picture = self.run._repr_mimebundle_(include=["text/html"])["text/html"]
            parts.append(f"<p>The first failure: {_code(self.run.on)}, fault {_code(self.run.fault)}</p>{picture}")
        return "".join(parts)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        makers = {"text/plain": self.__str__, "text/html": self._html}
        return {kind: makers[kind]() for kind in chosen(tuple(makers), include, exclude)}


def _code(text: str) -> str:
    """Escape a text; what stands between backticks becomes code."""
    parts = html.escape(text).split("`")
    if len(parts) % 2 == 0:
        return html.escape(text)
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
