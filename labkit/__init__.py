"""The Disconnect Lab: what happens to a WebSocket handler when its client goes away.

``import labkit`` is light: each public name is loaded from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from labkit.errors import LabError
    from labkit.experiment import Run, play
    from labkit.faults import (
        FAULTS,
        Close,
        CloseThenReset,
        Fault,
        Fin,
        GoingAway,
        HalfClose,
        IgnoreClose,
        NoCode,
        Reset,
        TruncatedFrame,
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
    "FAULTS": "faults",
    "STACKS": "servers",
    "Close": "faults",
    "CloseThenReset": "faults",
    "Event": "timeline",
    "Fault": "faults",
    "Fin": "faults",
    "GoingAway": "faults",
    "HalfClose": "faults",
    "IgnoreClose": "faults",
    "LabError": "errors",
    "Matrix": "matrices",
    "NoCode": "faults",
    "Reset": "faults",
    "Run": "experiment",
    "Timeline": "timeline",
    "TruncatedFrame": "faults",
    "Verdict": "verdict",
    "Wire": "wire",
    "host": "servers",
    "load": "recordings",
    "matrix": "matrices",
    "note": "resources",
    "play": "experiment",
    "resource": "resources",
    "run": "loop",
}

__all__ = [
    "FAULTS",
    "STACKS",
    "Close",
    "CloseThenReset",
    "Event",
    "Fault",
    "Fin",
    "GoingAway",
    "HalfClose",
    "IgnoreClose",
    "LabError",
    "Matrix",
    "NoCode",
    "Reset",
    "Run",
    "Timeline",
    "TruncatedFrame",
    "Verdict",
    "Wire",
    "host",
    "load",
    "matrix",
    "note",
    "play",
    "resource",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}")
    value = getattr(import_module(f"labkit.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
