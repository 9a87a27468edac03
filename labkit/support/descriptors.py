"""File descriptors: whether an experiment has enough of them. One that runs out of them proves nothing."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from labkit.errors import LabError

__all__ = [
    "check_descriptor",
    "descriptors_for",
    "enough_descriptors",
    "is_starved",
    "note_starved",
    "room_for",
    "told_if_starved",
]

#: What an experiment with one client holds at most, where its client has a process and its server a thread; and what
#: each further client holds.
_EACH: Final = 16
_CLIENT: Final = 4

#: What may be open for a moment, such as a file that Python imports.
_SPARE: Final = 4

#: What the system says to a process that has none left, and where the system itself has none left.
_STARVED: Final = frozenset({errno.EMFILE, errno.ENFILE})

#: How often something has had to do without, in this process.
_times: Final = [0]


def descriptors_for(clients: int) -> int:
    """How many descriptors an experiment holds at most.

    Args:
        clients: how many clients it has.

    Returns:
        The number.
    """
    return _EACH + _CLIENT * (clients - 1)


def room_for(each: int, most: int) -> int:
    """How many experiments have room at the same time.

    Args:
        each: how many descriptors one of them holds.
        most: the highest number that is wanted.

    Returns:
        The number, 1 or more.
    """
    limit = _limit()
    return most if limit is None else max(1, min(most, (limit - _used() - _SPARE) // each))


@contextmanager
def enough_descriptors(count: int) -> Iterator[None]:
    """Run an experiment only with enough descriptors, and tell where they were not enough after all.

    Args:
        count: how many it may hold.

    Raises:
        LabError: so many are not left; or something in this process has had to do without, while the block ran.
    """
    limit, before = _limit(), _times[0]
    if limit is not None and (used := min(_used(), limit)) + count > limit:
        raise _error(limit, f"{used} are open, and an experiment takes up to {count} more")
    try:
        yield
    except Exception as error:
        if not is_starved(error):
            raise
        note_starved()
    if _times[0] != before:
        raise _error(limit, "that was not enough, so what was measured proves nothing")


@contextmanager
def told_if_starved() -> Iterator[None]:
    """Tell in one sentence that no descriptor is left for a server.

    Raises:
        LabError: that is so.
    """
    try:
        yield
    except OSError as error:
        # asyncio does not always say why it could not listen: from Python 3.13 on, its error has no number.
        if not is_starved(error) and _is_one_left():
            raise
        raise _error(_limit(), "none is left for the server") from None


def check_descriptor() -> None:
    """Open a file that is always there.

    Raises:
        OSError: no descriptor is left for it.
    """
    os.close(os.open(os.devnull, os.O_RDONLY))


def _is_one_left() -> bool:
    try:
        check_descriptor()
    except OSError as error:
        return not is_starved(error)
    return True


def is_starved(error: object) -> bool:
    """Whether an exception says that no descriptor was left."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_starved(member) for member in error.exceptions)
    return isinstance(error, OSError) and error.errno in _STARVED


def note_starved() -> None:
    """Note that something of the lab's has had to do without, so that no experiment that runs now proves anything."""
    _times[0] += 1


def _error(limit: int | None, what: str) -> LabError:
    may = "the system limits open files" if limit is None else f"this process may have {limit} files open"
    return LabError(f"{may}: {what}; raise the limit, with `ulimit -n 1024` in the shell, or do fewer things at once")


def _limit() -> int | None:
    """How many descriptors this process may have; None where that is not limited."""
    try:
        import resource
    except ImportError:  # Windows does not limit sockets in this way
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _used() -> int:
    """How many descriptors are open in this process."""
    # Linux since 6.2 has the number itself; to list hundreds of them takes a millisecond, in each experiment.
    if sys.platform == "linux" and (number := os.stat("/proc/self/fd").st_size):  # noqa: PTH116 - as cheap as may be
        return number
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 - only their number counts
    except OSError as error:
        return sys.maxsize if is_starved(error) else 64
