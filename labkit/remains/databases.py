"""The connections to databases of SQLite that a handler opens, and has to close."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from labkit.introspection.origin import Origin
from labkit.remains.files import name_of_file
from labkit.remains.opened import Opened, is_handlers, note
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["watch_databases"]

#: The place of `factory` among the arguments of `sqlite3.connect`.
_FACTORY: Final = 5


class Database(Opened):
    """A connection to a database of SQLite."""

    def __init__(self, here: Scope, name: str, line: str | None, thing: Any) -> None:
        super().__init__(here, "database", name, line, thing)

    def _is_open(self, thing: Any) -> bool:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
            return bool(thing.total_changes >= 0)
        return False

    def _collected(self, _: object) -> None:
        self.lose()  # Python minds since 3.13

    async def _close(self, thing: Any) -> None:
        thing.close()


@contextmanager
def watch_databases() -> Iterator[None]:
    """Remember the databases that handlers of an experiment open, while the block runs."""
    with ExitStack() as undo:
        undo.callback(replace(sqlite3, "connect", _Connect))
        yield


class _Connection(sqlite3.Connection):
    """A connection to a database that can be referred to weakly, and that tells when it is closed."""

    opened: Database | None = None

    def close(self) -> None:
        super().close()
        if self.opened is not None:
            self.opened.end()


class _Connect:
    """A stand-in for ``sqlite3.connect``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not is_handlers() or len(args) > _FACTORY or "factory" in kwargs:
            return self._function(*args, **kwargs)
        database = self._function(*args, factory=_Connection, **kwargs)
        name = args[0] if args else kwargs.get("database", "?")
        note(functools.partial(_make_database, database, name), sys._getframe(1))  # noqa: SLF001
        return database


def _make_database(thing: _Connection, name: Any, here: Scope, origin: Origin) -> Database | None:
    if origin.modules:
        return None
    thing.opened = Database(here, name_of_file(name), origin.line, thing)
    return thing.opened
