"""What to mend in a handler that a fault has struck at each of its moments: each finding in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labkit.strikes import Strike, moments_of
from labkit.verdict import Verdict

__all__ = ["advise"]


def advise(strikes: Sequence[Strike], *, cancelled: bool) -> tuple[str, ...]:
    """Tell what is to be mended.

    Args:
        strikes: the moments, in order.
        cancelled: whether the fault was ``cancel``, after which a handler has to end, its limit of time has to fire,
            and nothing may be left.

    Returns:
        For each finding a sentence: where it was, what went wrong, at which moments, and what mends it.
    """
    found: dict[tuple[str, str], list[Strike]] = {}
    for strike in strikes:
        if strike.verdict is not None and strike.verdict.struck:
            each = [*_swallowed(strike.verdict), *(_after_a_cancel(strike, strike.verdict) if cancelled else ())]
            for finding in each:
                found.setdefault(finding, []).append(strike)
    return tuple(f"{what} (at {moments_of(those)}): {mending}." for (what, mending), those in found.items())


def _swallowed(verdict: Verdict) -> Iterator[tuple[str, str]]:
    if verdict.swallowed is None:
        return
    if verdict.ending == "running":
        cost = "so the handler does not end"
    elif verdict.timed_out is False:
        cost = "so asyncio.timeout around the handler does not fire"
    else:
        cost = "so who has cancelled is not told that it came through"
    for line in verdict.swallowed:
        yield f"Line {line} swallows the cancel, {cost}", "end the clause with `raise`, after the cleanup"


def _after_a_cancel(strike: Strike, verdict: Verdict) -> Iterator[tuple[str, str]]:
    """What a handler has to do when it is cancelled, and has not done."""
    at = "The handler" if strike.line is None else f"Cancelled at line {strike.line}, the handler"
    if verdict.ending == "running" and not verdict.swallowed:
        yield f"{at} did not end while the patience lasted", "give its cleanup a limit, such as `asyncio.timeout`"
    if verdict.timed_out is False and verdict.ending == "raised":
        kind = (verdict.exception or "").partition(":")[0]
        what = f"{at} raised {kind} in place of the cancel, so asyncio.timeout around it does not fire"
        yield what, "catch the errors of the cleanup inside of it, and let the cancel pass"
    if verdict.ending != "running" and verdict.cleanup == "missing":
        yield f"{at} left something open", "open it with `async with`, or close it in a `finally`"
    if verdict.ending != "running" and verdict.leaked:
        what = f"{at} left behind: {', '.join(verdict.leaked)}"
        yield what, "end it, and wait for its end, before the handler ends; a task group does both"
