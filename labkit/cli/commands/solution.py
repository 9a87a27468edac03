"""``labkit solution``: a handler that keeps every rule of an exercise."""

from __future__ import annotations

import rich_click as click

__all__ = ["solution"]


@click.command()
@click.argument("exercise", metavar="EXERCISE")
def solution(*, exercise: str) -> None:
    """Show a handler that keeps every rule of an exercise. Other solutions may be right too."""
    import labkit

    click.echo(str(labkit.solution(exercise)))
