"""The stack of hypercorn: an ASGI application or an endpoint, as its ``serve`` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from labkit.stacks.asgi import STOP, Asgi, does_not_start, listen
from labkit.stacks.stack import RunningServer
from labkit.support.clock import scaled
from labkit.support.replacing import MISSING, replace
from labkit.support.sockets import port_of
from labkit.watch.asgi import watch_app, watch_frameworks
from labkit.watch.host import Host

__all__ = ["AsgiHypercorn"]

#: Where a server logs; the lab gives hypercorn the logger, and leaves all settings of logging as they are.
_LOGGER: Final = "hypercorn.error"


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

    def import_server(self) -> None:
        """Import what hypercorn imports when it serves."""
        import hypercorn.asyncio  # noqa: F401 - for what importing it does

    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:
        """Start a server with hypercorn's ``serve``, on a socket of the lab's."""
        from hypercorn.asyncio import serve
        from hypercorn.config import Config, Sockets

        failures: list[str] = []
        watched: Any = watch_app(app, host, whole=host.handler is app, on_failure=failures.append)
        with ExitStack() as undo:
            undo.enter_context(watch_frameworks())
            listener = undo.enter_context(listen())

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
                raise does_not_start(failures) if failures or error is None else error
            scheme = "wss" if config.ssl_enabled else "ws"
            return _Hypercorn(serving, end, listening.result(), scheme, host, undo.pop_all())


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
            self._host.taps.abort()
            self._end.set()
            await asyncio.wait([self._serving], timeout=scaled(STOP))
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
    made = loop.create_future()
    _tapped_sockets[listener] = host, made
    kind = type(loop)

    def make(member: Any) -> Any:
        async def create_server(self: Any, factory: Any, *args: Any, sock: Any = None, **keywords: Any) -> Any:
            create = super(kind, self).create_server if member is MISSING else partial(member, self)
            # Taken away: where another class of loops is watched too, the call comes by its stand-in as well.
            if sock is None or (ours := _tapped_sockets.pop(sock, None)) is None:
                return await create(factory, *args, sock=sock, **keywords)
            server = await create(lambda: ours[0].taps.make(factory()), *args, sock=sock, **keywords)
            ours[1].set_result(server)
            return server

        return create_server

    undo = replace(kind, "create_server", make)
    try:
        yield made
    finally:
        undo()
        _tapped_sockets.pop(listener, None)
