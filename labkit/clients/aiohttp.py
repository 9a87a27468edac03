"""A client written with aiohttp."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from labkit.clients.library import LibraryClient
from labkit.events import ClientCloseReceived
from labkit.support.wording import describe_exception

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse
    from aiohttp.connector import Connection

__all__ = ["AiohttpClient"]


class AiohttpClient(LibraryClient):
    """``async with ClientSession() as session, session.ws_connect(url) as ws: async for message in ws: ...``."""

    name = "aiohttp"
    function = "ws_connect"
    request_options = ("headers", "protocols")
    _session: ClientSession | None = None

    @classmethod
    def option_names(cls) -> set[str]:
        """List the keyword arguments of ``ws_connect``; a ``ClientTimeout`` as ``timeout`` goes to the session."""
        from aiohttp import ClientSession

        return set(inspect.signature(ClientSession.ws_connect).parameters) - {"self", "url"}

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Any]:
        from aiohttp import ClientSession, ClientTimeout, TCPConnector
        from yarl import URL

        client = self

        class Connector(TCPConnector):
            """The library's own, which tells the client of its connections."""

            async def connect(self, *args: Any, **kwargs: Any) -> Connection:
                """Connect, or take a connection that is still there."""
                connection = await super().connect(*args, **kwargs)
                client.connected(connection.transport)
                return connection

        options = dict(self.options)
        limits = {"timeout": options.pop("timeout")} if isinstance(options.get("timeout"), ClientTimeout) else {}
        async with ClientSession(connector=Connector(), **limits) as session:
            self._session = session
            async with session.ws_connect(URL(self.url, encoded=True), **options) as connection:
                yield connection

    async def _listen(self, connection: ClientWebSocketResponse) -> None:
        from aiohttp import WSMsgType

        while True:
            message = await connection.receive()
            if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                self.received(message.data)
            elif message.type in {WSMsgType.PING, WSMsgType.PONG}:  # only with autoping=False
                continue
            else:
                break
        if message.type is WSMsgType.CLOSE:
            # aiohttp reports a Close frame without a code as 0.
            self.here.record(ClientCloseReceived.of(message.data or None, message.extra or ""))
        await self.closed()  # receive() returns CLOSING as soon as close() is called, before the handshake is done
        code, exception = connection.close_code, connection.exception()
        if exception is None:
            self.record_end("told", f"connection ended: close code {code}", code, None)
        else:
            self.record_end("error", f"connection ended: {describe_exception(exception)}", code, exception)

    async def _send(self, connection: ClientWebSocketResponse, message: str | bytes) -> None:
        await (connection.send_str(message) if isinstance(message, str) else connection.send_bytes(message))

    async def _close(self, connection: ClientWebSocketResponse, code: int, reason: str) -> None:
        await connection.close(code=code, message=reason.encode())

    async def _abort(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _status_of(self, exception: Exception) -> int | None:
        from aiohttp import WSServerHandshakeError

        return exception.status if isinstance(exception, WSServerHandshakeError) else None
