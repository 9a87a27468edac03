"""The stack of websockets, with its asyncio implementation."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from labkit.errors import BadHandler
from labkit.introspection.alone import leave_alone
from labkit.introspection.origin import is_users
from labkit.stacks.stack import Program, RunningServer, Stack
from labkit.support.clock import scaled
from labkit.support.sockets import port_of
from labkit.watch.asked import IsOver
from labkit.watch.call import Call
from labkit.watch.host import Host
from labkit.watch.stand_ins import Method, by_the_library, observe_items

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

    def check_target(self, target: Any) -> None:
        """Refuse what is neither a handler, nor a map of werkzeug's from paths to handlers."""
        if not _is_map(target):
            super().check_target(target)

    async def load(self, target: Any, path: str) -> Program:
        """Find the handler of the path in a map; a handler needs none."""
        if not _is_map(target):
            return Program(target)
        from werkzeug.exceptions import HTTPException

        parts = urlsplit(path)
        for rule in target.iter_rules():
            rule.websocket = True  # as the library's own router does
        try:
            found = target.bind("127.0.0.1", url_scheme="ws").match(parts.path, query_args=parts.query)
        except HTTPException as error:
            rules = ", ".join(sorted(rule.rule for rule in target.iter_rules())) or "none"
            what = f"the map has no handler for {path}: {error.name}; its rules are {rules}; give one as the path"
            raise BadHandler(what) from None
        handler, arguments = found
        return Program(functools.partial(handler, **arguments) if arguments else handler, target)

    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:
        """Start a server with ``serve``; or, for a map, with ``route``."""
        from websockets.asyncio.server import ServerConnection, serve
        from websockets.exceptions import ConnectionClosed

        def call(websocket: ServerConnection) -> Coroutine[Any, Any, None]:
            return host.call(websocket, ConnectionClosed, _observe)

        leave_alone(app, *options.values())
        make_connection = options.get("create_connection") or ServerConnection

        select = options.get("select_subprotocol")

        def create_connection(protocol: Any, *arguments: Any, **keywords: Any) -> Any:
            connection = make_connection(protocol, *arguments, **keywords)
            if select is not None:
                # `serve` would call it with what is returned here.
                protocol.select_subprotocol = functools.partial(select, connection)
            return host.taps.make(connection)

        options = {**options, "create_connection": create_connection, "select_subprotocol": None}
        if app is None:
            server = await serve(call, "127.0.0.1", 0, **options)
        else:
            from websockets.asyncio.router import Router, route

            class Watched(Router):
                """The library's own, which calls the handler of the path through the lab."""

                async def handler(self, connection: ServerConnection) -> None:
                    """Handle a connection."""
                    found = functools.partial(connection.handler, **connection.handler_kwargs)
                    own: Any = host.handler
                    if (found.func, found.keywords) == (getattr(own, "func", own), getattr(own, "keywords", {})):
                        await call(connection)
                    else:
                        await super().handler(connection)

            server = await route(app, "127.0.0.1", 0, create_router=Watched, **options)
        return _Running(server, host, "wss" if options.get("ssl") else "ws")


def _is_map(target: Any) -> bool:
    # Whoever has made one has imported its module.
    routing = sys.modules.get("werkzeug.routing")
    return routing is not None and isinstance(target, routing.Map)


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
            self._host.taps.abort()
            # websockets would wait for ever for a handler that refuses to stop.
            await asyncio.wait([closed], timeout=scaled(_STOP))
        finally:
            closed.cancel()


def _received(call: Call, message: Any) -> None:
    if message is not None:
        call.received(message)
    elif call.close_code() is not None:  # a class of the user's own tells the end so
        call.record_notice("recv() gave None")


#: What is a message as a whole; what else can be iterated over is its fragments.
_MESSAGE: Final = (str, bytes, bytearray, memoryview)


def _sends(call: Call, arguments: dict[str, Any]) -> None:
    message, text = arguments["message"], arguments.get("text")
    opcode = None if text is None else "TEXT" if text else "BINARY"
    if isinstance(message, _MESSAGE):
        call.sent(message, opcode)
    elif _is_own(type(call.connection).send):
        call.sent(message, own=True)  # what the user's method makes of a list, or of another object, is its affair
    else:
        arguments["message"] = observe_items(message, lambda fragment: call.sent(fragment, opcode))


def _is_own(method: Callable[..., Any]) -> bool:
    """Whether a method is the user's own, and not the library's."""
    code = getattr(inspect.unwrap(method), "__code__", None)
    return code is not None and is_users(code.co_filename)


#: What the library tells the handler, and what the handler asks for, on its own connection.
_METHODS: Final = {
    "recv": Method(on_return=_received, waits_for="message"),  # `async for` calls it
    "recv_streaming": Method(on_item=Call.received),
    "send": Method(on_call=_sends, parameters=("message", "text")),
    "ping": Method(on_return=Call.pinged),
    "pong": Method(),
    "close": Method(on_call=Call.closing, before=Call.before_close, parameters=("code", "reason")),
    "wait_closed": Method(on_return=lambda call, _: call.record_notice("wait_closed() returned"), waits_for="end"),
}


def _is_keepalives(websocket: ServerConnection) -> bool:
    return asyncio.current_task() is getattr(websocket, "keepalive_task", None)


def _observe(call: Call) -> None:
    """Observe what the library tells the handler, on the handler's own connection."""
    websocket = call.argument
    call.connect(websocket, _METHODS, _is_keepalives)
    call.observe_properties(websocket, _OF_CONNECTION)
    call.observe_properties(websocket.protocol, _OF_PROTOCOL)
