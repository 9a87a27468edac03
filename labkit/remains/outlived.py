"""What outlives a handler: told apart by whether it ends by itself, fails, or is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from types import FrameType
from typing import Any, Final

from labkit.events import LoopEnded, LoopException, LoopLeaked
from labkit.remains.callbacks import Callback, callbacks_of, describe_callback, end_callbacks
from labkit.remains.started import Key, Started, starts_of
from labkit.remains.tasks import ALL, closed_by, describe_task, is_kept, name_task, tasks_of, where
from labkit.support.wording import describe_briefly, describe_exception
from labkit.timeline import APPLICATION, Scope, Timeline, scope

__all__ = ["Outlived", "Tasks", "end_all"]

#: How often everything is ended: a timer that fires just then may start another one.
_ROUNDS: Final = 2

#: The module of the methods that stand in for those of a connection.
_STAND_INS: Final = "labkit.watch.stand_ins"

#: Whose tasks no handler has left: an application ends its own when it is cleaned up, and a client's are not the
#: server's to end.
_NOT_ITS: Final = (APPLICATION, "client")


class Tasks:
    """The unfinished tasks of an experiment at one moment, by the connection whose handler has started them.

    With them is what the loop will call, when it is first asked for, unless only one connection is looked at: all of
    the loop's is looked through.

    Args:
        timeline: the experiment's timeline.
        number: the number of the connection, on the server's side, if only that one's are looked for.
    """

    def __init__(self, timeline: Timeline, number: int | None = ALL) -> None:
        self._timeline = timeline
        self._number = number
        self._by_number: defaultdict[int | None, list[asyncio.Task[Any]]] = defaultdict(list)
        for task in tasks_of(timeline, number):
            here = where(task, timeline)
            if here.lane not in _NOT_ITS:
                self._by_number[here.number].append(task)

    @cached_property
    def _callbacks(self) -> defaultdict[int | None, list[Callback]]:
        found: defaultdict[int | None, list[Callback]] = defaultdict(list)
        for callback in callbacks_of(self._timeline) if self._number == ALL else ():
            found[callback.here.number].append(callback)
        return found

    def callbacks_of(self, number: int | None) -> Sequence[Callback]:
        """List what the loop will call for one connection.

        Args:
            number: its number on the server's side; None for what no handler has set.
        """
        return self._callbacks.get(number, ())

    @property
    def numbers(self) -> AbstractSet[int | None]:
        """The numbers of the connections that have any, or for which the loop will call something."""
        return self._by_number.keys() | self._callbacks.keys()

    def of(self, number: int | None) -> list[asyncio.Task[Any]]:
        """List those of one connection.

        Args:
            number: its number on the server's side; None for those that no handler has started.
        """
        return self._by_number.get(number, [])


class Outlived:
    """What a handler has left when it has ended.

    Args:
        timeline: the experiment's timeline.
        packages: the packages of the server's library, whose own tasks do not count.
        number: the number of the handler's connection on the server's side; None for what no handler has started.
        holds: tells in words what the library still holds of the connection, or returns "".
        shared: tells whether handlers of other connections run.
    """

    # There is one for each connection.
    __slots__ = (
        "_begun",
        "_callbacks",
        "_delivered",
        "_ended",
        "_gathered",
        "_holds",
        "_number",
        "_packages",
        "_shared",
        "_tasks",
        "_timeline",
        "_told",
    )

    def __init__(
        self,
        timeline: Timeline,
        packages: Collection[str],
        number: int | None,
        holds: Callable[[], str],
        shared: Callable[[], bool],
    ) -> None:
        self._timeline = timeline
        self._holds = holds
        self._shared = shared
        self._packages = packages
        self._number = number
        # Most handlers leave nothing.
        self._tasks: Sequence[asyncio.Task[Any]] = ()
        self._begun: AbstractSet[asyncio.Task[Any]] = frozenset()  # since the last look
        self._callbacks: Sequence[Callback] = ()
        self._gathered: AbstractSet[asyncio.Task[Any]] = frozenset()
        self._delivered: AbstractSet[int] = frozenset()
        self._ended = False
        self._told = False

    def deliver(self, exception: BaseException) -> None:
        """Note an exception that is raised in a handler, from something that it awaits."""
        self._delivered |= {id(exception)}  # the tasks below keep their exceptions, so each id stays one exception's

    def handler_ended(self, tasks: Tasks) -> None:
        """Note that a handler has ended, and look at once: what it leaves may end in the next turns of the loop."""
        self._ended = True
        self.alive(tasks)
        # Of several that fail in one turn of the loop, chance decides whose exception comes first: take the first task.
        failed = [task for task in self._gathered if task.done() and not task.cancelled() and task.exception()]
        for task in sorted(failed, key=_number)[:1]:
            self._delivered = {id(task.exception())}

    def task_started(self, task: asyncio.Task[Any]) -> None:
        """Take a task that is started when the handler has ended, which may be over before anybody looks for it.

        Such a task closes a generator that the handler's end has left half-way.

        Args:
            task: the task.
        """
        if self._ended and not self._told and not task.done() and where(task, self._timeline).lane not in _NOT_ITS:
            self._follow(task)
            self._begun |= {task}

    def collect(self, tasks: Tasks) -> bool:
        """Have Python collect what nobody refers to any more, if something is still there: that is not left.

        Returns:
            Whether something was.
        """
        if not self.alive(tasks):
            return False
        token = scope.set(Scope(self._timeline, "handler", self._number))  # some of it may complain
        gc.collect(1)
        scope.reset(token)
        return True

    def waited_for(self, tasks: Tasks) -> bool:
        """Tell whether something is still alive; from now on, the timeline has an event when a task of it ends."""
        self._ended = True
        return self.alive(tasks)

    def follow(self, tasks: Tasks) -> None:
        """Take the tasks that are alive: the timeline has an event when one of them ends.

        Args:
            tasks: the experiment's tasks that run now.
        """
        for task in tasks.of(self._number):
            self._follow(task)
        if self._ended and self._tasks and self._shared():  # the handlers of others may have it too
            self._tasks = [task for task in self._tasks if not is_kept(task, self._timeline)]
        self._begun = frozenset()

    def alive(self, tasks: Tasks) -> bool:
        """Tell whether something is still alive; the timeline has an event when a task of it ends.

        Args:
            tasks: the experiment's tasks that run now.
        """
        self.follow(tasks)
        self._callbacks = tasks.callbacks_of(self._number)
        others = self._others()
        if self._ended:
            for each in others:
                each.wait()
        return (
            bool(others) or bool(self._callbacks) or any(not task.done() for task in self._tasks) or bool(self._held())
        )

    def _follow(self, task: asyncio.Task[Any]) -> None:
        if task not in self._tasks and not self._is_librarys(task):
            self._tasks = [*self._tasks, task]
            task.add_done_callback(self._task_ended)
            if _is_gathered(task):
                self._gathered |= {task}

    def tell(self, tasks: Tasks) -> None:
        """Record what is still alive, and the tasks that have failed; then forget the tasks.

        Args:
            tasks: the experiment's tasks that run a few turns of the loop later: a callback that has run since is over.
        """
        for task in self._tasks:
            name, text = describe_task(task), name_task(task)
            if not task.done():
                if task not in self._begun:  # such a one may end in its first step
                    self._leak(task, name, text)
            elif _is_complained_of(task):
                self._complain(task)
            elif (error := self._swallowed(task)) is not None:
                self._leak(task, name, f"{text}, which failed: {describe_briefly(error)}")
        for each, times in self._count_others().items():
            each.here.record(LoopLeaked(each.what, each.name, text=each.text + _how_often(times)))
        self._tell_callbacks(tasks)
        if held := self._held():
            Scope(self._timeline, "handler", self._number).record(LoopLeaked("socket", "connection", text=held))
        self._told = True
        self._tasks = self._callbacks = ()
        self._gathered = self._begun = frozenset()

    def _tell_callbacks(self, tasks: Tasks) -> None:
        if not self._callbacks:
            return
        starts = starts_of(self._timeline)
        file = "" if starts is None else starts.file
        here = Scope(self._timeline, "handler", self._number)
        before, now = (
            Counter((each.what, *describe_callback(each, file)) for each in callbacks)
            for callbacks in (self._callbacks, tasks.callbacks_of(self._number))
        )
        for (what, name, text), times in (before & now).items():
            here.record(LoopLeaked(what, name, text=text + _how_often(times)))

    def _others(self) -> list[Started]:
        """What is still there, besides the tasks."""
        starts = starts_of(self._timeline)
        found = [] if starts is None else starts.of(self._number)
        for each in found:
            each.look()
        return [each for each in found if each.alive]

    def _count_others(self) -> Counter[Key]:
        """What is still there besides the tasks, and what nobody has closed until it was gone."""
        starts = starts_of(self._timeline)
        # While these are held, none of them is closed for want of somebody who refers to it, and counted once more.
        held = [] if starts is None else [each.thing for each in starts.of(self._number)]
        found = Counter[Key]() if starts is None else starts.take_lost(self._number)
        for each in self._others():
            each.waited_for = False  # from now on, the lab ends it
            found[each.key] += 1
        del held
        return found

    def _held(self) -> str:
        return self._holds() if self._ended else ""

    def _complain(self, task: asyncio.Task[Any]) -> None:
        """Record that nobody has retrieved a task's exception, as asyncio does when nobody keeps the task any more."""
        exception = task.exception()  # asyncio will not complain again
        description = "" if exception is None else describe_exception(exception)
        message = "Task exception was never retrieved"
        where(task, self._timeline).record(LoopException(description, message, text=f"{message}: {description}"))

    def _leak(self, task: asyncio.Task[Any], name: str, text: str) -> None:
        where(task, self._timeline).record(LoopLeaked("task", name, text=text))

    def _swallowed(self, task: asyncio.Task[Any]) -> BaseException | None:
        """The exception of a task that has failed, if nobody has had it, though asyncio will not complain of it."""
        if task.cancelled() or (error := task.exception()) is None:
            return None
        # Of several that fail, `gather` hands on the first exception alone, whichever it is.
        return error if task in self._gathered and id(error) not in self._delivered else None

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if not self._ended:
            return
        name, error = describe_task(task), _failure(task)
        by = "" if error is None else f", by {describe_briefly(error)}"
        description = None if error is None else describe_exception(error)
        ended = LoopEnded("task", name, description, text=f"task {name} has ended, after its handler{by}")
        where(task, self._timeline).record(ended)

    def _is_librarys(self, task: asyncio.Task[Any]) -> bool:
        """Whether the library runs code of its own in a task, or the lab does, for a fault."""
        coroutine: Any = task.get_coro()
        generator = closed_by(coroutine)
        frame: FrameType | None = getattr(coroutine, "cr_frame", None) if generator is None else generator.ag_frame
        module = "" if frame is None else str(frame.f_globals.get("__name__", ""))
        if module == _STAND_INS:  # a method of the connection, which nobody but a handler calls, and the library
            return self._number is None
        return module.partition(".")[0] in self._packages or module.startswith("labkit.stacks.")


