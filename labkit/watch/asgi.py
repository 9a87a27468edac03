"""Watches one WebSocket of an ASGI server: what its ``receive`` and ``send`` tell the handler.

The server gives an application three things for each connection: ``scope``, ``receive`` and ``send`` (the ASGI
specification). A framework such as Starlette makes a ``WebSocket`` of them, for the endpoint. All that passes is
recorded where it passes from the server to the application; in which method the endpoint is, and which exception it
gets, at the methods of its own ``WebSocket``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Any, Final
from urllib.parse import unquote

from labkit.support.replacing import replace
from labkit.timeline import APPLICATION, Scope, scope
from labkit.watch.call import Call
from labkit.watch.host import Host
from labkit.watch.library import TappedTransport
from labkit.watch.outline import Outline
from labkit.watch.stand_ins import Method, in_method, method_of_handler, within

__all__ = ["App", "Channel", "find_endpoint", "list_paths", "watch_app", "watch_frameworks"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[Any]]

#: The methods of Starlette's ``WebSocket`` that wait for the client, and the others that use the connection.
#: ``iter_text`` and its like call ``receive_text`` and its like.
_METHODS: Final = {
    **dict.fromkeys(("receive", "receive_text", "receive_bytes", "receive_json"), Method(waits_for="message")),
    **dict.fromkeys(
        ("accept", "send", "send_text", "send_bytes", "send_json", "send_denial_response", "close"), Method()
    ),
}

#: What the RuntimeErrors have in common with which servers and Starlette say that the connection is over.
_OVER: Final = ("Unexpected ASGI message", "close message has been sent", "disconnect message has been received")

#: Where Starlette's applications keep the functions that make an answer of an exception: by type, and by status.
_HANDLERS: Final = "starlette.exception_handlers"

#: Where to put the endpoint, while one is looked for and none is to run.
_found: ContextVar[list[Any] | None] = ContextVar("labkit_asgi_found", default=None)

#: The channel of the connection for which the running code works.
_channel: ContextVar[Channel | None] = ContextVar("labkit_asgi_channel", default=None)


class Channel:
    """What a server gives to the application for one connection.

    Args:
        host: calls the handler.
        receive: the server's ``receive``.
        send: the server's ``send``.

    Attributes:
        close_code: the code that the application got, in ``websocket.disconnect`` or in an exception; None before.
        call: the call of the handler, while it runs.
        outline: that in its place, if only the outline of the call is recorded.
    """

    def __init__(self, host: Host, receive: Receive, send: Send) -> None:
        self.close_code: int | None = None
        self.call: Call | None = None
        self.outline: Outline | None = None
        self._host = host
        self._receive = receive
        self._send = send
        self._tap = host.taps.here

    @property
    def transport(self) -> TappedTransport | None:
        """The transport of the connection, which has its tap."""
        return None if self._tap is None else self._tap.transport

    async def receive(self) -> Message:
        """Receive from the server, and record what it is."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code")
            self.close_code = None if code is None else int(code)
            # The other methods of Starlette's raise an exception, which is the notice; or ignore it.
            if self.call is not None and method_of_handler() in {"", "receive"}:
                self.call.record_notice(f"receive() gave websocket.disconnect {self.close_code}")
        elif message["type"] == "websocket.receive" and self.call is not None:
            text = message.get("text")
            self.call.received(message.get("bytes") or b"" if text is None else text)
        return message

    async def send(self, message: Message) -> None:
        """Record what the application sends, and give it to the server."""
        call, kind = self.call, message.get("type") if isinstance(message, Mapping) else None
        if call is None or kind not in {"websocket.send", "websocket.close"}:
            await self._send(message)
        elif kind == "websocket.send":
            text = message.get("text")
            call.sent(message.get("bytes") if text is None else text)
            await self._send(message)
        else:
            await call.before_close()
            call.closing({"code": message.get("code", 1000)})
            with within("close"):  # so that the Close frame is the handler's, not the library's
                await self._send(message)

    def waits_for(self, endpoint: Any) -> bool:
        """Whether an endpoint is the handler, and has not been called yet for this connection."""
        return self.call is None and self.outline is None and self._host.handler is endpoint

    async def run(self, begin: Callable[[], Any], given: str) -> Any:
        """Run the handler.

        Args:
            begin: calls the handler, or the part of a framework that does.
            given: what the handler is called with, in words, if that is no object of a framework.

        Returns:
            What it returns.
        """
        try:
            return await self._host.call(self, self._losses, self._prepare, begin, given, self._note)
        finally:
            self.call = self.outline = None

    def _note(self, outline: Outline) -> None:
        self.outline = outline

    @property
    def _losses(self) -> tuple[type[Exception], ...]:
        from starlette.websockets import WebSocketDisconnect

        return (WebSocketDisconnect, OSError, RuntimeError)

    def _prepare(self, call: Call) -> None:
        self.call = call
        call.is_loss = self._is_loss
        call.connect(self, _METHODS)

    def _is_loss(self, exception: BaseException) -> bool:
        """Whether an exception of the server's or of Starlette's says that the connection is over; note its code."""
        if isinstance(exception, RuntimeError):
            return any(words in str(exception) for words in _OVER)
        if self.close_code is None:
            self.close_code = getattr(exception, "code", None)
        return True

    def watch_websocket(self, websocket: Any) -> None:
        """Watch the methods of the framework's own object for the handler."""
        if self.call is None:
            return
        self.call.argument = websocket
        self.call.connect(websocket, _METHODS)
        self.call.connection = self  # it knows the code


