"""``labkit check``: a handler against the rules of an exercise."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from labkit.cli import options
from labkit.cli.imported import find_imported
from labkit.cli.output import dump, run, show, width
from labkit.errors import BadValue
from labkit.support.names import load_name

if TYPE_CHECKING:
    from labkit.support.autojump import ClockName

__all__ = ["check"]


@click.command(epilog="For example: labkit check unclean-exit server.py:handler --watch")
@click.argument("exercise", metavar="EXERCISE")
@options.target
@options.clock
@click.option(
    "--watch", is_flag=True, help="Check again whenever the file, or one that it imports, is saved; Ctrl+C ends it."
)
@options.as_json("the report")
def check(*, exercise: str, handler: str, clock: ClockName, watch: bool, as_json: bool) -> int:
    """Check a handler against the rules of an exercise; `labkit exercises` lists them.

    The exit status is 0 if every rule is kept, and 1 if not.
    """
    import labkit
    from labkit.exercises.hints import IN_A_SHELL
    from labkit.support.checks import find

    find("exercise", exercise, labkit.EXERCISES)  # which no change of the file would mend
    if watch:
        _watch(_file_of(handler), [exercise, handler, "--clock", clock, *["--json"] * as_json])
    report = run(labkit.check(exercise, load_name(handler), clock=clock))
    if as_json:
        rules = [
            {"name": each.rule.name, "state": each.state, "evidence": each.evidence, "where": each.where}
            for each in report.results
        ]
        dump({"exercise": exercise, "passed": report.passed, "bug": report.bug, "rules": rules})
    else:
        show(report.text(width(), IN_A_SHELL), "good" if report.passed else "bad")
    return 0 if report.passed else 1


def _file_of(handler: str) -> Path:
    """Find the file in which a handler stands, without importing it."""
    where = handler.rpartition(":")[0]
    if where.endswith(".py"):
        file = Path(where)
    else:
        sys.path.insert(0, str(Path.cwd()))
        spec = None
        with suppress(ImportError, ValueError):  # a package that is not there either
            spec = importlib.util.find_spec(where)
        file = Path(spec.origin) if spec is not None and spec.origin else Path(where or handler)
    if not file.is_file():
        raise BadValue(f"there is no file {file} to watch")
    return file.resolve()


def _watch(file: Path, arguments: list[str]) -> None:
    """Check in a new process, now and whenever the file or one that it imports is saved, until Ctrl+C."""
    from watchfiles import watch

    folders = [file.parent, Path.cwd()]
    while True:
        files = find_imported(file, folders)
        # The folders, since many editors replace a file when they save it. It yields at once, and now and then without
        # a change: so it looks on from before the check.
        changes = watch(
            *{each.parent for each in files},
            watch_filter=lambda _, path, files=files: Path(path) in files,  # type: ignore[misc] # mypy sees no default
            recursive=False,
            rust_timeout=200,
            yield_on_timeout=True,
        )
        next(changes)
        subprocess.run([sys.executable, "-m", "labkit", "check", *arguments], check=False)  # noqa: S603 - the lab itself
        own = [each for each in files if each.is_file()]
        more = f" and {len(own) - 1} that it imports" if len(own) > 1 else ""
        click.echo(f"\nWatching {file.name}{more}; Ctrl+C ends it.", err=True)
        next(filter(None, changes))
