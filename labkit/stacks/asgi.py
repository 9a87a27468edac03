"""The stacks of ASGI: an application or an endpoint, on uvicorn with one of its protocols, or on hypercorn."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from labkit.errors import BadHandler
from labkit.stacks.stack import Program, RunningServer, Stack, make_app
from labkit.support.clock import scaled
from labkit.support.replacing import MISSING, replace
from labkit.support.sockets import port_of
from labkit.watch.asgi import find_endpoint, list_paths, watch_app, watch_frameworks
from labkit.watch.host import Host, check_handler, may_be_awaited, name_of

if TYPE_CHECKING:
    import uvicorn

__all__ = ["Asgi", "AsgiHypercorn", "AsgiWebsockets", "AsgiWsproto"]

#: Seconds that the server, and the application's own shutdown, may take to stop; after that the lab no longer waits.
_STOP: Final = 2.0

#: Turns of the loop until the server has heard of connections that were dropped.
_TURNS: Final = 3

#: Where a server logs; the lab gives hypercorn the logger, and leaves all settings of logging as they are.
_LOGGER: Final = "hypercorn.error"


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
        if not (_is_app(target) or _makes_app(target)):
            check_handler(target, self.argument)

    async def load(self, target: Any, path: str) -> Program:
        """Make the application, and find its endpoint for the path; an endpoint gets an application of its own."""
        from starlette.applications import Starlette
        from starlette.routing import WebSocketRoute

        if "fastapi" in sys.modules:
            await _warm_up()
        if _is_app(target):
            return await _find(target, path, f"the application {name_of(target)}")
        if not _makes_app(target):
            return Program(target, Starlette(routes=[WebSocketRoute("/{path:path}", target)]))
        maker, app = f"{name_of(target)}()", await make_app(target)
        if not _is_app(app):
            raise BadHandler(
                f"{maker} gave {app!r}; an endpoint takes one argument, the websocket,"
                " and a function without arguments makes an ASGI application"
            )
        return await _find(app, path, maker)

    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:
        """Start a server as ``uvicorn.run`` does, without its signal handlers and without its settings of logging."""
        import uvicorn

        failures: list[str] = []
        watched = watch_app(app, host, whole=host.handler is app, on_failure=failures.append)
        with ExitStack() as undo:
            undo.enter_context(watch_frameworks())
            listener = undo.enter_context(_listen())
            config = uvicorn.Config(watched, log_config=None, **{**self._options, **options})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a protocol is deprecated is for who chooses one for production
                config.load()
            config.http_protocol_class = partial(_tapped, host, config.http_protocol_class)  # type: ignore[assignment] # a function that makes one
            server = uvicorn.Server(config)
            server.lifespan = config.lifespan_class(config)
            try:
                await server.startup(sockets=[listener])
            except SystemExit:
                raise _does_not_start(failures) from None
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


class AsgiHypercorn(Asgi):
    """hypercorn as its ``serve`` runs it."""

    name = "asgi-hypercorn"
    distribution = "hypercorn"
    function = "hypercorn.Config"
    needs = ("hypercorn", "starlette")
    also = frozenset({"starlette", "fastapi", "wsproto"})

    def option_names(self) -> Iterable[str]:
        """List the settings of ``hypercorn.Config``, without those that concern a process or its logging."""
        from hypercorn.config import Config

        process = {"bind", "insecure_bind", "quic_bind", "application_path", "daemon", "group", "user", "umask"}
        process |= {"pid_path", "use_reloader", "worker_class", "workers", "debug"}
        log = {"accesslog", "errorlog", "access_log_format", "logconfig", "logconfig_dict", "logger_class", "loglevel"}
        names = {name for name in dir(Config) if not name.startswith("_") and not callable(getattr(Config, name))}
        return names - process - log - {"ssl_enabled", "log"}

    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:
        """Start a server with hypercorn's ``serve``, on a socket of the lab's."""
        from hypercorn.asyncio import serve
        from hypercorn.config import Config, Sockets

        failures: list[str] = []
        watched: Any = watch_app(app, host, whole=host.handler is app, on_failure=failures.append)
        with ExitStack() as undo:
            undo.enter_context(watch_frameworks())
            listener = undo.enter_context(_listen())

            class OnOurSocket(Config):
                def create_sockets(self) -> Sockets:
                    return Sockets([listener], [], []) if self.ssl_enabled else Sockets([], [listener], [])

            config, end = OnOurSocket(), asyncio.Event()
            for name, value in options.items():
                setattr(config, name, value)
            config.errorlog = logging.getLogger(_LOGGER)
            listening = undo.enter_context(_taps(host, listener))
            serving = asyncio.create_task(serve(watched, config, shutdown_trigger=end.wait, mode="asgi"))
            try:
                either: set[asyncio.Future[Any]] = {serving, listening}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                serving.cancel()
                await asyncio.wait({serving})
                raise
            if serving.done():
                error = serving.exception()
                raise _does_not_start(failures) if failures or error is None else error
            scheme = "wss" if config.ssl_enabled else "ws"
            return _Hypercorn(serving, end, listening.result(), scheme, host, undo.pop_all())


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


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _does_not_start(failures: list[str]) -> BadHandler:
    return BadHandler(f"the application does not start: {failures[-1] if failures else 'its lifespan failed'}")


def _tapped(host: Host, make: Callable[..., asyncio.Protocol], **keywords: Any) -> asyncio.BaseProtocol:
    return host.tap(make(**keywords))


def _takes(target: Any, count: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        # As it is called: a decorator may supply arguments of the function beneath.
        inspect.signature(target, follow_wrapped=False).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _is_app(target: Any) -> bool:
    """Whether it is an ASGI application: what is called with scope, receive and send, and not with one argument."""
    return callable(target) and _takes(target, 3) and not _takes(target, 1)


def _makes_app(target: Any) -> bool:
    """Whether it can be called without arguments, and may return something; an endpoint takes the websocket."""
    if not callable(target) or inspect.isclass(target) or not may_be_awaited(target):
        return False
    return _takes(target, 0) and not any(
        each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
        for each in inspect.signature(target, follow_wrapped=False).parameters.values()
    )


async def _find(app: Any, path: str, what: str) -> Program:
    endpoint = await find_endpoint(app, path)
    if endpoint is None:
        routes = ", ".join(sorted(set(list_paths(app)))) or "none that the lab can list"
        raise BadHandler(f"{what} has no WebSocket at {path}; its routes are {routes}; give one as path=")
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
        self._host.abort()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(scaled(_STOP)):
                await asyncio.gather(*self._server.server_state.tasks, return_exceptions=True)
                await self._server.lifespan.shutdown()


class _Hypercorn(RunningServer):
    def __init__(
        self,
        serving: asyncio.Task[None],
        end: asyncio.Event,
        listener: asyncio.Server,
        scheme: str,
        host: Host,
        undo: ExitStack,
    ) -> None:
        self._serving = serving
        self._end = end
        self._listener = listener
        self._host = host
        self._undo = undo
        self.url = f"{scheme}://127.0.0.1:{port_of(listener)}/"

    @property
    def sockets(self) -> Iterable[socket.socket]:
        """The listening sockets."""
        return self._listener.sockets

    async def shut_down(self) -> None:
        self._end.set()
        await asyncio.wait([self._serving])

    async def stop(self) -> None:
        try:
            self._host.abort()
            self._end.set()
            await asyncio.wait([self._serving], timeout=scaled(_STOP))
            self._serving.cancel()
            await asyncio.wait([self._serving])
            if not self._serving.cancelled():
                self._serving.exception()  # retrieved, so that asyncio does not log it
        finally:
            self._undo.close()


#: For each listening socket of the lab's: whose taps shall stand before its protocols, and whom to tell of its server.
_tapped_sockets: Final[dict[socket.socket, tuple[Host, asyncio.Future[asyncio.Server]]]] = {}


@contextlib.contextmanager
def _taps(host: Host, listener: socket.socket) -> Iterator[asyncio.Future[asyncio.Server]]:
    """Stand before each protocol of a server that a library makes with ``loop.create_server``, on a socket of ours.

    Args:
        host: makes the taps.
        listener: the socket.

    Yields:
        A future of the server.
    """
    loop = asyncio.get_running_loop()
    _tapped_sockets[listener] = host, loop.create_future()
    kind = type(loop)

    def make(member: Any) -> Any:
        async def create_server(self: Any, factory: Any, *args: Any, sock: Any = None, **keywords: Any) -> Any:
            create = super(kind, self).create_server if member is MISSING else partial(member, self)
            if sock is None or (ours := _tapped_sockets.get(sock)) is None:
                return await create(factory, *args, sock=sock, **keywords)
            server = await create(lambda: ours[0].tap(factory()), *args, sock=sock, **keywords)
            ours[1].set_result(server)
            return server

        return create_server

    undo = replace(kind, "create_server", make)
    try:
        yield _tapped_sockets[listener][1]
    finally:
        undo()
        del _tapped_sockets[listener]
