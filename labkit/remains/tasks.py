"""Finds the asyncio tasks that an experiment has left behind, and ends them."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from types import AsyncGeneratorType, FrameType
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from labkit.events import LoopLeaked
from labkit.introspection.alone import runs_alone
from labkit.introspection.origin import is_users, line_of, note_line
from labkit.introspection.suspended import frames
from labkit.remains.started import starts_of
from labkit.support.clock import scaled
from labkit.timeline import Scope, Timeline, scope

__all__ = [
    "ALL",
    "closed_by",
    "describe_task",
    "is_kept",
    "name_task",
    "reap",
    "scope_of",
    "steps",
    "tasks_of",
    "track",
    "where",
]

#: How long a task that was left behind may take to end when it is cancelled, in seconds.
_REAP: Final = 0.5

#: How many times a coroutine that swallows everything is closed.
_TRIES: Final = 5

#: The attribute with a task's scope on Python 3.11. It is on the task, so that it lives as long as the task.
_SCOPE = "_labkit_scope"

#: The attribute of a task that the handler's module keeps.
_KEPT: Final = "_labkit_kept"

#: From so many tasks of one connection on, those that have ended are forgotten whenever their number has doubled.
_MANY: Final = 16


class _Known:
    """The tasks of one experiment, by the connection whose handler has started them."""

    def __init__(self) -> None:
        # Not `WeakSet`: each would be larger than all that is in it, and a server may have thousands of connections.
        self._by_number: defaultdict[int | None, list[ref[asyncio.Task[Any]]]] = defaultdict(list)

    def add(self, number: int | None, task: asyncio.Task[Any]) -> None:
        """Remember a task."""
        known = self._by_number[number]
        known.append(ref(task))
        if len(known) >= _MANY and len(known).bit_count() == 1:
            known[:] = [each for each in known if (found := each()) is not None and not found.done()]

    def of(self, number: int | None) -> list[asyncio.Task[Any]]:
        """List those of one connection that may be unfinished."""
        return [task for each in tuple(self._by_number.get(number, ())) if (task := each()) is not None]

    def all(self) -> list[asyncio.Task[Any]]:
        """List all that may be unfinished."""
        return [task for number in tuple(self._by_number) for task in self.of(number)]


#: The tasks of each experiment.
_tasks: Final[WeakKeyDictionary[Timeline, _Known]] = WeakKeyDictionary()

#: Stands for the tasks of all connections.
ALL: Final = -1


def scope_of(task: object) -> Scope | None:
    """Find the scope in which a task was started.

    Args:
        task: a task; anything else has no scope.

    Returns:
        The scope that the task inherited from the code that started it, or None outside every experiment.
    """
    if not isinstance(task, asyncio.Task):
        return None
    if sys.version_info >= (3, 12):
        return task.get_context().get(scope)
    return getattr(task, _SCOPE, None)


def tasks_of(timeline: Timeline, number: int | None = ALL) -> list[asyncio.Task[Any]]:
    """List the unfinished tasks of an experiment, in the running loop.

    Args:
        timeline: the experiment's timeline.
        number: those of the code of one connection alone, by its number on its lane; None for those of no connection.

    Returns:
        The tasks that were started in its scope, without the current task.
    """
    loop, current = asyncio.get_running_loop(), asyncio.current_task()
    if isinstance(_own_create_task(loop), _CreateTask):
        known = _tasks.get(timeline)
        tasks = [] if known is None else known.all() if number == ALL else known.of(number)
    else:
        tasks = list(asyncio.all_tasks())
    return [
        task
        for task in tasks
        if task is not current
        and not task.done()
        and task.get_loop() is loop
        and (here := scope_of(task)) is not None
        and here.timeline is timeline
        and number in (ALL, here.number)
        and not _is_the_loops(task)
    ]


def _is_the_loops(task: asyncio.Task[Any]) -> bool:
    """Whether a task is asyncio's own, which accepts a connection: a stranger may connect at any time."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_name == "_accept_connection2"


def closed_by(coroutine: object) -> AsyncGeneratorType[Any, Any] | None:
    """Find the asynchronous generator that a task closes; the loop makes such a task where nobody has closed it.

    Args:
        coroutine: what the task runs.

    Returns:
        The generator, or None if the task runs something else.
    """
    if type(coroutine).__name__ != "async_generator_athrow":
        return None
    return next((each for each in gc.get_referents(coroutine) if isinstance(each, AsyncGeneratorType)), None)


def describe_task(task: asyncio.Task[Any]) -> str:
    """Name a task for a reader: by its coroutine's name, and by its own name if it was given one."""
    coro = task.get_coro()
    what = getattr(coro, "__qualname__", type(coro).__name__)
    if (generator := closed_by(coro)) is not None:
        what = f"{generator.__qualname__}.aclose"
    what = what.replace(".<locals>", "")
    name = task.get_name()
    return what if name.startswith("Task-") else f"{name} ({what})"


def name_task(task: asyncio.Task[Any]) -> str:
    """Name a task for a reader, with the line that has started it, if that is known."""
    line = line_of(task)
    return f"task {describe_task(task)}" + ("" if line is None else f", started in {line}")


