"""``labkit exercises``: what there is to do."""

from __future__ import annotations

import rich_click as click

from labkit.cli import options
from labkit.cli.output import dump, show, width

__all__ = ["exercises"]


@click.command()
@click.argument("name", required=False)
@options.as_json("the exercises, or the one NAME,")
def exercises(*, name: str | None, as_json: bool) -> None:
    """List the exercises and which of them are done; or show the goal, the rules and the starter of the one NAME."""
    import labkit
    from labkit.support.checks import find

    chosen = list(labkit.EXERCISES.values()) if name is None else [find("exercise", name, labkit.EXERCISES)]
    if as_json:
        done = labkit.progress().done
        rows = [
            {
                "name": each.name,
                "notebook": each.notebook,
                "title": each.title,
                "goal": each.goal,
                "rules": {rule.name: rule.says for rule in each.rules},
                "done": done.get(each.name),
            }
            for each in chosen
        ]
        dump(rows if name is None else rows[0])
    else:
        show((labkit.progress() if name is None else chosen[0]).text(width()))
