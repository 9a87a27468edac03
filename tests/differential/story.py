"""Writes down what a handler sees: the same in the lab and on a plain server. It knows nothing of the lab.

A handler under comparison is a function of two: the library's own argument, and ``seen``. It says ``seen(connection)``
once, and uses what it gets as it would use the connection.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from aiohttp import WSMessage

__all__ = ["Seen", "Story", "describe", "seconds", "squeezed"]

#: When a line was told, which no handler asks: so the lab need not know that a clock is read, and lets the time jump.
_CLOCKS: Final = {"real": time.perf_counter}


class Story(NamedTuple):
    """What a handler saw.

    Attributes:
        lines: all of it in order; the last line says how the handler ended.
        strands: the same for each of the handler's tasks, by the names of their coroutines; "" is the handler itself.
            asyncio promises no order between tasks.
    """

    lines: tuple[str, ...]
    strands: Mapping[str, tuple[str, ...]]


#: A slow machine is slow in both worlds.
_SCALE = float(os.environ.get("LABKIT_TIME_SCALE", "1"))

#: The longest run of lines that is looked for when it repeats.
_LONGEST = 16


def seconds(number: float) -> float:
    """Stretch a time, so that it suits the machine."""
    return number * _SCALE


class Seen:
    """What one call of a handler sees, in order.

    Attributes:
        task: the library's task in which the handler runs, once it does.
        tasks: this task, and those of the handler's own that have seen something, or that the handler has told.
        bell: set whenever something is new.
        inside: the methods of the connection in which the handler's own task is now.
        closing: whether the handler has called ``close()``.
        ended: set when the handler has ended.
        error: an exception for the handler, in place of the cancel that comes to the method in which it waits.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.bell = asyncio.Event()
        self.inside: list[str] = []
        self.closing = False
        self.ended = False
        self.error: Exception | None = None
        self._lines: list[tuple[float, str, str]] = []

    def note(self, line: str) -> None:
        """Write a line."""
        task = asyncio.current_task()
        if task is not None:
            self.tasks.add(task)
        own = task is None or task is self.task
        strand = "" if own else getattr(task.get_coro(), "__qualname__", "a task")
        self._lines.append((_CLOCKS["real"](), strand, line))
        self.bell.set()

    def __call__(self, connection: Any) -> Any:
        """Give what to use in place of the connection: it writes down each call, and how the call comes out."""
        return _Witness(connection, self)

    def so_far(self, until: float = math.inf) -> int:
        """Count the lines, up to a moment as ``time.perf_counter()`` tells it."""
        return sum(at < until for at, _, _ in self._lines)

    def record(self, handler: Callable[[Any, Seen], Awaitable[Any]]) -> Callable[[Any], Any]:
        """Make the handler that the library calls."""

        @functools.wraps(handler)
        async def recorded(argument: Any) -> Any:
            self.task = asyncio.current_task()
            self.bell.set()
            try:
                result = await handler(argument, self)
            except BaseException as error:
                self._end(f"ends: {describe(error)}")
                raise
            self._end("ends: returns")
            return result.connection if isinstance(result, _Witness) else result

        return recorded

    def _end(self, line: str) -> None:
        self.ended = True
        self.note(line)

    def story(self, until: float) -> Story:
        """Tell what the handler saw.

        Args:
            until: when those who made it run had enough of it, as ``time.perf_counter()``.

        Returns:
            The lines up to the handler's end; what repeats is told once.
        """
        told = [(strand, line) for at, strand, line in self._lines if at < until]
        end = next((number for number, (_, line) in enumerate(told, 1) if line.startswith("ends: ")), None)
        del told[end:]
        strands: dict[str, list[str]] = {}
        for strand, line in told:
            strands.setdefault(strand, []).append(line)
        last = ("still runs",) if end is None else ()
        return Story(
            (*squeezed([line for _, line in told], cut=end is None), *last),
            {name: tuple(squeezed(lines, cut=end is None or name != "")) for name, lines in strands.items()},
        )


