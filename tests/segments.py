"""How many TCP segments with data have come, as the system counts them."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

import pytest

needs_tcp_info = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts segments (tcp(7), TCP_INFO)")

#: Where ``struct tcp_info`` of <linux/tcp.h> has ``tcpi_data_segs_in``, and how long it is up to there.
_OFFSET, _LENGTH = 152, 160


def segments(transport: asyncio.BaseTransport) -> int:
    """The segments with data that a socket has got."""
    told = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH)
    (number,) = struct.unpack_from("I", told, _OFFSET)
    assert isinstance(number, int)
    return number