@contextmanager
def track(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Make the functions of this module work for the tasks of a loop, while the block runs.

    A stand-in for ``loop.create_task`` notes each new task of an experiment, with the line that starts it: so the tasks
    of one of a hundred experiments in a loop are found without a look at all of them. (A task factory would do as well,
    but Python 3.13.0 names the tasks of a factory ``"None"``.)

    Args:
        loop: the running loop.
    """
    before = _own_create_task(loop)
    stand_in = before if isinstance(before, _CreateTask) else _CreateTask(before, loop.create_task)
    if stand_in is not before:
        setattr(loop, "create_task", stand_in)  # noqa: B010 - as the type checker wants it
    stand_in.users += 1
    try:
        yield
    finally:
        stand_in.users -= 1
        # If other code has put its own in front, leave ours in place: it does no harm.
        if not stand_in.users and _own_create_task(loop) is stand_in:
            if stand_in.before is None:
                del loop.create_task
            else:
                setattr(loop, "create_task", stand_in.before)  # noqa: B010


def _own_create_task(loop: asyncio.AbstractEventLoop) -> Any:
    """What stands in for the method of the loop's class."""
    return getattr(loop, "__dict__", {}).get("create_task")


class _CreateTask:
    def __init__(self, before: Any, inner: Any) -> None:
        self.before = before
        self.inner = inner
        self.users = 0

    def __call__(self, coro: Any, *, context: Context | None = None, **given: Any) -> asyncio.Task[Any]:
        here = scope.get() if context is None else context.get(scope)
        if here is None and (here := scope.get() or scope_of(_running_task())) is not None:
            context = _with_scope(context, here)
        if context is not None:
            given["context"] = context
        task: asyncio.Task[Any] = self.inner(coro, **given)
        if here is not None and isinstance(task, asyncio.Task):
            known = _tasks.get(here.timeline)
            if known is None:
                known = _tasks.setdefault(here.timeline, _Known())
            known.add(here.number, task)
            if sys.version_info < (3, 12):
                setattr(task, _SCOPE, here)
            if here.number is not None and (starts := starts_of(here.timeline)) is not None:
                if not runs_alone():
                    note_line(task, sys._getframe(1), starts.file)  # noqa: SLF001 - who starts it
                if starts.on_task is not None and not _is_the_loops(task):
                    starts.on_task(here.number, task)
        return task


def _running_task() -> asyncio.Task[Any] | None:
    """The task that runs in this thread; None where no loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _with_scope(context: Context | None, here: Scope) -> Context | None:
    """Let a context that knows of no experiment, such as an empty one, tell whose code it is that starts a task in it.

    Args:
        context: the context that the task was given; None, if it gets a copy of the one that runs.
        here: the scope of the code that starts it.
    """
    context = copy_context() if context is None else context
    with suppress(RuntimeError):  # somebody runs in it just now
        context.run(scope.set, here)
    return context


async def reap(timeline: Timeline) -> None:
    """Record and end the tasks that an experiment left behind, after the server, the wire and the client have closed.

    Args:
        timeline: the experiment's timeline.
    """
    # A task that was cancelled, or whose connection has just closed, may need a few turns of the loop to end.
    await steps()
    left = tasks_of(timeline)
    if left:
        # So may a task that a timer of the library has just started, such as aiohttp's heartbeat.
        await steps()
        left = [task for task in left if not task.done()]
    if ending := [task for task in left if task.cancelling()]:
        # Its handler has cancelled it; it may clean up.
        await asyncio.wait(ending, timeout=scaled(_REAP))
        left = [task for task in left if not task.done()]
    told = Counter((event.name, event.served) for event in timeline.all(LoopLeaked) if event.what == "task")
    for task in left:
        name = describe_task(task)
        key = name, where(task, timeline).number
        told[key] -= 1
        if told[key] < 0 and not getattr(task, _KEPT, False):
            where(task, timeline).record(LoopLeaked("task", name, stubborn=False, text=name_task(task)))
        task.cancel()
    if left:
        _, stubborn = await asyncio.wait(left, timeout=scaled(_REAP))
        for task in stubborn:
            name = describe_task(task)
            text = f"{name_task(task)}, which refuses to end"
            where(task, timeline).record(LoopLeaked("task", name, stubborn=True, text=text))
        await _close(stubborn, timeline)


async def _close(stubborn: Collection[asyncio.Task[Any]], timeline: Timeline) -> None:
    """Close the coroutines of tasks that swallow every cancel: ``asyncio.run`` would wait for them for ever."""
    for task in stubborn:
        token = scope.set(where(task, timeline))  # what it prints is the experiment's
        try:
            _close_one(task.get_coro())
        finally:
            scope.reset(token)
        task.add_done_callback(_retrieve)
        task.cancel()  # it finds that its coroutine is closed
    if stubborn:
        await asyncio.wait(stubborn, timeout=scaled(_REAP))


def _close_one(coroutine: Any) -> None:
    """Close a coroutine; from the second time on by force: out of the clause of the user's that swallows this, too."""

    def leave(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and isinstance(sys.exc_info()[1], GeneratorExit) and is_users(frame.f_code.co_filename):
            raise GeneratorExit  # Python traces no further after it
        return leave

    for attempt in range(_TRIES):
        before = sys.gettrace()
        if attempt:
            for frame in frames(coroutine):
                frame.f_trace = leave
            sys.settrace(leave)
        try:
            coroutine.close()
        except RuntimeError:  # it waits again
            continue
        except Exception:  # noqa: S110 - of its cleanup, which the lab has broken off
            pass
        finally:
            sys.settrace(before)
        return


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def is_kept(task: asyncio.Task[Any], timeline: Timeline) -> bool:
    """Tell whether the handler's module keeps a task, or an object of it: the next connection finds it there.

    Args:
        task: the task; it is marked.
        timeline: the experiment's timeline.
    """
    starts = starts_of(timeline)
    if starts is not None and starts.keeps(task):
        setattr(task, _KEPT, True)
        return True
    return False


def where(task: asyncio.Task[Any], timeline: Timeline) -> Scope:
    """Return the scope of a task, which names the connection whose handler has started it."""
    return scope_of(task) or Scope(timeline, "handler")


async def steps() -> None:
    """Give the loop a few turns; in each, everything runs that is due."""
    for _ in range(5):
        await asyncio.sleep(0)
