"""The stacks of uvicorn: an ASGI application or an endpoint, with one of its protocols."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from labkit.errors import BadHandler
from labkit.stacks.stack import Program, RunningServer, Stack, make_app
from labkit.support.clock import scaled
from labkit.watch.asgi import find_endpoint, list_paths, watch_app, watch_frameworks
from labkit.watch.handler import check_handler, may_be_awaited, name_of
from labkit.watch.host import Host

if TYPE_CHECKING:
    import uvicorn

T = TypeVar("T")

__all__ = ["STOP", "Asgi", "AsgiWebsockets", "AsgiWsproto", "does_not_start", "is_app", "listen"]

#: Seconds that the server, and the application's own shutdown, may take to stop; after that the lab no longer waits.
STOP: Final = 2.0

#: Turns of the loop until the server has heard of connections that were dropped.
_TURNS: Final = 3


class Asgi(Stack):
    """uvicorn as ``uvicorn.run`` runs it, with its default protocol for WebSockets."""

    name = "asgi"
    distribution = "uvicorn"
    interface = "asgi"
    argument = "websocket"
    function = "uvicorn.Config"
    telltales = frozenset(
        {"accept", "receive_text", "receive_json", "send_text", "send_json", "iter_text", "iter_json"}
    )
    usual = False
    extra = "asgi"
    needs: ClassVar[tuple[str, ...]] = ("uvicorn", "starlette")
    also = frozenset({"starlette", "fastapi", "websockets", "wsproto"})

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``uvicorn.Config``, without those that concern a process or its logging."""
        import uvicorn

        internal = {
            "self",
            "app",
            "uds",
            "fd",
            "loop",
            "workers",
            "factory",
            "env_file",
            "callback_notify",
            "interface",
        }
        process = {"reload", "reload_dirs", "reload_delay", "reload_includes", "reload_excludes"}
        log = {"log_config", "log_level", "access_log", "use_colors"}
        own = {"host", "port"} | internal | process | log | set(self._options)
        return set(inspect.signature(uvicorn.Config).parameters) - own

    @property
    def _options(self) -> Mapping[str, Any]:
        """The settings that make this stack."""
        return {}

    def check_target(self, target: Any) -> None:
        """Refuse what is neither an application, nor a function that makes one, nor an endpoint."""
        if is_app(target) or _makes_app(target):
            return
        if _is_endpoint(target) and not _takes(target, 1):
            raise BadHandler(
                f"the endpoint {name_of(target)!r} takes more than the websocket, which its application gives it:"
                " play the application, and give the path"
            )
        check_handler(target, self.argument)

    async def load(self, target: Any, path: str) -> Program:
        """Make the application, and find its endpoint for the path; an endpoint gets an application of its own."""
        from starlette.applications import Starlette
        from starlette.routing import WebSocketRoute

        self.import_server()
        if "fastapi" in sys.modules:
            await _warm_up()
        if is_app(target):
            return await _find(target, path, f"the application {name_of(target)}")
        if not _makes_app(target):
            return Program(target, Starlette(routes=[WebSocketRoute("/{path:path}", target)]))
        maker, app = f"{name_of(target)}()", await make_app(target)
        if not is_app(app):
            raise BadHandler(
                f"{maker} gave {app!r}; an endpoint takes one argument, the websocket,"
                " and a function without arguments makes an ASGI application"
            )
        return await _find(app, path, maker)

    def import_server(self) -> None:
        """Import what the server imports when it starts: from then on that would be told as a block of the handler."""
        self._configure(self.load, {})

    def _configure(self, app: Any, options: Mapping[str, Any]) -> uvicorn.Config:
        import uvicorn

        config = uvicorn.Config(app, log_config=None, **{**self._options, **options})
        _quietly(config.load)
        if (make := config.ws_protocol_class) is not None:
            config.ws_protocol_class = partial(_quietly, make)  # type: ignore[assignment] # a function that makes one
        return config

    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:
        """Start a server as ``uvicorn.run`` does, without its signal handlers and without its settings of logging."""
        import uvicorn

        failures: list[str] = []
        watched = watch_app(app, host, whole=host.handler is app, on_failure=failures.append)
        with ExitStack() as undo:
            undo.enter_context(watch_frameworks())
            listener = undo.enter_context(listen())
            config = self._configure(watched, options)
            config.http_protocol_class = partial(_tapped, host, config.http_protocol_class)  # type: ignore[assignment] # a function that makes one
            server = uvicorn.Server(config)
            server.lifespan = config.lifespan_class(config)
            try:
                await server.startup(sockets=[listener])
            except SystemExit:
                raise does_not_start(failures) from None
            return _Uvicorn(server, listener, host, undo.pop_all())


class AsgiWebsockets(Asgi):
    """uvicorn with ``ws="websockets"``: the older protocol, on the deprecated implementation of websockets."""

    name = "asgi-websockets"

    @property
    def _options(self) -> Mapping[str, Any]:
        return {"ws": "websockets"}


