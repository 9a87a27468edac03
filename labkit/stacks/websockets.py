"""The stack of websockets, with its asyncio implementation."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from labkit.stacks.stack import RunningServer, Stack
from labkit.support.clock import scaled
from labkit.support.sockets import port_of
from labkit.watch.asked import IsOver
from labkit.watch.call import Call
from labkit.watch.host import Host
from labkit.watch.stand_ins import by_the_library, observe_items

if TYPE_CHECKING:
    import socket

    from websockets.asyncio.server import Server, ServerConnection

__all__ = ["Websockets"]

#: Seconds that the library may take to stop, each time; after that the lab no longer waits.
_STOP = 1.0

#: Keyword arguments of `loop.create_server` that `serve` passes on.
_CREATE_SERVER = {"backlog", "ssl", "reuse_address", "reuse_port", "ssl_handshake_timeout", "ssl_shutdown_timeout"}


#: Which values of its properties tell that a connection is over.
_OF_PROTOCOL: Final[Mapping[str, IsOver]] = {
    "state": lambda state: state.name in {"CLOSING", "CLOSED"},
    "close_code": lambda code: code is not None,
    "close_reason": lambda reason: reason is not None,
    "close_exc": lambda _: True,  # asked too early, it raises AssertionError
}
_OF_CONNECTION: Final[Mapping[str, IsOver]] = {**_OF_PROTOCOL, "connection_lost_waiter": lambda waiter: waiter.done()}


class Websockets(Stack):
    """websockets as ``serve`` runs it, with its default settings."""

    name = "websockets"
    distribution = interface = "websockets"
    argument = "websocket"
    function = "serve"
    telltales = frozenset({"recv", "send", "ping", "pong", "wait_closed", "__aiter__"})

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``serve``, and of ``loop.create_server``, to which it passes the others."""
        from websockets.asyncio.server import serve

        internal = {"self", "handler", "host", "port", "kwargs"}
        return (set(inspect.signature(serve).parameters) - internal) | _CREATE_SERVER

    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:  # noqa: ARG002 - it has none
        """Start a server with ``serve``."""
        from websockets.asyncio.server import ServerConnection, serve
        from websockets.exceptions import ConnectionClosed

        async def call(websocket: ServerConnection) -> None:
            await host.call(websocket, ConnectionClosed, lambda call: _observe(call, websocket))

        make_connection = options.get("create_connection") or ServerConnection

        def create_connection(*arguments: Any, **keywords: Any) -> Any:
            return host.tap(make_connection(*arguments, **keywords))

        server = await serve(call, "127.0.0.1", 0, **{**options, "create_connection": create_connection})
        return _Running(server, host, "wss" if options.get("ssl") else "ws")


class _Running(RunningServer):
    def __init__(self, server: Server, host: Host, scheme: str) -> None:
        self._server = server
        self._host = host
        self.url = f"{scheme}://127.0.0.1:{port_of(server)}/"

    @property
    def sockets(self) -> Iterable[socket.socket]:
        """The listening sockets."""
        return self._server.sockets

    async def shut_down(self) -> None:
        with by_the_library():
            self._server.close()  # which calls `close()` of each connection
        await self._server.wait_closed()

    async def stop(self) -> None:
        self._server.close()
        closed = asyncio.ensure_future(self._server.wait_closed())
        try:
            await asyncio.wait([closed], timeout=scaled(_STOP))
            # websockets would wait for a peer that does not answer our Close, for `close_timeout` seconds; and for one
            # that has not finished its handshake, for `open_timeout` seconds.
            self._host.abort()
            # websockets would wait for ever for a handler that refuses to stop.
            await asyncio.wait([closed], timeout=scaled(_STOP))
        finally:
            closed.cancel()


def _observe(call: Call, websocket: ServerConnection) -> None:
    """Observe what the library tells the handler, on the handler's own connection."""

    def by_keepalive() -> bool:
        return asyncio.current_task() is getattr(websocket, "keepalive_task", None)

    def sends(arguments: dict[str, Any]) -> None:
        message, text = arguments["message"], arguments.get("text")
        opcode = None if text is None else "TEXT" if text else "BINARY"
        call.sent(message, opcode)
        if not isinstance(message, str | bytes | bytearray | memoryview):
            arguments["message"] = observe_items(message, lambda fragment: call.sent(fragment, opcode))

    def observes_pong(pong: Any) -> Any:
        return call.pings.observe(pong, lambda exception: stand_ins.report("the pong of ping()", exception))

    stand_ins = call.connect(websocket, by_keepalive)
    stand_ins.observe("recv", on_return=call.received, waits_for="message")  # `async for` calls it
    stand_ins.observe_stream("recv_streaming", on_item=call.received)
    stand_ins.observe("send", on_call=sends, parameters=("message", "text"))
    stand_ins.observe("ping", on_return=observes_pong)
    stand_ins.observe("pong")
    stand_ins.observe("close", on_call=call.closing, before=call.before_close, parameters=("code", "reason"))
    call.observe_properties(websocket, _OF_CONNECTION)
    call.observe_properties(websocket.protocol, _OF_PROTOCOL)
    stand_ins.observe("wait_closed", on_return=lambda _: call.record_notice("wait_closed() returned"), waits_for="end")
