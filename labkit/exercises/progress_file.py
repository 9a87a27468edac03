"""The learner's progress, in a small file of the user."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import platformdirs
from filelock import FileLock, Timeout

from labkit.errors import BadValue
from labkit.exercises.hints import forget_hints
from labkit.exercises.registry import EXERCISES
from labkit.support.clock import scaled
from labkit.support.wrapping import wrap
from labkit.views.mime import choose
from labkit.views.table import Table, table

__all__ = ["Progress", "alone", "mark_done", "path_of_progress", "progress"]

_LOCK: Final = "progress.lock"
#: How long to wait for another process, in seconds. A process normally holds the lock for some milliseconds.
_PATIENCE: Final = 10.0
#: The exceptions that ``_load`` raises if the file is damaged, or is not a file of the lab.
_DAMAGED: Final = (ValueError, LookupError, TypeError, RecursionError)


@dataclass(frozen=True)
class Progress:
    """The exercises that are done; it displays itself in a notebook and in print.

    Attributes:
        done: the day of the first success, by the exercise's name.
        notice: a sentence about a problem with the file; empty if there is none.
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
        return table(
            ("exercise", "notebook", "done", "to do"), *rows, caption=f"{count} of {len(EXERCISES)} exercises done"
        )

    def text(self, width: int | None = None) -> str:
        """Write the progress for a terminal or a build log.

        Args:
            width: the longest line, in characters; None for as wide as the table is.

        Returns:
            The lines, without a newline at the end.
        """
        notice = "\n".join(wrap(self.notice, width)) if width else self.notice
        return "\n\n".join(filter(None, [notice, self._table().text(width)]))

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        rows = table(("note",), (self.notice,))._repr_mimebundle_()["text/html"] if self.notice else ""
        bundle = {"text/plain": str(self), "text/html": rows + self._table()._repr_mimebundle_()["text/html"]}
        return {kind: bundle[kind] for kind in choose(tuple(bundle), include, exclude)}


def progress(*, reset: bool = False) -> Progress:
    """Show which exercises are done. The progress is kept in a file, in ``LABKIT_HOME`` or the user's folder for data.

    Args:
        reset: whether to start again without progress; the old file is renamed and kept.

    Returns:
        The progress. A damaged file is renamed and kept. A file that cannot be read or renamed stays as it is. In each
        of these cases, ``notice`` says so.

    Raises:
        BadValue: ``LABKIT_HOME`` names no folder.
    """
    path = path_of_progress()
    try:
        return _reset(path) if reset else _read(path)
    except OSError as error:
        return Progress({}, f"Your progress in {path} cannot be read: {_reason(error)}.")


def mark_done(name: str) -> str:
    """Record that an exercise is done.

    Args:
        name: the exercise's name.

    Returns:
        A sentence about a problem with the file; empty if there is none.
    """
    try:
        path = path_of_progress()
    except BadValue as problem:
        return f"Your progress cannot be noted: {problem}."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(_LOCK)):
            known = _read_or_put_aside(path)
            if name not in known.done:
                _write(path, {**known.done, name: time.strftime("%Y-%m-%d")})
    except OSError as error:
        return f"Your progress cannot be noted in {path}: {_reason(error)}."
    return known.notice


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock, so that no other process writes the progress file and overwrites an entry.

    On a file system without locks, the block runs without one.

    Args:
        lock: the path of the lock file.

    Raises:
        OSError: another process does not release the lock in time.
    """
    mine = FileLock(lock, timeout=scaled(_PATIENCE))
    try:
        mine.acquire()
    except Timeout as error:
        raise OSError(errno.ETIMEDOUT, f"another process holds {lock}") from error
    except (NotImplementedError, OSError):
        pass  # if the folder cannot be written to either, writing the file reports why
    try:
        yield
    finally:
        mine.release()


def path_of_progress() -> Path:
    """Return the path of the progress file.

    Returns:
        ``progress.json`` in ``LABKIT_HOME``, or in the folder where this system keeps the user's data.

    Raises:
        BadValue: ``LABKIT_HOME`` names no folder.
    """
    home = os.environ.get("LABKIT_HOME")
    try:
        folder = Path(home or platformdirs.user_data_dir("labkit", appauthor=False)).expanduser()
    except RuntimeError:
        why = f"LABKIT_HOME is {home!r}, and there is no such user" if home else "you have no home folder here"
        raise BadValue(f"{why}; give a folder in LABKIT_HOME, such as /srv/labkit") from None
    return folder / "progress.json"


def _read(path: Path) -> Progress:
    try:
        return _load(path)
    except _DAMAGED:
        with alone(path.with_name(_LOCK)):
            return _read_or_put_aside(path)  # read again: another process may have renamed it by now


def _read_or_put_aside(path: Path) -> Progress:
    try:
        return _load(path)
    except _DAMAGED:
        try:
            aside = _put_aside(path)
        except OSError as error:
            raise OSError(error.errno, f"it is damaged, and cannot be put aside: {_reason(error)}") from error
        return Progress({}, f"The file of your progress is damaged, and was put aside: it is {aside} now.")


def _load(path: Path) -> Progress:
    try:
        content: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Progress({})
    done = content["done"]
    if not isinstance(done, dict) or not all(isinstance(day, str) for day in done.values()):
        raise TypeError("done")
    return Progress(done)


def _write(path: Path, done: dict[str, str]) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        beside.write_text(json.dumps({"done": done}, indent=2), "utf-8")
        beside.replace(path)  # in one step, so that no reader sees half a file
    finally:
        beside.unlink(missing_ok=True)


def _reset(path: Path) -> Progress:
    try:
        path.stat()
        with alone(path.with_name(_LOCK)):
            aside = _put_aside(path)
    except FileNotFoundError:
        notice = ""
    except OSError as error:
        notice = f"Your progress stays as it is: {path} cannot be moved: {_reason(error)}."
        return replace(_read(path), notice=notice)
    else:
        notice = f"The file of your progress was put aside: it is {aside} now."
    forget_hints()
    return Progress({}, notice)


def _put_aside(path: Path) -> Path:
    """Rename the file to a name that is not taken, and return the new path."""
    number = 1
    while (aside := path.with_name(f"progress-{number}.old.json")).exists():
        number += 1
    return path.rename(aside)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
