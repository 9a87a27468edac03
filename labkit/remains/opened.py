"""What a handler opens, and has to close: sockets, files, databases, and client sessions of aiohttp."""

from __future__ import annotations

import _io
import asyncio
import builtins
import contextlib
import functools
import io
import socket
import sqlite3
import sys
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from labkit.introspection.origin import OWNERS, Origin, find_origin, is_owned
from labkit.remains.descriptors import TEMPORARY, take_over
from labkit.remains.started import Started, starts_here, starts_of
from labkit.support.clock import scaled
from labkit.support.replacing import replace
from labkit.timeline import Scope, scope

__all__ = ["Opened", "watch_opened"]

#: Modules that open a file for who calls them. One that opens it for itself, such as ``logging``, also closes it.
_OPEN_FILES: Final = frozenset(
    {
        "IPython.core.interactiveshell",
        "bz2",
        "codecs",
        "gzip",
        "io",
        "lzma",
        "os",
        "pathlib",
        "pathlib._local",
        "tempfile",
    }
)
#: Packages that open a socket for who calls them, also in a task or a thread of their own.
_OPEN_SOCKETS: Final = frozenset({"asyncio", "concurrent", "socket", "threading"})

#: The place of `factory` among the arguments of `sqlite3.connect`.
_FACTORY: Final = 5

#: The place behind that of `closefd` among the arguments of `open`.
_CLOSEFD: Final = 7

#: So many frames are between a socket's end and a ``__del__`` that ends it.
_NEAR: Final = 4

#: Seconds that the closing of a session may take.
_CLOSING: Final = 1.0


class Opened(Started):
    """Something that stays open until it is closed, or until nobody refers to it any more.

    Args:
        here: the scope of the code that has opened it.
        what: what it is, in one word.
        name: its name.
        line: the line of the user's code that has opened it, in words; None if that is not known.
        thing: the object; it is not kept alive.
    """

    came = "opened"
    over = "has been closed"

    def __init__(self, here: Scope, what: str, name: str, line: str | None, thing: Any) -> None:
        super().__init__(here, what, name, line)
        self._thing: Callable[[], Any] = weakref.ref(thing, self._collected)

    @property
    def alive(self) -> bool:
        """Whether it is open, and is not kept for the next connection."""
        if (thing := self._thing()) is None or not super().alive or not self._is_open(thing):
            return False
        starts = starts_of(self.here.timeline)
        return starts is None or not starts.keeps(thing)

    @property
    def thing(self) -> Any:
        """The object; None if it is gone."""
        return self._thing()

    def look(self) -> None:
        """Look whether it is closed."""
        if (thing := self._thing()) is not None and not self._is_open(thing):
            self.end()

    def lose(self) -> None:
        """Note that Python closes it, since nobody refers to it any more."""
        if super().alive and (starts := starts_of(self.here.timeline)) is not None:
            starts.lose(self)
        self.waited_for = False
        self.end()

    def end(self) -> None:
        """Note that it is closed."""
        super().end()
        self.release()

    def release(self) -> None:
        """Hear no more of the object, which may live until Python itself ends."""
        self._thing = _nothing

    async def stop(self) -> None:
        """Close it."""
        if (thing := self._thing()) is not None:
            with contextlib.suppress(Exception):  # it is the user's object, and may be in any state
                await self._close(thing)

    @abstractmethod
    def _is_open(self, thing: Any) -> bool: ...

    @abstractmethod
    async def _close(self, thing: Any) -> None: ...

    def _collected(self, _: object) -> None:
        """Forget what is gone; if it was open, Python says so before that, or after it."""
        if (starts := starts_of(self.here.timeline)) is not None:
            starts.forget(self)


def _nothing() -> None:
    return None


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
        with contextlib.suppress(OSError):
            thing.shutdown(socket.SHUT_RDWR)  # a thread may wait for it
        thing.close()


def _transport_of(thing: socket.socket) -> Any:
    """The transport that has a socket in the running loop, if there is one."""
    transport = getattr(asyncio.get_running_loop(), "_transports", {}).get(thing.fileno())
    # The loop knows transports by numbers. One that is closed may still be there when the next socket has its number.
    wrapped = None if transport is None else transport.get_extra_info("socket")
    return transport if getattr(wrapped, "_sock", None) is thing else None


class File(Opened):
    """A file."""

    def __init__(self, here: Scope, name: str, line: str | None, thing: Any) -> None:
        super().__init__(here, "file", name, line, thing)
        self._raw = raw = _raw_of(thing)
        if raw is not None:
            # A file that Python closes asks the file beneath it to warn.
            setattr(raw, "_dealloc_warn", self._warn)  # noqa: B010 - the type checker does not know it

    @property
    def title(self) -> str:
        """What it is, and its name, unless that is different each time."""
        return super().title if self.name else "temporary file"

    def _warn(self, source: Any) -> None:
        self.lose()
        type(self._raw)._dealloc_warn(self._raw, source)  # noqa: SLF001 - as Python calls it

    def _collected(self, _: object) -> None:
        # The garbage collector comes here first, and then has the file closed.
        if self._raw is not None and not self._raw.closed:
            self.lose()
        super()._collected(_)
        self._raw = None

    def _is_open(self, thing: Any) -> bool:
        return not thing.closed

    async def _close(self, thing: Any) -> None:
        thing.close()


def _raw_of(file: Any) -> Any:
    raw = getattr(getattr(file, "buffer", file), "raw", None)
    return raw if isinstance(raw, io.FileIO) else None


