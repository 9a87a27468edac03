"""A verdict in one word, and a cell of the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal, get_args

from labkit.verdict import Verdict

__all__ = ["MEANINGS", "OUTCOMES", "Cell", "Outcome", "badness", "lines_of", "outcome"]

Outcome = Literal[
    "clean", "unstarted", "unstruck", "unknown", "noisy", "cancelled", "raised",
    "outlived", "unaware", "hangs", "unserved", "blocks", "leaked", "missing", "cut",
]  # fmt: skip

#: From good to bad. ``unknown`` comes early: the run proves nothing good, and nothing bad either.
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

#: The meaning of each word, for a reader.
MEANINGS: Final[Mapping[Outcome, str]] = MappingProxyType(
    {
        "clean": "the handler ended, its cleanup was complete, nothing was left and nobody complained",
        "unstarted": "the handler never started, and so had nothing to lose",
        "unstruck": "there was no open connection that the fault could strike",
        "unknown": "the run does not settle it, or there is no run",
        "noisy": "a warning, an error, or an exception that nobody retrieved was reported",
        "cancelled": "the handler was cancelled, and no resource tells whether it cleaned up",
        "raised": "an exception came out of the handler",
        "outlived": "the cleanup was complete only after the handler had ended",
        "unaware": "the handler was never told, and still ran when the patience was over",
        "hangs": "the handler still ran when the patience was over, though it was or may have been told",
        "unserved": "another client, which the fault did not strike, was no longer answered",
        "blocks": "the handler kept the server's loop to itself, so that nothing else could run in it",
        "leaked": "a task was left behind, or the handler refused to end",
        "missing": "the handler ended, and a cleanup never began",
        "cut": "a cleanup began and was cut short",
    }
)


def outcome(verdict: Verdict) -> Outcome:
    """Put a verdict into one word, which names the worst that it found.

    ========== ====================================================================================
    clean      the handler ended, the cleanup is ``complete`` or ``none``, and nothing of the below holds
    unstarted  the ending is ``unknown``, which means that the handler never started
    unstruck   the fault did not strike, whatever else happened
    unknown    the cleanup, whether a fault was noticed that struck, or what is left behind, is unknown
    noisy      there are complaints
    cancelled  the ending is ``cancelled``, the cleanup ``none``: nothing shows what the handler skipped
    raised     the ending is ``raised``
    outlived   the cleanup is ``outlived``
    unaware    the ending is ``running``, and noticed is ``no``
    hangs      the ending is ``running``, and noticed is ``yes`` or ``unknown``
    unserved   another client, which the fault did not strike, got answers before the fault and none after it
    blocks     the handler kept the loop to itself, for any of the times that ``verdict.blocked`` counts
    leaked     something was left behind
    missing    the cleanup is ``missing``, and the handler has ended
    cut        the cleanup is ``truncated``
    ========== ====================================================================================

    The same holds for the other clients' connections, if there are several. But where the fault has not struck them, a
    handler of theirs that still runs is as it should be.

    Args:
        verdict: what the timeline of a run proves.

    Returns:
        The word.
    """
    if verdict.struck is False:
        return "unstruck"  # what the handler did is nothing that the fault has done to it
    return max(_findings(verdict), key=OUTCOMES.index)


def _findings_on_another(verdict: Verdict) -> Iterator[Outcome]:
    """What is bad about a connection that the fault did not strike: that it did not stay as it was."""
    if verdict.answered == "no":
        yield "unserved"
    if verdict.ending == "running":
        verdict = replace(verdict, ending="returned", cleanup="none")
    yield from _findings(replace(verdict, noticed="yes"))


def _could_notice(verdict: Verdict) -> bool:
    """Whether there was a fault to be noticed; of one in outline nobody knows."""
    return verdict.struck is not None or verdict.outline


def _findings(verdict: Verdict) -> Iterator[Outcome]:
    yield "clean"
    for other in verdict.others:
        if other.answered is not None:
            yield from _findings_on_another(other)
        elif other.struck is True:
            yield from _findings(other)
    if verdict.leaked is None:
        yield "unknown"
    elif verdict.ending == "unknown":
        yield "unstarted"
    elif verdict.cleanup == "unknown" or (verdict.noticed == "unknown" and _could_notice(verdict)):
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
        if verdict.leaked is not None:  # else it may still end
            yield "unaware" if verdict.noticed == "no" else "hangs"
    # A handler that still runs may still begin its cleanup.
    elif verdict.cleanup == "missing":
        yield "missing"
    if verdict.blocked:
        yield "blocks"
    if verdict.leaked:
        yield "leaked"
    if verdict.cleanup == "truncated":
        yield "cut"


def badness(word: Outcome) -> int:
    """Rank a word: 0 is clean."""
    return OUTCOMES.index(word)


def lines_of(lines: Sequence[int] | None) -> str:
    """List lines in a cell of a data frame, such as ``"12, 14"``; ``"unknown"`` if they are."""
    return "unknown" if lines is None else ", ".join(map(str, lines))


@dataclass(frozen=True)
class Cell:
    """One handler on one stack, with one fault.

    Attributes:
        handler: the handler's name.
        stack: the stack's name.
        family: the fault's family.
        fault: the fault, as a run prints it, such as ``"close(code=4000)"``.
        verdict: what the run proved; None if there is no run.
        reason: why there is no run.
        seconds: how long the cell took, in real time; None if it was interrupted.
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
