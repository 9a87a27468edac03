"""The stacks of aiohttp: its default, and with ``handler_cancellation=True``."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from labkit.clock import scaled
from labkit.servers.call import Call
from labkit.servers.calls import Host
from labkit.servers.stack import RunningServer, Stack

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Aiohttp", "AiohttpCancel"]

# aiohttp takes 0.1 s and more to import, so it is imported where it is used: the other stacks do not need it.

_call: ContextVar[Call] = ContextVar("labkit_aiohttp_call")

#: Seconds that stopping may take; what hangs longer is cut off.
_STOP = 2.0


class Aiohttp(Stack):
    """aiohttp as ``web.run_app`` runs it: a handler is not cancelled when its client goes away."""

    name = "aiohttp"
    distribution = "aiohttp"
    argument = "request"
    function = "AppRunner"

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``AppRunner``, and of the classes to which it hands them."""
        from aiohttp import web
        from aiohttp.web_protocol import RequestHandler

        internal = {"self", "app", "handler", "manager", "loop", "kwargs", "request_factory"}
        owners = (web.AppRunner, web.ServerRunner.__mro__[1], web.Server, RequestHandler)
        return {name for owner in owners for name in inspect.signature(owner).parameters} - internal

    async def start(self, host: Host, options: Mapping[str, Any]) -> RunningServer:
        """Start an application with the handler for every path, on ``AppRunner`` and ``TCPSite``."""
        from aiohttp import web

        async def call(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse = await host.call(request, _call.set)
            return response

        app = web.Application()
        app.router.add_get("/{path:.*}", call)
        app.on_response_prepare.append(_observe)
        runner = web.AppRunner(app, **options)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        return _Running(runner)


class AiohttpCancel(Aiohttp):
    """aiohttp with ``handler_cancellation=True``: a handler is cancelled when its client's connection is lost."""

    name = "aiohttp-cancel"

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``AppRunner``, less the one that makes this stack."""
        return set(super().option_names()) - {"handler_cancellation"}

    async def start(self, host: Host, options: Mapping[str, Any]) -> RunningServer:
        """Start the application with ``handler_cancellation=True``."""
        return await super().start(host, {**options, "handler_cancellation": True})


class _Running(RunningServer):
    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        _, port = runner.addresses[0][:2]
        self.url = f"ws://127.0.0.1:{port}/"

    async def shut_down(self) -> None:
        await self._runner.cleanup()

    async def stop(self) -> None:
        server = self._runner.server
        for connection in server.connections if server is not None else ():
            connection.force_close()
        # The handlers have ended, so there is nothing to wait for; should there be, `shutdown_timeout` is a minute.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(scaled(_STOP)):
                await self._runner.cleanup()


async def _observe(_: web.Request, response: web.StreamResponse) -> None:
    """Watch what the library tells the handler, on the handler's own connection; an ``on_response_prepare`` hook."""
    from aiohttp import web

    call = _call.get(None)
    if call is None or not isinstance(response, web.WebSocketResponse):
        return

    def received(message: Any) -> None:
        kind = message.type
        if kind in {web.WSMsgType.TEXT, web.WSMsgType.BINARY}:
            call.received(message.data)
        elif kind in {web.WSMsgType.CLOSE, web.WSMsgType.CLOSING, web.WSMsgType.CLOSED}:
            call.noticed(f"receive() gave {kind.name}")
        elif kind is web.WSMsgType.ERROR:
            call.noticed("receive() gave ERROR", message.data)

    call.connect(response)
    call.observe("receive", done=received, lost=ConnectionError)
    for name in ("send_str", "send_bytes"):
        call.observe(name, began=call.sent, lost=ConnectionError)
    for name in ("send_frame", "ping", "pong"):
        if hasattr(response, name):  # send_frame came with aiohttp 3.11
            call.observe(name, lost=ConnectionError)
    call.observe("close", began=call.closing, done=lambda _: call.closed(), lost=ConnectionError)
