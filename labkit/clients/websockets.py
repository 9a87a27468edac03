"""A client written with websockets."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from labkit.clients.library import LibraryClient
from labkit.events import ClientCloseReceived
from labkit.support.wording import describe_exception

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["WebsocketsClient"]


#: Keyword arguments of `loop.create_connection` that `connect` passes on.
_CREATE_CONNECTION = {"family", "local_addr", "server_hostname", "ssl", "ssl_handshake_timeout", "ssl_shutdown_timeout"}


class WebsocketsClient(LibraryClient):
    """``async with connect(url) as websocket: async for message in websocket: ...``."""

    name = "websockets"
    function = "connect"
    request_options = ("additional_headers", "subprotocols")

    @classmethod
    def option_names(cls) -> set[str]:
        """List the keyword arguments of ``connect``, and those that it passes on to ``loop.create_connection``."""
        from websockets.asyncio.client import connect

        return (set(inspect.signature(connect).parameters) - {"self", "uri", "kwargs"}) | _CREATE_CONNECTION

    def _connect(self) -> AbstractAsyncContextManager[Any]:
        from websockets.asyncio.client import ClientConnection, connect

        make_connection = self.options.get("create_connection") or ClientConnection

        def create_connection(*arguments: Any, **keywords: Any) -> ClientConnection:
            connection: ClientConnection = make_connection(*arguments, **keywords)
            made = connection.connection_made

            def connection_made(transport: asyncio.BaseTransport) -> None:
                self.connected(transport)
                made(transport)

            setattr(connection, "connection_made", connection_made)  # noqa: B010 - mypy forbids to assign to a method
            return connection

        # No proxy, whatever the environment says, since the wire is on loopback. No compression, so that the wire can
        # show the messages.
        options = {"proxy": None, "compression": None, **self.options, "create_connection": create_connection}
        return connect(self.url, **options)

    async def _listen(self, connection: ClientConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        exception: ConnectionClosed | None = None
        try:
            async for message in connection:
                self.received(message)
        except ConnectionClosed as closed:
            exception = closed
        if (close := connection.protocol.close_rcvd) is not None:
            # websockets reports a Close frame without a code as 1005 (RFC 6455, section 7.1.5): never on the wire.
            code = None if close.code == 1005 else close.code
            self.here.record(ClientCloseReceived.of(code, close.reason))
        code = connection.close_code
        if exception is None:
            self.record_end("told", f"connection ended: close code {code}", code, None)
        else:
            self.record_end("error", f"connection ended: {describe_exception(exception)}", code, exception)

    async def _send(self, connection: ClientConnection, message: str | bytes) -> None:
        await connection.send(message)

    async def _close(self, connection: ClientConnection, code: int, reason: str) -> None:
        await connection.close(code, reason)

    async def _abort(self) -> None:
        if self._connection is not None:
            self._connection.transport.abort()

    def _status_of(self, exception: Exception) -> int | None:
        from websockets.exceptions import InvalidStatus

        return exception.response.status_code if isinstance(exception, InvalidStatus) else None
