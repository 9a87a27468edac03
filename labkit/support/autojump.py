"""A loop on real sockets whose time jumps to the next timer when nothing else can happen.

The model is trio's clock of that name. Time flows as usual while something happens. When nothing is ready, the loop
looks again after a pause. If nothing has moved by then on any socket, and nothing outside the loop is at work, only a
timer can be next, and the loop's time jumps to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
import socket
import struct
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from time import monotonic, perf_counter
from typing import Any, Final, Literal, TypeVar, TypeVarTuple, Unpack, get_args

__all__ = ["CLOCKS", "REAL", "AutojumpLoop", "Clock", "ClockName", "Hold", "clock_of"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Tells what outside the loop is at work, in words, or returns None. While it tells something, the time does not jump.
Hold = Callable[[], str | None]

#: The names of the clocks.
ClockName = Literal["real", "autojump"]
CLOCKS: Final = get_args(ClockName)

#: Seconds between the two looks before a jump.
_PAUSE: Final = 0.001

#: For so many seconds, bytes on their way must not have moved until they count as stuck: the peer has no room for them.
#: Nagle's algorithm may hold them for as long as the peer delays its acknowledgement, on Linux 0.2 s at most.
_STUCK: Final = 0.25

#: What epoll's waits are rounded up to, in seconds.
_STEP: Final = 0.001

#: Seconds between two looks at what holds the time.
_LOOK: Final = 0.01

#: Seconds between two turns that the loop would have had in place of a jump.
_TURN: Final = 0.005

#: For so many seconds after a hold the time does not jump: what it was may have something for the loop.
_AFTER: Final = 0.02


#: In Linux's ``struct tcp_info`` (linux/tcp.h): the bytes received; those that wait to be sent, perhaps since Nagle's
#: algorithm holds them; the bytes sent, and those of them sent again.
_RECEIVED, _AT_RECEIVED = struct.Struct("=Q"), 128
_WAITING, _AT_WAITING = struct.Struct("=I"), 144
_SENT, _AT_SENT = struct.Struct("=QQ"), 200
_END: Final = _AT_SENT + _SENT.size


class Clock:
    """The time of the loops that jump, and of those that don't.

    Attributes:
        skipped: for how many seconds it has jumped in all.
        jumps: how many times it has jumped.
        at_rest: whether it has just jumped, so that nothing but a timer is due in this turn of the loop.
        held: for how many seconds each of the things outside the loop has held it, by what it is.
        turns: where the loop notes the time of each of its turns, and of those that it would have had without a jump,
            if somebody wants to know.
    """

    def __init__(self) -> None:
        self.skipped = 0.0
        self.jumps = 0
        self.at_rest = False
        self.held: dict[str, float] = {}
        self.turns: list[float] | None = None
        self._resting: list[asyncio.Future[None]] = []

    def now(self) -> float:
        """Read the clock, in seconds, as fine as ``perf_counter``."""
        return perf_counter() + self.skipped

    def rest(self) -> asyncio.Future[None]:
        """Return what is done when all has happened that can happen before the next jump."""
        self._resting.append(asyncio.get_running_loop().create_future())
        return self._resting[-1]

    def tell_rest(self) -> bool:
        """Tell those who wait for it; return whether there are any."""
        resting, self._resting = self._resting, []
        for each in resting:
            if not each.done():
                each.set_result(None)
        return bool(resting)

    def jump(self, seconds: float) -> None:
        """Jump."""
        if self.turns is not None:
            now = self.now()
            self.turns += [now + step * _TURN for step in range(1, int(seconds / _TURN))]
        self.skipped += seconds
        self.jumps += 1
        self.at_rest = True


#: The clock that never jumps.
REAL: Final = Clock()


def clock_of(loop: asyncio.AbstractEventLoop | None) -> Clock:
    """Find the clock of a loop.

    Args:
        loop: a loop of any kind; None, if none is running.
    """
    return loop.clock if isinstance(loop, AutojumpLoop) else REAL


class AutojumpLoop(asyncio.SelectorEventLoop):
    """The loop.

    Its own work in threads (``run_in_executor``) holds the time, and so does each of its child processes, and each
    socket whose peer is none of its own: what another program does there takes real time.

    Attributes:
        clock: its clock.
        holds: what else may hold the time.
    """

    #: Why it cannot be had on this system, as a clause; None if it can.
    impossible: str | None = None

    def __init__(self) -> None:
        self.clock: Final = Clock()
        self.holds: Final[list[Hold]] = []
        self._in_threads = 0
        self._children: list[asyncio.SubprocessTransport] = []
        self._looks = _Selector(self)
        super().__init__(self._looks)
        self._looks.begin()

    def time(self) -> float:
        """Return the loop's time, in seconds."""
        return monotonic() + self.clock.skipped

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function in a thread; meanwhile the time does not jump."""
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._back_from_thread)
        return future

    def _back_from_thread(self, _: object) -> None:
        self._in_threads -= 1

    async def shutdown_default_executor(self, *limit: Any, **options: Any) -> None:
        """Wait for the threads that have run functions; meanwhile the time does not jump, nor past Python's limit."""
        self._in_threads += 1
        try:
            await super().shutdown_default_executor(*limit, **options)
        finally:
            self._in_threads -= 1

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        """Start a child process; until the loop knows that it has ended, the time does not jump."""
        return self._with_child(await super().subprocess_exec(*args, **options))

    async def subprocess_shell(self, *args: Any, **options: Any) -> Any:
        """The same, with a shell."""
        return self._with_child(await super().subprocess_shell(*args, **options))

    def _with_child(self, started: tuple[asyncio.SubprocessTransport, T]) -> tuple[asyncio.SubprocessTransport, T]:
        self._children.append(started[0])
        return started

    def held(self) -> str | None:
        """Tell what holds the time now, in words; None if nothing does."""
        if self._in_threads:
            return "a thread"
        # Its pipes are closed a while before a thread tells the loop of its end.
        self._children = [child for child in self._children if child.get_returncode() is None]
        if self._children:
            return "a child process"
        return next(filter(None, (hold() for hold in self.holds)), None)


