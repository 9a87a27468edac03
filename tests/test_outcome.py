"""A verdict in one word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labkit.outcome import MEANINGS, OUTCOMES, Cell, badness, outcome
from labkit.verdict import Verdict

GOOD = Verdict(
    ending="returned",
    exception=None,
    close_code=1000,
    noticed="yes",
    noticed_after=0.001,
    lines_never_ran=(),
    cleanup="complete",
    leaked=(),
    complaints=(),
    client_exception=None,
    client_close_code=None,
    sentence="All is well.",
)

TABLE: list[tuple[dict[str, Any], str]] = [
    ({}, "clean"),
    ({"cleanup": "none"}, "clean"),
    ({"noticed": "no"}, "clean"),
    ({"ending": "cancelled"}, "clean"),
    ({"noticed": "unknown", "struck": True}, "unknown"),
    ({"noticed": "unknown", "struck": None}, "clean"),  # there was nothing to notice
    ({"ending": "unknown", "cleanup": "unknown", "noticed": "unknown"}, "unstarted"),
    ({"struck": False}, "unstruck"),
    ({"cleanup": "unknown"}, "unknown"),
    ({"complaints": ("WARNING mine: no",)}, "noisy"),
    ({"ending": "cancelled", "cleanup": "none"}, "cancelled"),
    ({"ending": "raised"}, "raised"),
    ({"cleanup": "outlived"}, "outlived"),
    ({"ending": "running", "noticed": "no"}, "unaware"),
    ({"ending": "running", "noticed": "no", "cleanup": "missing"}, "unaware"),
    ({"ending": "running"}, "hangs"),
    ({"blocked": 0.3}, "blocks"),
    ({"ending": "running", "noticed": "unknown"}, "hangs"),
    ({"others": (replace(GOOD, ending="running", answered="no"),)}, "unserved"),
    ({"leaked": ("task pulse",)}, "leaked"),
    ({"cleanup": "missing"}, "missing"),
    ({"cleanup": "truncated"}, "cut"),
]


@pytest.mark.parametrize(("changes", "word"), TABLE)
def test_each_verdict_has_its_word(changes: dict[str, Any], word: str) -> None:
    """The table of the docstring."""
    assert outcome(replace(GOOD, **changes)) == word


def test_every_word_is_in_the_table_and_has_a_meaning() -> None:
    """From good to bad, and none without a sentence."""
    assert {word for _, word in TABLE} == set(OUTCOMES) == set(MEANINGS)
    assert list(MEANINGS) == list(OUTCOMES)
    assert badness("clean") == 0 < badness("unknown") < badness("cut")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"noticed": "unknown", "struck": True, "complaints": ("no",)}, "noisy"),
        ({"ending": "raised", "complaints": ("no",)}, "raised"),
        ({"ending": "raised", "cleanup": "outlived"}, "outlived"),
        ({"ending": "running", "leaked": ("handler",)}, "leaked"),
        ({"cleanup": "missing", "leaked": ("task",)}, "missing"),
        ({"struck": False, "ending": "raised", "cleanup": "truncated"}, "unstruck"),
        ({"cleanup": "truncated", "ending": "raised", "leaked": ("task",), "complaints": ("no",)}, "cut"),
    ],
)
def test_the_worst_finding_counts(changes: dict[str, Any], word: str) -> None:
    """Whatever else was found."""
    assert outcome(replace(GOOD, **changes)) == word


@pytest.mark.parametrize(
    ("others", "word"),
    [
        ({"ending": "running", "noticed": "no", "answered": "yes"}, "clean"),
        ({"ending": "running", "noticed": "unknown", "answered": "unknown", "cleanup": "unknown"}, "clean"),
        ({"ending": "raised", "answered": "unknown"}, "raised"),
        ({"ending": "returned", "answered": "no"}, "unserved"),
        ({"ending": "running", "answered": "yes", "complaints": ("no",)}, "noisy"),
        ({"ending": "running", "noticed": "no", "struck": True}, "unaware"),
        ({"ending": "raised", "struck": True}, "raised"),
        ({"ending": "raised"}, "clean"),
    ],
)
def test_the_connections_of_others_count(others: dict[str, Any], word: str) -> None:
    """One that the fault struck counts as the first does; one that stayed may stay; one of before tells nothing."""
    assert outcome(replace(GOOD, others=(GOOD, replace(GOOD, **others)))) == word


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "unknown"),
        ({"ending": "running", "noticed": "unknown", "cleanup": "unknown"}, "unknown"),
        ({"ending": "unknown", "noticed": "unknown", "cleanup": "unknown"}, "unknown"),
        ({"ending": "raised"}, "raised"),
        ({"cleanup": "truncated"}, "cut"),
        ({"struck": False}, "unstruck"),
    ],
)
def test_what_is_bad_already_counts_while_the_experiment_goes_on(changes: dict[str, Any], word: str) -> None:
    """What is good so far, or has not ended, is unknown."""
    assert outcome(replace(GOOD, leaked=None, **changes)) == word


def test_a_cell_without_a_run_is_unknown() -> None:
    """Nothing was measured there."""
    assert Cell("echo", "aiohttp", "transport", "fin", reason="interrupted").outcome == "unknown"
    assert Cell("echo", "aiohttp", "transport", "fin", GOOD).outcome == "clean"
