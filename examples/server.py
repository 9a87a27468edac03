"""A server to lose clients with: it prints what its handler lives through.

Run it in one terminal, ``python examples/server.py``, and ``python examples/client.py`` in another one; then end the
client by Ctrl+C, or by ``kill -9`` with the number that it prints. ``--cancel`` turns ``handler_cancellation`` on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys

from aiohttp import WSCloseCode, web

SOCKETS = web.AppKey("sockets", set[web.WebSocketResponse])


async def handler(request: web.Request) -> web.WebSocketResponse:
    """Echo, and tell how it ends."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    request.app[SOCKETS].add(ws)
    print("connected", flush=True)
    try:
        async for message in ws:
            await ws.send_str(message.data)
        print(f"the loop has ended, close code {ws.close_code}", flush=True)
        await asyncio.sleep(0.05)  # a slow last step, such as the commit of a database
        print("the last line has run", flush=True)
    except asyncio.CancelledError:
        print(f"cancelled, close code {ws.close_code}", flush=True)
        raise
    finally:
        request.app[SOCKETS].discard(ws)
    return ws


async def close_all(app: web.Application) -> None:
    """Say goodbye to everybody who is still there."""
    await asyncio.gather(*(ws.close(code=WSCloseCode.GOING_AWAY) for ws in list(app[SOCKETS])))


def main() -> None:
    """Serve until Ctrl+C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8080, help="0 for any that is free")
    parser.add_argument("--cancel", action="store_true", help="cancel a handler whose client is gone")
    arguments = parser.parse_args()
    app = web.Application()
    app[SOCKETS] = set()
    app.router.add_get("/", handler)
    app.on_shutdown.append(close_all)
    try:
        # A socket of our own: older versions of aiohttp do not print the port that they have chosen.
        with socket.create_server(("127.0.0.1", arguments.port)) as listening:
            web.run_app(
                app,
                sock=listening,
                handler_cancellation=arguments.cancel,
                print=lambda *lines: print(*lines, flush=True),
            )
    except OSError as problem:
        sys.exit(f"cannot listen on port {arguments.port} ({os.strerror(problem.errno or 0)}): try --port 8081")


if __name__ == "__main__":
    main()
