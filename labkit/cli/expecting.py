"""``--expect``: what a verdict shall say, for scripts and for continuous integration."""

from __future__ import annotations

import ast
import dataclasses
import itertools
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import rich_click as click

from labkit.cli.output import say
from labkit.errors import BadValue, UnknownName

if TYPE_CHECKING:
    from labkit.verdict import Verdict

__all__ = ["Expected", "expect", "read_expected", "unexpected"]

_OUTCOME: Final = "outcome"
_OTHERS: Final = "others."
_REACTION: Final = "reaction."

expect = click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the verdict shall say, such as cleanup=complete or outcome='clean|noisy'; of another server also"
    " reaction.tcp=FIN, and of clients that stay others.answered=yes. If it says something else, the exit status is 1."
    " May be given many times.",
)


class Expected(NamedTuple):
    """What one finding shall be.

    Attributes:
        name: the finding, or ``outcome``; ``reaction.NAME`` for a part of the reaction, and ``others.NAME`` for a
            finding that the verdict of each other connection shall have.
        text: the value as it was given; several are separated by ``|``.
    """

    name: str
    text: str

    def found(self, verdict: Verdict, word: str) -> list[Any]:
        """The values in a verdict, whose outcome is a word: one, or one for each other connection."""
        if self.name == _OUTCOME:
            return [word]
        if self.name.startswith(_OTHERS):
            finding = attrgetter(self.name.removeprefix(_OTHERS))
            return [finding(other) for other in verdict.others] or ["unknown"]
        if self.name.startswith(_REACTION) and verdict.reaction is None:
            return ["unknown"]
        return [attrgetter(self.name)(verdict)]

    def is_met(self, value: Any) -> bool:
        """Tell whether a value is as expected: as Python writes it, or as text."""
        for part in (self.text, *self.text.split("|")):
            if str(value) == part.strip():
                return True
            with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                if value == ast.literal_eval(part.strip()):
                    return True
        return False


def read_expected(texts: Sequence[str]) -> list[Expected]:
    """Read what is given with ``--expect``.

    Args:
        texts: the arguments, such as ``"cleanup=complete"``.

    Returns:
        What is expected.

    Raises:
        BadValue: a text has another form, or a value that this finding never has.
        UnknownName: the verdict has no such finding.
    """
    from labkit.reaction import Reaction
    from labkit.verdict import Verdict

    findings = [field.name for field in dataclasses.fields(Verdict) if field.name != "others"]
    parts = [_REACTION + field.name for field in dataclasses.fields(Reaction)]
    known = [_OUTCOME, *findings, *parts, *(_OTHERS + name for name in findings)]
    found = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadValue(f"{text!r} is not NAME=VALUE, such as cleanup=complete")
        each = Expected(name.strip(), value.strip())
        if each.name not in known:
            of = each.name.rpartition(".")[0]
            raise UnknownName("finding", each.name, [name for name in known if name.rpartition(".")[0] == of])
        _check_value(each)
        found.append(each)
    return found


def _check_value(expected: Expected) -> None:
    """Refuse a word that a finding can never be, which would be a mistake of whoever expects it.

    Raises:
        BadValue: it is no such word.
    """
    from labkit.outcome import OUTCOMES
    from labkit.reaction import Reaction
    from labkit.strikes import BROKEN
    from labkit.verdict import Verdict

    of, _, name = expected.name.rpartition(".")
    if expected.name == _OUTCOME:
        words: set[Any] | None = {*OUTCOMES, BROKEN}
    else:
        words = _words(get_type_hints(Reaction if f"{of}." == _REACTION else Verdict)[name])
    if words is None:
        return
    for part in expected.text.split("|"):
        if not any(expected._replace(text=part).is_met(word) for word in {*words, "unknown"}):
            is_one = ", ".join(sorted(map(str, words)))
            raise BadValue(f"{expected.name} is never {part.strip()!r}; it is one of {is_one}")


def _words(kind: Any) -> set[Any] | None:
    """All values of a type; None if it has too many to tell."""
    if kind is bool:
        return {True, False}
    if kind is type(None):
        return {None}
    if get_origin(kind) is Literal:
        return set(get_args(kind))
    if get_origin(kind) not in (Union, UnionType):
        return None
    found = [_words(each) for each in get_args(kind)]
    return None if None in found else set().union(*filter(None, found))


def unexpected(verdict: Verdict | None, expected: Sequence[Expected], where: str = "", word: str | None = None) -> int:
    """Tell on stderr what is not as expected.

    Args:
        verdict: the verdict; None if there is none, which is never as expected.
        expected: what is expected.
        where: where it was found, such as the cell of a matrix.
        word: the outcome, if it is not that of the verdict.

    Returns:
        How many findings are not as expected.
    """
    from labkit.outcome import outcome

    count = 0
    for each in expected:
        found = ["unknown"] if verdict is None else each.found(verdict, word or outcome(verdict))
        for value in found if verdict is None else itertools.filterfalse(each.is_met, found):
            count += 1
            at = f"{where}: " if where else ""
            say(f"Not as expected: {at}{each.name} is {value}, not {each.text}")
    return count
