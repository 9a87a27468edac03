"""A client written with websockets."""

from __future__ import annotations

import inspect
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from labkit.clients.library import LibraryClient
from labkit.wording import of_close, of_exception

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["WebsocketsClient"]


class WebsocketsClient(LibraryClient):
    """``async with connect(url) as websocket: async for message in websocket: ...``."""

    name = "websockets"
    function = "connect"

    @classmethod
    def option_names(cls) -> set[str]:
        """List the keyword arguments of ``connect``."""
        from websockets.asyncio.client import connect

        return set(inspect.signature(connect).parameters) - {"self", "uri", "kwargs"}

    def _connect(self) -> AbstractAsyncContextManager[Any]:
        from websockets.asyncio.client import connect

        # No proxy, whatever the environment says: the wire is on loopback. No compression, so that it can show what
        # is said.
        return connect(self.url, **{"proxy": None, "compression": None, **self.options})

    async def _listen(self, connection: ClientConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        exception: ConnectionClosed | None = None
        try:
            async for message in connection:
                self.received(message)
        except ConnectionClosed as closed:
            exception = closed
        if (close := connection.protocol.close_rcvd) is not None:
            # A frame without a code is reported as 1005, which is never on the wire (RFC 6455, section 7.1.5).
            code = None if close.code == 1005 else close.code
            self.timeline.record("client", "close-received", *of_close(code, close.reason))
        code = connection.close_code
        if exception is None:
            self.end("told", f"connection ended: close code {code}", code, None)
        else:
            self.end("error", f"connection ended: {of_exception(exception)}", code, exception)

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
