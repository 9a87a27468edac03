"""A whole aiohttp application: rooms, a store of who is present, a middleware, a clean start and a clean end.

Run it with ``python examples/aiohttp_app.py``. The lab plays the same application, with nothing changed for it::

    labkit play examples/aiohttp_app.py:make_app --path /rooms/lobby --cookie user=ann --fault reset
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import WSCloseCode, web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Presence:
    """Who is in which room. It plays the part of a database: each step takes a moment."""

    def __init__(self) -> None:
        self.rooms: defaultdict[str, list[str]] = defaultdict(list)

    async def enter(self, room: str, user: str) -> tuple[str, str]:
        """Note that somebody is in a room."""
        await asyncio.sleep(0.01)
        self.rooms[room].append(user)
        return room, user

    async def leave(self, seat: tuple[str, str]) -> None:
        """Note that somebody has left it."""
        await asyncio.sleep(0.01)
        room, user = seat
        self.rooms[room].remove(user)


PRESENCE = web.AppKey("presence", Presence)
SOCKETS = web.AppKey("sockets", set[web.WebSocketResponse])


@web.middleware
async def known_users(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody in without a name."""
    if not request.cookies.get("user"):
        raise web.HTTPUnauthorized(text="who are you?")
    return await handler(request)


async def room(request: web.Request) -> web.WebSocketResponse:
    """Serve one client of a room: what it says is told to all."""
    presence, sockets = request.config_dict[PRESENCE], request.config_dict[SOCKETS]
    user = request.cookies["user"]
    ws = web.WebSocketResponse(heartbeat=30)
    await ws.prepare(request)
    seat = await presence.enter(request.match_info["room"], user)
    sockets.add(ws)
    try:
        async for message in ws:
            for each in list(sockets):
                await each.send_str(f"{user}: {message.data}")
    finally:
        sockets.discard(ws)
        await presence.leave(seat)
    return ws


async def present(app: web.Application) -> AsyncIterator[None]:
    """Make the store for as long as the application runs."""
    app[PRESENCE] = Presence()
    yield
    print(f"left in the rooms: {dict(app[PRESENCE].rooms)}", flush=True)


async def say_goodbye(app: web.Application) -> None:
    """Close every socket when the server goes: a copy, since each handler takes its own out of the set."""
    for ws in list(app[SOCKETS]):
        await ws.close(code=WSCloseCode.GOING_AWAY, message=b"the server goes")


def make_app() -> web.Application:
    """Make the application."""
    rooms = web.Application(middlewares=[known_users])
    rooms.router.add_get("/{room}", room)
    app = web.Application()
    app[SOCKETS] = set()
    app.cleanup_ctx.append(present)
    app.on_shutdown.append(say_goodbye)
    app.add_subapp("/rooms/", rooms)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1")
