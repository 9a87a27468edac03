"""A handler under comparison, and what such handlers share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.differential.story import Seen, describe, seconds

__all__ = ["CLEANUP", "LIMIT", "TICK", "Handler", "People", "Person", "logged", "membership"]

Handler = Callable[[Any, Seen], Awaitable[Any]]

#: Seconds: a cleanup; a tick; a limit that a handler sets itself. They are long beside a conversation, and short beside
#: the patience.
CLEANUP, TICK, LIMIT = seconds(0.05), seconds(0.03), seconds(0.6)


@dataclass(frozen=True)
class Person:
    """A handler, and how it is played."""

    handler: Handler
    messages: tuple[str | bytes, ...] = ("hello",)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The handler's name."""
        return self.handler.__name__


class People(list[Person]):
    """The handlers for one library."""

    def __call__(self, *messages: str | bytes, silent: bool = False, **options: Any) -> Callable[[Handler], Handler]:
        """Add a handler, as a decorator.

        Args:
            messages: what its client sends; ``"hello"`` if nothing is given.
            silent: whether its client sends nothing.
            options: keyword arguments for the library's own function.
        """

        def add(handler: Handler) -> Handler:
            self.append(Person(handler, () if silent else messages or ("hello",), options))
            return handler

        return add


def logged(handler: Handler) -> Handler:
    """A decorator that writes down how a handler went."""

    @functools.wraps(handler)
    async def wrapper(given: Any, seen: Seen) -> Any:
        seen.note("begins")
        try:
            return await handler(given, seen)
        except Exception as error:
            seen.note(f"failed: {describe(error)}")
            raise
        finally:
            seen.note("is over")

    return wrapper


@contextlib.asynccontextmanager
async def membership(seen: Seen) -> AsyncIterator[None]:
    seen.note("joins")
    try:
        yield
    finally:
        await asyncio.sleep(CLEANUP)
        seen.note("leaves")
