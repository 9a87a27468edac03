"""Checks of what users give to the lab: one function for each kind of value, which says what would work."""

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
        what: the kind of thing, such as ``"fault"``.
        name: the name that was given.
        known: all things of this kind, by name.

    Returns:
        The thing with this name.

    Raises:
        UnknownName: nothing has this name, or the name is not a ``str``.
    """
    if not isinstance(name, str) or name not in known:
        raise UnknownName(what, name, known)
    return known[name]


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number. True and False do not count, although ``bool`` is a kind of ``int``."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is not one of a few words.

    Args:
        name: the name of the argument.
        value: the value that was given.
        choices: the words that are allowed.

    Raises:
        BadValue: the value is not one of these words.
    """
    if not isinstance(value, str) or value not in choices:
        raise BadValue(f"{name}={value!r}; it takes {' or '.join(map(repr, choices))}")


def check_seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Refuse a value that is not a span of time.

    Args:
        name: the name of the argument.
        value: the value that was given, in seconds.
        zero: whether 0 is allowed.

    Returns:
        The seconds.

    Raises:
        BadValue: the value is not a number, not finite, negative, or 0 where 0 is not allowed.
    """
    # A whole number can be too large for a float; `float(number)` would then raise OverflowError.
    number = value if is_whole(value) or isinstance(value, float) else -1
    if not 0 <= number <= sys.float_info.max or (number == 0 and not zero):
        least = "of 0 or more" if zero else "above 0"
        raise BadValue(f"{name}={value!r}; it takes a number of seconds {least}, such as 2.0")
    return float(number)


def check_text(what: str, value: object) -> bytes:
    """Refuse a value that cannot be sent as text.

    Args:
        what: how the message of the error calls the value, such as ``"the reason"``.
        value: the value that was given.

    Returns:
        The text in UTF-8.

    Raises:
        BadValue: the value is not text, or it contains half a character, which UTF-8 cannot encode.
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
