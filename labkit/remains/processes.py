"""The child processes that code of an experiment starts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from labkit.introspection.origin import find_origin
from labkit.remains.started import Started, remember, starts_here
from labkit.support.replacing import replace
from labkit.timeline import Scope

__all__ = ["watch_processes"]


class Process(Started):
    """A child process.

    Args:
        here: the scope of the code that has started it.
        name: its name.
        line: the line of the user's code that has started it, in words; None if that is not known.
        pid: its number.
        owner: the object that has to ask for its status; None if asyncio does.
    """

    def __init__(
        self, here: Scope, name: str, line: str | None, pid: int, owner: subprocess.Popen[Any] | BaseProcess | None
    ) -> None:
        super().__init__(here, "process", name, line)
        self._pid = pid
        self._owner = owner

    @property
    def alive(self) -> bool:
        """Whether it has not ended; one that nobody has waited for yet has ended."""
        if super().alive:
            with contextlib.suppress(ChildProcessError, AttributeError):
                return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        return False

    def wait(self) -> None:
        """Have its end recorded from now on."""
        if not self.waited_for:
            waits = threading.Thread(target=self._wait_and_tell, name="labkit process", daemon=True)
            contextvars.Context().run(waits.start)  # it is not the handler's
        super().wait()

    def _wait_and_tell(self) -> None:
        self._wait()
        self.end()

    def _wait(self) -> None:
        """Wait until it has ended, and leave it to its owner to ask for its status."""
        with contextlib.suppress(ChildProcessError, AttributeError):
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)

    async def stop(self) -> None:
        """Kill it, and wait until it has ended."""
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
        await asyncio.to_thread(self._wait)
        # It has ended; this takes its status, so that no zombie stays.
        if isinstance(self._owner, BaseProcess):
            self._owner.join()
        elif self._owner is not None:
            self._owner.wait()


class Forked(Process):
    """A process of ``os.fork``, or the like. It is there until somebody has waited for it, also when it has ended."""

    came = "forked"

    def __init__(self, here: Scope, came: str, line: str | None, pid: int) -> None:
        super().__init__(here, "child process", line, pid, None)
        self._came = came

    @property
    def title(self) -> str:
        """What it is; its number is another one each time."""
        return "child process"

    @property
    def text(self) -> str:
        """What it is, the line that has made it, and whether it has ended."""
        ended = ", which has ended, and for which nobody has waited" if self._has_ended() else ""
        return super().text.replace(f", {self.came} in", f", {self._came} in") + ended

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        return not self._ended and self._has_ended() is not None

    def look(self) -> None:
        """Look whether somebody has waited for it."""
        if self._has_ended() is None:
            self.end()

    def wait(self) -> None:
        """Have its end recorded from now on; it is looked at again and again."""
        self.waited_for = True

    async def stop(self) -> None:
        """Kill it, and wait for it."""
        await super().stop()
        with contextlib.suppress(ChildProcessError):
            await asyncio.to_thread(os.waitpid, self._pid, 0)

    def _has_ended(self) -> bool | None:
        """Whether it has ended; None if it is gone."""
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return None


#: Functions of ``os`` that make a process, and what they do.
_FORKING: Final = {"fork": "forked", "forkpty": "forked", "posix_spawn": "started", "posix_spawnp": "started"}

#: Modules that make one for who calls them.
_FOR_OTHERS: Final = frozenset({"os", "pty"})


@contextmanager
def watch_processes() -> Iterator[None]:
    """Remember the child processes that code of an experiment starts, while the block runs."""
    with ExitStack() as undo:
        undo.callback(replace(subprocess.Popen, "__init__", _making_processes))
        undo.callback(replace(BaseProcess, "start", _starting_processes))
        for name, came in _FORKING.items():
            if hasattr(os, name):
                undo.callback(replace(os, name, functools.partial(_Forking, came)))
        yield


def _making_processes(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def stand_in(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        command = self.args if isinstance(self.args, str | bytes | os.PathLike) else next(iter(self.args), "")
        name = Path(os.fsdecode(command)).name
        starter = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - who makes it
        owner = None if starter.startswith("asyncio.") else self  # asyncio asks for the status of its own
        remember(lambda here, line: Process(here, name, line, self.pid, owner))

    return stand_in


def _starting_processes(start: Callable[[BaseProcess], None]) -> Callable[[BaseProcess], None]:
    @functools.wraps(start)
    def stand_in(self: BaseProcess) -> None:
        name = _name_of(self)  # Python forgets the function when it has started
        start(self)
        starter = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - who starts it
        # A process of a pool outlives the call for which it is started.
        if (pid := self.pid) is not None and not starter.startswith(("concurrent.", "multiprocessing.")):
            remember(lambda here, line: Process(here, name, line, pid, self))

    return stand_in


def _name_of(process: BaseProcess) -> str:
    """The name that the user has given it; or that of its function, since Python's own has a number in it."""
    if not re.fullmatch(r"\w*Process(-\d+(:\d+)*)", process.name):
        return process.name
    return getattr(getattr(process, "_target", None), "__qualname__", type(process).__name__).replace(".<locals>", "")


class _Forking:
    """A stand-in for a function. It is no function, since a class would take that for a method."""

    def __init__(self, came: str, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._came = came
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self._function(*args, **kwargs)
        pid = given[0] if isinstance(given, tuple) else given
        if pid and (found := starts_here()) is not None:  # in the child it is zero
            here, starts = found
            origin = find_origin(sys._getframe(1), starts.file)  # noqa: SLF001 - who calls it
            if origin.by_users and _FOR_OTHERS.issuperset(origin.modules):
                starts.add(Forked(here, self._came, origin.line, pid))
        return given
