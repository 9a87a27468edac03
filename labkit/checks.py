"""What users give to the lab, checked: one helper a kind of value, and one sentence that says what would do."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TypeGuard, TypeVar

from labkit.errors import BadValue, UnknownName

__all__ = ["check_choice", "check_seconds", "check_text", "find", "is_whole"]

T = TypeVar("T")


def find(what: str, name: object, known: Mapping[str, T]) -> T:
    """Find something by its name.

    Args:
        what: what is looked for, such as ``"fault"``.
        name: the name that was given.
        known: what there is, by name.

    Returns:
        The one of this name.

    Raises:
        UnknownName: there is none, or this is no name at all.
    """
    if not isinstance(name, str) or name not in known:
        raise UnknownName(what, name, known)
    return known[name]


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number; True and False are none, though Python counts with them."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is none of a few words.

    Args:
        name: the name of the argument.
        value: what was given.
        choices: the words that it takes.

    Raises:
        BadValue: it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise BadValue(f"{name}={value!r}; it takes {' or '.join(map(repr, choices))}")


def check_seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Refuse what is not a span of time.

    Args:
        name: the name of the argument.
        value: what was given.
        zero: whether it may be 0.

    Returns:
        The seconds.

    Raises:
        BadValue: it is not a number, not finite, negative, or 0 where it may not be.
    """
    # A whole number may be too large for a float; no wait is so long.
    number = value if is_whole(value) or isinstance(value, float) else -1
    if not 0 <= number <= sys.float_info.max or (number == 0 and not zero):
        least = "of 0 or more" if zero else "above 0"
        raise BadValue(f"{name}={value!r}; it takes a number of seconds {least}, such as 2.0")
    return float(number)


def check_text(what: str, value: object) -> bytes:
    """Refuse what cannot be sent as text.

    Args:
        what: what to call it in the sentence, such as ``"the reason"``.
        value: what was given.

    Returns:
        The text in UTF-8.

    Raises:
        BadValue: it is not text, or holds half a character, for which UTF-8 has no bytes.
    """
    if not isinstance(value, str):
        raise BadValue(f"{what} is {value!r}; it takes text, such as 'bye'")
    try:
        return value.encode()
    except UnicodeEncodeError as problem:
        half = value[problem.start]
        raise BadValue(
            f"{what} holds {half!r}, a lone surrogate, which UTF-8 cannot encode; it takes text without it"
        ) from None
