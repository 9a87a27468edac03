"""Moments at which a handler is held."""

from __future__ import annotations

from labkit.watch.moments import AtSuspension


async def test_who_is_let_go_waits_for_the_next_turn() -> None:
    """A cancel that the fault has begun in this turn comes to the handler first, whatever else it waits for."""
    moment = AtSuspension(1, lambda: {1})
    moment.suspended(1)
    moment.release()
    gate = moment.hold(1)
    assert gate is not None
    await gate
    assert moment.hold(1) is None


async def test_who_is_cancelled_where_it_is_held_is_held_no_more() -> None:
    """Its cleanup goes on, though the fault has not let it go yet."""
    moment = AtSuspension(1, lambda: {1})
    moment.suspended(1)
    gate = moment.hold(1)
    assert gate is not None
    gate.cancel()  # as a cancel of the task that waits for it
    assert moment.hold(1) is None
    moment.release()
