"""A server that is a command of its own, such as ``node server.js``: started, waited for, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
import textwrap
from asyncio.subprocess import DEVNULL, PIPE
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from labkit.errors import BadValue, LabError
from labkit.events import HandlerPrint, LoopExit, LoopShutdown
from labkit.experiment.elsewhere import Elsewhere, address
from labkit.support.checks import check_seconds, is_whole
from labkit.support.clock import now, scaled
from labkit.support.loop import finish, until_done
from labkit.support.processes import own_group
from labkit.support.sockets import listens
from labkit.timeline import Timeline

__all__ = ["Process", "RunningProcess", "process"]

#: Stands for a free port, in the command, its environment and the URL.
_PORT: Final = "{port}"

#: Seconds between two looks: nothing tells when another process listens.
_LOOK: Final = 0.02

#: How many lines of output are kept, how many of them an error quotes, and the longest line that is kept.
_LAST, _QUOTED, _LONGEST = 40, 5, 1000

#: How much of a command is shown.
_WIDEST: Final = 60

#: Seconds in which a server may print what it has to say of a connection that is over.
_LAST_WORDS: Final = 0.25

#: Seconds that a process may take to end when it is told to, and then its output.
_STOP: Final = 2.0


@dataclass(frozen=True)
class Process:
    """A server that a command starts; made by :func:`labkit.process`, and given to ``labkit.play``.

    Attributes:
        command: the program and its arguments.
        url: where it listens.
        folder: its working directory; that of the caller, if None.
        environment: variables beyond those of the caller.
        ready: the seconds that it may take until it listens.
    """

    command: tuple[str, ...]
    url: str
    folder: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: float = 10.0

    @property
    def name(self) -> str:
        """The command, as in a shell; of a long one, the beginning."""
        return textwrap.shorten(shlex.join(self.command), _WIDEST, placeholder=" …")

    @asynccontextmanager
    async def running(self, timeline: Timeline) -> AsyncIterator[RunningProcess]:
        """Start it, wait until it listens, and stop it with all that it has started at the end of the block.

        Args:
            timeline: where to record what it prints, and its end.

        Yields:
            The process.

        Raises:
            LabError: it cannot be started, has ended, or does not listen in time.
        """
        chosen = self._with_port()
        server = Elsewhere.of(chosen.url)
        where = address(server.url)
        if await listens(*where):
            raise LabError(
                f"somebody listens at {chosen.url} already; stop that first, or take {_PORT} for a free port"
            )
        started = RunningProcess(chosen, server, timeline)
        try:
            await started.start()
            await started.listens(*where)
            yield started
        finally:
            await finish(started.stop)

    def _with_port(self) -> Process:
        """Put a free port into the places that ask for one."""
        if _PORT not in self.url:
            return self
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        command = tuple(each.replace(_PORT, port) for each in self.command)
        environment = {name: value.replace(_PORT, port) for name, value in self.environment.items()}
        return Process(command, self.url.replace(_PORT, port), self.folder, environment, self.ready)


def process(
    command: str | Sequence[str],
    *,
    url: str,
    folder: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    ready: float = 10.0,
) -> Process:
    """Describe a server that a command starts, in any language, for ``labkit.play``.

    Each play starts it anew, without a shell, and stops it with all that it has started. What it prints is on the
    timeline.

    Args:
        command: the program and its arguments, such as ``"node server.js"``; or a sequence of them.
        url: where it will listen, on this machine, such as ``"ws://127.0.0.1:8000/ws"``. ``{port}`` in it stands for a
            free port, which then also takes the place of ``{port}`` in the command and in the environment.
        folder: its working directory; that of the caller, if None.
        environment: variables beyond those of the caller, such as ``{"PORT": "{port}"}``.
        ready: how long it may take until it listens, in seconds, times ``LABKIT_TIME_SCALE``.

    Returns:
        The server, not yet started.

    Raises:
        BadValue: one of these is wrong, or the URL is not on this machine.
    """
    try:
        words = tuple(shlex.split(command) if isinstance(command, str) else map(os.fspath, command))
    except (TypeError, ValueError) as problem:
        raise BadValue(f"the command {command!r} cannot be read: {problem}") from None
    if not words or not all(isinstance(word, str) for word in words):
        raise BadValue(f"the command {command!r} names no program; it takes one such as 'node server.js'")
    if environment is not None and not (
        isinstance(environment, Mapping) and all(isinstance(each, str) for pair in environment.items() for each in pair)
    ):
        raise BadValue(f"environment={environment!r}; it takes a mapping of text, such as {{'PORT': '{_PORT}'}}")
    if not isinstance(url, str):
        raise BadValue(f"url={url!r}; it takes the server's URL, such as 'ws://127.0.0.1:8000/'")
    Elsewhere.of(url.replace(_PORT, "1"))
    where = None if folder is None else str(Path(folder))
    return Process(words, url, where, dict(environment or {}), check_seconds("ready", ready))


class RunningProcess:
    """A server's process.

    Args:
        described: the command, with its port.
        server: where it listens.
        timeline: where to record.

    Attributes:
        server: where it listens.
    """

    def __init__(self, described: Process, server: Elsewhere, timeline: Timeline) -> None:
        self.server: Final = server
        self._described = described
        self._timeline = timeline
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._last: deque[str] = deque(maxlen=_LAST)
        self._stopping = False
        self._shutting_down = False

    async def start(self) -> None:
        """Start it.

        Raises:
            LabError: there is no such program, or it cannot be started.
        """
        described = self._described
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *described.command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                cwd=described.folder,
                env={**os.environ, **described.environment},
                limit=1 << 20,
                **own_group(),
            )
        )
        try:
            await until_done(starting)
        except OSError as problem:
            missing = problem.filename if isinstance(problem, FileNotFoundError) else None
            what = f"there is no {missing}" if missing else problem.strerror or str(problem)
            raise LabError(f"{described.name} cannot be started: {what}") from None
        finally:
            # Even if the wait was cancelled, keep the process, so that `stop` can end it.
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                self._process = starting.result()
                self._reading = asyncio.create_task(self._read(self._process))

    async def listens(self, host: str, port: int) -> None:
        """Wait until it listens.

        Args:
            host: the host of its URL.
            port: the port.

        Raises:
            LabError: it has ended, or does not listen in time.
        """
        assert self._reading is not None
        ends = now() + scaled(self._described.ready)
        while not await listens(host, port):
            if self._reading.done():
                raise LabError(f"{self._described.name} ended before it listened{self._how()}{self._said()}")
            if now() > ends:
                raise LabError(
                    f"{self._described.name} does not listen at {self._described.url} after"
                    f" {scaled(self._described.ready):g} s{self._said()}"
                )
            await asyncio.wait([self._reading], timeout=_LOOK)

    def shut_down(self) -> None:
        """Tell it to end, as a process manager does: SIGTERM to the process alone."""
        assert self._process is not None
        self._shutting_down = True
        self._timeline.append(LoopShutdown(done=False, text="the shutdown begins: SIGTERM to the server's process"))
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def settled(self, limit: float) -> None:
        """Wait until it has ended, if it was told to; if not, for a short time, for what it may print at the end.

        Args:
            limit: the longest wait, in seconds.
        """
        if self._reading is not None:
            rest = limit if self._shutting_down else min(limit, scaled(_LAST_WORDS))
            await asyncio.wait([self._reading], timeout=rest)

    async def stop(self) -> None:
        """End it with all that it has started, first with SIGTERM, then with SIGKILL."""
        if self._process is None or self._reading is None:
            return
        self._stopping = True
        self._signal(signal.SIGTERM)
        await asyncio.wait([self._reading], timeout=scaled(_STOP))
        # Those that it has started may have their own ideas of SIGTERM, or hold its output open.
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        await asyncio.wait([self._reading], timeout=scaled(_STOP))
        if not self._reading.done():  # somebody outside of its group holds its output
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._process.wait()
        getattr(self._process, "_transport").close()  # noqa: B009 - asyncio has no public way to let go of its pipes

    def _signal(self, number: int) -> None:
        """Send a signal to its whole group, which outlives it if its children do."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.terminate()
            else:
                os.killpg(self._process.pid, number)

    def _how(self) -> str:
        status = None if self._process is None else self._process.returncode
        if not is_whole(status):
            return ""
        return f", with {signal.Signals(-status).name}" if status < 0 else f", with exit status {status}"

    def _said(self) -> str:
        """The end of its output. Lines that are indented tell where in the program; what has gone wrong is above."""
        told = [line for line in self._last if not line[0].isspace()] or self._last
        return f": {' | '.join(line.strip() for line in [*told][-_QUOTED:])}" if told else ", and printed nothing"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(self._lines(process.stdout, "stdout"), self._lines(process.stderr, "stderr"))
        status = await process.wait()
        if not self._stopping:
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            self._timeline.append(LoopExit(status, text=f"the server's process has ended: {how}"))
            if self._shutting_down:
                self._timeline.append(LoopShutdown(done=True, text="the shutdown is complete"))

    async def _lines(self, stream: asyncio.StreamReader, name: str) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line without an end
                line = await stream.read(_LONGEST)
            if not line:
                return
            text = line.decode(errors="replace").rstrip("\r\n")[:_LONGEST]
            if text.strip():
                self._last.append(text)
            if not self._stopping:
                self._timeline.append(HandlerPrint(name, text=text))
