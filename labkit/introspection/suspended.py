"""Looks into a coroutine that waits: through what it awaits, down to what wakes it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final

__all__ = ["frames", "handled", "is_open", "parts", "shows"]

#: The attributes with which coroutines, generators and asynchronous generators show where they stand (``inspect``).
_SHOW: Final = (
    ("cr_frame", "cr_await", "cr_running"),
    ("gi_frame", "gi_yieldfrom", "gi_running"),
    ("ag_frame", "ag_await", "ag_running"),
)

#: What Python's own compiler makes; what another one has made shows less of itself.
_PYTHON: Final = (CoroutineType, GeneratorType, AsyncGeneratorType)

#: The future's own way to be awaited: it is written in Python where nest-asyncio is applied, and in C elsewhere.
_FUTURES_OWN: Final = asyncio.futures._PyFuture.__await__.__code__  # type: ignore[attr-defined] # noqa: SLF001


def _chain(awaited: Any) -> Iterator[tuple[Any, FrameType | None]]:
    """What is awaited, from the outside inwards, each with its frame; the last has none: it wakes the others.

    One that runs awaits nothing. To ask it all the same ends Python 3.12.1.
    """
    while awaited is not None:
        for frame_name, next_name, runs_name in _SHOW:
            if isinstance(frame := getattr(awaited, frame_name, None), FrameType):
                if frame.f_code is _FUTURES_OWN:
                    yield awaited, None
                    return
                yield awaited, frame
                awaited = None if getattr(awaited, runs_name) else getattr(awaited, next_name)
                break
        else:
            # Such as what `async for` awaits: it does not show its generator, but refers to it.
            found = next((each for each in gc.get_referents(awaited) if shows(each)), None)
            if found is None:
                yield awaited, None
            awaited = found


def shows(thing: Any) -> bool:
    """Tell whether something is a coroutine, or the like, that shows where it stands."""
    return any(isinstance(getattr(thing, name, None), FrameType) for name, *_ in _SHOW)


def frames(awaited: Any) -> Iterator[FrameType]:
    """Go through the frames of a coroutine that waits, and of all that it awaits.

    Args:
        awaited: the coroutine, or anything else that can be awaited.

    Returns:
        The frames, the innermost last.
    """
    return (frame for _, frame in _chain(awaited) if frame is not None)


def parts(awaited: Any) -> Iterator[Any]:
    """Go through a coroutine that waits, and all that it awaits.

    Args:
        awaited: the coroutine, or anything else that can be awaited.
    """
    return (each for each, _ in _chain(awaited))


def is_open(awaited: Any) -> bool:
    """Tell whether ``handled`` sees everything: nothing in between is compiled code of another compiler than Python's.

    Args:
        awaited: a coroutine that waits.
    """
    return all(
        isinstance(each, _PYTHON)
        if frame
        else type(each).__module__.partition(".")[0] in {"_asyncio", "asyncio", "builtins"}
        for each, frame in _chain(awaited)
    )


def handled(awaited: Any) -> Iterator[BaseException]:
    """Find the exceptions that a coroutine handles while it waits: it waits inside of an ``except`` or a ``finally``.

    Args:
        awaited: a coroutine that waits.

    Returns:
        The exceptions of it and of all that it awaits.
    """
    for each, frame in _chain(awaited):
        # Python tells only a coroutine that runs what it handles. But the garbage collector is told of it at any time,
        # as of the last thing to which the coroutine refers (CPython's `gen_traverse`).
        yield from (last for last in gc.get_referents(each)[-1:] if frame and isinstance(last, BaseException))
