"""A verdict in one word, and a cell of the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from labkit.verdict import Verdict

__all__ = ["MEANINGS", "OUTCOMES", "Cell", "Outcome", "badness", "outcome"]

Outcome = Literal[
    "clean", "unstarted", "unknown", "noisy", "cancelled", "raised",
    "outlived", "unaware", "hangs", "leaked", "missing", "cut",
]  # fmt: skip

#: From good to bad. What is unknown is not known to be good, and nothing bad is known of it.
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

#: What each word says, for a reader.
MEANINGS: Final[Mapping[Outcome, str]] = MappingProxyType(
    {
        "clean": "the handler ended, its cleanup was complete, nothing was left and nobody complained",
        "unstarted": "the handler never started, and so had nothing to lose",
        "unknown": "the run does not settle it, or there is no run",
        "noisy": "a warning, an error, or an exception that nobody retrieved was reported",
        "cancelled": "the handler was cancelled, and no resource tells whether it cleaned up",
        "raised": "an exception came out of the handler",
        "outlived": "the cleanup was complete only after the handler had ended",
        "unaware": "the handler was never told, and still ran when the patience was over",
        "hangs": "the handler still ran when the patience was over, told or perhaps told",
        "leaked": "a task was left behind, or the handler refused to end",
        "missing": "the handler ended, and a cleanup never began",
        "cut": "a cleanup began and was cut short",
    }
)


def outcome(verdict: Verdict) -> Outcome:
    """Put a verdict into one word: the worst that it found.

    ========== ====================================================================================
    clean      ended, cleanup ``complete`` or ``none``; none of the below
    unstarted  the ending is ``unknown``, which says that the handler never started
    unknown    the cleanup, or whether the fault was noticed, is ``unknown``
    noisy      there are complaints
    cancelled  the ending is ``cancelled``, the cleanup ``none``: what the handler skipped, nothing tells
    raised     the ending is ``raised``
    outlived   the cleanup is ``outlived``
    unaware    the ending is ``running``, noticed is ``no``
    hangs      the ending is ``running``, noticed is ``yes`` or ``unknown``
    leaked     something was leaked
    missing    the cleanup is ``missing``, and the handler has ended
    cut        the cleanup is ``truncated``
    ========== ====================================================================================

    Args:
        verdict: what the timeline of a run proves.

    Returns:
        The word.
    """
    return max(_findings(verdict), key=OUTCOMES.index)


def _findings(verdict: Verdict) -> Iterator[Outcome]:
    yield "clean"
    if verdict.ending == "unknown":
        yield "unstarted"
    elif "unknown" in {verdict.cleanup, verdict.noticed}:
        yield "unknown"
    if verdict.complaints:
        yield "noisy"
    if verdict.ending == "raised":
        yield "raised"
    if (verdict.ending, verdict.cleanup) == ("cancelled", "none"):
        yield "cancelled"
    if verdict.cleanup == "outlived":
        yield "outlived"
    if verdict.ending == "running":
        yield "unaware" if verdict.noticed == "no" else "hangs"
    # A handler that still runs may yet begin.
    elif verdict.cleanup == "missing":
        yield "missing"
    if verdict.leaked:
        yield "leaked"
    if verdict.cleanup == "truncated":
        yield "cut"


def badness(word: Outcome) -> int:
    """Rank a word: 0 is clean."""
    return OUTCOMES.index(word)


@dataclass(frozen=True)
class Cell:
    """One handler on one stack, against one fault.

    Attributes:
        handler: the handler's name.
        stack: the stack's name.
        family: the fault's family.
        fault: the fault, as a run prints it, such as ``"close(code=4000)"``.
        verdict: what the run proved; None where there is no run.
        reason: why there is none.
        seconds: how long the cell took, by the clock on the wall; None where it was interrupted.
    """

    handler: str
    stack: str
    family: str
    fault: str
    verdict: Verdict | None = None
    reason: str | None = None
    seconds: float | None = None

    @property
    def outcome(self) -> Outcome:
        """The cell in one word."""
        return "unknown" if self.verdict is None else outcome(self.verdict)
