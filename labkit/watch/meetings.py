"""Experiments that meet: a handler keeps its clients, and so has one of another experiment, or of an earlier one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from labkit.events import LoopMet, LoopStop
from labkit.timeline import Scope, Timeline, scope

__all__ = ["meet", "meet_left", "note_left"]

#: Whose the connections were that a handler may still have, such as in a list of all its clients.
_left: Final[WeakKeyDictionary[Any, ReferenceType[Timeline]]] = WeakKeyDictionary()


def note_left(connection: Any, here: Scope | None) -> None:
    """Note that the handler of a connection has ended, or that the lab has stopped it.

    Args:
        connection: the library's own connection.
        here: the scope of its handler, if it is known.
    """
    if here is not None and not here.timeline.lent:
        with suppress(TypeError):  # nothing can refer to it weakly
            _left[connection] = ref(here.timeline)


def meet_left(connection: Any) -> None:
    """Record that the handler whose code runs still has a connection of an earlier experiment, if it has.

    Args:
        connection: what it calls a method of; nobody watches it any more.
    """
    here = scope.get()
    if here is None or here.lane != "handler" or here.timeline.lent:
        return
    with suppress(TypeError):  # nothing can refer to it weakly
        before = _left.get(connection)
        if before is not None and before() is not here.timeline:
            _note_earlier(here.timeline)


def meet(ours: Timeline, here: Scope) -> None:
    """Record, where it is so, that code of one experiment writes to a client of another one.

    Args:
        ours: the timeline of the experiment whose client it is.
        here: the scope of the code that writes.
    """
    if here.timeline is ours or here.lane != "handler" or ours.lent:
        return
    if ours.first(LoopStop) is not None:
        _note_earlier(here.timeline)
        return
    _note(here.timeline, LoopMet(text="the handler writes to a client of another experiment"))
    _note(ours, LoopMet(text="the handler of another experiment writes to the client"))


def _note_earlier(timeline: Timeline) -> None:
    _note(timeline, LoopMet(earlier=True, text="the handler has a client of an earlier experiment"))


def _note(timeline: Timeline, event: LoopMet) -> None:
    if timeline.first(LoopMet) is None:  # the first one says it all
        timeline.append(event)
