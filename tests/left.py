"""What a process has that it might leave behind: its sockets, and the processes that it has started.

psutil reads the whole machine for either: all its connections, among them those of the last minute, of which a suite of
plays has thousands; and all its processes. That took more of the suite's time than the plays. Here the process is asked
about itself, and psutil where there is something to describe.
"""

from __future__ import annotations

import glob
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

__all__ = ["Child", "children", "sockets"]

#: The descriptors of this process, on Linux and macOS.
_DESCRIPTORS: Final = Path("/dev/fd")
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


def sockets() -> set[str]:
    """Describe the Internet sockets of this process: each has its descriptor, its number in the system, its address."""
    if not _DESCRIPTORS.exists():
        connections = psutil.Process().net_connections(kind="inet")
        return {f"socket {c.fd}: {c.laddr} → {c.raddr or 'nobody'} {c.status}" for c in connections}
    found = set()
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - a Path of each costs more than all the rest
        with suppress(OSError):  # the descriptor of the folder itself, which is closed by now
            found |= _describe(int(name))
    return found


def _describe(descriptor: int) -> set[str]:
    status = os.fstat(descriptor)
    if not stat.S_ISSOCK(status.st_mode):
        return set()
    seen = socket.socket(fileno=descriptor)
    try:
        if seen.family not in _INTERNET:
            return set()
        return {f"socket {descriptor}, inode {status.st_ino}: {seen.getsockname()}"}
    finally:
        seen.detach()  # it is another's


@dataclass(frozen=True)
class Child:
    """A process, which is the same whatever it runs: one that has just been forked runs its parent's program.

    Args:
        pid: its number.
        words: what it runs.
    """

    pid: int
    words: str = field(compare=False)

    def __str__(self) -> str:
        return f"process {self.pid}: {self.words}"


def children() -> set[Child]:
    """Find the processes that this one has started, and those that these have, and that still are there."""
    found = set()
    for pid in _descendants():
        with suppress(psutil.NoSuchProcess):
            child = psutil.Process(pid)
            found.add(Child(pid, " ".join(child.cmdline()) or child.name()))
    return found


def _descendants() -> Iterator[int]:
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return  # it has none
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        yield from (child.pid for child in psutil.Process().children(recursive=True))
        return
    # multiprocessing keeps a child of its own, so from then on there always is one. Linux lists each thread's.
    parents = [os.getpid()]
    while parents:
        for thread in glob.glob(f"/proc/{parents.pop()}/task/*/children"):  # noqa: PTH207 - as above
            with suppress(OSError):  # it has ended by now
                started = [int(pid) for pid in Path(thread).read_bytes().split()]
                parents += started
                yield from started
