"""What follows the ends of a server's handlers: what the library still does for them, and what they have left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from labkit.events import LoopEnded
from labkit.remains.outlived import Outlived, Tasks, end_all
from labkit.remains.started import starts_of
from labkit.remains.tasks import steps, tasks_of
from labkit.support.autojump import REAL
from labkit.support.clock import timeout
from labkit.timeline import Timeline
from labkit.watch.call import Call
from labkit.watch.outline import Outlines
from labkit.watch.taps import Taps

__all__ = ["Aftermath"]

#: Seconds between two looks at what does not tell its end.
_LOOK: Final = 0.02


class _Each(dict[int | None, Outlived]):
    """What is left, by the number of the connection; made when it is first asked for."""

    def __init__(self, make: Callable[[int | None], Outlived]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, number: int | None) -> Outlived:
        self[number] = self._make(number)
        return self[number]


class Aftermath:
    """What follows the ends of a server's handlers.

    Args:
        timeline: where to record.
        packages: the packages of the server's library, whose own tasks no handler has left.
        taps: the server's connections.
        calls: the calls of the handler that run now, and are watched closely; the host keeps the list.
        outlines: the others.
    """

    def __init__(
        self, timeline: Timeline, packages: Collection[str], taps: Taps, calls: Sequence[Call], outlines: Outlines
    ) -> None:
        self._timeline = timeline
        self._taps = taps
        self._calls = calls
        self._outlines = outlines
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()  # the library's, of the handlers
        self._left = _Each(
            lambda number: Outlived(
                timeline, packages, number, partial(self._held, number), partial(self._others_run, number)
            )
        )

    def handler_begins(self, number: int, task: asyncio.Task[Any] | None) -> None:
        """Note the library's task in which a handler runs, watched closely."""
        if task is not None:
            self._tasks[task] = number

    def delivered(self, number: int, exception: BaseException) -> None:
        """Note an exception that is raised in a handler, from something that it awaits."""
        self._left[number].deliver(exception)

    def handler_ended(self, number: int) -> None:
        """Note that a handler has ended that was watched closely, and look at once at what it leaves."""
        self._left[number].handler_ended(Tasks(self._timeline, number))
        if (starts := starts_of(self._timeline)) is not None:
            starts.on_task = self._task_started

    def _task_started(self, number: int, task: asyncio.Task[Any]) -> None:
        if (left := self._left.get(number)) is not None:
            left.task_started(task)

    async def settled(self, limit: float, only: Collection[int] | None = None) -> None:
        """Wait until the library has dealt with the end of its handlers; it may log what a handler has raised.

        Args:
            limit: the longest wait, in seconds.
            only: the numbers of the connections; all, if None.
        """
        tasks = {task for task, number in list(self._tasks.items()) if only is None or number in only}
        pending = {task for task in tasks if not task.done()} - {asyncio.current_task()}
        if pending:
            with contextlib.suppress(TimeoutError):
                async with timeout(limit):
                    await asyncio.wait(pending)
        # aiohttp runs the handler in a task of its own; the connection's task goes on in the next turns of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    async def look(self, only: Collection[int]) -> None:
        """Look at what handlers have started by now.

        Args:
            only: the numbers of the handlers' connections.
        """
        tasks = Tasks(self._timeline)
        for number in (*only, None):
            self._left[number].follow(tasks)

    async def outlived(self, limit: float, only: Collection[int] | None = None) -> None:
        """Wait until nothing is left of what handlers have started that have ended.

        Args:
            limit: the longest wait, in seconds.
            only: the numbers of the handlers' connections; all, if None.
        """
        tasks = Tasks(self._timeline)
        left = self._left_by(only, tasks)
        ends = asyncio.get_running_loop().time() + limit
        start = len(self._timeline.recorded())
        collected = [each.collect(tasks) for each in left]
        if any(collected):
            tasks = Tasks(self._timeline)
        while self._waits_for(left, tasks) and (rest := ends - asyncio.get_running_loop().time()) > 0:
            # Not all tell their end: somebody has to look whether a file is closed.
            if (clock := self._timeline.clock) is not REAL:
                await asyncio.wait([clock.rest()], timeout=rest)
            else:
                await self._timeline.until(lambda event: isinstance(event, LoopEnded), min(rest, _LOOK), start=start)
                start = len(self._timeline.recorded())
            tasks = Tasks(self._timeline)

    async def tell(self, only: Collection[int] | None = None) -> None:
        """Record what is left of what handlers have started that have ended.

        Args:
            only: the numbers of the handlers' connections; all, if None.
        """
        tasks = Tasks(self._timeline)
        left = self._left_by(only, tasks)
        for each in left:
            each.alive(tasks)
        await steps()  # a task that a timer has just started may be about to end
        tasks = Tasks(self._timeline)
        for each in left:
            each.tell(tasks)

    async def end(self) -> None:
        """End what the handlers have left, besides their tasks: kill the processes, and close what is open."""
        await end_all(self._timeline)

    def _waits_for(self, left: list[Outlived], tasks: Tasks) -> bool:
        return bool([each for each in left if each.waited_for(tasks)])

    def _left_by(self, only: Collection[int] | None, tasks: Tasks) -> list[Outlived]:
        """What handlers have left that have ended; and what no handler has started, if none of them runs."""
        if only is None:
            outlined = self._outlines.left(tasks, self._taps.unsent)
            numbers: Collection[int] = outlined.union(number for number in self._left if number is not None)
        else:
            numbers = only
        running = {call.number for call in self._calls if only is None or call.number in only}
        ended = [self._left[number] for number in sorted(numbers) if number not in running]
        return ended if running or self._outlines.running else [*ended, self._left[None]]

    def _others_run(self, number: int | None) -> bool:
        return any(call.number != number for call in self._calls)

    def _held(self, number: int | None) -> str:
        """What the library still holds of a connection, though nothing of it runs any more."""
        tap = self._taps.get(number)
        if tap is None or not tap.unsent:
            return ""
        if number in self._outlines:
            if tasks_of(self._timeline, number):
                return ""
        elif any(each == number and not task.done() for task, each in list(self._tasks.items())):
            return ""
        return "the connection's socket, with data that the client does not read"
