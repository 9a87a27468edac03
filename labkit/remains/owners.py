"""What a handler makes that holds workers, descriptors or memory until it is closed: pools, queues, clients."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Final

from labkit.introspection.origin import OWNERS, find_origin
from labkit.remains.opened import Opened
from labkit.remains.started import starts_here
from labkit.support.clock import timeout
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["watch_owners"]

try:
    _shared: Any = importlib.import_module("_posixshmem")
except ImportError:  # Windows keeps no memory that no process has
    _shared = None

#: Seconds that the closing of one may take.
_CLOSING: Final = 1.0


@dataclass(frozen=True)
class Kind:
    """A class whose objects have to be closed.

    Attributes:
        module: the module that has the class.
        name: the name of the class.
        title: what a reader calls one.
        is_open: whether one holds something.
        close: closes one, at once.
        warns: whether Python, or its library, minds that one is gone without having been closed.
        loaded: whether to load the module, since Python does so only when somebody makes one.
        through: the modules through which lines of a handler make one; all of the module's package, if empty.
    """

    module: str
    name: str
    title: str
    is_open: Callable[[Any], bool]
    close: Callable[[Any], Any]
    warns: bool = False
    loaded: bool = True
    through: tuple[str, ...] = ()


def _close_pool(pool: Any) -> None:
    pool.shutdown(wait=False, cancel_futures=True)


def _close_queue(queue: Any) -> None:
    queue.cancel_join_thread()
    queue.close()
    queue._writer.close()  # noqa: SLF001 - its thread does so, if something was put in


KINDS: Final = (
    Kind(
        *("concurrent.futures.thread", "ThreadPoolExecutor", "ThreadPoolExecutor, with its threads"),
        is_open=lambda it: not it._shutdown and bool(it._threads),  # noqa: SLF001 - there is no public way to ask this
        close=_close_pool,
    ),
    Kind(
        *("concurrent.futures.process", "ProcessPoolExecutor", "ProcessPoolExecutor, with its processes"),
        is_open=lambda it: not it._shutdown_thread and bool(it._processes),  # noqa: SLF001
        close=_close_pool,
    ),
    Kind(
        *("multiprocessing.pool", "Pool", "pool of multiprocessing, with its workers"),
        is_open=lambda it: it._state == "RUN",  # noqa: SLF001
        close=lambda it: it.terminate(),
        warns=True,
    ),
    Kind(
        *("multiprocessing.managers", "BaseManager", "manager of multiprocessing, with its process"),
        is_open=lambda it: bool(it._state.value == 1),  # noqa: SLF001
        close=lambda it: it.shutdown(),
    ),
    Kind(
        *("multiprocessing.queues", "Queue", "queue of multiprocessing"),
        is_open=lambda it: not it._closed,  # noqa: SLF001
        close=_close_queue,
    ),
    Kind(
        *("multiprocessing.queues", "SimpleQueue", "queue of multiprocessing"),
        is_open=lambda it: not it._reader.closed,  # noqa: SLF001
        close=lambda it: it.close(),
    ),
    Kind(
        *("multiprocessing.connection", "_ConnectionBase", "connection of multiprocessing"),
        is_open=lambda it: not it.closed,
        close=lambda it: it.close(),
        through=("multiprocessing.connection", "multiprocessing.context"),
    ),
    Kind(
        *("selectors", "_BaseSelectorImpl", "selector"),
        is_open=lambda it: it.get_map() is not None,
        close=lambda it: it.close(),
    ),
    Kind(
        *("logging", "FileHandler", "FileHandler of logging, with its file"),
        is_open=lambda it: it.stream is not None and not it.stream.closed,
        close=lambda it: it.close(),
    ),
    Kind(
        *("tempfile", "TemporaryDirectory", "temporary directory"),
        is_open=lambda it: it._finalizer.alive,  # noqa: SLF001
        close=lambda it: it.cleanup(),
        warns=True,
    ),
    Kind(
        *("zipfile", "ZipFile", "ZipFile, with its file"),
        is_open=lambda it: it.fp is not None,
        close=lambda it: it.close(),
        loaded=False,
    ),
    Kind(
        *("tarfile", "TarFile", "TarFile, with its file"),
        is_open=lambda it: not it.closed,
        close=lambda it: it.close(),
        loaded=False,
    ),
    *(
        Kind(
            *("httpx", name, "client of httpx, with its connections"),
            is_open=lambda it: it._state.name == "OPENED",  # noqa: SLF001 - one that has not been used holds nothing
            close=lambda it: it.aclose() if hasattr(it, "aclose") else it.close(),
            loaded=False,
        )
        for name in ("AsyncClient", "Client")
    ),
    Kind(
        *("aiosqlite.core", "Connection", "connection of aiosqlite, with its thread"),
        is_open=lambda it: it._connection is not None,  # noqa: SLF001
        close=lambda it: it.close(),
        loaded=False,
    ),
)


class Owner(Opened):
    """An object of one of those classes."""

    came = "made"

    def __init__(self, kind: Kind, here: Scope, line: str | None, thing: Any) -> None:
        super().__init__(here, "object", kind.title.partition(",")[0], line, thing)
        self._kind = kind
        # A directory that is gone has been removed with it, or is removed now.
        self._finalizer = getattr(thing, "_finalizer", None)

    @property
    def title(self) -> str:
        """What it is."""
        return self._kind.title

    def _is_open(self, thing: Any) -> bool:
        with contextlib.suppress(AttributeError):  # its own `__init__` has failed
            return bool(self._kind.is_open(thing))
        return False

    def _collected(self, _: object) -> None:
        if self._finalizer is not None and self._finalizer.alive and self._kind.warns:
            self.lose()
        super()._collected(_)

    async def _close(self, thing: Any) -> None:
        async with timeout(_CLOSING):
            if asyncio.iscoroutine(closing := self._kind.close(thing)):
                await closing


class Memory(Opened):
    """Shared memory. Who has made it removes it; until then it stays, also when no process has it any more.

    Args:
        here: the scope of the code that has made it, or has attached to it.
        line: the line of the user's code that has done so, in words; None if that is not known.
        thing: the object.
        made: whether it was made.
    """

    came = "made"
    over = "has been removed"

    def __init__(self, here: Scope, line: str | None, thing: Any, *, made: bool) -> None:
        super().__init__(here, "memory", "shared memory", line, thing)
        self._block = thing.name if made else None

    @property
    def title(self) -> str:
        """What it is; its name is another one each time."""
        return self.name

    @property
    def alive(self) -> bool:
        """Whether it is there, and is not kept for the next connection."""
        return super().alive if self.thing is not None else not self._ended and self._exists()

    def look(self) -> None:
        """Look whether it is gone."""
        if not (self._exists() if (thing := self.thing) is None else self._is_open(thing)):
            self.end()

    def _exists(self) -> bool:
        if self._block is None or _shared is None:
            return False
        try:
            number = _shared.shm_open(f"/{self._block}", os.O_RDONLY, mode=0o600)
        except OSError:
            return False
        os.close(number)
        return True

    def _is_open(self, thing: Any) -> bool:
        return thing._mmap is not None or self._exists()  # noqa: SLF001 - there is no public way to ask this

    def _collected(self, _: object) -> None:
        if self._block is None:
            super()._collected(_)

    async def stop(self) -> None:
        """Remove it."""
        await super().stop()
        if self._exists():
            found = SharedMemory(self._block)
            found.close()
            found.unlink()

    async def _close(self, thing: Any) -> None:
        thing.close()


@contextmanager
def watch_owners() -> Iterator[None]:
    """Remember what handlers of an experiment make that has to be closed, while the block runs."""
    with ExitStack() as undo:
        for kind in KINDS:
            module = importlib.import_module(kind.module) if kind.loaded else sys.modules.get(kind.module)
            if (made := getattr(module, kind.name, None)) is not None:
                OWNERS.add(made)
                undo.callback(replace(made, "__init__", functools.partial(_making, kind)))
        undo.callback(replace(SharedMemory, "__init__", _making_memory))
        yield


def _making_memory(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def stand_in(self: SharedMemory, name: str | None = None, create: bool = False, *args: Any, **kwargs: Any) -> None:
        init(self, name, create, *args, **kwargs)
        _note(["multiprocessing.shared_memory"], lambda here, line: Memory(here, line, self, made=create))

    return stand_in


def _making(kind: Kind, init: Callable[..., None]) -> Callable[..., None]:
    through = kind.through or (kind.module.partition(".")[0],)

    @functools.wraps(init)
    def stand_in(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _note(through, lambda here, line: Owner(kind, here, line, self))

    return stand_in


def _note(through: Collection[str], make: Callable[[Scope, str | None], Opened]) -> None:
    """Remember what has been made, if it is the handler's to close.

    Args:
        through: the modules or packages through which lines of the handler make it. What others make is theirs to
            close, and so is what a pool or a queue makes as it is made itself, inside of a stand-in of this module.
        make: makes what is remembered, of the scope and the line.
    """
    if (found := starts_here()) is None or found[0].number is None:
        return
    here, starts = found
    origin = find_origin(sys._getframe(2), starts.file)  # noqa: SLF001 - who makes it
    if origin.by_users and all(
        any(f"{module}.".startswith(f"{each}.") for each in through) for module in origin.modules
    ):
        starts.add(make(here, origin.line))
