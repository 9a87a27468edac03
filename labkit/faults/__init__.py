"""Faults: the named ways for a connection to end or misbehave, by one file a family.

A new family is imported here; a new fault is one class in its family's file.
"""

from __future__ import annotations

from typing import Final

from labkit.faults.closing import Close, CloseThenReset, GoingAway, IgnoreClose, NoCode
from labkit.faults.fault import Fault, Scene, find_fault, registry
from labkit.faults.handshake import HandshakeCut, HandshakeHang, HandshakeRefused
from labkit.faults.middlebox import IdleTimeout, SlowLink
from labkit.faults.process import FrozenProcess, Sigint, Sigkill
from labkit.faults.protocol import BadOpcode, BadUtf8, TooBig, UnmaskedFrame
from labkit.faults.server import BlockedLoop, HandlerError, InducedError, SecondCancel, Shutdown
from labkit.faults.silence import Blackhole, StalledReader
from labkit.faults.transport import Fin, HalfClose, Reset, TruncatedFrame

__all__ = [
    "FAMILIES",
    "FAULTS",
    "BadOpcode",
    "BadUtf8",
    "Blackhole",
    "BlockedLoop",
    "Close",
    "CloseThenReset",
    "Fault",
    "Fin",
    "FrozenProcess",
    "GoingAway",
    "HalfClose",
    "HandlerError",
    "HandshakeCut",
    "HandshakeHang",
    "HandshakeRefused",
    "IdleTimeout",
    "IgnoreClose",
    "InducedError",
    "NoCode",
    "Reset",
    "Scene",
    "SecondCancel",
    "Shutdown",
    "Sigint",
    "Sigkill",
    "SlowLink",
    "StalledReader",
    "TooBig",
    "TruncatedFrame",
    "UnmaskedFrame",
    "find_fault",
]

#: The families, in the order in which they are shown.
FAMILIES: Final = ("closing", "transport", "silence", "process", "protocol", "middlebox", "server", "handshake")

#: Every fault with its default knobs, by name.
FAULTS: Final[dict[str, Fault]] = {
    name: fault() for family in FAMILIES for name, fault in registry.items() if fault.family == family
}
