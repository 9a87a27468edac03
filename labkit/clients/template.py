"""Clients in processes of their own that are forked: a new interpreter and its imports take ten times as long.

The template is a process that has imported a client's program and does no more. For each client, the lab sends it the
ends of four pipes: the client's input, its output, its errors, and where the template tells what becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import IO, Final

from labkit.support.loop import finish

__all__ = ["FORK", "Forked", "Template", "fork_clients", "one_template", "template"]

#: The argument with which the client's program becomes a template.
FORK: Final = "--fork"

#: What the template tells of a client that a signal has stopped; otherwise, its number, and then its exit status.
_STOPPED: Final = b"stopped"

#: Starts a program, given its arguments and the socket that is its standard input.
Start = Callable[[list[str], IO[bytes]], Awaitable[asyncio.subprocess.Process]]


class Forked:
    """A client's process, as far as it is like ``asyncio.subprocess.Process``.

    Args:
        pid: its number.
        stdin: its input.
        stdout: its output.
        stderr: its errors.
        status: what the template tells of it.

    Attributes:
        pid: its number.
        stdin: its input.
        stdout: its output.
        stderr: its errors.
        returncode: its exit status, or the signal that has ended it, negative; None while it runs.
    """

    def __init__(
        self,
        pid: int,
        stdin: asyncio.WriteTransport,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        status: asyncio.StreamReader,
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._stopped = asyncio.Event()
        self._following = asyncio.create_task(self._follow(status))

    async def _follow(self, status: asyncio.StreamReader) -> None:
        returned = 255  # as asyncio has it for a child of which nobody knows
        async for line in status:
            if line.strip() == _STOPPED:
                self._stopped.set()
            else:
                returned = int(line)
        self.returncode = returned
        self._stopped.set()

    async def wait(self) -> int:
        """Wait until it has ended."""
        while self.returncode is None:
            await asyncio.wait([self._following])
        return self.returncode

    async def stopped(self) -> None:
        """Wait until a signal has stopped it, or it has ended."""
        await self._stopped.wait()


class Template:
    """The lab's end of the template, which is started with the first client.

    Attributes:
        impossible: whether this system has none: macOS may break off what is forked, and Windows has no fork.
    """

    impossible: Final = sys.platform != "linux"

    def __init__(self) -> None:
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None

    async def fork(self, start: Start, name: str) -> Forked | None:
        """Start a client.

        Args:
            start: starts the template, if there is none yet.
            name: the client's name; the template imports what the first one needs.

        Returns:
            Its process; None if the template has died.
        """
        async with self._starting:
            if self._control is None:
                self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with os.fdopen(control.detach(), "rb", 0) as file:
                    self._process = await start([FORK, name], file)
        theirs, writes = os.pipe()
        pipes = [os.pipe() for _ in range(3)]
        try:
            socket.send_fds(self._control, [b"fork"], [theirs, *(end for _, end in pipes)])
        except OSError:
            for end in (writes, *(end for end, _ in pipes)):
                os.close(end)
            return None
        finally:
            for end in (theirs, *(end for _, end in pipes)):
                os.close(end)
        loop = asyncio.get_running_loop()
        stdin, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(writes, "wb", 0))
        stdout, stderr, status = [await _reading(end) for end, _ in pipes]
        if not (pid := await status.readline()):
            stdin.close()
            return None
        return Forked(int(pid), stdin, stdout, stderr, status)

    async def stop(self) -> None:
        """End the template, and wait for that."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            await self._process.wait()


async def _reading(pipe: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    file = os.fdopen(pipe, "rb", 0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader


#: The template of the experiments that are played side by side.
template: Final[ContextVar[Template | None]] = ContextVar("labkit_template", default=None)


@asynccontextmanager
async def one_template() -> AsyncIterator[None]:
    """Let the clients of all experiments of the block be forked from one template, where a process can be forked."""
    if Template.impossible:
        yield
        return
    used = Template()
    token = template.set(used)
    try:
        yield
    finally:
        template.reset(token)
        await finish(used.stop)


def fork_clients() -> None:
    """Fork a client for each request that comes through standard input, until that is closed.

    This returns in each client, whose standard streams are its own then. The template itself ends here.
    """
    gc.freeze()  # what is imported stays in memory that all have in common
    control = socket.socket(fileno=os.dup(0))
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _tell(living)
        if control not in ready:
            continue
        asked, ends, _, _ = socket.recv_fds(control, 16, 4)
        if not asked:
            sys.exit()  # a client that is left finds its input closed; the system wakes one that is stopped
        if not (pid := os.fork()):
            os.setpgid(0, 0)  # a Ctrl+C in the terminal is not the client's
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for standard, end in enumerate(ends[:3]):
                os.dup2(end, standard)
            for each in (control, woken, wakes):
                each.close()
            for end in (*ends, *living.values()):
                os.close(end)
            return
        *standards, living[pid] = ends
        for end in standards:
            os.close(end)
        _write(living[pid], b"%d" % pid)


def _tell(living: dict[int, int]) -> None:
    """Tell of the clients that have ended or been stopped."""
    with contextlib.suppress(ChildProcessError):  # there are none any more
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if not pid:
                return
            if os.WIFSTOPPED(status):
                _write(living[pid], _STOPPED)
            else:
                end = living.pop(pid)
                _write(end, b"%d" % os.waitstatus_to_exitcode(status))
                os.close(end)


def _write(end: int, word: bytes) -> None:
    with contextlib.suppress(OSError):  # the lab listens no more
        os.write(end, word + b"\n")
