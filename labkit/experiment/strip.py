"""The result of ``moments()``: what became of a handler at each of its moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.advice import advise
from labkit.errors import LabError, UnknownName
from labkit.events import HandlerLines
from labkit.experiment.run import Run
from labkit.faults import Cancel, Fault
from labkit.strikes import Fate, Strike, Sweep, fates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Strip", "Strips"]


@dataclass(frozen=True, repr=False, eq=False)
class Strip:
    """What became of a handler whose client went away at each of its moments.

    A notebook shows the picture; printed, a strip is text. ``strip[7]`` is the run in which the fault struck at the
    seventh suspension, ``strip["frame 2"]`` the one in which it struck between the second frame and the third,
    ``strip["through"]`` the one in which it struck at the end of the conversation.

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
        return advise(self.strikes, cancelled=self.fault == Cancel.name, source=self.source)

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
            moment: the number of the suspension, from 1; or the moment's name, such as ``"await 7"``, ``"frame 2"`` or
                ``"through"``.

        Returns:
            The run.

        Raises:
            UnknownName: the strip has no such moment.
            LabError: the moment has no run; the message says why.
        """
        names: dict[int | str, int] = {strike.name: n for n, strike in enumerate(self.strikes)}
        names |= {strike.number: n for n, strike in enumerate(self.strikes) if strike.number}
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
        return f"{self.fault} at each moment of {self.handler} on {self.on}"

    def text(self, **options: Any) -> str:
        """Write the strip as text, for a terminal; ``print`` does so too.

        Args:
            options: keyword arguments of :func:`labkit.views.strip.words.strip_text`, such as ``width=80``.

        Returns:
            The text.
        """
        from labkit.views.strip.words import strip_text

        return strip_text(self.strikes, self._title, (*self.findings, *self.notices), **options)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.views.bundle import strip_bundle

        told = (*self.findings, *self.notices)
        return strip_bundle(self.strikes, *self.source, self._title, told, include=include, exclude=exclude)


@dataclass(frozen=True, repr=False, eq=False)
class Strips:
    """The strips of several faults and stacks, side by side: ``strips["reset", "aiohttp"]`` is the strip of one pair.

    A notebook shows the picture, and below it a table; printed, it is text.

    Attributes:
        strips: the strip of each pair, stack by stack.
    """

    strips: tuple[Strip, ...]

    def __len__(self) -> int:
        """Return the number of strips."""
        return len(self.strips)

    def __iter__(self) -> Iterator[Strip]:
        """Go through the strips."""
        return iter(self.strips)

    def __getitem__(self, pair: tuple[str | Fault, str]) -> Strip:
        """Find the strip of a pair.

        Args:
            pair: the fault or its name, and the stack's name. The name without knobs is enough where one has it.

        Returns:
            The strip.

        Raises:
            UnknownName: there is no such fault, or stack.
            LabError: it is not a pair.
        """
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise LabError(f"a strip has two names: strips[fault, stack]; this is {pair!r}")
        fault, on = str(pair[0]), str(pair[1])
        here = {strip.fault: strip for strip in self.strips if strip.on == on}
        if not here:
            raise UnknownName("stack", on, dict.fromkeys(strip.on for strip in self.strips))
        with_knobs = [name for name in here if name.partition("(")[0] == fault]
        if fault not in here and len(with_knobs) == 1:
            [fault] = with_knobs
        if fault not in here:
            raise UnknownName("fault", fault, here)
        return here[fault]

    def rows(self) -> list[dict[str, Any]]:
        """List the moments of all strips as flat rows, for ``pandas.DataFrame`` or ``polars.DataFrame``."""
        return [{"fault": strip.fault, "stack": strip.on, **row} for strip in self.strips for row in strip.rows()]

    def plot(self, **options: Any) -> Figure:
        """Draw the picture.

        Args:
            options: options of :func:`labkit.views.strip.several_view.strips`, such as ``theme="dark"``.

        Returns:
            A matplotlib figure, independent of pyplot.
        """
        from labkit.views.strip.several_view import strips

        return strips(self._sweeps, **{"title": self._title, **options})

    @property
    def _sweeps(self) -> tuple[Sweep, ...]:
        return tuple(Sweep(strip.fault, strip.on, strip.strikes) for strip in self.strips)

    @property
    def _title(self) -> str:
        faults, stacks = ({getattr(strip, name): None for strip in self.strips} for name in ("fault", "on"))
        [*handlers] = dict.fromkeys(strip.handler for strip in self.strips)
        many = [
            next(iter(names)) if len(names) == 1 else f"{len(names)} {what}"
            for names, what in ((faults, "faults"), (stacks, "stacks"))
        ]
        return f"{many[0]} at each moment of {' and '.join(handlers)} on {many[1]}"

    @property
    def _told(self) -> tuple[str, ...]:
        """What there is to say of them, each sentence once, with the strips that it is said of."""
        found: dict[str, list[str]] = {}
        for strip in self.strips:
            for sentence in (*strip.findings, *strip.notices):
                found.setdefault(sentence, []).append(f"{strip.fault} on {strip.on}")
        return tuple(f"{', '.join(whose)}: {sentence}" for sentence, whose in found.items())

    def text(self, **options: Any) -> str:
        """Write the strips as text, for a terminal; ``print`` does so too.

        Args:
            options: keyword arguments of :func:`labkit.views.strip.several.strips_text`, such as ``width=80``.

        Returns:
            The text.
        """
        from labkit.views.strip.several import strips_text

        return strips_text(self._sweeps, self._title, self._told, **options)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.views.bundle import strips_bundle

        return strips_bundle(self._sweeps, self._title, self._told, include=include, exclude=exclude)
