"""What the lab says when it is used wrongly: one sentence, and no traceback in a notebook."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["BadHandler", "BadOption", "BadRecording", "BadValue", "LabError", "UnknownName"]


class LabError(Exception):
    """A mistake in the use of the lab, told in one sentence that says what would do."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows these lines in place of a traceback.
        return [f"{type(self).__name__}: {self}"]


class BadHandler(LabError, TypeError):
    """The handler is not something the stack could call."""


class BadOption(LabError, TypeError):
    """A keyword argument that the library's own function does not take."""


class BadValue(LabError, ValueError):
    """A value outside what is allowed."""


class BadRecording(LabError, ValueError):
    """A file that is not a recording of a run."""


class UnknownName(LabError, LookupError):
    """A fault, stack or exercise that does not exist.

    Args:
        what: what was looked for, such as ``"fault"``.
        name: the name that was given.
        known: the names that exist.
    """

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"there is no {what} {name!r}.{hint} The {what}s are: {', '.join(names)}.")
