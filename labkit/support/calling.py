"""Hears of the calls of a class that Python has in C, whose methods nobody can replace."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["Tell", "telling_of"]

#: Told of an object that a class has made, its arguments, and the frame that has called it.
Tell = Callable[[Any, tuple[Any, ...], dict[str, Any], FrameType], None]


@functools.cache  # a class takes 70 µs, and each experiment asks for some
def telling_of(tell: Tell, kind: type) -> type:
    """Make a stand-in for a class, which makes objects of the class itself.

    It is a class too, so that it may be one's base, or what ``isinstance`` and ``match`` ask for.

    Args:
        tell: told of each object that the stand-in has made.
        kind: the class.

    Returns:
        The stand-in.
    """

    class Stand(type(kind)):  # type: ignore[misc] # the class of the class
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            if cls is not stand_in:
                return super().__call__(*args, **kwargs)  # a subclass that somebody has made meanwhile
            thing = kind(*args, **kwargs)
            tell(thing, args, kwargs, sys._getframe(1))  # noqa: SLF001 - who calls it
            return thing

        def __instancecheck__(cls, thing: Any) -> bool:
            return isinstance(thing, kind) if cls is stand_in else bool(super().__instancecheck__(thing))

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, kind) if cls is stand_in else bool(super().__subclasscheck__(other))

        def __getattr__(cls, name: str) -> Any:
            return getattr(kind, name)

    about = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    try:
        stand_in: type = Stand(kind.__name__, (kind,), {**about, "__slots__": ()})
    except TypeError:  # it can be nobody's base
        stand_in = Stand(kind.__name__, (), about)
    return stand_in
