"""The verdict of an experiment: what its timeline proves, and the sentence that tells it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from labkit.connections import main_of, parts_of, strangers_of
from labkit.events import LoopSoFar, LoopTarget, WireFault
from labkit.findings import Findings, Landmarks, find
from labkit.sentence import tell, tell_of_others
from labkit.timeline import Timeline

__all__ = ["Verdict", "judge", "judge_each"]


@dataclass(frozen=True, kw_only=True)
class Verdict(Findings):
    """The findings of one experiment, in words too.

    It has every finding of ``labkit.findings.Findings``: ``ending``, ``exception``, ``close_code``, ``noticed``,
    ``noticed_after``, ``lines_never_ran``, ``cleanup``, ``leaked``, ``complaints``, ``client_exception``,
    ``client_close_code``, ``blocked``, ``blocked_line``, ``swallowed``, ``timed_out``,
    ``struck``, ``answered``, ``reaction`` and ``outline``.

    Attributes:
        sentence: all of it in plain words.
        others: the verdicts of the other clients' connections, where there are several.
    """

    sentence: str
    others: tuple[Verdict, ...] = ()


def judge(timeline: Timeline) -> Verdict:
    """Read the verdict from a timeline.

    Args:
        timeline: the events of one experiment.

    Returns:
        The verdict. Of the events after the lab's own ``stop``, only those count that show what was left behind. If
        there are several connections, it is the verdict of the one on which the fault struck, or else of the first.
    """
    main = main_of(timeline)
    if main is None:
        return _judge(timeline, None, seen=_is_seen(timeline))
    others = judge_each(timeline, without=strangers_of(timeline) - {main})
    verdict = others.pop(main)
    more = tell_of_others(timeline, others)
    sentence = f"{verdict.sentence} {more}" if more else verdict.sentence
    return replace(verdict, sentence=sentence, others=tuple(others.values()))


def judge_each(timeline: Timeline, without: Collection[int] = ()) -> dict[int, Verdict]:
    """Read a verdict for each connection, as if there were no others.

    Args:
        timeline: the events of one experiment.
        without: the numbers of connections that are not wanted.

    Returns:
        The verdicts, by the number of the connection; empty if no event names a connection.
    """
    struck = next((event for event in timeline.all(WireFault) if event.connection is not None), None)
    seen = _is_seen(timeline)
    return {
        number: _judge(part, None if part.first(WireFault) else struck, seen=seen)
        for number, part in parts_of(timeline, without).items()
    }


def _is_seen(timeline: Timeline) -> bool:
    """Whether the server is the lab's: nothing but a wire may have recorded here."""
    if timeline.first(LoopTarget) is not None:
        return False
    # A host tells at once which lines of the handler it watches.
    return timeline.last(LoopSoFar) is None or any(event.lane in {"library", "handler"} for event in timeline)


def _judge(timeline: Timeline, elsewhere: WireFault | None, *, seen: bool) -> Verdict:
    """Read the verdict from the events of one connection, and of the fault that struck another one."""
    marks = Landmarks.of(timeline, elsewhere, seen=seen)
    found = find(timeline, marks)
    return Verdict(**vars(found), sentence=tell(timeline.until_stop(), marks, found))