class _Selector(selectors.DefaultSelector):
    """Looks twice before the time of its loop jumps.

    Args:
        loop: the loop, which has not begun.
    """

    def __init__(self, loop: AutojumpLoop) -> None:
        super().__init__()
        self._loop = loop
        self._clock = loop.clock
        # The addresses that sockets of this loop have had. By descriptor, of those that are connected and registered:
        # their own, and their peers'.
        self._own: set[object] = set()
        self._names: dict[int, object] = {}
        self._peers: dict[int, object] = {}
        self._others: set[int] = set()  # the descriptors of what is not TCP
        self._moving: dict[int, tuple[int, int]] = {}  # by descriptor, how many bytes were sent, and have arrived
        self._told_rest = False
        self._moving_since = self._held_at = 0.0

    def begin(self) -> None:
        """Take what is registered by now as the loop's own."""
        self._others.clear()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Register a file or a socket, and note with whom it is connected."""
        key = super().register(fileobj, events, data)
        self._note(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Register it no longer."""
        key = super().unregister(fileobj)
        self._peers.pop(key.fd, None)
        self._others.discard(key.fd)
        return key

    def _note(self, fd: int) -> None:
        try:
            found = socket.socket(fileno=fd)
        except OSError:  # a pipe
            self._others.add(fd)
            return
        try:
            if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
                self._others.add(fd)
                return
            self._names[fd] = _plain(found.getsockname())
            self._own.add(self._names[fd])
            if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self._peers[fd] = _peer(found)
        finally:
            found.detach()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait until something is ready, or until the time jumps, or flows, to the next timer."""
        self._clock.at_rest = False
        if self._clock.turns is not None:
            self._clock.turns.append(self._clock.now())
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        return super().select(None) if timeout is None else self._wait(timeout, monotonic())

    def _wait(self, timeout: float, began: float) -> list[tuple[selectors.SelectorKey, int]]:
        if (why := self._loop.held()) is not None:
            self._held_at = began
        elif began - self._held_at >= _AFTER:
            why = self._outside()
        else:
            return super().select(min(timeout, _LOOK))
        if why is not None:
            ready = super().select(min(timeout, _LOOK))
            self._clock.held[why] = self._clock.held.get(why, 0.0) + monotonic() - began
            return ready
        if timeout <= _PAUSE:
            return super().select(timeout)
        ready = super().select(_PAUSE)
        if ready or self._is_under_way():
            return ready
        if ready := super().select(0):  # what was on its way until that look
            return ready
        if not self._told_rest and self._clock.tell_rest():
            self._told_rest = True
            return ready
        self._told_rest = False
        self._clock.jump(_in_steps(max(timeout - (monotonic() - began), 0.0)))
        return ready

    def _outside(self) -> str | None:
        """What is connected with something outside of the loop, in words."""
        if self._others:
            return "a pipe or a socket to something outside"
        if all(peer in self._own for peer in self._peers.values()):
            return None
        return "a connection to something outside"

    def _is_under_way(self) -> bool:
        """Whether bytes are on their way from a socket to another one of this loop."""
        if not self._peers:
            return False
        passed = {fd: _count_passed(fd) for fd in self._peers}
        ends = {self._names[fd]: fd for fd in self._peers}
        moving = {
            fd: (sent, received)
            for fd, (sent, _) in passed.items()
            if (peer := self._peers[fd]) in ends and sent > (received := passed[ends[peer]][1])
        }
        if moving != self._moving:
            self._moving, self._moving_since = moving, monotonic()
        return bool(moving) and monotonic() - self._moving_since < _STUCK


def _in_steps(seconds: float) -> float:
    """Round a wait up as the system's own is, so that timers that meet on the real clock meet here too."""
    return math.ceil(seconds / _STEP) * _STEP


def _plain(address: Any) -> object:
    """An address, the same in IPv6 as in IPv4."""
    host, port, *_ = address
    return str(host).removeprefix("::ffff:"), port


def _peer(connected: socket.socket) -> object:
    try:
        return _plain(connected.getpeername())
    except OSError:  # it is still connecting
        return None


def _count_passed(fd: int) -> tuple[int, int]:
    """How many bytes a socket has been given to send, and how many have reached it; a FIN may count as one.

    Unlike the bytes that wait for an acknowledgement, these do not depend on when the peer acknowledges them.
    """
    found = socket.socket(fileno=fd)
    try:
        info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _END)
    finally:
        found.detach()
    sent, again = _SENT.unpack_from(info, _AT_SENT)
    [waiting] = _WAITING.unpack_from(info, _AT_WAITING)
    [received] = _RECEIVED.unpack_from(info, _AT_RECEIVED)
    return sent - again + waiting, received


def _find_why_impossible() -> str | None:
    """Why this system does not tell what has passed through a socket, as a clause; None if it does."""
    if sys.platform == "linux":
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as some, contextlib.suppress(OSError):
            if len(some.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _END)) == _END:
                return None
    return "this system does not tell what is on its way through a socket"


AutojumpLoop.impossible = _find_why_impossible()
