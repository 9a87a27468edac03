"""The result of a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError, UnknownName
from labkit.experiment.run import Run
from labkit.faults import Fault
from labkit.faults.fault import registry
from labkit.outcome import Cell, badness, lines_of
from labkit.watch.handler import Handler, name_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Matrix"]


@dataclass(frozen=True, repr=False, eq=False)
class Matrix:
    """The results of handlers on stacks against faults: ``table[handler, stack, fault]`` is the run of one cell.

    A notebook displays the chart, and below it a table for screen readers. Printed, a matrix is text.

    Attributes:
        cells: the cells, stack by stack and handler by handler. Each has a verdict, or the reason why it has none.
        runs: the run of each cell; None if it has none.
        handlers: the handler of each cell; None if only its name is known.
    """

    cells: tuple[Cell, ...]
    runs: tuple[Run | None, ...]
    handlers: tuple[Handler | None, ...]

    @classmethod
    def of(cls, runs: Mapping[str, Iterable[Run]]) -> Matrix:
        """Make a matrix from runs that were played one by one.

        Args:
            runs: the runs of each handler, by the handler's name in the matrix. Of several on one stack against one
                fault, as a check plays them, the worst has the cell.

        Returns:
            The matrix; ``+`` adds it to another one.
        """
        found: dict[tuple[str, str, str], tuple[Cell, Run]] = {}
        for name in runs:
            for run in runs[name]:
                cell = Cell(name, run.on, _family(run), run.fault, run.verdict)
                before, _ = found.setdefault((name, run.on, run.fault), (cell, run))
                if badness(cell.outcome) > badness(before.outcome):
                    found[name, run.on, run.fault] = (cell, run)
        worst = found.values()
        return cls(tuple(cell for cell, _ in worst), tuple(run for _, run in worst), (None,) * len(worst))

    def __add__(self, other: Matrix) -> Matrix:
        """Return a matrix with the cells of this one, and then the cells of the other."""
        return Matrix(self.cells + other.cells, self.runs + other.runs, self.handlers + other.handlers)

    def __getitem__(self, key: tuple[str | Handler, str, str | Fault]) -> Run:
        """Find the run of a cell.

        Args:
            key: the handler's name or the handler, the stack's name, and the fault or its name.

        Returns:
            The run.

        Raises:
            UnknownName: the table has no such handler, stack or fault.
            LabError: this cell has no run; the message says why.
        """
        if not isinstance(key, tuple) or len(key) != 3:
            raise LabError(f"a cell has three names: table[handler, stack, fault]; this is {key!r}")
        handler, stack, fault = key
        cells = _only(self.cells, "handler", self._name(handler, stack))
        cells = _only(cells, "stack", stack)
        [cell] = _only(cells, "fault", fault if isinstance(fault, str) else str(fault))
        run = self.runs[self.cells.index(cell)]
        if run is None:
            raise LabError(f"{cell.handler} on {cell.stack} against {cell.fault} has no run: {cell.reason}")
        return run

    def _name(self, handler: str | Handler, stack: str) -> str:
        if not callable(handler):
            return handler
        names = [
            cell.handler
            for cell, function in zip(self.cells, self.handlers, strict=True)
            if function is handler and cell.stack == stack
        ]
        return names[0] if names else name_of(handler)

    def rows(self) -> list[dict[str, str | int | float | None]]:
        """List the cells as flat rows, for ``pandas.DataFrame`` or ``polars.DataFrame``.

        Returns:
            A dictionary for each cell. A missing number is None, and a missing text is ``""``. If a cell has no run,
            ``reason`` says why, and the findings are ``"unknown"``. polars infers the types from the first 100 rows;
            if there are more, pass ``infer_schema_length=None`` to it.
        """
        return [_row(cell, run) for cell, run in zip(self.cells, self.runs, strict=True)]

    def plot(self, **options: Any) -> Figure:
        """Draw the chart.

        Args:
            options: options of :func:`labkit.views.chart.view.chart`, such as ``worst_first=True``.

        Returns:
            A matplotlib figure, independent of pyplot, so it needs no closing.
        """
        from labkit.views.chart.view import chart

        return chart(self.cells, **options)

    def text(self, **options: Any) -> str:
        """Write the chart as text, for a terminal; ``print`` does so too.

        Args:
            options: keyword arguments of :func:`labkit.views.chart.words.chart_text`, such as ``width=80``.

        Returns:
            The text.
        """
        from labkit.views.chart.words import chart_text

        return chart_text(self.cells, **options)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.views.bundle import matrix_bundle

        return matrix_bundle(self.cells, include=include, exclude=exclude)


def _family(run: Run) -> str:
    """The family of a run's fault; empty if there was no fault, or one that is not registered here."""
    fault = registry.get(run.fault.partition("(")[0])
    return "" if fault is None else fault.family


def _only(cells: Iterable[Cell], what: str, name: str) -> list[Cell]:
    """Keep the cells with a name. For a fault, the name without knobs is enough if only one fault has that name."""
    names = {getattr(cell, what): None for cell in cells}
    if what == "fault" and name not in names:
        with_knobs = [known for known in names if known.partition("(")[0] == name]
        name = with_knobs[0] if len(with_knobs) == 1 else name
    if name not in names:
        raise UnknownName(what, name, names)
    return [cell for cell in cells if getattr(cell, what) == name]


def _row(cell: Cell, run: Run | None) -> dict[str, str | int | float | None]:
    # Each column has one type in all rows, because a data frame may infer the type from the first rows.
    row: dict[str, str | int | float | None] = {
        "handler": cell.handler,
        "stack": cell.stack,
        "family": cell.family,
        "fault": cell.fault,
        "outcome": cell.outcome,
        "ending": "unknown",
        "exception": "unknown",
        "close_code": None,
        "noticed": "unknown",
        "noticed_after": None,
        "cleanup": "unknown",
        "leaked": "unknown",
        "complaints": "unknown",
        "swallowed": "unknown",
        "sentence": "unknown",
        "reason": cell.reason or "",
        "seconds": cell.seconds,
        "clock": "unknown" if run is None else run.clock,
    }
    if (verdict := cell.verdict) is not None:
        row |= {name: getattr(verdict, name) for name in row if hasattr(verdict, name)}
        row |= {
            "exception": verdict.exception or "",
            "swallowed": lines_of(verdict.swallowed),
            **{
                name: "; ".join(found)
                for name in ("leaked", "complaints")
                if (found := getattr(verdict, name)) is not None
            },
        }
    return row
