"""Watches all that a handler may leave behind; a new kind of it has its line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from labkit.remains.callbacks import watch_callbacks
from labkit.remains.databases import watch_databases
from labkit.remains.descriptors import watch_descriptors
from labkit.remains.dropped import watch_dropped
from labkit.remains.files import watch_files
from labkit.remains.generators import watch_generators, watch_generators_here
from labkit.remains.locks import watch_locks
from labkit.remains.mapped import watch_mapped
from labkit.remains.owners import watch_owners
from labkit.remains.processes import watch_processes
from labkit.remains.sessions import watch_sessions
from labkit.remains.signals import watch_signals
from labkit.remains.sockets import watch_sockets
from labkit.remains.started import watch_starts
from labkit.remains.thread_locks import watch_thread_locks
from labkit.support.replacing import InCommon
from labkit.timeline import Timeline

__all__ = ["watch_remains"]

_stand_ins: Final = InCommon(
    watch_processes,
    watch_sockets,
    watch_files,
    watch_mapped,
    watch_databases,
    watch_sessions,
    watch_owners,
    watch_descriptors,
    watch_callbacks,
    watch_dropped,
    watch_locks,
    watch_signals,
    watch_generators,
)


@contextmanager
def watch_remains(timeline: Timeline, handler: Callable[..., Any], function: Callable[..., Any]) -> Iterator[None]:
    """Remember what the handlers of an experiment start, open and set, while the block runs.

    Args:
        timeline: the experiment's timeline.
        handler: the handler.
        function: the function that its author wrote.
    """
    with watch_starts(timeline, handler, function), _stand_ins(), watch_generators_here(), watch_thread_locks(timeline):
        yield