class _Witness:
    """Stands where the connection stood, and writes down what is done with it."""

    def __init__(self, connection: Any, seen: Seen) -> None:
        self.connection = connection
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.connection, name)
        if inspect.iscoroutinefunction(value):
            return functools.partial(self._call, name, value)
        if inspect.isasyncgenfunction(value):
            return lambda *args, **kwargs: _Iteration(name, value(*args, **kwargs), self._call)
        if not callable(value):
            self._seen.note(f"{name} is {describe(value)}")
        return value

    def __aiter__(self) -> _Iteration:
        return _Iteration("async for", aiter(self.connection), self._call)

    async def _call(self, name: str, method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        seen, own = self._seen, asyncio.current_task() is self._seen.task
        given = ", ".join([*map(describe, args), *(f"{key}={describe(value)}" for key, value in kwargs.items())])
        call = f"{name}({given})"
        seen.note(f"{call} …")
        seen.closing |= name == "close"
        if own:
            seen.inside.append(name)
        try:
            result = await method(*args, **kwargs)
        except asyncio.CancelledError as cancel:
            if own and seen.error is not None and seen.task is not None:
                error, seen.error = seen.error, None
                seen.task.uncancel()
                seen.note(f"{call} raises {describe(error)}")
                raise error from None
            seen.note(f"{call} raises {describe(cancel)}")
            raise
        except BaseException as error:
            seen.note(f"{call} raises {describe(error)}")
            raise
        finally:
            if own:
                seen.inside.remove(name)
        seen.note(f"{call} gives {describe(result)}")
        return result


class _Iteration:
    """An asynchronous iteration over what a connection gives."""

    def __init__(self, name: str, items: Any, call: Callable[..., Awaitable[Any]]) -> None:
        self._name = name
        self._items = items
        self._call = call

    def __aiter__(self) -> _Iteration:
        return self

    async def __anext__(self) -> Any:
        return await self._call(self._name, functools.partial(anext, self._items))

    async def aclose(self) -> None:
        if hasattr(self._items, "aclose"):
            await self._items.aclose()


def describe(value: Any) -> str:
    """Describe what a handler gave or got; nothing in it is the run's own, such as an address or a duration."""
    if isinstance(value, BaseException):
        return _describe_exception(value)
    if isinstance(value, WSMessage):
        return f"{value.type.name} {describe(value.data)} {describe(value.extra)}"
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str | bytes):
        return repr(value) if len(value) <= 40 else f"{value[:20]!r} and more, {len(value)} long"
    if isinstance(value, bool | int | None):
        return repr(value)
    if isinstance(value, dict | list | tuple):
        return repr(value)
    if asyncio.isfuture(value):
        return "a future"
    return f"a {type(value).__name__}"


def _describe_exception(error: BaseException) -> str:
    words = f"{type(error).__qualname__}({', '.join(map(describe, error.args))}): {error}"
    if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) is not None:
        words += f" [cancelled {task.cancelling()} times]"
    for name in ("rcvd", "sent", "rcvd_then_sent"):
        if hasattr(error, name):
            words += f" [{name} {getattr(error, name)}]"
    if isinstance(error, BaseExceptionGroup):
        words += f" [of {', '.join(map(_describe_exception, error.exceptions))}]"
    if error.__cause__ is not None:
        words += f" from {_describe_exception(error.__cause__)}"
    elif error.__context__ is not None and not error.__suppress_context__:
        words += f" in {_describe_exception(error.__context__)}"
    return words


def squeezed(lines: list[str], *, cut: bool = False) -> list[str]:
    """Tell once what repeats at once, however often: how many ticks there were is a matter of time.

    Args:
        lines: what was seen.
        cut: whether there would have been more; then, how far it was with the next repetition is a matter of time too.
    """
    told: list[str] = []
    repeated: list[str] = []
    since = 0  # where what was told after the last repetition begins
    for line in lines:
        told.append(line)
        for length in range(1, _LONGEST + 1):
            if len(told) >= 2 * length and told[-length:] == told[-2 * length : -length]:
                repeated = told[-length:]
                del told[-length:]
                since = len(told)
                break
    rest = told[since:]
    return told[:since] if cut and rest == repeated[: len(rest)] else told
