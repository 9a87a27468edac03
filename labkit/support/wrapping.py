"""Text in lines of some width, for terminals and for build logs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Final

__all__ = ["beside", "list_names", "wrap"]

#: Where a word that is longer than a line is broken: behind these signs, as in ``websockets.exceptions.``.
_PART: Final = re.compile(r"[^./:=|?&]*[./:=|?&]+|[^./:=|?&]+")

#: What stays together: a number and its unit, and code, such as a command to copy.
_TOGETHER: Final = re.compile(r"\d (?:ms|s|KB|MB)\b|`[^`]+`")
_HARD: Final = "\N{NO-BREAK SPACE}"

#: The least room for a text beside its name, in characters.
_BESIDE: Final = 20


class _Wrapper(textwrap.TextWrapper):
    def _split(self, text: str) -> list[str]:
        room = self.width - len(self.subsequent_indent)
        parts: list[str] = []
        for word in super()._split(text):
            parts += [word] if len(word) <= room or _HARD in word else _PART.findall(word)
        return parts


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Break a text into lines, between words.

    Args:
        text: the text, without control characters.
        width: the longest line, in characters. Only a word that is longer is broken itself, behind a dot or a slash if
            it has one.
        first: what the first line begins with.
        rest: what each other line begins with.

    Returns:
        The lines, without newlines; none for a text without words.
    """
    room = width - len(rest)
    text = _TOGETHER.sub(lambda found: _glue(found[0]) if len(found[0]) <= room else found[0], text)
    if begins := first.rstrip():  # as a word of the text, so that a long one behind it goes to the next line
        text, first = f"{_glue(begins)}{first[len(begins) :]}{text}", ""
    wrapper = _Wrapper(width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return [line.replace(_HARD, " ") for line in wrapper.wrap(text)]


def _glue(text: str) -> str:
    return text.replace(" ", _HARD)


def beside(name: str, text: str, width: int) -> list[str]:
    """Write a text beside its name; or below it, where there is no room.

    Args:
        name: the name, as wide as its column; blanks, where the text belongs to the name above.
        text: the text.
        width: the longest line, in characters.

    Returns:
        The lines.
    """
    if width - len(name) < _BESIDE:
        return [*filter(None, [re.sub(" {2,}", "  ", name).strip()]), *wrap(text, width, "    ", "    ")]
    return wrap(text, width, name, " " * len(name)) or [name.rstrip()]


def list_names(rows: Mapping[str, str], width: int | None = None) -> list[str]:
    """Write names, each with its text.

    Args:
        rows: each name with its text.
        width: the longest line, in characters; None for a line for each name, however long.

    Returns:
        The lines.
    """
    wide = max(map(len, rows), default=0) + 2
    if width is None:
        return [f"{name:<{wide}}{text}".rstrip() for name, text in rows.items()]
    return [line for name, text in rows.items() for line in beside(f"{name:<{wide}}", text, width)]
