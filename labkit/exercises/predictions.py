"""Predictions: a learner writes down the expected events before a run, and compares them with the run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter
from typing import Final

from labkit.errors import BadValue
from labkit.events import KINDS, Event, WireFault
from labkit.exercises.summary import Summary
from labkit.experiment.run import Run
from labkit.support.checks import find
from labkit.views.sequence.folding import fold
from labkit.views.table import Table, table

__all__ = ["EVENTS", "Prediction", "predict"]

#: The events that can be predicted, by lane. A name that several lanes have means the first of these lanes; a name with
#: its lane, such as ``"wire closed"``, means any of them.
EVENTS: Final[dict[str, tuple[str, ...]]] = {
    lane: names
    for lane in ("handler", "cleanup", "wire", "client", "library", "loop")
    if (
        names := tuple(kind.about.name for kind in KINDS.values() if kind.about.lane == lane and kind.about.predictable)
    )
}


#: The highest number of rows in a table of what happened.
_ROWS: Final = 60

#: The lanes whose events are shown whatever was expected.
_LANES: Final = ("handler", "cleanup")


def _names() -> dict[str, type[Event]]:
    kinds = [KINDS[lane, name] for lane, names in EVENTS.items() for name in names]
    names = {f"{kind.about.lane} {kind.about.name}": kind for kind in kinds}
    for kind in kinds:
        names.setdefault(kind.about.name, kind)
    return names


_NAMES: Final = _names()


@dataclass(frozen=True)
class Prediction:
    """The events that a learner expects.

    Attributes:
        events: the names of the events, in the expected order; empty if the learner skips the prediction.
    """

    events: tuple[str, ...]

    def compare(self, run: Run) -> Table:
        """Compare the prediction with a run.

        Args:
            run: the run that was predicted.

        Returns:
            A table that displays itself. It has the events in their real order, each beside what was expected: as you
            said, at another place, or not foreseen; and what was expected and did not happen. If the prediction was
            skipped, the table lists what happened.

        Raises:
            BadValue: it is not a run.
        """
        if not isinstance(run, Run):
            raise BadValue(f"compare() takes a run, such as `await labkit.play(...)` gives; this is {run!r}")
        summary = Summary(run)
        if not self.events:
            return _what_happened(summary)
        events = list(summary.events)
        found = self._find(events)
        right = set(_longest_in_order([(n, index) for n, index in enumerate(found) if index is not None]))
        lanes = {_NAMES[name].about.lane for name in self.events if _NAMES[name] is not WireFault}
        rows: list[tuple[float, tuple[str, str, str]]] = []
        place = -1.0
        for n, (name, index) in enumerate(zip(self.events, found, strict=True)):
            if index is None:
                rows.append((place + 0.5, (name, "it did not happen", "✗ otherwise")))
                continue
            place = index
            how = "✓ as you said" if n in right else "✗ at another place"
            rows.append((index, (name, f"{name}, at {summary.at(events[index])}", how)))
        for i, hidden in _shown(events, summary, lanes).items():
            if hidden:
                rows.append((i - 0.25, ("", _more(hidden), "⋯")))
            if i not in found:
                what = f"{events[i].kind}, at {summary.at(events[i])}: {events[i].text}"
                rows.append((i, ("", what, "· not foreseen")))
        numbered = [(number, *row) for number, (_, row) in enumerate(sorted(rows, key=itemgetter(0)), 1)]
        caption = f"Your prediction, and {run.fault}: {len(right)} of {len(self.events)} as you said"
        return table(("", "you expected", "what happened", ""), *numbered, caption=caption)

    def _find(self, events: Sequence[Event]) -> list[int | None]:
        """Find each expected event; a name that appears twice means the first such event, and then the second one."""
        places = {name: [i for i, e in enumerate(events) if isinstance(e, _NAMES[name])] for name in set(self.events)}
        return [places[name].pop(0) if places[name] else None for name in self.events]

    def __str__(self) -> str:
        if not self.events:
            return "Nothing is written down: the comparison will only say what happened."
        return f"You expect: {' → '.join(self.events)}."

    def __repr__(self) -> str:
        return str(self)


def _longest_in_order(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Find the largest part of the expected events that happened in the expected order.

    Args:
        pairs: for each expected event its place in the prediction, and its place in the run.

    Returns:
        The places in the prediction.
    """
    best: list[list[int]] = []
    for k, (n, index) in enumerate(pairs):
        before = (best[j] for j in range(k) if pairs[j][1] < index)
        best.append([*max(before, key=len, default=[]), n])
    return max(best, key=len, default=[])


def _shown(events: Sequence[Event], summary: Summary, lanes: Collection[str]) -> dict[int, int]:
    """Choose the events that a table shows beside those that were expected: from the fault on, on some lanes.

    Returns:
        The places of the events; for each, how many are left out just before it.
    """
    began = summary.fault.at if summary.fault else 0.0
    candidates = [
        i
        for i, event in enumerate(events)
        if event.at >= began and event.about.predictable and (event.lane in {*_LANES, *lanes} or event is summary.fault)
    ]
    kept = fold(events, candidates, _ROWS, None)
    places = [-1, *(candidates.index(i) for i in kept)]
    return {i: place - before - 1 for i, (before, place) in zip(kept, pairwise(places), strict=True)}


def _more(hidden: int) -> str:
    return f"+{hidden} more event{'s' * (hidden > 1)}"


def _what_happened(summary: Summary) -> Table:
    """List the predictable events from the fault on."""
    events = list(summary.events)
    rows: list[tuple[object, str, str]] = []
    number = 0
    for i, hidden in _shown(events, summary, EVENTS).items():
        if hidden:
            rows.append(("⋯", "", _more(hidden)))
        number += hidden + 1
        rows.append((number, f"{events[i].lane} {events[i].kind}", f"at {summary.at(events[i])}: {events[i].text}"))
    since = ", from the fault on" if summary.fault else ""
    caption = f"Not predicted. What happened{since}: {number} event{'s' * (number != 1)}"
    # Folded: the run's picture, just above, has the same events.
    return replace(table(("", "event", "what happened"), *rows, caption=caption), folded=True)


def predict(*events: str) -> Prediction:
    """Write down the events that you expect, before a run.

    Args:
        events: the names of the events in the order that you expect, such as ``"fault", "notice", "closed"``. If two
            lanes have an event of that name, put the lane before it, as in ``"client recv"``. Without any names, the
            prediction is skipped.

    Returns:
        The prediction; ``prediction.compare(run)`` compares it with the run.

    Raises:
        UnknownName: there is no such event.
    """
    for name in events:
        find("event", name, _NAMES)
    return Prediction(events)
