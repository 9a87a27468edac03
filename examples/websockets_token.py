"""A websockets server whose clients show a token in their first message, and speak a subprotocol of their own.

Run it with ``python examples/websockets_token.py``. The lab plays the same handler; ``ann`` is a client that knows the
token::

    labkit play examples/websockets_token.py:notes --on websockets --talk examples/websockets_token.py:ann
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

TOKENS = {"a-token-of-ann": "ann"}
SUBPROTOCOL = "notes.v1"

#: Seconds that a client has to show its token.
DEADLINE = 5.0

#: The notes of each user who is connected.
NOTES: dict[str, list[str]] = {}


async def authenticate(websocket: ServerConnection) -> str | None:
    """Read the token; return whose it is, or close the connection and return None."""
    try:
        async with asyncio.timeout(DEADLINE):
            first = json.loads(await websocket.recv())
        return TOKENS[first["token"]]
    except TimeoutError:
        await websocket.close(1008, "no token")
    except (KeyError, TypeError, ValueError):
        await websocket.close(1008, "wrong token")
    return None


async def notes(websocket: ServerConnection) -> None:
    """Serve one client: keep its notes for as long as it is there."""
    with contextlib.suppress(ConnectionClosed):
        user = await authenticate(websocket)
        if user is None:
            return
        mine = NOTES.setdefault(user, [])
        try:
            await websocket.send(json.dumps({"welcome": user}))
            async for message in websocket:
                mine.append(str(message))
                await websocket.send(json.dumps({"notes": len(mine)}))
        finally:
            del NOTES[user]


async def ann(client: Any) -> None:
    """What a client says that knows the token: a talk for the lab."""
    await client.send(json.dumps({"token": "a-token-of-ann"}))
    assert json.loads(await client.recv()) == {"welcome": "ann"}
    await client.send("buy milk")
    assert json.loads(await client.recv()) == {"notes": 1}


async def main() -> None:
    """Serve until Ctrl+C."""
    async with serve(notes, "127.0.0.1", 8765, subprotocols=[SUBPROTOCOL]) as server:  # type: ignore[list-item]
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
