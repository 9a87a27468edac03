"""While many experiments are played, Python looks less often at all that it has."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from labkit.support.collecting import old_garbage_waits


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_old_garbage_waits_until_the_last_block_ends() -> None:
    """What is young is looked at as ever; what was set before is set again."""
    gc.set_threshold(500, 7, 10)
    first, second = old_garbage_waits(), old_garbage_waits()
    first.__enter__()
    second.__enter__()
    assert gc.get_threshold()[:2] == (500, 7)
    assert gc.get_threshold()[2] > 10
    first.__exit__(None, None, None)
    assert gc.get_threshold()[2] > 10
    second.__exit__(None, None, None)
    assert gc.get_threshold()[:2] == (500, 7)
    assert gc.get_threshold()[2] <= 10


def test_what_a_program_sets_meanwhile_stays() -> None:
    """So does what it has set before, if that is rarer still."""
    gc.set_threshold(500, 7, 1000)
    rarer = gc.get_threshold()
    with old_garbage_waits():
        assert gc.get_threshold() == rarer
        gc.set_threshold(400, 7, 10)
        theirs = gc.get_threshold()
    assert gc.get_threshold() == theirs
