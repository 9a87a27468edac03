"""Who is online, in SQLite: the row that a visitor leaves behind, depending on the moment at which they go.

``lobby`` is how it is often written. ``mended`` differs in one line. To see the moments of both, in this folder::

    pip install aiosqlite
    python sqlite_presence.py
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

from aiohttp import web

import labkit

try:
    import aiosqlite
except ModuleNotFoundError:
    sys.exit("this example keeps its rows with aiosqlite, which is not installed: python -m pip install aiosqlite")


class Presence:
    """The table of who is online.

    Args:
        database: a connection that commits each statement by itself.
    """

    def __init__(self, database: aiosqlite.Connection) -> None:
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, file: str | os.PathLike[str]) -> AsyncIterator[Presence]:
        """Open the table in a file, for as long as the block runs."""
        async with aiosqlite.connect(file, isolation_level=None) as database:
            await database.execute("CREATE TABLE IF NOT EXISTS online (visit TEXT PRIMARY KEY)")
            yield cls(database)

    async def enter(self, visit: str) -> None:
        """Add a row."""
        await self._database.execute("INSERT INTO online VALUES (?)", (visit,))

    async def leave(self, visit: str) -> None:
        """Remove a row."""
        await self._database.execute("DELETE FROM online WHERE visit = ?", (visit,))

    async def has(self, visit: str) -> bool:
        """Tell whether there is a row."""
        rows = await self._database.execute_fetchall("SELECT 1 FROM online WHERE visit = ?", (visit,))
        return bool(list(rows))


async def lobby(presence: Presence, request: web.Request) -> web.WebSocketResponse:
    """Enter, talk, leave. But what if they go while the row is being written?"""
    visit = uuid4().hex
    labkit.note("visit", id=visit)
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await presence.enter(visit)
    try:
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        await presence.leave(visit)
    return ws


async def mended(presence: Presence, request: web.Request) -> web.WebSocketResponse:
    """The same, with the first step inside of the ``try``: a row that may be there is removed."""
    visit = uuid4().hex
    labkit.note("visit", id=visit)
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    try:
        await presence.enter(visit)
        async for message in ws:
            await ws.send_str(message.data)
    finally:
        await presence.leave(visit)
    return ws


def nobody_is_left_online(presence: Presence) -> Callable[[labkit.Run], Awaitable[bool]]:
    """Make the invariant: when a visit is over, its row is gone. It looks into the database."""

    async def holds(run: labkit.Run) -> bool:
        visits = [event.data["id"] for event in run.timeline.select("handler", "note")]
        return not any([await presence.has(visit) for visit in visits])

    return holds


async def main() -> None:
    """Let the connection be reset at each moment of both."""
    with tempfile.TemporaryDirectory() as folder:
        async with Presence.open(Path(folder) / "presence.db") as presence:
            for handler in (lobby, mended):
                strip = await labkit.moments(
                    partial(handler, presence),
                    on="aiohttp-cancel",
                    fault="reset",
                    holds=nobody_is_left_online(presence),
                )
                print(strip, end="\n\n")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
