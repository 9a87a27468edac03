"""What a handler has the loop call later, and forgets: timers, callbacks, and those of descriptors and signals."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import CodeType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from labkit.introspection.origin import find_line, is_users, name_file
from labkit.introspection.steps import scope_of_handle
from labkit.remains.started import starts_here
from labkit.support.replacing import replace
from labkit.timeline import Scope, Timeline, scope

__all__ = [
    "Callback",
    "callbacks_of",
    "describe_callback",
    "end_callbacks",
    "forget_descriptor",
    "watch_callbacks",
]

#: Where the loop's methods are that take a callback, for :func:`watch_callbacks`.
_METHODS: Final = (
    (asyncio.BaseEventLoop, "call_later"),
    (asyncio.BaseEventLoop, "call_at"),
    (asyncio.SelectorEventLoop, "add_reader"),
    (asyncio.SelectorEventLoop, "add_writer"),
    (asyncio.SelectorEventLoop, "add_signal_handler"),
)

#: The lines of the user's code that have set what calls no function of the user's.
_lines: Final[WeakKeyDictionary[asyncio.Handle, str]] = WeakKeyDictionary()


class Callback(NamedTuple):
    """Something that the loop will call.

    Attributes:
        here: the scope of the code that has asked for it.
        handle: the loop's handle of it.
        what: what it is, in words.
        end: takes it back.
    """

    here: Scope
    handle: asyncio.Handle
    what: str
    end: Callable[[], object]


def callbacks_of(timeline: Timeline) -> Iterator[Callback]:
    """Find what the running loop will call for an experiment's handlers.

    Args:
        timeline: the experiment's timeline.

    Yields:
        What calls a function of the user's own, or was set by a line of the user's: what others set, such as
        ``asyncio.sleep``, goes with a task or a connection. uvloop shows nothing of it.
    """
    loop: Any = asyncio.get_running_loop()
    for handle, what, end in _all(loop, timeline):
        here = scope_of_handle(handle)
        if here is None or here.lane != "handler":
            continue
        if _code_of(handle) is not None or handle in _lines:
            yield Callback(here, handle, what, end)


def _all(loop: Any, timeline: Timeline) -> Iterator[tuple[asyncio.Handle, str, Callable[[], object]]]:
    # One that is due waits among the callbacks of the loop's turn.
    for handle in _of((*getattr(loop, "_scheduled", ()), *getattr(loop, "_ready", ())), timeline):
        yield handle, "timer" if isinstance(handle, asyncio.TimerHandle) else "callback", handle.cancel
    keys = tuple(_selected(loop).values())
    own = set(map(id, _of([handle for key in keys for handle in key.data], timeline)))
    for key in keys if own else ():
        reader, writer = key.data
        if id(reader) in own:
            yield reader, f"reader of descriptor {key.fd}", functools.partial(loop.remove_reader, key.fileobj)
        if id(writer) in own:
            yield writer, f"writer of descriptor {key.fd}", functools.partial(loop.remove_writer, key.fileobj)
    for number, handle in dict(getattr(loop, "_signal_handlers", {})).items():
        for each in _of((handle,), timeline):
            name = signal.Signals(number).name
            yield each, f"handler of {name}", functools.partial(loop.remove_signal_handler, number)


def _of(handles: Iterable[Any], timeline: Timeline) -> list[asyncio.Handle]:
    """Those of an experiment, out of many of others: as few steps as may be for each."""
    return [
        handle
        for handle in handles
        if handle is not None
        and not handle._cancelled  # noqa: SLF001 - as most timers are: limits that were not reached
        and (here := handle._context.get(scope)) is not None  # noqa: SLF001
        and here.timeline is timeline
    ]


def _selected(loop: Any) -> Any:
    """The selector's keys by the number of the descriptor; what it has in public for this takes long for each."""
    return getattr(getattr(loop, "_selector", None), "_fd_to_key", {})


def describe_callback(callback: Callback, file: str) -> tuple[str, str]:
    """Name what the loop will call for a reader.

    Args:
        callback: what it will call.
        file: the handler's file; a function of another one is told with its file's name.

    Returns:
        The name of the function, and all of it in words.
    """
    if (code := _code_of(callback.handle)) is not None:
        name = code.co_qualname.replace(".<locals>", "")
        elsewhere = "" if code.co_filename == file else f" of {name_file(code.co_filename)}"
        return name, f"{callback.what} that calls {name}, line {code.co_firstlineno}{elsewhere}"
    function = _function_of(callback.handle)
    name = getattr(function, "__qualname__", type(function).__qualname__).replace(".<locals>", "")
    if str(getattr(function, "__module__", "")).startswith("labkit."):  # it stands in for somebody else's
        name = name.rpartition(".")[2]
    return name, f"{callback.what} that calls {name}, set in {_lines[callback.handle]}"


def end_callbacks(timeline: Timeline) -> None:
    """Have the running loop call nothing more for an experiment's handlers.

    Args:
        timeline: the experiment's timeline.
    """
    for callback in list(callbacks_of(timeline)):
        callback.end()


def forget_descriptor(number: int) -> None:
    """Have the running loop look after a descriptor no more, which is about to be closed for somebody.

    The loop would take the next one with this number for the same, and never tell of it: a server listens on a socket
    until it is closed itself, and a pipe's transport reads.

    Args:
        number: the descriptor.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows' loop has none; a transport ends by itself
        loop.remove_reader(number)
        loop.remove_writer(number)


def _function_of(handle: asyncio.Handle) -> Any:
    function: Any = getattr(handle, "_callback", None)  # asyncio has no public way to ask this
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _code_of(handle: asyncio.Handle) -> CodeType | None:
    """The code of the user's function that a handle calls."""
    function = _function_of(handle)
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return code if isinstance(code, CodeType) and is_users(code.co_filename) else None


@contextmanager
def watch_callbacks() -> Iterator[None]:
    """Note what lines of handlers have a loop call that is no function of theirs, such as ``event.set``."""
    with ExitStack() as undo:
        for owner, name in _METHODS:
            base = next(each for each in owner.__mro__ if name in vars(each))
            undo.callback(replace(base, name, _noting))
        yield


def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def stand_in(self: Any, *args: Any, **kwargs: Any) -> Any:
        handle = method(self, *args, **kwargs)
        frame = sys._getframe(1)  # noqa: SLF001 - who calls it
        # What a library sets is for itself, also where a handler has called it.
        if is_users(frame.f_code.co_filename) and (found := starts_here()) is not None and found[0].number is not None:
            line = find_line(frame, found[1].file)
            for each in [handle] if handle is not None else _set_by(self, method.__name__, *args[:1]):
                if line is not None and isinstance(each, asyncio.Handle):
                    _lines[each] = line
        return handle

    return stand_in


def _set_by(loop: Any, method: str, given: Any = None) -> list[Any]:
    """The handle that a method has set which does not return it."""
    if method == "add_signal_handler":
        return [loop._signal_handlers.get(given)]  # noqa: SLF001
    return [each for key in _selected(loop).values() if given in (key.fd, key.fileobj) for each in key.data]
