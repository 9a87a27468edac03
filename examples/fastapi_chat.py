"""A chat of FastAPI, with a table of who is there: what becomes of the row when a client goes away?

Serve it with ``uvicorn --factory fastapi_chat:make_app``, in this folder; or lose its clients in the lab, as README
shows. ``CHAT_DB`` names the file of the database.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import APIRouter, FastAPI, Request, WebSocket, WebSocketDisconnect

router = APIRouter()


class Presence:
    """The table of who is there."""

    def __init__(self) -> None:
        # SQLite works in threads, so that a slow disk does not stop the loop.
        self._database = sqlite3.connect(os.environ.get("CHAT_DB", ":memory:"), check_same_thread=False)
        self._database.execute("CREATE TABLE IF NOT EXISTS present (name TEXT PRIMARY KEY)")

    async def enter(self, name: str) -> None:
        """Add a row."""
        await asyncio.to_thread(self._do, "INSERT OR REPLACE INTO present VALUES (?)", name)

    async def leave(self, name: str) -> None:
        """Remove a row."""
        await asyncio.to_thread(self._do, "DELETE FROM present WHERE name = ?", name)

    def names(self) -> list[str]:
        """Who is there."""
        return [name for (name,) in self._database.execute("SELECT name FROM present ORDER BY name")]

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _do(self, sql: str, name: str) -> None:
        with self._database:
            self._database.execute(sql, (name,))


@asynccontextmanager
async def live(app: FastAPI) -> AsyncIterator[None]:
    """Open the database when the server starts, and close it when the server stops."""
    app.state.presence, app.state.sockets = Presence(), {}
    yield
    app.state.presence.close()


@router.get("/present")
def present(request: Request) -> list[str]:
    """Tell who is there."""
    presence: Presence = request.app.state.presence
    return presence.names()


@router.websocket("/ws/{name}")
async def chat(websocket: WebSocket, name: str) -> None:
    """Pass on what each says, for as long as it is there."""
    presence: Presence = websocket.app.state.presence
    sockets: dict[str, WebSocket] = websocket.app.state.sockets
    await websocket.accept()
    try:
        sockets[name] = websocket
        await presence.enter(name)
        while True:
            text = await websocket.receive_text()
            await tell_all(sockets, f"{name}: {text}")
    except WebSocketDisconnect as gone:
        print(f"{name} is gone: {gone.code}", flush=True)
    finally:
        sockets.pop(name, None)
        await presence.leave(name)
        await tell_all(sockets, f"{name} has left")


async def tell_all(sockets: dict[str, WebSocket], text: str) -> None:
    """Send to everybody. Who is gone finds out in a receive of their own; that must not end this one."""
    for each in list(sockets.values()):
        with suppress(WebSocketDisconnect, RuntimeError):
            await each.send_text(text)


def make_app() -> FastAPI:
    """Make the application."""
    app = FastAPI(lifespan=live)
    app.include_router(router)
    return app