def _how_often(times: int) -> str:
    return f", {times:,} times" if times > 1 else ""


async def end_all(timeline: Timeline) -> None:
    """End what an experiment has left, besides its tasks, as far as that is possible.

    What the loop calls goes first, since it may start something.

    Args:
        timeline: the experiment's timeline.
    """
    end_callbacks(timeline)
    starts = starts_of(timeline)
    for _ in range(_ROUNDS):
        for each in [] if starts is None else starts.all():
            if each.alive:
                each.waited_for = False
                await each.stop()


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    """The exception that has ended a task. Unlike ``exception()``, this does not count as retrieving it."""
    return None if task.cancelled() else getattr(task, "_exception", None)


def _number(task: asyncio.Task[Any]) -> int:
    """A number that is higher for a task that was made later, where its name is asyncio's."""
    number = task.get_name().removeprefix("Task-")
    return int(number) if number.isdecimal() else 0


def _is_gathered(task: asyncio.Task[Any]) -> bool:
    """Whether ``asyncio.gather`` waits for a task, and swallows its exception if another one's came first."""
    for callback, _ in getattr(task, "_callbacks", None) or ():
        code, cells = getattr(callback, "__code__", None), getattr(callback, "__closure__", None)
        if code is not None and callback.__qualname__.startswith("gather.<locals>"):
            return not dict(zip(code.co_freevars, cells or (), strict=True))["return_exceptions"].cell_contents
    return False


def _is_complained_of(task: asyncio.Task[Any]) -> bool:
    """Whether asyncio will complain of the task's exception, since nobody has retrieved it."""
    return bool(getattr(task, "_log_traceback", False))
