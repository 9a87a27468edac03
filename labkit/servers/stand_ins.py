"""Stand-ins for the methods of one connection, by which the lab overhears what the library tells the handler."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["Began", "Noticed", "StandIns", "inside", "overheard"]

#: Called with a method's arguments by name, before the method; it may replace them.
Began = Callable[[dict[str, Any]], None]

#: Called with the method's name and the exception by which it tells that the connection is over.
Noticed = Callable[[str, BaseException], None]

#: After so many notices in a row the handler is asked to wait a moment, each time, in seconds. A library may raise
#: without a turn of the loop; a handler that then asks again, for ever, would keep the loop from all others.
_PATIENCE, _MOMENT = 1000, 0.01

#: Whether the running code is inside a method of the connection that the handler called.
_inside: ContextVar[bool] = ContextVar("labkit_inside", default=False)


class StandIns:
    """The stand-ins on one connection, which keeps its type and its behaviour.

    Args:
        connection: the library's own connection.
        lost: the exceptions by which its methods tell that it is over.
        noticed: called with each of them that reaches the handler.
        by_library: whether the running task is one of the library's own, whose calls are not the handler's doing.
        instead: asked, when a cancel comes out of a method, for an error that the handler is to get in its place.

    Attributes:
        entered: the methods that the handler has called, and that have not returned.
    """

    def __init__(
        self,
        connection: Any,
        lost: type[Exception],
        noticed: Noticed,
        by_library: Callable[[], bool] = lambda: False,
        instead: Callable[[], BaseException | None] = lambda: None,
    ) -> None:
        self.entered: list[str] = []
        self._connection = connection
        self._lost = lost
        self._noticed = noticed
        self._by_library = by_library
        self._instead = instead
        self._names: list[str] = []
        self._told = 0

    def observe(self, name: str, began: Began | None = None, done: Callable[[Any], Any] | None = None) -> None:
        """Watch a coroutine method; one that this version of the library does not have is left out.

        Args:
            name: the method's name.
            began: called when the handler calls it.
            done: called with the result when it returns; what it gives, unless None, is returned in its place.
        """
        method = getattr(self._connection, name, None)
        if method is None:
            return
        signature = inspect.signature(method)

        @functools.wraps(method)
        async def stand_in(*args: Any, **kwargs: Any) -> Any:
            if _inside.get() or self._by_library():  # the library calls its own method: not the handler's doing
                return await method(*args, **kwargs)
            if self._told > _PATIENCE:
                await asyncio.sleep(_MOMENT)
            if began is not None:
                args, kwargs = _announce(signature, began, args, kwargs)
            with self._watch(name):
                result = await method(*args, **kwargs)
                other = None if done is None else done(result)
            return result if other is None else other

        self._put(name, stand_in)

    def observe_stream(self, name: str, done: Callable[[Any], None]) -> None:
        """Watch a method that is an asynchronous generator; one that is not there is left out.

        Args:
            name: the method's name.
            done: called with each item that it gives.
        """
        method = getattr(self._connection, name, None)
        if method is None:
            return

        @functools.wraps(method)
        async def stand_in(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            items = method(*args, **kwargs)
            try:
                while True:
                    with self._watch(name):
                        try:
                            item = await anext(items)
                        except StopAsyncIteration:
                            return
                        done(item)
                    yield item
            finally:
                await items.aclose()

        self._put(name, stand_in)

    def overhear(self, name: str, future: Any) -> Any:
        """Watch a future that the library gave to the handler.

        Args:
            name: what a notice calls it.
            future: the library's.

        Returns:
            What stands in for it.
        """
        return _Overheard(future, lambda exception: self._tell(name, exception))

    def release(self) -> None:
        """Take the stand-ins off."""
        while self._names:
            self._connection.__dict__.pop(self._names.pop(), None)

    def _put(self, name: str, stand_in: Callable[..., Any]) -> None:
        setattr(self._connection, name, stand_in)
        self._names.append(name)

    def _tell(self, name: str, exception: BaseException | None) -> None:
        if isinstance(exception, self._lost):
            self._notice(name, exception)

    def _notice(self, name: str, exception: BaseException) -> None:
        self._told += 1
        self._noticed(name, exception)

    @contextmanager
    def _watch(self, name: str) -> Iterator[None]:
        token = _inside.set(True)
        self.entered.append(f"{name}()")
        try:
            yield
        except self._lost as exception:
            self._notice(f"{name}()", exception)
            raise
        except asyncio.CancelledError:
            # The library has cleaned up after the cancel; the handler may be to get something else.
            if (error := self._instead()) is not None:
                raise error from None
            raise
        finally:
            self.entered.remove(f"{name}()")
            _inside.reset(token)


def inside() -> bool:
    """Whether the running code is inside a method of the connection that the handler called."""
    return _inside.get()


def _announce(
    signature: inspect.Signature, began: Began, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:  # a wrong call: the method itself says so
        return args, kwargs
    began(bound.arguments)
    return bound.args, bound.kwargs


class _Overheard:
    """A future as the handler sees it: the library's own, but that its exception is told when the handler gets it."""

    _asyncio_future_blocking = False  # by this asyncio knows a future

    def __init__(self, future: Any, told: Callable[[BaseException | None], None]) -> None:
        self._future = future
        self._told = told
        self._callbacks: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = []

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # who asks for its type is told the future's
        return self._future.__class__

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            return (yield from self._future)
        except Exception as exception:
            self._told(exception)
            raise

    __iter__ = __await__

    def result(self) -> Any:
        try:
            return self._future.result()
        except Exception as exception:
            self._told(exception)
            raise

    def exception(self) -> BaseException | None:
        exception: BaseException | None = self._future.exception()
        self._told(exception)
        return exception

    def add_done_callback(self, callback: Callable[[Any], Any], *, context: Any = None) -> None:
        def call(_: Any) -> None:
            callback(self)

        self._callbacks.append((callback, call))
        self._future.add_done_callback(call, context=context)

    def remove_done_callback(self, callback: Callable[[Any], Any]) -> int:
        ours = [call for given, call in self._callbacks if given == callback]
        self._callbacks = [pair for pair in self._callbacks if pair[0] != callback]
        return sum(self._future.remove_done_callback(call) for call in ours)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)


def overheard(chunks: Any, told: Callable[[Any], None]) -> Any:
    """Watch what a library takes from an iterable.

    Args:
        chunks: what the handler gave to the library.
        told: called with each item that the library takes.

    Returns:
        An iterable of the same kind and items; anything else as it is.
    """
    if isinstance(chunks, Mapping):
        return chunks
    if isinstance(chunks, Iterable):
        return _Chunks(chunks, told)
    if isinstance(chunks, AsyncIterable):
        return _AsyncChunks(chunks, told)
    return chunks


class _Chunks:
    def __init__(self, chunks: Iterable[Any], told: Callable[[Any], None]) -> None:
        self._chunks = chunks
        self._told = told

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._chunks:
            self._told(chunk)
            yield chunk


class _AsyncChunks:
    def __init__(self, chunks: AsyncIterable[Any], told: Callable[[Any], None]) -> None:
        self._chunks = chunks
        self._told = told
        self._iterator: AsyncIterator[Any]

    def __aiter__(self) -> AsyncIterator[Any]:
        self._iterator = aiter(self._chunks)
        return self

    async def __anext__(self) -> Any:
        token = _inside.set(False)  # what makes the chunks is the handler's own code
        try:
            chunk = await anext(self._iterator)
        finally:
            _inside.reset(token)
        self._told(chunk)
        return chunk
