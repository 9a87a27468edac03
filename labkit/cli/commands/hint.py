"""``labkit hint``: help with an exercise, a little at a time."""

from __future__ import annotations

import rich_click as click

from labkit.cli.output import show, width

__all__ = ["hint"]


@click.command()
@click.argument("exercise", metavar="EXERCISE")
@click.option("--number", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Which hint.")
def hint(*, exercise: str, number: int) -> None:
    """Show a hint of an exercise. The first is small; the last is nearly the solution."""
    import labkit
    from labkit.support.checks import find
    from labkit.support.wrapping import wrap

    hints = find("exercise", exercise, labkit.EXERCISES).hints
    number = min(number, len(hints))
    then = f"labkit hint {exercise} --number {number + 1}" if number < len(hints) else f"labkit solution {exercise}"
    lines = [f"Hint {number} of {len(hints)}", "", *wrap(hints[number - 1], width()), "", f"Next: {then}"]
    show("\n".join(lines))
