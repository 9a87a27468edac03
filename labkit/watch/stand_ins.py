"""Stand-ins for the methods of one connection; through them the lab sees what the library tells the handler."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from types import MethodType
from typing import Any, Final, Literal, NamedTuple, Protocol

from labkit.support.replacing import MISSING, replace
from labkit.timeline import scope
from labkit.watch.cancels import tell_cause
from labkit.watch.limits import Cause
from labkit.watch.meetings import meet_left, note_left

__all__ = [
    "Entered",
    "Method",
    "StandIns",
    "WaitsFor",
    "Watcher",
    "by_the_library",
    "in_method",
    "method_of_handler",
    "observe_items",
    "within",
]

#: After so many notices, each further call waits so many seconds. A library may raise without a turn of the loop; a
#: handler that then calls it again and again would block the loop.
_MANY_NOTICES, _PAUSE = 1000, 0.01

_NOTHING = nullcontext()

#: The method of the connection that the handler called and inside which the running code is; "" if there is none.
_in_method: ContextVar[str] = ContextVar("labkit_in_method", default="")


#: What a method waits for: the client's next message, or the end of the connection.
WaitsFor = Literal["message", "end"]


class Method(NamedTuple):
    """How a coroutine method of connections is observed. What is called gets first who watches the connection.

    Attributes:
        on_call: called when the handler calls the method, with the arguments by name, which it may replace.
        on_return: called with the method's result; if it returns anything but None, the handler gets that instead.
        on_item: called with each item, if the method is an asynchronous generator of what the client sends.
        before: called and awaited first of all.
        tells_cause: whether to tell what ends the method too early, if the handler's own task has called it. For other
            tasks that is always told.
        parameters: what the library calls the method's parameters, in order; the user's own class may call them
            something else.
        waits_for: what the method waits for, if that comes from the client alone.
    """

    on_call: Callable[[Any, dict[str, Any]], None] | None = None
    on_return: Callable[[Any, Any], Any] | None = None
    on_item: Callable[[Any, Any], None] | None = None
    before: Callable[[Any], Awaitable[None]] | None = None
    tells_cause: bool = False
    parameters: tuple[str, ...] = ()
    waits_for: WaitsFor | None = None


class Watcher(Protocol):
    """Who watches a connection."""

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The handler's own task."""

    def noticed(self, how: str, exception: BaseException) -> None:
        """Take the exception by which a method, named in words, reports that the connection is lost."""

    def take_error(self) -> BaseException | None:
        """Return the error that the handler gets instead of a cancel that leaves a method, or None."""

    def gave_up(self, method: str, cause: Cause) -> None:
        """Take what ends a method: a limit of time or a cancel."""


_Kind = inspect.Parameter
_BY_PLACE: Final = (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)
_VARIADIC: Final = (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD)

#: The connections that are watched, by their ids. They live as long as they are watched.
_watched: Final[dict[int, StandIns]] = {}


