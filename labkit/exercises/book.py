"""What is done, in a small file of the user's."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.exercises.hints import forget_hints
from labkit.exercises.shelf import EXERCISES
from labkit.views.mime import chosen
from labkit.views.table import Table, table

__all__ = ["Progress", "alone", "mark_done", "path_of_progress", "progress"]


@dataclass(frozen=True)
class Progress:
    """What is done; it shows itself in a notebook and in print.

    Attributes:
        done: the day of the first success, by the exercise's name.
        notice: a sentence on what is wrong with the file; empty, if nothing is.
    """

    done: dict[str, str]
    notice: str = ""

    @property
    def left(self) -> tuple[str, ...]:
        """The exercises that are not done yet, in order."""
        return tuple(name for name in EXERCISES if name not in self.done)

    def _table(self) -> Table:
        rows = [
            (exercise.name, exercise.notebook, f"✓ {self.done[name]}" if name in self.done else "-", exercise.title)
            for name, exercise in EXERCISES.items()
        ]
        count = len(EXERCISES) - len(self.left)
        return table(("exercise", "notebook", "done", ""), *rows, caption=f"{count} of {len(EXERCISES)} exercises done")

    def __str__(self) -> str:
        return "\n\n".join(filter(None, [self.notice, str(self._table())]))

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        rows = table(("note",), (self.notice,))._repr_mimebundle_()["text/html"] if self.notice else ""
        bundle = {"text/plain": str(self), "text/html": rows + self._table()._repr_mimebundle_()["text/html"]}
        return {kind: bundle[kind] for kind in chosen(tuple(bundle), include, exclude)}


def progress(*, reset: bool = False) -> Progress:
    """Tell which exercises are done. It is kept in a file, in ``LABKIT_HOME`` or the user's own folder for data.

    Args:
        reset: begin anew; the file so far is kept beside the new one.

    Returns:
        What is done. A file that cannot be read is kept aside, and a sentence says so.
    """
    if not reset:
        return _read()
    forget_hints()
    return Progress({}, _keep_aside("was put aside") if path_of_progress().exists() else "")


def mark_done(name: str) -> str:
    """Note that an exercise is done.

    Args:
        name: its name.

    Returns:
        What is wrong with the file, in a sentence; empty, if nothing is.
    """
    path = path_of_progress()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name("progress.lock")):
            book = _read()
            if name not in book.done:
                beside = path.with_name(f"{path.name}.{os.getpid()}.new")
                text = json.dumps({"done": {**book.done, name: time.strftime("%Y-%m-%d")}}, indent=2)
                beside.write_text(text, "utf-8")
                beside.replace(path)  # at once: no reader meets half a file
    except OSError as error:
        return f"Your progress cannot be noted in {path}: {error.strerror or error}."
    return book.notice


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Keep other processes from writing meanwhile: each would write down only what it has read.

    Args:
        lock: a file that stands for the right to write.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with lock.open("w") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def path_of_progress() -> Path:
    """Tell where the progress is kept.

    Returns:
        ``progress.json`` in ``LABKIT_HOME``, or where this system keeps a user's data.
    """
    if home := os.environ.get("LABKIT_HOME"):
        return Path(home).expanduser() / "progress.json"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "labkit" / "progress.json"


def _read() -> Progress:
    path = path_of_progress()
    try:
        content: Any = json.loads(path.read_text("utf-8"))
        done = content["done"]
        if not isinstance(done, dict) or not all(isinstance(day, str) for day in done.values()):
            raise TypeError("done")
    except FileNotFoundError:
        return Progress({})
    except OSError as error:
        return Progress({}, f"Your progress in {path} cannot be read: {error.strerror or error}.")
    except (ValueError, LookupError, TypeError, RecursionError):
        return Progress({}, _keep_aside("is damaged, and was put aside"))
    return Progress(done)


def _keep_aside(why: str) -> str:
    """Rename the file, over nothing that is there, and say so."""
    path = path_of_progress()
    number = 1
    while (aside := path.with_name(f"progress-{number}.old.json")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        return f"{path} {why.partition(',')[0]}, and cannot be moved: {error.strerror or error}."
    return f"The file of your progress {why}: it is {aside} now."
