"""Stand-ins for the methods of one connection; through them the lab sees what the library tells the handler."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Literal, NamedTuple

from labkit.watch.cancels import tell_cause
from labkit.watch.limits import Cause

__all__ = [
    "Entered",
    "OnCall",
    "OnNotice",
    "StandIns",
    "WaitsFor",
    "by_the_library",
    "in_method",
    "method_of_handler",
    "observe_items",
    "within",
]

#: Called before a method, with the arguments by the library's names for them; it may replace them.
OnCall = Callable[[dict[str, Any]], None]

#: Called with a method's name, and with the exception by which the method reports that the connection is lost.
OnNotice = Callable[[str, BaseException], None]

#: After so many notices, each further call waits so many seconds. A library may raise without a turn of the loop; a
#: handler that then calls it again and again would block the loop.
_MANY_NOTICES, _PAUSE = 1000, 0.01

#: The methods of the classes of connections, for which functions are kept.
_MANY_METHODS = 256

_NOTHING = nullcontext()

#: The method of the connection that the handler called and inside which the running code is; "" if there is none.
_in_method: ContextVar[str] = ContextVar("labkit_in_method", default="")


#: What a method waits for: the client's next message, or the end of the connection.
WaitsFor = Literal["message", "end"]


class Entered(NamedTuple):
    """A call of a method that has not returned yet.

    Attributes:
        method: the method's name.
        task: the task that has called it.
        waits_for: what the method waits for, if that comes from the client alone.
    """

    method: str
    task: asyncio.Task[Any] | None
    waits_for: WaitsFor | None


class StandIns:
    """The stand-ins on one connection, which keeps its type and its behaviour.

    Args:
        connection: the library's own connection.
        loss_type: the exceptions with which its methods report that it is lost.
        on_notice: called with each of these exceptions that reaches the handler.
        by_library: says whether the running task belongs to the library; its calls are not the handler's.
        take_error: called when a cancel leaves a method; returns the error that the handler gets instead, or None.
        task: the handler's own task.
        on_given_up: called when a limit of time or a cancel ends a method, with the method's name and the cause.

    Attributes:
        entered: the calls of methods by the handler that have not returned yet.
        by_library: says whether the running task belongs to the library.
        take_error: called when a cancel leaves a method.
        task: the handler's own task.
        on_given_up: called when a limit of time or a cancel ends a method.
        notices: how many times a method has reported that the connection is lost.
    """

    def __init__(
        self,
        connection: Any,
        loss_type: type[Exception] | tuple[type[Exception], ...],
        on_notice: OnNotice,
        by_library: Callable[[], bool] = lambda: False,
        take_error: Callable[[], BaseException | None] = lambda: None,
        task: asyncio.Task[Any] | None = None,
        on_given_up: Callable[[str, Cause], None] = lambda *_: None,
    ) -> None:
        self.entered: list[Entered] = []
        self._connection = connection
        self._loss_type = loss_type
        self._on_notice = on_notice
        self.by_library = by_library
        self.take_error = take_error
        self.task = task
        self.on_given_up = on_given_up
        self._names: list[str] = []
        self.notices = 0

    def observe(
        self,
        name: str,
        on_call: OnCall | None = None,
        on_return: Callable[[Any], Any] | None = None,
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        tells_cause: bool = False,
        parameters: Sequence[str] = (),
        waits_for: WaitsFor | None = None,
    ) -> None:
        """Observe a coroutine method, if this version of the library has it.

        Args:
            name: the method's name.
            waits_for: what the method waits for, if that comes from the client alone.
            parameters: what the library calls the method's parameters, in order; the user's own class may call them
                something else.
            before: called and awaited first of all.
            on_call: called when the handler calls the method.
            on_return: called with the method's result; if it returns anything but None, the handler gets that instead.
            tells_cause: whether to tell what ends the method too early, if the handler's own task has called it. For
                other tasks that is always told.
        """
        method = getattr(self._connection, name, None)
        if method is None:
            return
        observed = _Observed(self, name, method, on_call, on_return, before, tells_cause, parameters, waits_for)
        self._put(name, observed.stand_in())

    def observe_stream(self, name: str, on_item: Callable[[Any], None]) -> None:
        """Observe a method that is an asynchronous generator of what the client sends, if this version has it.

        Args:
            name: the method's name.
            on_item: called with each item that the generator yields.
        """
        method = getattr(self._connection, name, None)
        if method is None:
            return

        @functools.wraps(method)
        async def stand_in(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            items = method(*args, **kwargs)
            try:
                while True:
                    with _Inside(self, name, "message"):
                        try:
                            item = await anext(items)
                        except StopAsyncIteration:
                            return
                        on_item(item)
                    yield item
            finally:
                await items.aclose()

        self._put(name, stand_in)

    def release(self) -> None:
        """Remove the stand-ins."""
        while self._names:
            self._connection.__dict__.pop(self._names.pop(), None)

    def _put(self, name: str, stand_in: Callable[..., Any]) -> None:
        setattr(self._connection, name, stand_in)
        self._names.append(name)

    def report(self, name: str, exception: BaseException | None) -> None:
        """Tell of an exception that the handler gets from the library, if it is one that reports a lost connection.

        Args:
            name: what gave it to the handler, in words.
            exception: the exception; None if the handler asked for one, and there is none.
        """
        if isinstance(exception, self._loss_type):
            self.notices += 1
            self._on_notice(name, exception)


class _Observed:
    """A method of one connection that is observed; the arguments are those of ``StandIns.observe``.

    There are eight of them for each connection of a server, so it keeps as little as it can.
    """

    __slots__ = (
        "before",
        "method",
        "name",
        "of",
        "on_call",
        "on_return",
        "parameters",
        "tells_cause",
        "waits_for",
    )

    def __init__(
        self,
        of: StandIns,
        name: str,
        method: Callable[..., Any],
        on_call: OnCall | None,
        on_return: Callable[[Any], Any] | None,
        before: Callable[[], Awaitable[None]] | None,
        tells_cause: bool,
        parameters: Sequence[str],
        waits_for: WaitsFor | None,
    ) -> None:
        self.of = of
        self.name = name
        self.method = method
        self.on_call = on_call
        self.on_return = on_return
        self.before = before
        self.tells_cause = tells_cause
        self.parameters = parameters
        self.waits_for = waits_for

    def stand_in(self) -> Callable[..., Any]:
        """Make the stand-in, which looks as the method does."""
        if inspect.ismethod(self.method):
            return MethodType(_stand_in_for(self.method.__func__), self)
        call = MethodType(_calling, self)

        @functools.wraps(self.method)
        async def stand_in(*args: Any, **kwargs: Any) -> Any:
            return await call(*args, **kwargs)

        return stand_in


async def _calling(observed: _Observed, /, *args: Any, **kwargs: Any) -> Any:
    """Call a method that is observed."""
    of, method = observed.of, observed.method
    if _in_method.get() or of.by_library():  # the library calls its own method, not the handler
        return await method(*args, **kwargs)
    if of.notices > _MANY_NOTICES:
        await asyncio.sleep(_PAUSE)
    if observed.before is not None:
        await observed.before()
    if observed.on_call is not None:
        args, kwargs = _announce(_signature_of(method), observed.parameters, observed.on_call, args, kwargs)
    told = observed.tells_cause or asyncio.current_task() is not of.task
    why = tell_cause(partial(of.on_given_up, observed.name)) if told else _NOTHING
    with _Inside(of, observed.name, observed.waits_for), why:
        result = await method(*args, **kwargs)
        other = None if observed.on_return is None else observed.on_return(result)
    return result if other is None else other


@functools.lru_cache(maxsize=_MANY_METHODS)
def _stand_in_for(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the function that stands in for a method of all connections of a class."""
    stand_in = FunctionType(_calling.__code__, globals(), closure=_calling.__closure__)
    return functools.wraps(function)(stand_in)