class AsgiWsproto(Asgi):
    """uvicorn with ``ws="wsproto"``."""

    name = "asgi-wsproto"
    needs = (*Asgi.needs, "wsproto")

    @property
    def _options(self) -> Mapping[str, Any]:
        return {"ws": "wsproto"}


async def _warm_up() -> None:
    """Serve one connection that is nobody's: at the first of a process, FastAPI imports parts of itself.

    Otherwise that would be told of the first handler that is played, as a block of the loop.
    """
    global _is_warm  # noqa: PLW0603 - once a process
    if _is_warm:
        return
    _is_warm = True
    from fastapi import FastAPI

    async def endpoint() -> None:
        """Not a word."""

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(_: Any) -> None:
        """Nobody listens."""

    app = FastAPI()
    app.add_api_websocket_route("/", endpoint)
    await app({"type": "websocket", "path": "/", "root_path": "", "headers": [], "query_string": b""}, receive, send)


#: Whether FastAPI has served a connection in this process.
_is_warm = False


def listen() -> socket.socket:
    """Listen on a free port of the loopback address, without Nagle's algorithm, as the servers' own sockets do."""
    # asyncio turns it off for each connection where the protocol is named.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def does_not_start(failures: list[str]) -> BadHandler:
    """Say that an application does not start, and why, as its lifespan told it."""
    return BadHandler(f"the application does not start: {failures[-1] if failures else 'its lifespan failed'}")


def _quietly(call: Callable[..., T], **keywords: Any) -> T:
    """Call what warns that a protocol is deprecated: that is for who chooses one for production."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(**keywords)


def _tapped(host: Host, make: Callable[..., asyncio.Protocol], **keywords: Any) -> asyncio.BaseProtocol:
    return host.taps.make(make(**keywords))


def _takes(target: Any, count: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        # As it is called: a decorator may supply arguments of the function beneath.
        inspect.signature(target, follow_wrapped=False).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def is_app(target: Any) -> bool:
    """Tell whether it is an ASGI application: it is called with scope, receive and send, and not with one argument."""
    return callable(target) and _takes(target, 3) and not _takes(target, 1) and not _is_endpoint(target)


def _is_endpoint(target: Any) -> bool:
    """Whether it is an endpoint by its first argument, with parameters of FastAPI's behind it."""
    if not inspect.isroutine(target):
        return False
    first = next(iter(inspect.signature(target, follow_wrapped=False).parameters.values()), None)
    return (
        first is not None
        and getattr(first.annotation, "__name__", str(first.annotation)).rpartition(".")[2] == "WebSocket"
    )


def _makes_app(target: Any) -> bool:
    """Whether it can be called without arguments, and may return something; an endpoint takes the websocket."""
    if not callable(target) or inspect.isclass(target) or not may_be_awaited(target):
        return False
    return _takes(target, 0) and not any(
        each.kind is each.VAR_POSITIONAL for each in inspect.signature(target, follow_wrapped=False).parameters.values()
    )


async def _find(app: Any, path: str, what: str) -> Program:
    endpoint = await find_endpoint(app, path)
    if endpoint is None:
        routes = ", ".join(sorted(set(list_paths(app)))) or "none that the lab can list"
        raise BadHandler(f"{what} has no WebSocket at {path}; its routes are {routes}; give one as the path")
    return Program(endpoint, app)


class _Uvicorn(RunningServer):
    def __init__(self, server: uvicorn.Server, listener: socket.socket, host: Host, undo: ExitStack) -> None:
        self._server = server
        self._listener = listener
        self._host = host
        self._undo = undo
        self._serving = asyncio.create_task(self._serve())
        scheme = "wss" if server.config.is_ssl else "ws"
        self.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"

    async def _serve(self) -> None:
        """What `uvicorn.Server.serve` does between its start and its end."""
        await self._server.main_loop()
        await self._server.shutdown(sockets=[self._listener])

    @property
    def sockets(self) -> Iterable[socket.socket]:
        """The listening sockets."""
        return [each for listener in self._server.servers for each in listener.sockets]

    async def shut_down(self) -> None:
        self._server.should_exit = True  # as its signal handlers do
        await self._serving

    async def stop(self) -> None:
        shut_down = self._serving.done() and not self._serving.cancelled()
        self._serving.cancel()
        await asyncio.wait([self._serving])
        try:
            if not shut_down:
                await self._end()
        finally:
            self._undo.close()

    async def _end(self) -> None:
        """What `uvicorn.Server.shutdown` does, without its tenths of a second, for connections that are over."""
        for listener in self._server.servers:
            listener.close()
        self._host.taps.abort()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(scaled(STOP)):
                await asyncio.gather(*self._server.server_state.tasks, return_exceptions=True)
                await self._server.lifespan.shutdown()
