"""The result of an experiment, and the forms in which it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from labkit.connections import Connections, main_of, parts_of, strangers_of
from labkit.events import LoopSoFar, LoopStop, WireFault, WireSpared
from labkit.experiment.recordings import Recording, read, write
from labkit.outcome import Outcome, outcome
from labkit.timeline import Timeline
from labkit.verdict import Verdict, judge, judge_each

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labkit.views.source import Source

__all__ = ["Connection", "Run", "load", "run_so_far"]


@dataclass(frozen=True)
class Connection:
    """One of the connections of an experiment.

    Attributes:
        number: its number, which its events have as ``connection``. Those of the clients come first.
        verdict: what its events prove.
        timeline: its events, and those that belong to no connection or to all.
        stranger: whether it is no client's of the lab, but somebody else's who connected during the experiment.
    """

    number: int
    verdict: Verdict
    timeline: Timeline = field(repr=False)
    stranger: bool = False


@dataclass(frozen=True)
class Run:
    """The result of an experiment.

    A notebook shows it as the sequence picture, with the verdict as its title; ``print`` shows the text timeline.

    Attributes:
        handler: the handler's name.
        on: the stack's name.
        fault: the fault with its knobs, such as ``"close(code=4000)"``; ``"none"`` if there was no fault.
        timeline: the events.
        clock: the clock by which they are timed: ``"real"``, or ``"autojump"``, which jumps where nothing happens.
        clock_words: what there is to say of it: how much of the time was jumped; or why the clock was the real one,
            though the other was asked for.
    """

    handler: str
    on: str
    fault: str
    timeline: Timeline = field(repr=False)
    clock: str = "real"
    clock_words: str = ""

    @cached_property
    def verdict(self) -> Verdict:
        """What the timeline proves; of several connections, of the one on which the fault struck."""
        return judge(self.timeline)

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """The connections, each with its verdict; empty if the recording is of a time when events named none."""
        verdicts, strangers = judge_each(self.timeline), strangers_of(self.timeline)
        parts = parts_of(self.timeline)
        return tuple(Connection(number, verdicts[number], parts[number], number in strangers) for number in parts)

    @cached_property
    def _main(self) -> Timeline:
        """The events of the connection of which the verdict tells; all, if there is but one."""
        number = main_of(self.timeline)
        return self.timeline if number is None else parts_of(self.timeline)[number]

    @property
    def _clock(self) -> str:
        """What a reader must know of the clock; empty if it is the real one, and nobody has asked for the other."""
        return (
            f"{self.clock}{', since ' if self.clock == 'real' else ': '}{self.clock_words}" if self.clock_words else ""
        )

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word, as in the matrix."""
        return outcome(self.verdict)

    def source(self) -> Source:
        """Show the handler's source, each line with when it first ran, or ``never ran``.

        Returns:
            An object that a notebook and ``print`` can show.
        """
        from labkit.views.source import source

        return source(self._main)

    def plot(self, **options: Any) -> Figure:
        """Draw the sequence picture.

        Args:
            options: keyword arguments of :func:`labkit.views.sequence.view.sequence`.

        Returns:
            A matplotlib figure. It does not belong to pyplot, so it need not be closed.
        """
        from labkit.views.sequence.view import sequence

        return sequence(self.timeline, self.verdict, **options)

    def text(self, **options: Any) -> str:
        """Write the timeline as text, for a terminal; ``print`` does so too.

        Args:
            options: keyword arguments of :func:`labkit.views.text.text`, such as ``width=80``.

        Returns:
            The text.
        """
        from labkit.views.text import text

        return text(self.timeline, self.verdict, **{"clock": self._clock, **options})

    def save(self, path: str | PathLike[str]) -> None:
        """Write the run as JSON, for :func:`labkit.load`.

        Args:
            path: the file; it is replaced if it exists.

        Raises:
            BadRecording: the file cannot be written.
        """
        write(Recording(self.handler, self.on, self.fault, self.timeline, self.clock, self.clock_words), path)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.views.bundle import mimebundle

        return mimebundle(self.timeline, self.verdict, self._clock, include=include, exclude=exclude)


def run_so_far(timeline: Timeline, handler: str, on: str, inside: Sequence[tuple[int, str]] = ()) -> Run:
    """Make a run of what has happened until now.

    Args:
        timeline: the timeline, to which more may be added later.
        handler: the handler's name.
        on: the stack's name.
        inside: the methods in which the handlers are now: the connection's number on the server's side, and the method.

    Returns:
        The run. If nobody has ended the experiment, its last event says that more may happen.
    """
    # Copies, since the connections get their numbers now, and there may be more of them later.
    events = [copy(event) for event in timeline]
    if not any(isinstance(event, LoopStop) for event in events):
        methods, numbers = [method for _, method in inside], [number for number, _ in inside]
        at = timeline.now() - timeline.began
        events.append(LoopSoFar(methods, numbers, text="the run so far", at=at))
    copied = Timeline.of(events)
    Connections(copied).finish()
    struck = copied.first(WireFault, WireSpared)
    fault = "none" if struck is None else struck.fault if isinstance(struck, WireSpared) else struck.text
    return Run(handler, on, fault, copied)


def load(path: str | PathLike[str]) -> Run:
    """Read a run that was saved.

    Args:
        path: a file that ``run.save`` wrote.

    Returns:
        The run, with the same events, and so with the same verdict and the same pictures.

    Raises:
        BadRecording: there is no such file, or it is not a recording.
    """
    return Run(*read(path))
