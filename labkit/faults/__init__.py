"""Faults: the named ways for a connection to end or misbehave, by one file a family.

A new family is imported here; a new fault is one class in its family's file.
"""

from __future__ import annotations

from typing import Final

from labkit.faults.closing import Close, CloseThenReset, GoingAway, IgnoreClose, NoCode
from labkit.faults.fault import Fault, Scene, find_fault, registry
from labkit.faults.process import FrozenProcess, Sigint, Sigkill
from labkit.faults.server import BlockedLoop, HandlerError, InducedError, SecondCancel, Shutdown
from labkit.faults.transport import Fin, HalfClose, Reset, TruncatedFrame

__all__ = [
    "FAMILIES",
    "FAULTS",
    "BlockedLoop",
    "Close",
    "CloseThenReset",
    "Fault",
    "Fin",
    "FrozenProcess",
    "GoingAway",
    "HalfClose",
    "HandlerError",
    "IgnoreClose",
    "InducedError",
    "NoCode",
    "Reset",
    "Scene",
    "SecondCancel",
    "Shutdown",
    "Sigint",
    "Sigkill",
    "TruncatedFrame",
    "find_fault",
]

#: The families, in the order in which they are shown.
FAMILIES: Final = ("closing", "transport", "silence", "process", "protocol", "middlebox", "server", "handshake")

#: Every fault with its default knobs, by name.
FAULTS: Final[dict[str, Fault]] = {
    name: fault() for family in FAMILIES for name, fault in registry.items() if fault.family == family
}