def watch_app(app: App, host: Host, *, whole: bool, on_failure: Callable[[str], None]) -> App:
    """Make the application that the server gets: the user's own, watched.

    Args:
        app: the application.
        host: calls the handler.
        whole: whether the application itself is the handler; otherwise it is an endpoint in it, which
            :func:`watch_frameworks` finds.
        on_failure: called with the message of an application that cannot start.

    Returns:
        The application.
    """

    async def watched(given: MutableMapping[str, Any], receive: Receive, send: Send) -> Any:
        if given["type"] == "lifespan":
            return await _live(app, host, given, receive, send, on_failure)
        if given["type"] != "websocket":
            return await app(given, receive, send)
        channel = Channel(host, receive, send)
        token = _channel.set(channel)
        try:
            # Asked for at each call, since the stand-ins come with the handler.
            arguments = given, lambda: channel.receive(), lambda message: channel.send(message)  # noqa: PLW0108
            if whole:
                return await channel.run(lambda: app(*arguments), "scope, receive and send")
            return await app(*arguments)
        finally:
            _channel.reset(token)

    return watched


async def _live(
    app: App,
    host: Host,
    given: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    on_failure: Callable[[str], None],
) -> Any:
    """Run the lifespan. What it prints, opens and starts is the application's, for all connections."""

    async def tell(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            lines = str(message.get("message", "")).strip().splitlines()
            on_failure(lines[-1] if lines else "")  # Starlette sends the whole traceback
        await send(message)

    token = scope.set(Scope(host.timeline, APPLICATION))
    try:
        return await app(given, receive, tell)
    finally:
        scope.reset(token)


async def find_endpoint(app: Any, path: str) -> Any:
    """Find the endpoint that an application has for a path, by asking the application's own routes.

    Nothing of the user's runs but what decides on the route.

    Args:
        app: the application.
        path: the path, perhaps with a query.

    Returns:
        The endpoint; the application that is mounted there, if it is none of Starlette's; the application itself, if it
        is none; None if no route has the path.
    """
    router = _router_of(app)
    if router is None:
        return app
    path, _, query = path.partition("?")
    given = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 0),
        "root_path": "",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1")],
        "subprotocols": [],
        "app": app,
        "state": {},
        "extensions": {},
    }

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(_: Message) -> None:
        """Nobody listens: this is how an application refuses."""

    found: list[Any] = []
    token = _found.set(found)
    try:
        with watch_frameworks():
            await router(given, receive, send)
    finally:
        _found.reset(token)
    return found[0] if found else None


