"""What a learner expects, written down before the run, and put beside what came."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from labkit.checks import find
from labkit.exercises.story import Story
from labkit.experiment import Run
from labkit.timeline import Event
from labkit.views.table import Table, table

__all__ = ["EVENTS", "Prediction", "predict"]

#: The events that can be predicted, by lane. A word of more than one lane means the first that has it; the other is
#: named with its lane, as in ``"wire closed"``.
EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "handler": ("start", "recv", "send", "close", "notice", "cancelled", "print", "log", "note", "end"),
    "cleanup": ("open", "closing", "closed", "truncated"),
    "wire": ("link", "handshake", "frame", "fault", "fin", "reset", "lost", "closed"),
    "client": (
        "connect", "open", "refused", "send", "recv", "close-sent", "close-received", "ended", "signal", "exit",
    ),
    "loop": ("exception", "shutdown", "blocked", "unblocked"),
}  # fmt: skip


#: The lanes whose events tell the story to someone who predicted nothing.
_TOLD: Final = ("handler", "cleanup")


def _names() -> dict[str, tuple[str, str]]:
    names = {f"{lane} {kind}": (lane, kind) for lane, kinds in EVENTS.items() for kind in kinds}
    for lane, kinds in EVENTS.items():
        for kind in kinds:
            names.setdefault(kind, (lane, kind))
    return names


_NAMES: Final = _names()


@dataclass(frozen=True)
class Prediction:
    """What a learner expects.

    Attributes:
        events: the names, in the order in which they are to happen; empty, if the learner skips it.
    """

    events: tuple[str, ...]

    def compare(self, run: Run) -> Table:
        """Put the prediction beside what happened.

        Args:
            run: the run that was predicted.

        Returns:
            A table that shows itself: the two orders side by side; of a prediction that was skipped, what happened.
        """
        story, seen = Story(run), Counter[str]()
        if not self.events:
            return _what_happened(story)
        came: dict[int, Event] = {}
        for place, name in enumerate(self.events):
            lane, kind = _NAMES[name]
            found = list(story.all(lane, kind))
            # A name that is written down twice means the first such event, and the second.
            if seen[name] < len(found):
                came[place] = found[seen[name]]
            seen[name] += 1
        order = sorted(came, key=lambda place: came[place].at)
        order += [place for place in range(len(self.events)) if place not in came]
        rows = []
        for number, place in enumerate(order):
            event = came.get(place)
            what = (
                f"{self.events[place]}, at {story.at(event)}" if event else f"{self.events[place]}: it did not happen"
            )
            good = event is not None and self.events[number] == self.events[place]
            rows.append((number + 1, self.events[number], what, "✓ as you said" if good else "✗ otherwise"))
        return table(("", "you expected", "what happened", ""), *rows, caption=f"Your prediction, and {run.fault}")

    def __str__(self) -> str:
        if not self.events:
            return "Nothing is written down. After the run: prediction.compare(run)"
        return f"You expect: {' → '.join(self.events)}. After the run: prediction.compare(run)"

    def __repr__(self) -> str:
        return str(self)


def _what_happened(story: Story) -> Table:
    """List what could have been predicted, from the fault on: the fault itself, the handler, and its cleanup."""
    began = story.fault.at if story.fault else 0.0
    told = [
        event
        for event in story.events
        if event.at >= began and (event.lane in _TOLD or event is story.fault) and event.kind in EVENTS[event.lane]
    ]
    rows = [(number, event.kind, f"at {story.at(event)}: {event.text}") for number, event in enumerate(told, 1)]
    return table(("", "event", "what happened"), *rows, caption=f"Not predicted: {story.run.fault}")


def predict(*events: str) -> Prediction:
    """Write down what you expect, before you run it.

    Args:
        events: names of events in the order that you expect, such as ``"fault", "notice", "closed"``; a lane before
            it says which one, as in ``"client recv"``. None at all skips the prediction.

    Returns:
        The prediction; ``prediction.compare(run)`` puts it beside the run.

    Raises:
        UnknownName: there is no such event.
    """
    for name in events:
        find("event", name, _NAMES)
    return Prediction(events)
