"""What commands write: text for a terminal or for a pipe, JSON, pictures, and complaints."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Coroutine, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Literal, TextIO, TypeVar

import rich_click as click

from labkit.errors import LabError
from labkit.support.wording import plain
from labkit.support.wrapping import list_names, wrap

__all__ = ["INTERRUPTED", "complain", "draw", "dump", "json_alone", "list_rows", "run", "say", "show", "width"]

T = TypeVar("T")

#: The exit status of a program that Ctrl+C has ended, in a shell: 128 and the number of the signal.
INTERRUPTED: Final = 130

#: How a text ends for its reader: what it tells is as it should be, or it is not; or neither.
Tone = Literal["good", "bad", "neutral"]
_STYLES: Final[Mapping[Tone, str]] = {"good": "bold green", "bad": "bold red", "neutral": "bold"}

#: The time of a failure, with its mark; and what has become of a rule or of a check.
_FAILED: Final = re.compile(r" *[\d.,+-]+! ")
_BAD: Final = re.compile(r"^✗ (?:broken|bad)\b", re.MULTILINE)
_GOOD: Final = re.compile(r"^✓ (?:kept|ok)\b", re.MULTILINE)

#: The narrowest and the widest text.
_LEAST, _MOST = 40, 100


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the lab to its end.

    Args:
        coroutine: the coroutine.

    Returns:
        What it returns.

    Raises:
        LabError: a handler has interrupted it. What else it raises passes through.
    """
    import asyncio

    import labkit

    try:
        return labkit.run(coroutine)
    except asyncio.CancelledError as interrupt:  # for example, because a handler raised KeyboardInterrupt
        raise LabError(f"interrupted: {interrupt}") from interrupt


def width() -> int:
    """The width for a text, in characters: the terminal's, within limits."""
    return _within(shutil.get_terminal_size((_MOST, 24)).columns)


def _within(columns: int) -> int:
    return min(max(columns, _LEAST), _MOST)


def show(text: str, tone: Tone = "neutral") -> None:
    """Write a text; on a terminal, its first sentence has a colour, and so have failures.

    Args:
        text: the text, in lines as wide as ``width()``, without anything that could do harm to a terminal.
        tone: whether what it tells is as it should be.
    """
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.console import Console
    from rich.text import Text

    first, gap, rest = text.partition("\n\n")
    styled = Text.assemble((first, _STYLES[tone]), gap + rest)
    for start, end in _failures(text):
        styled.stylize("red", start, end)
    styled.highlight_regex(_BAD, "red")
    styled.highlight_regex(_GOOD, "green")
    Console(highlight=False, soft_wrap=True).print(styled)


def _failures(text: str) -> Iterator[tuple[int, int]]:
    """Find the lines of failures in a timeline, with those in which they go on."""
    at, below = 0, ""
    for line in text.splitlines(keepends=True):
        if (mark := _FAILED.match(line)) is not None:
            below = " " * mark.end()
        elif not line.startswith(below):
            below = ""
        if below:
            yield at, at + len(line)
        at += len(line)


def complain(sentence: str, *, hint: str = "") -> None:
    """Write an error in one sentence, to stderr.

    Args:
        sentence: the sentence.
        hint: a command that says more.
    """
    say(f"Error: {sentence}" + (f" (`{hint}` says more)" if hint else ""))


def say(sentence: str) -> None:
    """Write a sentence to stderr; on a terminal, it is broken between words.

    Args:
        sentence: the sentence.
    """
    lines = [plain(sentence)]
    if sys.stderr.isatty():
        lines = wrap(lines[0], _within(os.get_terminal_size(sys.stderr.fileno()).columns or _MOST))
    click.echo("\n".join(lines), err=True)


def list_rows(rows: Mapping[str, str]) -> None:
    """Write names with a line of text each."""
    click.echo("\n".join(list_names(rows, width() if sys.stdout.isatty() else None)))


def draw(thing: Any, png: Path | None) -> None:
    """Write the picture of something that has one, if a file is given.

    Args:
        thing: a run, a matrix or a strip.
        png: the file.

    Raises:
        LabError: the file cannot be written.
    """
    if png is None:
        return
    try:
        thing.plot().savefig(png, format="png")
    except OSError as error:
        raise LabError(f"cannot write {png}: {error.strerror or error}") from error


#: Where JSON goes; None for stdout.
_alone: Final[ContextVar[TextIO | None]] = ContextVar("labkit_json", default=None)


@contextmanager
def json_alone() -> Iterator[None]:
    """Let stdout have what ``dump`` writes alone: what the user's program prints and logs there goes to stderr."""
    token = _alone.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _alone.reset(token)


def dump(document: Any) -> None:
    """Write JSON in which no character can do harm to a terminal; each that cannot be printed is JSON's escape."""
    out = _alone.get() or sys.stdout
    is_unicode = (out.encoding or "").lower().startswith("utf")
    text = json.dumps(document, indent=2, default=_to_json, ensure_ascii=not is_unicode)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text), file=out)


def _to_json(value: Any) -> Any:
    """Convert a value that ``json`` cannot write."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, AbstractSet):
        return sorted(value)
    return str(value)
