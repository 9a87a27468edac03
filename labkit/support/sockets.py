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

__all__ = ["connect", "find_ports", "keep_from_children", "listens", "port_of"]

#: Linux' tables of TCP sockets: for each its own address and port, and its state, in hexadecimal (proc_net_tcp(5)).
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN: Final = "0A"

#: The lab's own sockets, by their descriptors: the addresses of both ends. One that is closed is forgotten when the
#: next one has its number.
_own: Final[dict[int, tuple[Any, Any]]] = {}


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


def keep_from_children(ours: socket.socket | asyncio.BaseTransport) -> None:
    """Keep a socket of the lab's from the processes that a handler forks.

    A forked process has a copy of each socket, and TCP tells of no end before the last copy is closed. In production a
    server's children have no copies of the client's sockets, so they shall have none here.

    Args:
        ours: the socket, or its transport.
    """
    made: Any = ours if isinstance(ours, socket.socket) else ours.get_extra_info("socket")  # uvloop has its own class
    if made is not None and (number := made.fileno()) != -1:
        _own[number] = _ends(made)


def _ends(made: Any) -> tuple[Any, Any]:
    here = made.getsockname()
    try:
        return here, made.getpeername()
    except OSError:  # it listens, or its connection is gone
        return here, None


def _close_own() -> None:
    """Close the lab's sockets, in a process that has just been forked."""
    for number, ends in _own.items():
        with contextlib.suppress(OSError):  # it is closed already
            copy = socket.socket(fileno=number)
            if _ends(copy) == ends:
                copy.close()
            else:  # it is somebody else's by now
                copy.detach()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_close_own)
