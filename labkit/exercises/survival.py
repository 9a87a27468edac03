"""The rules of the capstone: every fault, grouped by what a handler has to do to survive it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import get_args

from labkit.events import WireFin, WireReset
from labkit.exercises.exercise import Rule, Ruling, Trial
from labkit.exercises.rules import (
    answers,
    answers_after,
    cleans_up,
    leaves_nothing,
    quiet,
    stays,
    within,
)
from labkit.exercises.staging import Burst, CancelledCleanup, SlowAndQuiet, empty, wordless
from labkit.exercises.summary import Summary
from labkit.experiment.run import Run
from labkit.faults import FAULTS, SecondCancel
from labkit.faults.fault import Demand, find_fault

__all__ = ["survival"]

#: The patience of a trial in seconds: the handler has 2 s to notice the fault, and then it cleans up.
_PATIENCE = 3.0
#: The patience for faults that leave a quiet client, in seconds.
_STAYS = 5.5
#: The patience for faults of the handshake, in seconds. The handler never starts, so there is little to wait for.
_NEVER_STARTS = 1.0
#: The messages where the answers have to fill the buffers: few short ones would not do that.
_LONG = ("hello", "a long message " * 7_000)


def survival(*, over: Iterable[str] = (), shutdown: dict[str, float] | None = None) -> tuple[Rule, ...]:
    """Make the rules for a handler that survives every fault.

    Args:
        over: further faults that end the connection on this stack.
        shutdown: options of the server's library for its shutdown.

    Returns:
        The rules. Faults that this platform cannot stage are left out.

    Raises:
        UnknownName: there is no fault of a name in ``over``.
    """
    named = {find_fault(name).name for name in over}
    trials: dict[Demand, list[Trial]] = {demand: [] for demand in get_args(Demand)}
    for name, fault in FAULTS.items():
        if fault.impossible("labkit") is None:
            patience = _NEVER_STARTS if fault.ends == "handshake" else _STAYS if "stay" in fault.demands else _PATIENCE
            options = (shutdown or {}) if fault.ends == "server" else {}
            trial = Trial(name, patience=patience, options=options)
            if fault.fills_buffers:
                trial = replace(trial, messages=_LONG)
            trials["end" if name in named else fault.demands].append(trial)

    trials["stay"].append(Trial(SlowAndQuiet(), patience=_STAYS))
    trials["end"].append(Trial(Burst(), patience=_PATIENCE))
    trials["end"] += wordless(Trial("close", patience=_PATIENCE), Trial("reset", patience=_PATIENCE))
    # Twice is not enough where the second one still meets what the first one has interrupted, as `wait_for` of Python
    # 3.11 waits for it.
    trials["end"].append(Trial(SecondCancel(times=4), patience=_PATIENCE))
    trials["end"].append(Trial(CancelledCleanup(), patience=_PATIENCE))

    def facing(*demands: Demand) -> tuple[Trial, ...]:
        return tuple(trial for demand in demands for trial in trials[demand])

    ends = facing("end", "end or raise")
    return (
        Rule("echo", "Each message comes back to the client.", ends[:1] + empty(*ends[:1]), answers),
        Rule(
            "ends",
            "Your handler ends within 2 s of whatever ends its connection, or lets a send wait.",
            ends,
            within(2.0),
        ),
        Rule("release", "The database is closed, in full, before your handler ends.", ends, cleans_up),
        Rule("nothing-escapes", "No exception leaves your handler, and nothing is logged.", facing("end"), quiet),
        Rule(
            "answers-late",
            "A slow network or a blocked loop takes time, but you lose no client.",
            facing("answer"),
            answers_after,
        ),
        Rule(
            "keeps",
            "A client that is only quiet, here for 5 s, is kept, though all takes 20 ms each way.",
            facing("stay"),
            stays,
        ),
        Rule(
            "in-doubt",
            "If a proxy may cut the connection, you keep it, or you notice its end.",
            facing("end or stay"),
            _kept_or_noticed,
        ),
        Rule(
            "no-rest", "Nothing is left behind, whatever happens: no task, no socket.", facing(*trials), leaves_nothing
        ),
    )


def _kept_or_noticed(run: Run) -> Ruling:
    summary = Summary(run)
    cut = summary.fault is not None and summary.after_the_fault.first(WireFin, WireReset)
    return within(2.0)(run) if cut else stays(run)
