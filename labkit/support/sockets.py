"""TCP connections: how they are made, and their ports, by which the lab finds out which sockets are the ends of one."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

__all__ = ["connect", "find_ports"]


class Connecting(Protocol):
    """A protocol of asyncio that knows its transport."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, once there is one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""


async def connect(protocol: Connecting, host: str, port: int, **options: Any) -> None:
    """Connect, as ``loop.create_connection`` does, on every loop.

    uvloop closes the transport of a connection whose making is cancelled, and tells its protocol nothing of that. Here
    ``connection_lost`` follows each ``connection_made``.

    Args:
        protocol: the protocol.
        host: where to connect.
        port: and at which port.
        options: further arguments of ``create_connection``.

    Raises:
        OSError: the server cannot be reached.
    """
    make: Any = asyncio.get_running_loop().create_connection
    try:
        await make(lambda: protocol, host, port, **options)
    except BaseException:
        if protocol.transport is not None:
            protocol.transport.abort()
            if not protocol.transport.is_closing():
                protocol.connection_lost(None)
        raise


def find_ports(transport: asyncio.BaseTransport, *, connected: bool = False) -> tuple[int, int] | None:
    """Find the ports of a connection.

    Args:
        transport: the transport of one of its ends.
        connected: whether this end has connected; False for the end that has accepted the connection.

    Returns:
        The port of the end that has connected, and that of the end that has accepted; None if it is not TCP, or is
        already gone.
    """
    names = ("sockname", "peername") if connected else ("peername", "sockname")
    addresses = [transport.get_extra_info(name) for name in names]
    if not all(isinstance(address, tuple) and len(address) >= 2 for address in addresses):
        return None
    return addresses[0][1], addresses[1][1]
