"""The client sessions of aiohttp that a handler opens, and has to close."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from labkit.introspection.origin import OWNERS, Origin
from labkit.remains.opened import Opened, is_handlers, note
from labkit.support.clock import scaled
from labkit.support.replacing import replace
from labkit.timeline import Scope, scope

__all__ = ["watch_sessions"]

#: Seconds that the closing of a session may take.
_CLOSING: Final = 1.0


class Session(Opened):
    """A client session of aiohttp, with its connections."""

    def __init__(self, here: Scope, line: str | None, thing: Any) -> None:
        super().__init__(here, "session", "ClientSession", line, thing)

    @property
    def title(self) -> str:
        """What it is."""
        return "client session of aiohttp"

    def _is_open(self, thing: Any) -> bool:
        return not thing.closed

    async def _close(self, thing: Any) -> None:
        async with asyncio.timeout(scaled(_CLOSING)):
            await thing.close()


#: The attribute of a session with what is known of it.
_SESSION: Final = "_labkit_session"


@contextmanager
def watch_sessions() -> Iterator[None]:
    """Remember the client sessions that handlers of an experiment open, while the block runs."""
    with ExitStack() as undo:
        if (http := sys.modules.get("aiohttp")) is not None:
            OWNERS.add(http.ClientSession)
            undo.callback(replace(http.ClientSession, "__init__", _opening_sessions))
            undo.callback(replace(http.ClientSession, "__del__", _losing_sessions))
        yield


def _opening_sessions(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def stand_in(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if is_handlers():
            note(functools.partial(_make_session, self), sys._getframe(1))  # noqa: SLF001

    return stand_in


def _make_session(thing: Any, here: Scope, origin: Origin) -> Session | None:
    if not origin.by_users:
        return None
    opened = Session(here, origin.line, thing)
    object.__setattr__(thing, _SESSION, opened)  # aiohttp's own warns of attributes that it does not know
    return opened


def _losing_sessions(delete: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(delete)
    def stand_in(self: Any, *args: Any, **kwargs: Any) -> None:
        if (opened := getattr(self, _SESSION, None)) is None or self.closed:
            delete(self, *args, **kwargs)
            return
        opened.lose()
        token = scope.set(opened.here)  # it complains to the loop
        try:
            delete(self, *args, **kwargs)
        finally:
            scope.reset(token)

    return stand_in
