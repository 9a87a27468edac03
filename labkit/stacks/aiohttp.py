"""The stacks of aiohttp: its default, and with ``handler_cancellation=True``."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from labkit.stacks.stack import RunningServer, Stack
from labkit.support.clock import scaled
from labkit.watch.call import Call
from labkit.watch.host import Host

if TYPE_CHECKING:
    import socket

    from aiohttp import web

__all__ = ["Aiohttp", "AiohttpCancel"]

# The import of aiohttp takes 0.1 s and more. It is imported where it is used, since the other stacks do not need it.

_call: ContextVar[Call] = ContextVar("labkit_aiohttp_call")

#: Seconds that the library may take to stop; after that the lab no longer waits.
_STOP = 2.0


class Aiohttp(Stack):
    """aiohttp as ``web.run_app`` runs it: a handler is not cancelled when its client goes away."""

    name = "aiohttp"
    distribution = "aiohttp"
    argument = "request"
    function = "AppRunner"
    telltales = frozenset({"match_info", "rel_url", "config_dict"})

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``AppRunner``, and of the classes to which it passes them."""
        from aiohttp import web
        from aiohttp.web_protocol import RequestHandler

        internal = {"self", "app", "handler", "manager", "loop", "kwargs", "request_factory"}
        classes = (web.AppRunner, web.BaseRunner, web.Server, RequestHandler)
        return {name for each in classes for name in inspect.signature(each).parameters} - internal

    async def start(self, host: Host, options: Mapping[str, Any]) -> RunningServer:
        """Start an application that has the handler at every path, with ``AppRunner``."""
        from aiohttp import web

        async def call(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse = await host.call(request, ConnectionError, _call.set)
            return response

        app = web.Application()
        app.router.add_get("/{path:.*}", call)
        app.on_response_prepare.append(_observe)
        runner = web.AppRunner(app, **options)
        await runner.setup()
        try:
            server = runner.server
            assert server is not None
            # As `TCPSite` does it, with a tap in front of each protocol.
            listener = await asyncio.get_running_loop().create_server(lambda: host.tap(server()), "127.0.0.1", 0)
        except BaseException:
            await runner.cleanup()
            raise
        return _Running(runner, listener)


class AiohttpCancel(Aiohttp):
    """aiohttp with ``handler_cancellation=True``: a handler is cancelled when its client's connection is lost."""

    name = "aiohttp-cancel"

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``AppRunner``, without the one that makes this stack."""
        return set(super().option_names()) - {"handler_cancellation"}

    async def start(self, host: Host, options: Mapping[str, Any]) -> RunningServer:
        """Start the application with ``handler_cancellation=True``."""
        return await super().start(host, {**options, "handler_cancellation": True})


class _Running(RunningServer):
    def __init__(self, runner: web.AppRunner, listener: asyncio.Server) -> None:
        self._runner = runner
        self._listener = listener
        port = listener.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/"

    @property
    def sockets(self) -> Iterable[socket.socket]:
        """The listening sockets."""
        return self._listener.sockets

    async def shut_down(self) -> None:
        self._listener.close()  # which `cleanup` would do with a site
        await self._runner.cleanup()

    async def stop(self) -> None:
        self._listener.close()
        server = self._runner.server
        for connection in server.connections if server is not None else ():
            connection.force_close()
        # The handlers should have ended. If one has not, aiohttp would wait for `shutdown_timeout`, which is a minute.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(scaled(_STOP)):
                await self._runner.cleanup()


async def _observe(request: web.Request, response: web.StreamResponse) -> None:
    """Observe what the library tells the handler, on the handler's own connection (a signal of aiohttp)."""
    from aiohttp import web

    call = _call.get(None)
    if call is None or not isinstance(response, web.WebSocketResponse):
        return

    def received(message: Any) -> None:
        kind = message.type
        if kind in {web.WSMsgType.TEXT, web.WSMsgType.BINARY}:
            call.received(message.data)
        elif kind is web.WSMsgType.PONG:
            call.pings.answered()
        elif kind in {web.WSMsgType.CLOSE, web.WSMsgType.CLOSING, web.WSMsgType.CLOSED}:
            call.record_notice(f"receive() gave {kind.name}")
        elif kind is web.WSMsgType.ERROR:
            call.record_notice("receive() gave ERROR", message.data)

    def sends_frame(arguments: dict[str, Any]) -> None:
        opcode = arguments["opcode"]
        if opcode in {web.WSMsgType.TEXT, web.WSMsgType.BINARY}:
            call.sent(arguments["message"], web.WSMsgType(opcode).name)

    stand_ins = call.connect(response)
    # Otherwise the library takes the pongs for itself.
    gets_pongs = not getattr(response, "_autoping", True)
    stand_ins.observe("receive", on_return=received, waits_for="message", tells_cause=gets_pongs)
    # `receive_str`, `async for`, `write_eof` and the methods for JSON call the methods below.
    for name in ("send_str", "send_bytes"):
        stand_ins.observe(name, on_call=lambda arguments: call.sent(arguments["data"]), parameters=("data",))
    stand_ins.observe("send_frame", on_call=sends_frame, parameters=("message", "opcode"))
    stand_ins.observe("ping", on_return=call.pings.sent if gets_pongs else None)
    for name in ("pong", "drain"):
        stand_ins.observe(name)
    stand_ins.observe("close", on_call=call.closing, before=call.before_close, parameters=("code", "message"))
    call.observe_properties(
        response,
        {
            "closed": lambda closed: closed is True,
            "close_code": lambda code: code is not None,
            "exception": lambda exception: exception is not None,
            "_closed": lambda closed: closed is True,
            "_closing": lambda closing: closing is True,
        },
    )
    # After TCP is gone, aiohttp has no transport any more. A copy of the request has the same protocol.
    gone = {"transport": lambda transport: transport is None, "connected": lambda connected: connected is False}
    call.observe_properties(request.protocol, gone)
    call.observe_properties(request, gone, lambda request: request._protocol)  # noqa: SLF001