async def _find_in(route: Any, given: Any, receive: Receive, send: Send, found: list[Any]) -> None:
    """Note the endpoint of a route; of one that mounts an application, look there."""
    endpoint = getattr(route, "endpoint", None)
    if endpoint is not None:
        found.append(endpoint)
    elif (router := _router_of(route.app)) is not None:
        await router(given, receive, send)
    else:
        found.append(route.app)


def list_paths(app: Any, prefix: str = "") -> Iterable[str]:
    """List the paths of an application's WebSockets, for a message.

    Args:
        app: the application.
        prefix: what stands before its paths.
    """
    from starlette.routing import WebSocketRoute

    for route in getattr(_router_of(app), "routes", ()):
        path = prefix + getattr(route, "path", "")
        if isinstance(route, WebSocketRoute):
            yield path
        elif (included := getattr(route, "original_router", None)) is not None:  # a router that FastAPI has included
            yield from list_paths(included, prefix + getattr(route.include_context, "prefix", ""))
        elif hasattr(route, "app"):
            yield from list_paths(route.app, path)


def _router_of(app: Any) -> Any:
    """Find the router of an application of Starlette's, beneath what is put around it."""
    from starlette.routing import Router

    seen: set[int] = set()
    while app is not None and id(app) not in seen:
        seen.add(id(app))
        if isinstance(app, Router):
            return app
        if isinstance(router := getattr(app, "router", None), Router):
            return router
        app = getattr(app, "app", None)  # as the middlewares of most frameworks call what they stand around
    return None


@contextmanager
def watch_frameworks() -> Iterator[None]:
    """Watch the endpoints of Starlette's and FastAPI's routes, for the connections of :func:`watch_app`.

    While anybody needs it, stand-ins take the place of three methods of Starlette's classes; they act for the lab's
    connections alone. The handler is the route: with an endpoint of FastAPI, its dependencies belong to it.
    """
    from starlette.routing import Mount, WebSocketRoute
    from starlette.websockets import WebSocket

    undo = [
        replace(WebSocketRoute, "handle", _watched_route),
        replace(Mount, "handle", _watched_route),
        replace(WebSocket, "__init__", _watched_websocket),
    ]
    try:
        yield
    finally:
        for leave in undo:
            leave()


def _watched_route(handle: Any) -> Any:
    async def watched(route: Any, given: Any, receive: Receive, send: Send) -> None:
        if (found := _found.get()) is not None:
            await _find_in(route, given, receive, send, found)
            return
        channel, endpoint = _channel.get(), getattr(route, "endpoint", None) or route.app
        if channel is None or not channel.waits_for(endpoint):
            await handle(route, given, receive, send)
            return
        with _exceptions_seen(given, channel):
            await channel.run(lambda: handle(route, given, receive, send), "WebSocket")

    return watched


def _watched_websocket(init: Any) -> Any:
    def watched(websocket: Any, *args: Any, **kwargs: Any) -> None:
        init(websocket, *args, **kwargs)
        if (channel := _channel.get()) is not None and not in_method():
            channel.watch_websocket(websocket)

    return watched


@contextmanager
def _exceptions_seen(given: MutableMapping[str, Any], channel: Channel) -> Iterator[None]:
    """See the exceptions of a handler of which the application makes an answer, such as ``WebSocketException``."""
    found = given.get(_HANDLERS)
    if found is None:
        yield
        return
    given[_HANDLERS] = tuple(_seen(each, channel) for each in found)
    try:
        yield
    finally:
        given[_HANDLERS] = found


def _seen(handlers: Mapping[Any, Any], channel: Channel) -> dict[Any, Any]:
    def make(handler: Any) -> Any:
        def note(exception: BaseException) -> None:
            if (call := channel.call or channel.outline) is not None:
                call.handled = exception

        async def answer(connection: Any, exception: BaseException) -> Any:
            note(exception)
            return await handler(connection, exception)

        def answer_in_thread(connection: Any, exception: BaseException) -> Any:
            note(exception)
            return handler(connection, exception)

        return answer if iscoroutinefunction(handler) else answer_in_thread

    return {key: make(handler) for key, handler in handlers.items()}
