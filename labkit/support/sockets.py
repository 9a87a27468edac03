"""TCP connections: how they are made, and their ports, by which the lab finds out which sockets are the ends of one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["connect", "find_ports", "listens", "port_of"]

#: Linux' tables of TCP sockets: for each its own address and port, and its state, in hexadecimal (proc_net_tcp(5)).
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN: Final = "0A"


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


async def listens(host: str, port: int) -> bool:
    """Tell whether somebody listens.

    On Linux the system is asked, since a connection that says nothing is an error in the server's own log. Elsewhere,
    there is one.

    Args:
        host: this machine, by name or by address.
        port: the port.
    """
    try:
        tables = [table.read_text("ascii") for table in _TABLES if table.exists()]
    except OSError:
        tables = []
    if tables:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = {form for *_, address in found for form in _in_table(str(address[0]))}
        rows = [row.split() for table in tables for row in table.splitlines()[1:]]
        return any(row[3] == _LISTEN and row[1] in {f"{each}:{port:04X}" for each in addresses} for row in rows)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _in_table(address: str) -> Iterator[str]:
    """The addresses, as they stand in a table, at which one has to listen to be reached at an address."""
    found = ipaddress.ip_address(address)
    every = {4: ("0.0.0.0", f"::ffff:{address}", "::"), 6: ("::",)}  # noqa: S104 - nobody binds to it here
    for each in (found, *map(ipaddress.ip_address, every[found.version])):
        packed = each.packed
        parts = (packed[at : at + 4] for at in range(0, len(packed), 4))
        # Each 32 bits are shown as a number, in the machine's own order of bytes.
        yield "".join(f"{int.from_bytes(part, sys.byteorder):08X}" for part in parts)


def port_of(server: Any) -> int:
    """Find the port on which a server listens.

    Args:
        server: what ``loop.create_server`` gave, or a server of a library that has its sockets.

    Returns:
        The port.

    Raises:
        OSError: it has no socket, since no descriptor was left for one; asyncio does not say so.
    """
    sockets = list(server.sockets)
    if not sockets:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    port: int = sockets[0].getsockname()[1]
    return port


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