def _signature_of(method: Callable[..., Any]) -> inspect.Signature:
    if not inspect.ismethod(method):
        return inspect.signature(method)
    return _signature_without_first(method.__func__)


@functools.lru_cache(maxsize=_MANY_METHODS)
def _signature_without_first(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(MethodType(function, object()))


class _Inside:
    """A block inside which the handler is in a method of its connection.

    Args:
        of: the connection's stand-ins.
        name: the method's name.
        waits_for: what the method waits for, if that comes from the client alone.
    """

    __slots__ = ("_entered", "_of", "_token")

    def __init__(self, of: StandIns, name: str, waits_for: WaitsFor | None) -> None:
        self._of = of
        self._entered = Entered(name, asyncio.current_task(), waits_for)

    def __enter__(self) -> None:
        self._token = _in_method.set(self._entered.method)
        self._of.entered.append(self._entered)

    def __exit__(self, _: object, exception: BaseException | None, __: object) -> None:
        try:
            self._of.report(f"{self._entered.method}()", exception)
            # The library has cleaned up after the cancel; now the handler may get another error instead.
            if isinstance(exception, asyncio.CancelledError) and (error := self._of.take_error()) is not None:
                raise error from None
        finally:
            self._of.entered.remove(self._entered)
            with suppress(ValueError):  # a loop was broken off, and the collector closes what ran in it
                _in_method.reset(self._token)


@contextmanager
def by_the_library() -> Iterator[None]:
    """Mark what runs in the block, and the tasks that it starts, as the library's own doing and not the handler's."""
    with within("the library"):
        yield


@contextmanager
def within(method: str) -> Iterator[None]:
    """Mark what runs in the block as inside a method of the connection that the handler has called.

    Args:
        method: the method's name.
    """
    token = _in_method.set(method)
    try:
        yield
    finally:
        _in_method.reset(token)


def in_method() -> bool:
    """Tell whether the running code is inside a method of the connection that the handler called."""
    return bool(_in_method.get())


def method_of_handler() -> str:
    """Return the method of the connection that the handler called and inside which the running code is, or ""."""
    return _in_method.get()


def _announce(
    signature: inspect.Signature,
    parameters: Sequence[str],
    on_call: OnCall,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:  # the arguments are wrong: the method itself will say so
        return args, kwargs
    # The first parameters mean the same whatever the user's own class calls them.
    names = dict(zip(parameters, signature.parameters, strict=False))
    defaults = {name: own.default for name, own in signature.parameters.items() if own.default is not own.empty}
    given = {name: bound.arguments[own] for name, own in names.items() if own in bound.arguments}
    arguments = {name: defaults[own] for name, own in names.items() if own in defaults} | bound.arguments | given
    on_call(arguments)
    for name, own in names.items():
        if own in bound.arguments:
            bound.arguments[own] = arguments[name]
    return bound.args, bound.kwargs


def observe_items(items: Any, on_item: Callable[[Any], None]) -> Any:
    """Observe what a library takes from an iterable.

    Args:
        items: what the handler gave to the library.
        on_item: called with each item that the library takes.

    Returns:
        A synchronous or asynchronous iterable of the same items; anything else, and a mapping, as it is.
    """
    if isinstance(items, Mapping):
        return items
    if isinstance(items, Iterable):
        return _Items(items, on_item)
    if isinstance(items, AsyncIterable):
        return _AsyncItems(items, on_item)
    return items


class _Items:
    def __init__(self, items: Iterable[Any], on_item: Callable[[Any], None]) -> None:
        self._items = items
        self._on_item = on_item

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._on_item(item)
            yield item


class _AsyncItems:
    def __init__(self, items: AsyncIterable[Any], on_item: Callable[[Any], None]) -> None:
        self._items = items
        self._on_item = on_item
        self._iterator: AsyncIterator[Any]

    def __aiter__(self) -> AsyncIterator[Any]:
        self._iterator = aiter(self._items)
        return self

    async def __anext__(self) -> Any:
        token = _in_method.set("")  # the handler's own code makes the items
        try:
            item = await anext(self._iterator)
        finally:
            _in_method.reset(token)
        self._on_item(item)
        return item
