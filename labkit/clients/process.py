"""A client in a process of its own, so that it can be killed, interrupted and frozen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.tasks import until_done
from labkit.timeline import Timeline

__all__ = ["ProcessClient"]


class ProcessClient:
    """Runs a client in a child process, ``python -m labkit.clients``.

    Commands go to the child's standard input and its events come from its standard output, one JSON list a line. The
    events keep the time at which the child recorded them: ``perf_counter`` is the same clock in both processes.

    Args:
        name: the client's name, one of ``CLIENTS``.
        url: where it connects.
        timeline: where it records.
        options: keyword arguments for the library's function, which JSON can hold.
    """

    def __init__(self, name: str, url: str, timeline: Timeline, options: Mapping[str, Any]) -> None:
        self.timeline = timeline
        self._task_of_child = json.dumps([name, url, dict(options)])
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._alive: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._connected: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def ready(self) -> None:
        """Start the process, and wait until its program runs: that takes as long as the machine takes."""
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                # -P: what lies in the working directory must not stand in for a library.
                *(sys.executable, "-P", "-m", "labkit.clients", self._task_of_child),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # a Ctrl+C in the terminal is the lab's, not the child's
            )
        )
        try:
            await until_done(starting)
        finally:
            if starting.exception() is None:
                self._process = starting.result()
                self._reading = asyncio.create_task(self._read(self._process))
        await asyncio.shield(self._alive)

    async def connect(self) -> bool:
        """Have the child connect, and do the opening handshake.

        Returns:
            Whether the server agreed; where it did not, the timeline says how the client tells it.
        """
        self._tell(["connect"])
        return await asyncio.shield(self._connected)

    def send(self, message: str | bytes) -> None:
        """Have the child send a message."""
        text = isinstance(message, str)
        self._tell(["send", message if isinstance(message, str) else message.hex(), text])

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Have the child close the connection."""
        self._tell(["close", code, reason])

    async def signal(self, number: int) -> None:
        """Send a signal to the child; when this returns, a ``SIGSTOP`` has stopped it."""
        assert self._process is not None
        pid = self._process.pid
        name = signal.Signals(number).name
        self.timeline.record("client", "signal", name, {"signal": name, "pid": pid})
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            state = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
            while os.waitid(os.P_PID, pid, state) is None:  # noqa: ASYNC110, ASYNC222 - it does not block (WNOHANG)
                await asyncio.sleep(0.001)

    async def ended(self) -> None:
        """Wait until the process has ended."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def stop(self) -> None:
        """Kill the process, if it still runs, frozen or not."""
        if self._process is None or self._reading is None:
            return
        if self._process.returncode is None:
            data = {"how": "still-open", "code": None, "exception": None}
            self.timeline.record("client", "ended", "still running when the lab stopped it", data)
            self._process.kill()
        await until_done(self._reading)

    def _tell(self, command: list[Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # Of a process that has gone the timeline tells; what is said to it is lost.
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        complaints = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            match json.loads(line):
                case ["alive"]:
                    self._alive.set_result(True)
                case ["connected", agreed]:
                    self._connected.set_result(agreed)
                case [at, kind, text, data]:
                    self.timeline.record_at(at, "client", kind, text, data)
        returned = await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if said := (await complaints).decode(errors="replace").strip():
            last = said.splitlines()[-1]
            self.timeline.record("client", "error", last, {"exception": last})
        how = signal.Signals(-returned).name if returned < 0 else f"exit status {returned}"
        self.timeline.record("client", "exit", f"process ended: {how}", {"how": how, "status": returned})
        for future in (self._alive, self._connected):
            if not future.done():
                future.set_result(False)
