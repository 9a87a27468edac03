"""``moments()``: the same fault at each ``await`` of a handler, one run each."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from labkit.advice import advise
from labkit.errors import BadValue, LabError, UnknownName
from labkit.events import HandlerLines, HandlerNote, WireFault
from labkit.experiment.clocks import one_autojump_loop
from labkit.experiment.play import play
from labkit.experiment.run import Run
from labkit.experiment.target import find_here
from labkit.experiment.token import make_token
from labkit.experiment.when import THROUGH, Await, When
from labkit.faults import Cancel, Fault
from labkit.faults.fault import find_fault
from labkit.strikes import Fate, Strike, fates
from labkit.support.checks import is_whole
from labkit.support.loop import until_all_done
from labkit.support.progress_bar import bar
from labkit.support.wording import describe_exception

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Strip", "moments"]

#: How many runs are played at the same time.
_AT_ONCE: Final = 20

#: What a user's invariant may return.
Holds = Callable[[Run], bool | Awaitable[bool]]


@dataclass(frozen=True, repr=False, eq=False)
class Strip:
    """What became of a handler whose client went away at each of its moments.

    A notebook shows the picture; printed, a strip is text. ``strip[7]`` is the run in which the fault struck at the
    seventh suspension, ``strip["through"]`` the one in which it struck at the end of the conversation.

    Attributes:
        handler: the handler's name.
        on: the stack's name.
        fault: the fault with its knobs.
        strikes: the moments, in order, the last when the conversation was through; each with what came of it.
        runs: the run of each moment; None if it has none.
        notices: what the strip leaves out or cannot vouch for, a sentence each.
    """

    handler: str
    on: str
    fault: str
    strikes: tuple[Strike, ...]
    runs: tuple[Run | None, ...]
    notices: tuple[str, ...] = ()

    @property
    def outcomes(self) -> tuple[Fate, ...]:
        """What can become of the handler, the worst first, each with its moments and lines."""
        return fates(self.strikes)

    @property
    def findings(self) -> tuple[str, ...]:
        """What to mend in the handler, a sentence each: with its line, its moments, and what mends it.

        Every fault may show a line that swallows a cancel. ``labkit.Cancel`` also shows a handler that does not end, an
        ``asyncio.timeout`` around it that does not fire, and what it leaves open or behind.
        """
        return advise(self.strikes, cancelled=self.fault == Cancel.name)

    @property
    def source(self) -> tuple[int, str]:
        """The number of the handler's first line, and its source; empty if the source is not at hand."""
        for run in filter(None, self.runs):
            account = run.timeline.last(HandlerLines)
            if account is not None and account.source is not None:
                return account.first, account.source
        return 1, ""

    def __len__(self) -> int:
        """Return the number of moments."""
        return len(self.strikes)

    def __getitem__(self, moment: int | str) -> Run:
        """Find the run of a moment.

        Args:
            moment: the number of the suspension, from 1; or ``"through"``.

        Returns:
            The run.

        Raises:
            UnknownName: the strip has no such moment.
            LabError: the moment has no run; the message says why.
        """
        names = {strike.number or THROUGH: n for n, strike in enumerate(self.strikes)}
        if moment not in names:
            raise UnknownName("moment", str(moment), map(str, names))
        run = self.runs[names[moment]]
        if run is None:
            raise LabError(f"moment {moment} has no run: {self.strikes[names[moment]].reason}")
        return run

    def rows(self) -> list[dict[str, Any]]:
        """List the moments as flat rows, for ``pandas.DataFrame`` or ``polars.DataFrame``."""
        return [strike.row() for strike in self.strikes]

    def plot(self, **options: Any) -> Figure:
        """Draw the picture.

        Args:
            options: options of :func:`labkit.views.strip.view.strip`, such as ``theme="dark"``.

        Returns:
            A matplotlib figure, independent of pyplot.
        """
        from labkit.views.strip.view import strip

        return strip(self.strikes, *self.source, **{"title": self._title, **options})

    @property
    def _title(self) -> str:
        return f"{self.fault} at each await of {self.handler} on {self.on}"

    def __str__(self) -> str:
        from labkit.views.strip.words import strip_text

        return strip_text(self.strikes, self._title, (*self.findings, *self.notices))

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.views.bundle import strip_bundle

        told = (*self.findings, *self.notices)
        return strip_bundle(self.strikes, *self.source, self._title, told, include=include, exclude=exclude)


