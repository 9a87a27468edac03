"""Handlers that keep or break the rules of the exercises, in the styles in which people write them, by exercise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from aiohttp import web

__all__ = ["Styles", "opened", "styles_of"]

H = TypeVar("H", bound=Callable[..., Any])


@dataclass
class Styles:
    """The handlers of one exercise.

    Attributes:
        right: those that keep every rule.
        wrong: those that do not; each with the rule that it breaks.
    """

    right: list[Any] = field(default_factory=list)
    wrong: dict[Any, str] = field(default_factory=dict)

    def keeps(self, handler: H) -> H:
        """Add one that is right."""
        self.right.append(handler)
        return handler

    def breaks(self, rule: str) -> Callable[[H], H]:
        """Add one that is wrong."""

        def add(handler: H) -> H:
            self.wrong[handler] = rule
            return handler

        return add


_STYLES: Final[dict[str, Styles]] = {}


def styles_of(exercise: str) -> Styles:
    """Return the handlers of an exercise."""
    return _STYLES.setdefault(exercise, Styles())


async def opened(request: web.Request, **options: Any) -> web.WebSocketResponse:
    """Accept a WebSocket of aiohttp."""
    ws = web.WebSocketResponse(**options)
    await ws.prepare(request)
    return ws