class Session(Opened):
    """A client session of aiohttp, with its connections."""

    def __init__(self, here: Scope, line: str | None, thing: Any) -> None:
        super().__init__(here, "session", "ClientSession", line, thing)

    @property
    def title(self) -> str:
        """What it is."""
        return "client session of aiohttp"

    def _is_open(self, thing: Any) -> bool:
        return not thing.closed

    async def _close(self, thing: Any) -> None:
        async with asyncio.timeout(scaled(_CLOSING)):
            await thing.close()


class Database(Opened):
    """A connection to a database of SQLite."""

    def __init__(self, here: Scope, name: str, line: str | None, thing: Any) -> None:
        super().__init__(here, "database", name, line, thing)

    def _is_open(self, thing: Any) -> bool:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
            return bool(thing.total_changes >= 0)
        return False

    def _collected(self, _: object) -> None:
        self.lose()  # Python minds since 3.13

    async def _close(self, thing: Any) -> None:
        thing.close()


#: The sockets that are open.
_sockets: Final[weakref.WeakKeyDictionary[socket.socket, Socket]] = weakref.WeakKeyDictionary()

#: The attribute of a session with what is known of it.
_SESSION: Final = "_labkit_session"


@contextmanager
def watch_opened() -> Iterator[None]:
    """Remember what handlers of an experiment open, while the block runs."""
    with ExitStack() as undo:
        undo.callback(replace(socket.socket, "__init__", _opening_sockets))
        undo.callback(replace(socket.socket, "_real_close", functools.partial(_ending, telling=True)))
        undo.callback(replace(socket.socket, "detach", functools.partial(_ending, telling=False)))
        if "__del__" in vars(asyncio.StreamWriter):
            undo.callback(replace(asyncio.StreamWriter, "__del__", _losing_writers))
        for module in (builtins, io, _io):
            undo.callback(replace(module, "open", _Open))
        undo.callback(replace(sqlite3, "connect", _Connect))
        if (shell := sys.modules.get("IPython.core.interactiveshell")) is not None and hasattr(shell, "io_open"):
            undo.callback(replace(shell, "io_open", _Open))  # what `open` calls in a notebook's cells
        if (http := sys.modules.get("aiohttp")) is not None:
            OWNERS.add(http.ClientSession)
            undo.callback(replace(http.ClientSession, "__init__", _opening_sessions))
            undo.callback(replace(http.ClientSession, "__del__", _losing_sessions))
        yield


def _note(make: Callable[[Scope, Origin], Opened | None], frame: FrameType) -> None:
    """Remember what is being opened."""
    if (found := starts_here()) is None:
        return
    here, starts = found
    origin = find_origin(frame, starts.file)
    # A pool of connections that the module keeps opens them when they are first needed.
    if not any(map(starts.keeps, origin.objects)) and (opened := make(here, origin)) is not None:
        starts.add(opened)


def _is_handlers() -> bool:
    """Whether the code that runs belongs to a handler."""
    return (here := scope.get()) is not None and here.lane == "handler" and here.number is not None


def _opening_sockets(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def stand_in(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if _is_handlers():
            _note(functools.partial(_make_socket, self), sys._getframe(1))  # noqa: SLF001

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


class _Open:
    """A stand-in for ``open``. It is no function, since a class would take that for a method."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        file = self._function(*args, **kwargs)
        if _is_handlers():
            name = args[0] if args else kwargs.get("file", "?")
            if isinstance(name, int) and len(args) < _CLOSEFD and kwargs.get("closefd", True):
                name = take_over(name)
            _note(functools.partial(_make_file, file, name), sys._getframe(1))  # noqa: SLF001
        return file


def _make_file(thing: Any, name: Any, here: Scope, origin: Origin) -> File | None:
    if not _OPEN_FILES.issuperset(origin.modules):
        return None
    name = "" if "tempfile" in origin.modules or name == TEMPORARY else _name_of_file(name)
    return File(here, name, origin.line, thing)


def _name_of_file(name: Any) -> str:
    return Path(name).name if isinstance(name, str | Path) else repr(name)


class _Connection(sqlite3.Connection):
    """A connection to a database that can be referred to weakly, and that tells when it is closed."""

    opened: Database | None = None

    def close(self) -> None:
        super().close()
        if self.opened is not None:
            self.opened.end()


class _Connect:
    """A stand-in for ``sqlite3.connect``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _is_handlers() or len(args) > _FACTORY or "factory" in kwargs:
            return self._function(*args, **kwargs)
        database = self._function(*args, factory=_Connection, **kwargs)
        name = args[0] if args else kwargs.get("database", "?")
        _note(functools.partial(_make_database, database, name), sys._getframe(1))  # noqa: SLF001
        return database


def _make_database(thing: _Connection, name: Any, here: Scope, origin: Origin) -> Database | None:
    if origin.modules:
        return None
    thing.opened = Database(here, _name_of_file(name), origin.line, thing)
    return thing.opened


def _opening_sessions(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def stand_in(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if _is_handlers():
            _note(functools.partial(_make_session, self), sys._getframe(1))  # noqa: SLF001

    return stand_in


def _make_session(thing: Any, here: Scope, origin: Origin) -> Session | None:
    if not origin.by_users:
        return None
    opened = Session(here, origin.line, thing)
    object.__setattr__(thing, _SESSION, opened)  # aiohttp's own warns of attributes that it does not know
    return opened


def _losing_sessions(delete: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(delete)
    def stand_in(self: Any, *args: Any, **kwargs: Any) -> None:
        if (opened := getattr(self, _SESSION, None)) is None or self.closed:
            delete(self, *args, **kwargs)
            return
        opened.lose()
        token = scope.set(opened.here)  # it complains to the loop
        try:
            delete(self, *args, **kwargs)
        finally:
            scope.reset(token)

    return stand_in
