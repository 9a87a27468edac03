"""Which events are left out where there are more than fit."""

from __future__ import annotations

import itertools

import pytest

from labkit.views.sequence.folding import fold
from labkit.views.words import stop_of
from tests.views.stories import Story


def noted(story: Story, count: int) -> Story:
    for _ in range(count):
        story.then("handler", "note", "a step")
    return story


def told() -> Story:
    """One event of each importance, with events of no importance in between."""
    story = noted(Story(), 3).then("client", "connect", "connect")
    story = noted(story, 4).then("handler", "log", "ERROR: no", level="ERROR", levelno=40, logger="mine")
    story = noted(noted(story, 4).struck(), 5).noticed()
    story = noted(noted(story, 4).ended(), 4).stopped()
    return noted(story.then("wire", "reset", "RST to the client", link=0, source="wire", to="client"), 3)


def kept(story: Story, limit: int) -> list[int]:
    return fold(story.events, range(len(story.events)), limit, stop_of(story.events))


def rows(places: list[int], count: int) -> int:
    """How many rows these take: one each, and one for each run that is left out."""
    shown = [place in places for place in range(count)]
    return len(places) + sum(not is_shown for is_shown, _ in itertools.groupby(shown))


@pytest.mark.parametrize("limit", range(5, 33))
def test_what_is_kept_and_the_folds_fit_the_limit(limit: int) -> None:
    """Every row is used, but for the one or two that the next event and its fold would not fit in."""
    story = told()
    count = rows(kept(story, limit), len(story.events))
    assert limit - 2 <= count <= limit


@pytest.mark.parametrize("limit", [7, 9, 11, 15])
def test_where_they_fit_exactly_every_row_is_used(limit: int) -> None:
    """Between the fault and both ends there are two gaps, each of which takes a row."""
    story = noted(noted(Story(), 20).struck(), 20)
    assert rows(kept(story, limit), len(story.events)) == limit


def test_nothing_is_left_out_where_all_fit() -> None:
    """As many events as rows need no fold."""
    story = told()
    everything = list(range(len(story.events)))
    assert kept(story, len(everything)) == everything
    assert kept(story, len(everything) - 1) != everything


def test_the_important_is_kept_longest() -> None:
    """The fault and the end first, then turning points, then failures; what the lab broke itself is none of these."""
    story = told()
    importance = ["fault", "end", "connect", "notice", "stop", "log", "reset"]
    first = {
        kind: min(limit for limit in range(5, 40) if any(story.events[i].kind == kind for i in kept(story, limit)))
        for kind in importance
    }
    assert first["fault"] == first["end"] == 5
    turning = [first[kind] for kind in ("connect", "notice", "stop")]
    assert first["end"] < min(turning)
    assert max(turning) < first["log"] < first["reset"]


def test_of_the_rest_the_nearest_to_the_fault_and_to_both_ends_are_kept() -> None:
    """The middle of a long quiet time is left out."""
    story = noted(noted(Story(), 20).struck(), 20)
    places = kept(story, 15)
    assert {0, 1, 19, 20, 21, 39, 40} <= set(places)
    assert not {9, 10, 30, 31} & set(places)


@pytest.mark.parametrize("limit", range(5, 40))
def test_no_fold_stands_for_a_single_event(limit: int) -> None:
    """It would take as much room as the event, also at the beginning and at the end."""
    begins = noted(noted(noted(Story(), 1).struck(), 6).ended(), 6)
    ends = noted(noted(noted(Story().then("client", "connect", "connect"), 5).struck(), 5).ended(), 1)
    for story in (told(), begins, ends):
        shown = [place in kept(story, limit) for place in range(len(story.events))]
        runs = [len(list(run)) for is_shown, run in itertools.groupby(shown) if not is_shown]
        assert 1 not in runs
