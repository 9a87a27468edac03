"""How long a connection, a call and a resource lasted."""

from __future__ import annotations

from labkit.views.sequence.lifetimes import Bar, Remark, lifetimes
from labkit.views.words import stop_of
from tests.views.stories import Story


def lives(story: Story, *, without: frozenset[int] = frozenset()) -> tuple[list[Bar], list[Remark], dict[int, int]]:
    """The lifetimes where each event has the row of its index, but those that are left out have none."""
    rows = {i: i for i in range(len(story.events)) if i not in without}
    return lifetimes(story.events, rows, len(story.events), stop_of(story.events))


def start(story: Story, call: int) -> Story:
    known = {"handler": "echo", "stack": "aiohttp", "library": "aiohttp 3.14.5", "given": "Request"}
    return story.then("handler", "start", "echo starts", call=call, **known)


def end(story: Story, call: int) -> Story:
    return story.then("handler", "end", "returned", ending="returned", close_code=None, call=call)


def test_a_call_lasts_from_its_start_to_its_own_end() -> None:
    """The end of another call is not its own; calls that overlap stand side by side."""
    bars, notes, slots = lives(end(end(start(start(Story(), 1), 2), 1), 2))
    assert [(bar.top, bar.bottom, bar.slot) for bar in bars] == [(0, 2, 0), (1, 3, 1)]
    assert all(bar.finished for bar in bars)
    assert slots == {0: 0, 2: 0, 1: 1, 3: 1}
    assert notes == []


def test_a_call_that_follows_another_has_its_place() -> None:
    """The first one is over, so they stand one below the other."""
    bars, _, _ = lives(end(start(end(start(Story(), 1), 1), 2), 2))
    assert [(bar.top, bar.bottom, bar.slot) for bar in bars] == [(0, 1, 0), (2, 3, 0)]


def test_a_call_that_never_ends_keeps_its_place() -> None:
    """It runs to the lower edge, a note says so, and what comes later stands beside it."""
    bars, notes, _ = lives(end(start(start(Story(), 1), 2), 2))
    assert [(bar.top, bar.bottom, bar.finished, bar.slot) for bar in bars] == [(0, 3, False, 0), (1, 2, True, 1)]
    assert notes == [Remark(3, "handler", "still running")]


def test_a_call_that_begins_after_the_labs_own_end_was_not_running_then() -> None:
    """The note stands beside what ran when the lab ended the experiment, and beside nothing else."""
    _, notes, _ = lives(end(start(Story(), 1).stopped(), 1))
    assert notes == [Remark(1, "handler", "still running")]
    _, notes, _ = lives(end(start(Story().stopped(), 1), 1))
    assert notes == []


def test_a_connection_that_broke_ends_in_failure() -> None:
    """Unless it was the lab that broke it."""
    story = Story().then("client", "connect", "connect").then("client", "ended", "reset", how="reset")
    [bar], _, _ = lives(story)
    assert bar.failed
    story = Story().then("client", "connect", "connect").stopped().then("client", "ended", "reset", how="reset")
    [bar], _, _ = lives(story)
    assert not bar.failed


def test_a_client_that_connects_again_has_a_second_life() -> None:
    """What ends the second connection does not belong to the first."""
    story = Story()
    for _ in range(2):
        story.then("client", "connect", "connect").then("client", "ended", "FIN", how="fin")
    bars, _, _ = lives(story)
    assert [(bar.top, bar.bottom, bar.slot) for bar in bars] == [(0, 1, 0), (2, 3, 0)]


def test_a_connection_is_over_at_its_first_end() -> None:
    """The process of a client ends too, after its connection."""
    story = Story().then("client", "connect", "connect").then("client", "ended", "FIN", how="fin")
    bars, _, slots = lives(story.then("client", "exit", "exit status 0", how="exit status 0", status=0))
    assert [(bar.top, bar.bottom) for bar in bars] == [(0, 1)]
    assert slots == {0: 0, 1: 0}


def test_a_resource_is_held_and_then_closed() -> None:
    """Two bars: a line from open to closing, and the closing itself; each resource is known by its number."""
    story = Story().cleanup("cache", "open", number=1).cleanup("cache", "open", number=2)
    story.cleanup("cache", "closing", "closed", number=2)
    bars, notes, slots = lives(story)
    assert [(bar.top, bar.bottom, bar.held, bar.slot) for bar in bars] == [
        (0, 4, True, 0),
        (1, 2, True, 1),
        (2, 3, False, 1),
    ]
    assert notes == [Remark(4, "cleanup", "still open")]
    assert slots == {0: 0, 1: 1, 2: 1, 3: 1}


def test_a_lifetime_ends_in_the_fold_where_its_end_is_left_out() -> None:
    """The fold stands in the row before the next event that is shown; behind the last one it is the last row."""
    story = start(Story(), 1).then("handler", "note", "a step")
    end(story, 1).then("loop", "exception", "one").then("loop", "exception", "two").then("loop", "exception", "three")
    rows = {0: 0, 4: 2, 5: 3}  # row 1 is the fold
    [bar], _, _ = lifetimes(story.events, rows, 4, None)
    assert (bar.top, bar.bottom) == (0, 1)
    [bar], _, _ = lifetimes(story.events, {0: 0}, 2, None)
    assert (bar.top, bar.bottom) == (0, 1)
