"""The stack of websockets, in its asyncio implementation."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from labkit.clock import scaled
from labkit.servers.call import Call
from labkit.servers.calls import Host
from labkit.servers.stack import RunningServer, Stack

if TYPE_CHECKING:
    from websockets.asyncio.server import Server, ServerConnection

__all__ = ["Websockets"]

#: Seconds that stopping may take; what hangs longer is cut off.
_STOP = 1.0

#: Keyword arguments of `loop.create_server` that `serve` passes on.
_CREATE_SERVER = {"backlog", "ssl", "reuse_address", "reuse_port", "ssl_handshake_timeout", "ssl_shutdown_timeout"}


class Websockets(Stack):
    """websockets as ``serve`` runs it, with its default settings."""

    name = "websockets"
    distribution = "websockets"
    argument = "websocket"
    function = "serve"

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``serve``, and of ``loop.create_server`` to which it hands the rest."""
        from websockets.asyncio.server import serve

        internal = {"self", "handler", "host", "port", "kwargs"}
        return (set(inspect.signature(serve).parameters) - internal) | _CREATE_SERVER

    async def start(self, host: Host, options: Mapping[str, Any]) -> RunningServer:
        """Start ``serve``."""
        from websockets.asyncio.server import serve

        connections: WeakSet[ServerConnection] = WeakSet()

        async def call(websocket: ServerConnection) -> None:
            connections.add(websocket)
            await host.call(websocket, lambda call: _observe(call, websocket))

        server = await serve(call, "127.0.0.1", 0, **options)
        return _Running(server, connections, "wss" if options.get("ssl") else "ws")


class _Running(RunningServer):
    def __init__(self, server: Server, connections: WeakSet[ServerConnection], scheme: str) -> None:
        self._server = server
        self._connections = connections
        port = server.sockets[0].getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{port}/"

    async def shut_down(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def stop(self) -> None:
        self._server.close()
        closed = asyncio.ensure_future(self._server.wait_closed())
        try:
            await asyncio.wait([closed], timeout=scaled(_STOP))
            # A peer that does not answer our Close would be waited for, `close_timeout` seconds.
            for connection in self._connections:
                connection.transport.abort()
            # A handler that refuses to stop would be waited for without end.
            await asyncio.wait([closed], timeout=scaled(_STOP))
        finally:
            closed.cancel()


def _observe(call: Call, websocket: ServerConnection) -> None:
    """Watch what the library tells the handler, on the handler's own connection."""
    from websockets.exceptions import ConnectionClosed
    from websockets.protocol import State

    def is_loss(exception: BaseException) -> bool:
        # The exception does not tell of which connection it is, and a handler may have others.
        return isinstance(exception, ConnectionClosed) and websocket.state is not State.OPEN

    def streamed(parts: list[str | bytes]) -> None:
        empty: Any = "" if parts and isinstance(parts[0], str) else b""
        call.received(empty.join(parts))

    call.connect(websocket, is_loss)
    call.observe("recv", done=call.received, lost=ConnectionClosed)
    call.observe_stream("recv_streaming", done=streamed, lost=ConnectionClosed)
    call.observe("send", began=call.sent, lost=ConnectionClosed)
    for name in ("ping", "pong"):
        call.observe(name, lost=ConnectionClosed)
    call.observe("close", began=call.closing, done=lambda _: call.closed(), lost=ConnectionClosed)
    call.observe("wait_closed", done=lambda _: call.noticed("wait_closed() returned"), lost=ConnectionClosed)
