"""The Disconnect Lab: what happens to a WebSocket handler when its client goes away.

``import labkit`` is light: each public name is loaded from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from labkit.clients import CLIENTS
    from labkit.errors import LabError
    from labkit.exercises import EXERCISES, check, hint, predict, progress, solution
    from labkit.experiment import Run, play
    from labkit.faults import (
        FAULTS,
        BadOpcode,
        BadUtf8,
        Blackhole,
        BlockedLoop,
        Close,
        CloseThenReset,
        Fault,
        Fin,
        FrozenProcess,
        GoingAway,
        HalfClose,
        HandlerError,
        HandshakeCut,
        HandshakeHang,
        HandshakeRefused,
        IdleTimeout,
        IgnoreClose,
        NoCode,
        Reset,
        SecondCancel,
        Shutdown,
        Sigint,
        Sigkill,
        SlowLink,
        StalledReader,
        TooBig,
        TruncatedFrame,
        UnmaskedFrame,
    )
    from labkit.loop import run
    from labkit.matrices import Matrix, matrix
    from labkit.recordings import load
    from labkit.resources import note, resource
    from labkit.servers import STACKS, host
    from labkit.timeline import Event, Timeline
    from labkit.verdict import Verdict
    from labkit.wire import Wire

#: Each public name, with the room it comes from.
_ROOMS: Final = {
    "CLIENTS": "clients",
    "EXERCISES": "exercises",
    "FAULTS": "faults",
    "STACKS": "servers",
    "BadOpcode": "faults",
    "BadUtf8": "faults",
    "Blackhole": "faults",
    "BlockedLoop": "faults",
    "Close": "faults",
    "CloseThenReset": "faults",
    "Event": "timeline",
    "Fault": "faults",
    "Fin": "faults",
    "FrozenProcess": "faults",
    "GoingAway": "faults",
    "HalfClose": "faults",
    "HandlerError": "faults",
    "HandshakeCut": "faults",
    "HandshakeHang": "faults",
    "HandshakeRefused": "faults",
    "IdleTimeout": "faults",
    "IgnoreClose": "faults",
    "LabError": "errors",
    "Matrix": "matrices",
    "NoCode": "faults",
    "Reset": "faults",
    "Run": "experiment",
    "SecondCancel": "faults",
    "Shutdown": "faults",
    "Sigint": "faults",
    "Sigkill": "faults",
    "SlowLink": "faults",
    "StalledReader": "faults",
    "Timeline": "timeline",
    "TooBig": "faults",
    "TruncatedFrame": "faults",
    "UnmaskedFrame": "faults",
    "Verdict": "verdict",
    "Wire": "wire",
    "check": "exercises",
    "hint": "exercises",
    "host": "servers",
    "load": "recordings",
    "matrix": "matrices",
    "note": "resources",
    "play": "experiment",
    "predict": "exercises",
    "progress": "exercises",
    "resource": "resources",
    "run": "loop",
    "solution": "exercises",
}

__all__ = [
    "CLIENTS",
    "EXERCISES",
    "FAULTS",
    "STACKS",
    "BadOpcode",
    "BadUtf8",
    "Blackhole",
    "BlockedLoop",
    "Close",
    "CloseThenReset",
    "Event",
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
    "LabError",
    "Matrix",
    "NoCode",
    "Reset",
    "Run",
    "SecondCancel",
    "Shutdown",
    "Sigint",
    "Sigkill",
    "SlowLink",
    "StalledReader",
    "Timeline",
    "TooBig",
    "TruncatedFrame",
    "UnmaskedFrame",
    "Verdict",
    "Wire",
    "check",
    "hint",
    "host",
    "load",
    "matrix",
    "note",
    "play",
    "predict",
    "progress",
    "resource",
    "run",
    "solution",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}")
    value = getattr(import_module(f"labkit.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
