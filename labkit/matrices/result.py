"""What came of a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError, UnknownName
from labkit.experiment import Run
from labkit.faults import Fault
from labkit.outcome import Cell
from labkit.servers import Handler, name_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Matrix"]


@dataclass(frozen=True, repr=False, eq=False)
class Matrix:
    """What came of handlers, stacks and faults: ``table[handler, stack, fault]`` is the run of one cell.

    In a notebook it shows the chart, with a table for screen readers beneath it; printed, the table as text.

    Attributes:
        cells: the cells, stack by stack, handler by handler, each with its verdict or the reason why there is none.
        runs: their runs; None where there is none.
        handlers: their handlers.
    """

    cells: tuple[Cell, ...]
    runs: tuple[Run | None, ...]
    handlers: tuple[Handler, ...]

    def __getitem__(self, key: tuple[str | Handler, str, str | Fault]) -> Run:
        """Find the run of a cell.

        Args:
            key: the handler's name or the handler, the stack's name, and the fault or its name.

        Returns:
            The run.

        Raises:
            UnknownName: the table has no such handler, stack or fault.
            LabError: there is no run of this cell: it tells why.
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
        """List the cells as flat rows, as ``pandas.DataFrame`` or ``polars.DataFrame`` take them.

        Returns:
            A dictionary for each cell. A number that there is not is None, a text is ``""``. Where there is no run,
            the reason says why, and the findings are ``"unknown"``. polars guesses types by the first 100 rows; for
            more, give it ``infer_schema_length=None``.
        """
        return [_row(cell) for cell in self.cells]

    def plot(self, **options: Any) -> Figure:
        """Draw the chart.

        Args:
            options: those of :func:`labkit.views.chart.chart`, such as ``worst_first=True``.

        Returns:
            A matplotlib figure, outside pyplot: nothing is left open.
        """
        from labkit.views.chart import chart

        return chart(self.cells, **options)

    def __str__(self) -> str:
        from labkit.views.chart_words import chart_text

        return chart_text(self.cells)

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.views.bundle import matrix_bundle

        return matrix_bundle(self.cells, include=include, exclude=exclude)


def _only(cells: Iterable[Cell], what: str, name: str) -> list[Cell]:
    """Keep the cells of a name; a fault is found without its knobs too, if only one of that name is there."""
    names = {getattr(cell, what): None for cell in cells}
    if what == "fault" and name not in names:
        turned = [known for known in names if known.partition("(")[0] == name]
        name = turned[0] if len(turned) == 1 else name
    if name not in names:
        raise UnknownName(what, name, names)
    return [cell for cell in cells if getattr(cell, what) == name]


def _row(cell: Cell) -> dict[str, str | int | float | None]:
    # Text in every row, also where there is no run: a data frame may guess the type of a column by its first rows.
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
        "sentence": "unknown",
        "reason": cell.reason or "",
        "seconds": cell.seconds,
    }
    if (verdict := cell.verdict) is not None:
        row |= {name: getattr(verdict, name) for name in row if hasattr(verdict, name)}
        row |= {
            "exception": verdict.exception or "",
            "leaked": "; ".join(verdict.leaked),
            "complaints": "; ".join(verdict.complaints),
        }
    return row
