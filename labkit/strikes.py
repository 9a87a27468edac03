"""The moments at which a fault has struck a handler, and what can become of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from labkit.outcome import Outcome, badness, lines_of, outcome
from labkit.verdict import Verdict

__all__ = ["BROKEN", "Fate", "Strike", "Sweep", "fates", "moments_of", "ranges"]

#: The word for a moment at which the user's own invariant does not hold.
BROKEN: Final = "broken"

#: The names of the fates; after these come numbers.
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Strike:
    """A moment at which the fault has struck, and what came of it.

    Attributes:
        number: how many times the handler had suspended, for a moment at an await; 0 for another one.
        line: the line at which the handler waited, in its file; None if that is unknown.
        done: the handler's notes by then.
        notes: all its notes, by the end of the experiment.
        holds: whether the user's invariant holds; None if there is none, or if that is unknown.
        verdict: what the run proves; None if there is no run.
        reason: why something is unknown; empty if nothing is.
        token: what ``labkit.replay`` plays this moment again from; empty if there is none.
        frame: how many frames had passed, for a moment between two of them; None for another one. Without a number and
            a frame, the conversation was through.
    """

    number: int
    line: int | None = None
    done: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    holds: bool | None = None
    verdict: Verdict | None = field(default=None, repr=False)
    reason: str = ""
    token: str = field(default="", repr=False)
    frame: int | None = None

    @property
    def name(self) -> str:
        """The moment, for a reader."""
        if self.frame is not None:
            return f"frame {self.frame}"
        return f"await {self.number}" if self.number else "through"

    @property
    def label(self) -> str:
        """The moment, above a picture."""
        if self.frame is not None:
            return f"f{self.frame}"
        return str(self.number or "end")

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word, as in the matrix."""
        return "unknown" if self.verdict is None else outcome(self.verdict)

    @property
    def word(self) -> str:
        """What came of it in one word: that of the matrix, or ``broken``."""
        return BROKEN if self.holds is False else self.outcome

    @property
    def key(self) -> tuple[object, ...]:
        """What two moments have in common that are told as one."""
        if self.verdict is None:
            return (self.word, self.reason)
        raised = (self.verdict.exception or "").partition(":")[0]
        return (self.word, self.verdict.ending, raised, self.verdict.cleanup, self.verdict.swallowed, self.notes)

    def row(self) -> dict[str, Any]:
        """The moment as a flat row."""
        verdict = self.verdict
        return {
            "moment": self.name,
            "line": self.line,
            "done": ", ".join(self.done),
            "outcome": self.word,
            "notes": ", ".join(self.notes),
            "ending": "unknown" if verdict is None else verdict.ending,
            "exception": (verdict.exception or "") if verdict is not None else "unknown",
            "cleanup": "unknown" if verdict is None else verdict.cleanup,
            "swallowed": "unknown" if verdict is None else lines_of(verdict.swallowed),
            "holds": self.holds,
            "sentence": "unknown" if verdict is None else verdict.sentence,
            "reason": self.reason,
            "token": self.token,
        }


class Sweep(NamedTuple):
    """The moments of one fault on one stack.

    Attributes:
        fault: the fault with its knobs.
        on: the stack's name.
        strikes: the moments, in order.
    """

    fault: str
    on: str
    strikes: Sequence[Strike]


@dataclass(frozen=True)
class Fate:
    """Something that can become of the handler, and the moments that lead to it.

    Attributes:
        letter: its name in the picture.
        strikes: the moments, in order.
    """

    letter: str
    strikes: tuple[Strike, ...]

    @property
    def word(self) -> str:
        """It in one word."""
        return self.strikes[0].word

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word, as in the matrix."""
        return self.strikes[0].outcome

    @property
    def notes(self) -> tuple[str, ...]:
        """What the handler had noted at its end."""
        return self.strikes[0].notes

    @property
    def noted(self) -> str:
        """The notes in one line, each once, such as ``"charged ×3, written ×2"``."""
        return ", ".join(note + f" ×{count}" * (count > 1) for note, count in Counter(self.notes).items())

    @property
    def moments(self) -> str:
        """Its moments, such as ``"await 3–5, 8, frame 2"``."""
        return moments_of(self.strikes)

    @property
    def lines(self) -> str:
        """The lines at which the handler waited, such as ``"12–14"``; empty if none is known."""
        return ranges(sorted({strike.line for strike in self.strikes if strike.line is not None}))

    @property
    def place(self) -> str:
        """Its moments, and the lines at which the handler waited then, such as ``"await 3–5, lines 12–14"``."""
        return self.moments + (f", line{'s' * (not self.lines.isdecimal())} {self.lines}" if self.lines else "")

    @property
    def again(self) -> str:
        """The command that plays its first moment again; empty if the user's invariant holds there."""
        token = self.strikes[0].token
        return f"labkit replay {token}" if token and self.word == BROKEN else ""

    @property
    def sentence(self) -> str:
        """What happened, in the sentence of its first moment."""
        first = self.strikes[0]
        return first.reason if first.verdict is None else first.verdict.sentence


def fates(strikes: Sequence[Strike]) -> tuple[Fate, ...]:
    """Fold the moments that lead to the same.

    Args:
        strikes: the moments, in order.

    Returns:
        What can become of the handler, the worst first.
    """
    groups: dict[tuple[object, ...], list[Strike]] = {}
    for strike in strikes:
        groups.setdefault(strike.key, []).append(strike)
    order = sorted(groups.values(), key=_badness, reverse=True)
    letters = [*_LETTERS, *map(str, range(len(_LETTERS) + 1, len(order) + 1))]
    return tuple(Fate(letter, tuple(group)) for letter, group in zip(letters, order, strict=False))


def _badness(group: Sequence[Strike]) -> tuple[bool, int]:
    return group[0].word == BROKEN, badness(group[0].outcome)


def moments_of(strikes: Sequence[Strike]) -> str:
    """Write moments in short.

    Args:
        strikes: the moments, in order.

    Returns:
        Such as ``"await 3–5, 8, frame 2, through"``.
    """
    awaits = [strike.number for strike in strikes if strike.number]
    frames = sorted(strike.frame for strike in strikes if strike.frame is not None)
    through = ["through"] * any(strike.name == "through" for strike in strikes)
    told = [f"{what} {ranges(numbers)}" for what, numbers in (("await", awaits), ("frame", frames)) if numbers]
    return ", ".join(told + through)


def ranges(numbers: Sequence[int]) -> str:
    """Write numbers in short.

    Args:
        numbers: whole numbers, ascending.

    Returns:
        Such as ``"3–5, 8"``.
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)
