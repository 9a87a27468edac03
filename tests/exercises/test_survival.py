"""The capstone has every fault, and asks of each what the fault's own class demands."""

from __future__ import annotations

import pytest

import labkit
from labkit.errors import UnknownName
from labkit.exercises import Exercise
from labkit.exercises.staging import Burst, CancelledCleanup, SlowAndQuiet
from labkit.exercises.summary import Summary
from labkit.exercises.survival import survival
from labkit.faults import SecondCancel
from labkit.faults.fault import registry
from tests import handlers

#: What this platform can stage.
FAULTS = {name: fault for name, fault in labkit.FAULTS.items() if fault.impossible("labkit") is None}

#: What the capstone has besides: what must end a handler, and what it must bear.
MORE = {Burst(), SecondCancel(times=4), CancelledCleanup()}
STAYS = {SlowAndQuiet()}

CAPSTONES = [labkit.EXERCISES[name] for name in ("survive-aiohttp", "survive-websockets")]


def faults_of(exercise: Exercise, rule: str) -> set[object]:
    [found] = [each for each in exercise.rules if each.name == rule]
    return {trial.fault for trial in found.trials}


def demanding(*demands: str) -> set[object]:
    return {name for name, fault in FAULTS.items() if fault.demands in demands}


@pytest.mark.parametrize("capstone", CAPSTONES, ids=lambda capstone: capstone.name)
def test_no_fault_drops_out(capstone: Exercise) -> None:
    """One that is added is in the capstone by being there; it would have to say so, and why, to be left out."""
    assert faults_of(capstone, "no-rest") == set(FAULTS) | MORE | STAYS
    assert {fault for rule in capstone.rules[:-1] for fault in faults_of(capstone, rule.name)} == (
        set(FAULTS) - demanding("nothing") | MORE | STAYS
    )


def test_each_rule_has_the_faults_that_demand_it() -> None:
    """What must end a handler is not what it must bear."""
    capstone = labkit.EXERCISES["survive-aiohttp"]
    for rule, faults in {
        "ends": demanding("end", "end or raise") | MORE,
        "release": demanding("end", "end or raise") | MORE,
        "nothing-escapes": demanding("end") | MORE,
        "answers-late": demanding("answer"),
        "keeps": demanding("stay") | STAYS,
        "in-doubt": demanding("end or stay"),
    }.items():
        assert faults_of(capstone, rule) == faults != set()


def test_a_stack_may_be_stricter_than_the_fault() -> None:
    """On websockets a frame without a mask ends the connection. A name that is no fault's is refused."""
    capstone = labkit.EXERCISES["survive-websockets"]
    assert faults_of(capstone, "nothing-escapes") == demanding("end") | {"unmasked-frame"} | MORE
    assert faults_of(capstone, "in-doubt") == demanding("end or stay") - {"unmasked-frame"}
    with pytest.raises(UnknownName, match="no fault 'unmasked'"):
        survival(over=("unmasked",))


async def test_the_report_says_what_happened_in_the_faults_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class has them; of a fault that only a recording knows it is said that it struck."""
    run = await labkit.play(handlers.aiohttp_echo, on="aiohttp", fault="fin")
    assert Summary(run).struck.startswith("the client vanished at ")
    monkeypatch.delitem(registry, "fin")
    assert Summary(run).struck.startswith("the fault struck at ")
