"""A client in a process of its own, so that the lab can kill, interrupt and freeze it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from labkit.clients.request import PLAIN, Request
from labkit.clients.template import Forked, template
from labkit.events import ClientEnded, ClientError, ClientExit, ClientSignal, make
from labkit.support.loop import finish, until_done
from labkit.support.processes import own_group
from labkit.timeline import Scope, Timeline

__all__ = ["ProcessClient"]


class ProcessClient:
    """Runs a client in a child process, ``python -m labkit.clients``.

    Commands go to the child's standard input, and its events come from its standard output: one JSON list in each
    line. The events keep the time at which the child recorded them, since ``perf_counter`` is the same clock in both
    processes.

    Args:
        name: the client's name, one of ``CLIENTS``.
        url: the server's URL.
        timeline: where it records.
        options: keyword arguments for the library's function; JSON must be able to hold them.
        number: the client's number among those of the experiment, from 1.
        request: what it asks for in its opening handshake.

    Attributes:
        timeline: where it records.
        number: its number.
        on_message: called with each message that the client receives, if somebody wants them.
    """

    def __init__(
        self,
        name: str,
        url: str,
        timeline: Timeline,
        options: Mapping[str, Any],
        number: int = 1,
        request: Request = PLAIN,
    ) -> None:
        self.on_message: Callable[[str | bytes], None] | None = None
        self.timeline = timeline
        self.number = number
        self._here = Scope(timeline, "client", number)
        self._name = name
        self._first = [name, url, dict(options), dataclasses.asdict(request)]
        self._process: Process | Forked | None = None
        self._reading: asyncio.Task[None] | None = None
        self._alive: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._connected: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def ready(self) -> None:
        """Start the process, and wait until its program runs, without a limit."""
        starting = asyncio.create_task(self._start())
        try:
            await until_done(starting)
        finally:
            # Even if the wait was cancelled, keep the process, so that `stop` can end it.
            if starting.exception() is None:
                self._process = starting.result()
                self._command(self._first)
                self._reading = asyncio.create_task(self._read(self._process))
        await asyncio.shield(self._alive)

    async def _start(self) -> Process | Forked:
        """Start the process: forked from the template of experiments that are played together, or else by itself."""
        if (used := template.get()) is not None and (forked := await used.fork(_run, self._name)) is not None:
            return forked
        return await _run([], PIPE, PIPE)

    async def connect(self) -> bool:
        """Make the child connect and do the opening handshake.

        Returns:
            Whether the server accepted. If it did not, the timeline says how the client reports that.
        """
        self._command(["connect", self.on_message is not None])
        return await asyncio.shield(self._connected)

    def send(self, message: str | bytes) -> None:
        """Make the child send a message."""
        text = isinstance(message, str)
        self._command(["send", message if isinstance(message, str) else message.hex(), text])

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Make the child close the connection."""
        self._command(["close", code, reason])

    async def signal(self, number: int) -> None:
        """Send a signal to the child. For ``SIGSTOP``, wait until the child has stopped."""
        assert self._process is not None
        pid = self._process.pid
        name = signal.Signals(number).name
        self._here.record(ClientSignal(name, pid, text=name))
        self._send_signal(number)
        if number == signal.SIGSTOP and isinstance(self._process, Forked):
            await self._process.stopped()
        elif number == signal.SIGSTOP:
            # WNOWAIT leaves the exit status for asyncio, which waits for the child too.
            options = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
            while os.waitid(os.P_PID, pid, options) is None:  # noqa: ASYNC110, ASYNC222 - it does not block (WNOHANG)
                await asyncio.sleep(0.001)

    async def ended(self) -> None:
        """Wait until the process has ended."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def stop(self) -> None:
        """Kill the process if it still runs, even if it is frozen."""
        if self._process is None or self._reading is None:
            return
        if self._process.returncode is None:
            text = "still running when the lab stopped it"
            self._here.record(ClientEnded("still-open", code=None, exception=None, text=text))
        await finish(self._end)

    async def _end(self) -> None:
        assert self._process is not None
        assert self._reading is not None
        if self._process.returncode is None:
            self._send_signal(signal.SIGKILL)
        await asyncio.wait([self._reading])
        await self._process.wait()  # even if somebody has cancelled the reading

    def _send_signal(self, number: int) -> None:
        # `Popen.send_signal` takes the exit status of a child that has just ended. asyncio waits for that status, and
        # would then report "Unknown child process" and 255.
        assert self._process is not None
        if sys.platform == "win32":
            assert isinstance(self._process, Process)
            self._process.send_signal(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def _command(self, command: list[Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # If the process has ended, the command is lost. The timeline already shows that end.
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _read(self, process: Process | Forked) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        # Read stderr all the time, since a child that writes much to a full pipe would stand still.
        stderr = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            match json.loads(line):
                case ["alive"]:
                    self._alive.set_result(True)
                case ["connected", agreed]:
                    self._connected.set_result(agreed)
                case ["message", message, text]:
                    if self.on_message is not None:
                        self.on_message(message if text else bytes.fromhex(message))
                case [at, kind, text, data]:
                    numbers = {"connection": self.number}
                    self.timeline.append_at(at, make("client", kind, text, data, numbers=numbers))
        returned = await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if written := (await stderr).decode(errors="replace").strip():
            last = written.splitlines()[-1]
            self._here.record(ClientError(last, text=last))
        how = signal.Signals(-returned).name if returned < 0 else f"exit status {returned}"
        self._here.record(ClientExit(how, returned, text=f"process ended: {how}"))
        for future in (self._alive, self._connected):
            if not future.done():
                future.set_result(False)


async def _run(arguments: list[str], stdin: int | IO[bytes], output: int = DEVNULL) -> Process:
    """Run the client's program."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return await asyncio.create_subprocess_exec(
        # -P: Python must not import a file of the working directory in place of a library.
        *(sys.executable, "-P", "-m", "labkit.clients", *arguments),
        stdin=stdin,
        stdout=output,
        stderr=output,
        env={**os.environ, "PYTHONPATH": path},
        **own_group(),
    )
