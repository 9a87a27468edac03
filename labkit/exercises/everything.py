"""The rules of the capstone: every fault there is, by what a handler owes to each."""

from __future__ import annotations

from collections.abc import Iterable

from labkit.exercises.exercise import Finding, Rule, Trial
from labkit.exercises.rules import (
    answers,
    answers_after,
    cleans_up,
    leaves_nothing,
    quiet,
    stays,
    within,
)
from labkit.exercises.story import Story
from labkit.experiment import Run
from labkit.faults import find_fault

__all__ = ["survival"]

#: After these the connection is over, or will never carry anything again.
_OVER = (
    "close", "going-away", "no-code", "close-then-reset",
    "fin", "half-close", "reset", "truncated-frame",
    "blackhole", "stalled-reader", "frozen-process",
    "sigint", "sigkill",
    "bad-opcode", "bad-utf8", "too-big",
    "shutdown", "second-cancel",
)  # fmt: skip
_PATIENCE = 3.0


def survival(*, over: Iterable[str] = (), shutdown: dict[str, float] | None = None) -> tuple[Rule, ...]:
    """Make the rules of a handler that survives everything.

    Args:
        over: further faults that end the connection on this stack.
        shutdown: options of the server's library for its shutdown.

    Returns:
        The rules. What this platform cannot stage is left out.
    """

    def trials(*names: str) -> tuple[Trial, ...]:
        return tuple(
            Trial(name, patience=_PATIENCE, options=(shutdown or {}) if name == "shutdown" else {})
            for name in names
            if find_fault(name).impossible("labkit") is None
        )

    ends = trials(*_OVER, *over)
    error, slow, patient, idle = (
        trials("handler-error"),
        trials("slow-link", "blocked-loop"),
        trials("ignore-close"),
        trials("idle-timeout"),
    )
    handshakes = tuple(Trial(name, patience=1.0) for name in ("handshake-cut", "handshake-hang", "handshake-refused"))
    return (
        Rule("echo", "Each message comes back to the client.", ends[:1], answers),
        Rule("ends", "Your handler ends within 2 s of whatever ends its connection.", ends + error, within(2.0)),
        Rule("release", "The database is closed, in full, before your handler ends.", ends + error, cleans_up),
        Rule("nothing-escapes", "No exception leaves your handler, and nothing is logged.", ends, quiet),
        Rule("answers-late", "A slow network or a blocked loop costs time, and no client.", slow, answers_after),
        Rule("keeps", "A client that is only quiet is kept.", patient, stays),
        Rule("idle", "A proxy that cuts quiet connections is kept off, or noticed.", idle, _kept_or_noticed),
        Rule(
            "no-rest",
            "No task is left behind, whatever happens.",
            ends + error + slow + patient + idle + handshakes,
            leaves_nothing,
        ),
    )


def _kept_or_noticed(run: Run) -> Finding:
    return stays(run) if Story(run).fault is None else within(2.0)(run)
