"""The sockets that a handler opens, and has to close."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Final

from labkit.introspection.origin import Origin, is_owned
from labkit.remains.callbacks import forget_descriptor
from labkit.remains.opened import Opened, is_handlers, note
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["watch_sockets"]

#: Packages that open a socket for who calls them, also in a task or a thread of their own.
_OPEN_SOCKETS: Final = frozenset({"asyncio", "concurrent", "socket", "threading"})


#: So many frames are between a socket's end and a ``__del__`` that ends it.
_NEAR: Final = 4


class Socket(Opened):
    """A socket. It tells when it is closed; one that is gone without that, Python has closed."""

    def __init__(self, here: Scope, line: str | None, thing: socket.socket) -> None:
        super().__init__(here, "socket", "socket", line, thing)

    @property
    def title(self) -> str:
        """What it is. Where it leads is not known of every one that is gone."""
        return self.what

    def _is_open(self, thing: Any) -> bool:
        # One that a transport has closed with nothing left to send will be closed in the loop's next turn.
        transport = _transport_of(thing)
        closing = transport is not None and transport.is_closing() and not transport.get_write_buffer_size()
        return thing.fileno() != -1 and not closing

    def _collected(self, _: object) -> None:
        self.lose()

    async def _close(self, thing: Any) -> None:
        # asyncio would go on to look after a number that somebody else's next socket may get.
        if (transport := _transport_of(thing)) is not None:
            transport.abort()
            await asyncio.sleep(0)
        else:
            forget_descriptor(thing.fileno())
        with contextlib.suppress(OSError):
            thing.shutdown(socket.SHUT_RDWR)  # a thread may wait for it
        thing.close()


def _transport_of(thing: socket.socket) -> Any:
    """The transport that has a socket in the running loop, if there is one."""
    transport = getattr(asyncio.get_running_loop(), "_transports", {}).get(thing.fileno())
    # The loop knows transports by numbers. One that is closed may still be there when the next socket has its number.
    wrapped = None if transport is None else transport.get_extra_info("socket")
    return transport if getattr(wrapped, "_sock", None) is thing else None


#: The sockets that are open.
_sockets: Final[weakref.WeakKeyDictionary[socket.socket, Socket]] = weakref.WeakKeyDictionary()


@contextmanager
def watch_sockets() -> Iterator[None]:
    """Remember the sockets that handlers of an experiment open, while the block runs."""
    with ExitStack() as undo:
        undo.callback(replace(socket.socket, "__init__", _opening_sockets))
        undo.callback(replace(socket.socket, "_real_close", functools.partial(_ending, telling=True)))
        undo.callback(replace(socket.socket, "detach", functools.partial(_ending, telling=False)))
        if "__del__" in vars(asyncio.StreamWriter):
            undo.callback(replace(asyncio.StreamWriter, "__del__", _losing_writers))
        yield


def _opening_sockets(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def stand_in(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if is_handlers():
            note(functools.partial(_make_socket, self), sys._getframe(1))  # noqa: SLF001

    return stand_in


def _make_socket(thing: socket.socket, here: Scope, origin: Origin) -> Socket | None:
    if "asyncio.base_subprocess" in origin.modules:
        return None  # it goes with the child process
    if not origin.by_users and not {module.partition(".")[0] for module in origin.modules} <= _OPEN_SOCKETS:
        return None
    if is_owned(origin.objects):
        return None  # it goes with the session, or the client
    _sockets[thing] = opened = Socket(here, origin.line, thing)
    return opened


def _ending(method: Callable[..., Any], *, telling: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def stand_in(self: socket.socket, *args: Any, **kwargs: Any) -> Any:
        if (opened := _sockets.get(self)) is not None:
            if telling and _is_being_collected(sys._getframe(1)):  # noqa: SLF001 - who closes it
                opened.lose()
            opened.end()
        return method(self, *args, **kwargs)

    return stand_in


def _is_being_collected(frame: FrameType | None) -> bool:
    for _ in range(_NEAR):
        if frame is None:
            return False
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _losing_writers(delete: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(delete)
    def stand_in(self: asyncio.StreamWriter, *args: Any) -> None:
        if (transport := getattr(self, "_transport", None)) is not None and not transport.is_closing():
            wrapped = getattr(transport.get_extra_info("socket"), "_sock", None)
            if wrapped is not None and (opened := _sockets.get(wrapped)) is not None:
                opened.lose()
        delete(self, *args)

    return stand_in