async def moments(
    target: Any,
    on: str = "aiohttp",
    fault: str | Fault = "reset",
    *,
    holds: Holds | None = None,
    at_most: int = 100,
    progress: bool | None = None,
    **play_options: Any,
) -> Strip:
    """Let the same fault strike at each moment of a handler, once each.

    First the conversation is played to its end, to learn how many times the handler suspends. Then, for each of these
    suspensions, it is played again, and the fault strikes there: ``play(..., when=labkit.Await(n))``. The moment is a
    cause and not a time, so the same moment gives the same run.

    Args:
        target: a handler, an application, or the name of one, as for :func:`labkit.play`.
        on: the stack's name, one of ``labkit.STACKS``.
        fault: a fault, or a name in ``labkit.FAULTS``.
        holds: your own invariant: called with each run, and perhaps a coroutine function that looks into your database.
            Where it returns False, the moment is ``broken``, which is worse than anything else.
        at_most: the highest number of moments. If there are more, an even sample is played, and the strip says so.
        progress: whether to show a progress bar on stderr; if None, only in a terminal and in a notebook.
        play_options: options of :func:`labkit.play` for every run, such as ``messages`` or ``talk``.

    Returns:
        The strip; it displays itself in a notebook and in print. An interrupt gives what is done by then.

    Raises:
        BadValue: a value is wrong, or the fault has no moment that can be chosen.
        LabError: as for ``labkit.play``.
    """
    chosen = find_fault(fault)
    if chosen.moment == "handshake":
        raise BadValue(f"{chosen} strikes in the opening handshake, so there is one moment, and labkit.play plays it")
    if "when" in play_options:
        raise BadValue("when= is what moments() goes through; leave it out, or use labkit.play")
    if not is_whole(at_most) or at_most < 1:
        raise BadValue(f"at_most={at_most!r}; it takes a whole number from 1")
    if holds is not None and not callable(holds):
        raise BadValue(f"holds={holds!r}; it takes a function of the run, which returns whether the invariant holds")

    def token(when: When) -> str:
        return make_token(named, on, chosen, when, **play_options)

    named, target = target, find_here(target, "the lab does not see the moments of its handlers")
    async with one_autojump_loop(play_options.get("clock")):
        last = await play(target, on, chosen, **play_options)
        again = await play(target, on, chosen, **play_options)
        count, notices = _count(last, again)
        numbers = _sample(count, at_most)
        if len(numbers) < count:
            notices.append(f"The handler suspends {count:,} times; this is an even sample of {len(numbers):,}.")
        limit = asyncio.Semaphore(_AT_ONCE)
        with bar(len(numbers), shown=progress) as steps:

            async def strike_at(number: int) -> tuple[Strike, Run | None]:
                try:
                    async with limit:
                        run = await play(target, on, chosen, when=Await(number), **play_options)
                        return await _judge(number, run, holds, token(Await(number))), run
                except Exception as problem:
                    return Strike(number, reason=describe_exception(problem)), None
                finally:
                    steps.update(1)

            found = await until_all_done([asyncio.create_task(strike_at(number)) for number in numbers])
    found_last = await _judge(0, last, holds, token(THROUGH))
    played = [each or (Strike(number, reason="interrupted"), None) for number, each in zip(numbers, found, strict=True)]
    missed = [strike.number for strike, run in played if run is not None and run.verdict.struck is False]
    if missed:
        which = ", ".join(map(str, missed[:5])) + ("…" if len(missed) > 5 else "")
        notices.append(f"The handler did not come to await {which} again: it is not the same each time.")
    strikes = (*(strike for strike, _ in played), found_last)
    notices += dict.fromkeys(f"{strike.reason}." for strike in strikes if strike.reason and strike.verdict is not None)
    return Strip(last.handler, on, str(chosen), strikes, (*(run for _, run in played), last), tuple(notices))


def _count(*scouts: Run) -> tuple[int, list[str]]:
    """How many times the handler had suspended when the conversation was through; and what is to be said of that."""
    counts = [fault.waits or 0 for run in scouts for fault in run.timeline.all(WireFault)[:1]]
    if not counts:
        return 0, ["The fault did not strike when the conversation was to be through."]
    notices = []
    if len(set(counts)) > 1:
        words = " and ".join(map(str, counts))
        notices.append(f"The handler is not the same each time: it suspended {words} times.")
    if not max(counts):
        notices.append("The handler never suspends in the conversation, so there is no moment to choose.")
    return max(counts), notices


def _sample(count: int, at_most: int) -> list[int]:
    """The numbers from 1 to the count; or an even sample of them, with the first and the last."""
    if count <= at_most:
        return list(range(1, count + 1))
    return sorted({1 + round(n * (count - 1) / max(1, at_most - 1)) for n in range(at_most)})


async def _judge(number: int, run: Run, holds: Holds | None, token: str) -> Strike:
    """Tell what came of the fault at a moment."""
    fault = run.timeline.first(WireFault)
    notes = run.timeline.until_stop().all(HandlerNote)
    before = [note.text for note in notes if fault is not None and note.at <= fault.at]
    strike = Strike(
        number,
        line=None if fault is None else fault.line,
        done=tuple(before),
        notes=tuple(note.text for note in notes),
        verdict=run.verdict,
        token=token,
    )
    if holds is None:
        return strike
    try:
        held = holds(run)
        if inspect.isawaitable(held):
            held = await held
    except Exception as problem:
        return replace(strike, holds=None, reason=f"holds() raised {describe_exception(problem)}")
    return replace(strike, holds=bool(held))
