"""The lab's errors: each is one sentence, and a notebook shows it without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BadHandler",
    "BadOption",
    "BadRecording",
    "BadValue",
    "LabError",
    "NotInstalled",
    "NotReached",
    "UnknownName",
]


class LabError(Exception):
    """A mistake in the use of the lab. The message is one sentence: what was wrong, and what would work."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows these lines in place of a traceback.
        return [f"{type(self).__name__}: {self}"]


class BadHandler(LabError, TypeError):
    """The stack cannot call the handler."""


class BadOption(LabError, TypeError):
    """The library's own function does not take this keyword argument."""


class BadValue(LabError, ValueError):
    """A value that is not allowed."""


class NotInstalled(LabError, ImportError):
    """A package that the lab needs for this is not installed."""


class NotReached(LabError, ConnectionError):
    """Nobody listens at a URL."""


class BadRecording(LabError, ValueError):
    """A file that is not a recording of a run, or that cannot be read or written."""


class UnknownName(LabError, LookupError):
    """There is no fault, stack or exercise of this name.

    Args:
        what: the kind of thing, such as ``"fault"``.
        name: the name that was given.
        known: the names that exist.
    """

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        others = f"The {what}s are: {', '.join(names)}." if names else f"There is no {what} at all."
        super().__init__(f"there is no {what} {name!r}.{hint} {others}")