class StandIns:
    """The stand-ins on one connection, which keeps its type and its behaviour.

    A server may have thousands of connections, so the stand-ins are in their class, and act for those that are watched.

    Args:
        watcher: who watches the connection.
        connection: the library's own connection.
        loss_type: the exceptions with which its methods report that it is lost.
        methods: how to observe its methods, by their names, as far as this version of the library has them.
        by_library: says whether the running task, which is not the handler's own, belongs to the library; its calls are
            not the handler's.

    Attributes:
        watcher: who watches the connection.
        methods: how its methods are observed.
        entered: the calls of methods by the handler that have not returned yet.
        by_library: says of the connection whether the running task belongs to the library.
        notices: how many times a method has reported that the connection is lost.
    """

    __slots__ = (
        "_class",
        "_here",
        "_loss_type",
        "_own",
        "by_library",
        "connection",
        "entered",
        "methods",
        "notices",
        "watcher",
    )

    def __init__(
        self,
        watcher: Watcher,
        connection: Any,
        loss_type: type[Exception] | tuple[type[Exception], ...],
        methods: Mapping[str, Method],
        by_library: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self.watcher = watcher
        self.connection = connection
        self.methods = methods
        self.entered: list[Entered] = []
        self.by_library = by_library
        self.notices = 0
        self._here = scope.get()
        self._loss_type = loss_type
        self._class = _enter(type(connection), methods)
        own = getattr(connection, "__dict__", {})
        self._own = [(name, own.get(name, MISSING)) for name in self._class.others | (own.keys() & methods.keys())]
        for name, _ in self._own:
            own[name] = _for_one(connection, name, getattr(connection, name), methods[name])
        _watched[id(connection)] = self

    def release(self) -> None:
        """Remove the stand-ins."""
        if _watched.pop(id(self.connection), None) is None:
            return
        for name, before in self._own:
            if before is MISSING:
                vars(self.connection).pop(name, None)
            else:
                vars(self.connection)[name] = before
        _leave(type(self.connection), self.methods)
        note_left(self.connection, self._here)

    def report(self, name: str, exception: BaseException | None) -> None:
        """Tell of an exception that the handler gets from the library, if it is one that reports a lost connection.

        Args:
            name: what gave it to the handler, in words.
            exception: the exception; None if the handler asked for one, and there is none.
        """
        if isinstance(exception, self._loss_type):
            self.notices += 1
            self.watcher.noticed(name, exception)


class _Class:
    """What is replaced in a class of connections.

    Args:
        kind: the class.
        methods: how its methods are observed.

    Attributes:
        users: how many connections of it are watched.
        others: the names of what is no plain method; that is replaced in each connection.
    """

    def __init__(self, kind: type, methods: Mapping[str, Method]) -> None:
        self.users = 0
        found = {name: inspect.getattr_static(kind, name) for name in methods if hasattr(kind, name)}
        self.others = {name for name, member in found.items() if not inspect.isfunction(member)}
        self._undo = [
            replace(kind, name, partial(_for_class, kind, name, methods[name])) for name in found.keys() - self.others
        ]

    def restore(self) -> None:
        """Put back what was there."""
        for undo in self._undo:
            undo()


#: By the class, and the names of what is observed.
_classes: Final[dict[tuple[type, tuple[str, ...]], _Class]] = {}
_lock: Final = threading.Lock()  # a server may run in a thread of its own


def _enter(kind: type, methods: Mapping[str, Method]) -> _Class:
    with _lock:
        key = kind, tuple(methods)
        if (found := _classes.get(key)) is None:
            found = _classes[key] = _Class(kind, methods)
        found.users += 1
        return found


def _leave(kind: type, methods: Mapping[str, Method]) -> None:
    with _lock:
        key = kind, tuple(methods)
        found = _classes[key]
        found.users -= 1
        if not found.users:
            del _classes[key]
            found.restore()


def _for_class(kind: type, name: str, method: Method, member: Any) -> Callable[..., Any]:
    """Make the stand-in for a method of all connections of a class, which may inherit it."""
    function = getattr(kind, name) if member is MISSING else member
    known = partial(_parameters_of, function, method.parameters)
    return functools.wraps(function)(_stand_in(name, function, known, stream=method.on_item is not None))


@functools.lru_cache(maxsize=32)  # a library's few methods are asked for again in each experiment
def _parameters_of(function: Any, names: tuple[str, ...]) -> _Parameters:
    return _Parameters(inspect.signature(MethodType(function, object())), names)


def _for_one(connection: Any, name: str, member: Callable[..., Any], method: Method) -> Callable[..., Any]:
    """Make the stand-in for a method that one connection alone has."""

    def function(_: Any, *args: Any, **kwargs: Any) -> Any:
        return member(*args, **kwargs)

    known = functools.cache(lambda: _Parameters(inspect.signature(member), method.parameters))
    stand_in = _stand_in(name, function, known, stream=method.on_item is not None)
    return functools.wraps(member)(partial(stand_in, connection))


def _stand_in(
    name: str, function: Callable[..., Any], parameters: Callable[[], _Parameters], *, stream: bool
) -> Callable[..., Any]:
    async def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        of = _watched.get(id(self))
        method = None if of is None else of.methods.get(name)
        if of is None:
            meet_left(self)
        # Otherwise the library calls its own method, not the handler.
        if of is None or method is None or _in_method.get():
            return await function(self, *args, **kwargs)
        watcher, task = of.watcher, asyncio.current_task()
        if task is not watcher.task and of.by_library(self):
            return await function(self, *args, **kwargs)
        if of.notices > _MANY_NOTICES:
            await asyncio.sleep(_PAUSE)
        if method.before is not None:
            await method.before(watcher)
        if method.on_call is not None:
            args, kwargs = parameters().announce(method.on_call, watcher, args, kwargs)
        with Entered(of, name, task, method.waits_for):
            if method.tells_cause or task is not watcher.task:
                with tell_cause(partial(watcher.gave_up, name)):
                    result = await function(self, *args, **kwargs)
            else:
                result = await function(self, *args, **kwargs)
            other = None if method.on_return is None else method.on_return(watcher, result)
        return result if other is None else other

    async def iterate(self: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        of = _watched.get(id(self))
        method = None if of is None else of.methods.get(name)
        items = function(self, *args, **kwargs)
        try:
            while True:
                with _NOTHING if of is None else Entered(of, name, asyncio.current_task(), "message"):
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                    if of is not None and method is not None and method.on_item is not None:
                        method.on_item(of.watcher, item)
                yield item
        finally:
            await items.aclose()

    return iterate if stream else call


class Entered:
    """A call of a method that has not returned yet: a block inside which the handler is in a method of its connection.

    Args:
        of: the connection's stand-ins.
        method: the method's name.
        task: the task that has called it.
        waits_for: what the method waits for, if that comes from the client alone.

    Attributes:
        method: the method's name.
        task: the task that has called it.
        waits_for: what the method waits for, if that comes from the client alone.
    """

    __slots__ = ("_of", "_token", "method", "task", "waits_for")

    def __init__(self, of: StandIns, method: str, task: asyncio.Task[Any] | None, waits_for: WaitsFor | None) -> None:
        self._of = of
        self.method = method
        self.task = task
        self.waits_for = waits_for

    def __enter__(self) -> None:
        self._token = _in_method.set(self.method)
        self._of.entered.append(self)

    def __exit__(self, _: object, exception: BaseException | None, __: object) -> None:
        try:
            if exception is not None:
                self._of.report(f"{self.method}()", exception)
            # The library has cleaned up after the cancel; now the handler may get another error instead.
            if isinstance(exception, asyncio.CancelledError) and (error := self._of.watcher.take_error()) is not None:
                raise error from None
        finally:
            self._of.entered.remove(self)
            try:  # noqa: SIM105 - `suppress` takes two calls more, at each of the handler's
                _in_method.reset(self._token)
            except ValueError:
                pass  # a loop was broken off, and the collector closes what ran in it


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


class _Parameters:
    """The parameters of a method, whose first ones mean the same whatever the user's own class calls them.

    Args:
        signature: the method's signature.
        names: what the library calls them.
    """

    def __init__(self, signature: inspect.Signature, names: Sequence[str]) -> None:
        self._signature = signature
        self._names = dict(zip(names, signature.parameters, strict=False))
        own = signature.parameters.values()
        defaults = {each.name: each.default for each in own if each.default is not each.empty}
        self._defaults = {name: defaults[own] for name, own in self._names.items() if own in defaults}
        # Those of them that can be given by their place, and how many must be: to bind such a call is to number them.
        self._placed = [name for name, own in self._names.items() if signature.parameters[own].kind in _BY_PLACE]
        self._needed = sum(each.default is each.empty and each.kind not in _VARIADIC for each in own)

    def announce(
        self,
        on_call: Callable[[Any, dict[str, Any]], None],
        watcher: Watcher,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Tell of a call, by the library's names; return the arguments, some of which may have been replaced."""
        if not kwargs and self._needed <= len(args) <= len(self._placed):
            arguments = self._defaults.copy()
            arguments.update(zip(self._placed, args))  # noqa: B905 - those without a value have their default
            on_call(watcher, arguments)
            return tuple([arguments[name] for name in self._placed[: len(args)]]), kwargs
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # the arguments are wrong: the method itself will say so
            return args, kwargs
        given = {name: bound.arguments[own] for name, own in self._names.items() if own in bound.arguments}
        arguments = self._defaults | bound.arguments | given
        on_call(watcher, arguments)
        for name, own in self._names.items():
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
