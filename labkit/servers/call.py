"""One call of a handler: what the library tells it, and who cancels it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

from labkit.servers.cancels import Canceller
from labkit.timeline import Timeline
from labkit.wording import of_exception, of_message

__all__ = ["Call"]

#: The close code of a connection that ended without a Close frame (RFC 6455, section 7.1.5); never on the wire.
_ABNORMAL = 1006

#: Whether the running code is inside a method of the connection that the handler called.
_inside: ContextVar[bool] = ContextVar("labkit_inside", default=False)


class Call:
    """One call of the handler, for one connection.

    The lab watches what the library tells the handler through stand-ins for a few methods, set on this one
    connection, which keeps its type and its behaviour; they are taken off when the handler ends.

    Attributes:
        connection: the library's own connection, once there is one.
        task: the library's task in which the handler runs.
        ended: set when the handler has ended.
        by: who in the lab is cancelling the handler, or None.
        error: what the lab raises in the handler in place of its next cancel.
        waits: set whenever the handler waits for something, and when it has ended.
        inside: the methods of the connection that the handler has called, and that have not returned.
        given_up: whether the handler has swallowed every cancel, and is to be closed at the next.
    """

    def __init__(self, timeline: Timeline, number: int) -> None:
        self.timeline = timeline
        self.number = number
        self.connection: Any = None
        self.task = asyncio.current_task()
        self.ended = asyncio.Event()
        self.by: str | None = None
        self.error: Exception | None = None
        self.waits = asyncio.Event()
        self.inside: list[str] = []
        self.given_up = False
        self._observed: list[str] = []
        self._told = False
        self._is_loss: Callable[[BaseException], bool] = lambda _: False

    def connect(self, connection: Any, is_loss: Callable[[BaseException], bool] | None = None) -> None:
        """Note the handler's connection.

        Args:
            connection: the library's own.
            is_loss: tells whether an exception that reaches the handler by any other way than its methods says that
                this connection is over.
        """
        self.connection = connection
        if is_loss is not None:
            self._is_loss = is_loss

    def observe(
        self,
        name: str,
        *,
        began: Callable[..., None] | None = None,
        done: Callable[[Any], None] | None = None,
        lost: type[Exception],
    ) -> None:
        """Watch a coroutine method of the connection.

        Args:
            name: the method's name.
            began: called with the method's arguments when the handler calls it.
            done: called with the result when it returns.
            lost: the exceptions by which the method tells that the connection is over.
        """
        method = getattr(self.connection, name)

        @functools.wraps(method)
        async def stand_in(*args: Any, **kwargs: Any) -> Any:
            if _inside.get():  # the library calls its own method: not the handler's doing
                return await method(*args, **kwargs)
            token = _inside.set(True)
            self.inside.append(f"{name}()")
            try:
                if began is not None:
                    began(*args, **kwargs)
                result = await method(*args, **kwargs)
                if done is not None:
                    done(result)
            except lost as exception:
                self.noticed(f"{name}()", exception)
                raise
            except asyncio.CancelledError:
                # The library has cleaned up after the cancel; what the handler sees is the error.
                if self.error is not None:
                    raise self.take_error() from None
                raise
            finally:
                self.inside.remove(f"{name}()")
                _inside.reset(token)
            return result

        self._put(name, stand_in)

    def observe_stream(self, name: str, *, done: Callable[[list[Any]], None], lost: type[Exception]) -> None:
        """Watch a method of the connection that is an asynchronous generator.

        Args:
            name: the method's name.
            done: called with all that it has given when it ends.
            lost: the exceptions by which the method tells that the connection is over.
        """
        method = getattr(self.connection, name)

        @functools.wraps(method)
        async def stand_in(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            parts: list[Any] = []
            async with contextlib.aclosing(method(*args, **kwargs)) as stream:
                while True:
                    token = _inside.set(True)
                    try:
                        parts.append(await anext(stream))
                    except StopAsyncIteration:
                        done(parts)
                        return
                    except lost as exception:
                        self.noticed(f"{name}()", exception)
                        raise
                    finally:
                        _inside.reset(token)
                    yield parts[-1]

        self._put(name, stand_in)

    def _put(self, name: str, stand_in: Any) -> None:
        setattr(self.connection, name, stand_in)
        self._observed.append(name)

    def cancel(self, by: str) -> None:
        """Cancel the handler's task.

        Args:
            by: who does.
        """
        self.by = by
        self.waits.clear()
        if self.task is not None:
            self.task.cancel()

    def raised(self, exception: BaseException) -> BaseException:
        """Tell what to raise in the handler in place of an exception that has come to its task."""
        if not _inside.get() and self._is_loss(exception):
            self.noticed("what it waited for", exception)
        ours = self.error is not None and isinstance(exception, asyncio.CancelledError)
        # Inside a method of the library it is the cancel, so that the library can clean up after it.
        return self.take_error() if ours and not _inside.get() else exception

    def take_error(self) -> Exception:
        """Take the error that the lab raises; the cancel that brought it is taken back."""
        assert self.error is not None
        if self.task is not None:
            self.task.uncancel()
        error, self.error = self.error, None
        return error

    def release(self) -> None:
        """Take the stand-ins off."""
        while self._observed:
            self.connection.__dict__.pop(self._observed.pop(), None)

    def received(self, data: Any) -> None:
        """Record a message that the library gave to the handler."""
        self.timeline.record("handler", "recv", *of_message(data))

    def sent(self, data: Any, *_: Any, **__: Any) -> None:
        """Record a message that the handler gives to the library."""
        self.timeline.record("handler", "send", *of_message(data))

    def closing(self, code: int = 1000, *_: Any, **__: Any) -> None:
        """Record that the handler closes the connection."""
        self.timeline.record("handler", "close", f"close({int(code)})", {"code": int(code)})

    def closed(self) -> None:
        """Record that the closing ended, where the peer had no part in it."""
        if self.close_code() == _ABNORMAL:
            self.noticed("close() ended without the peer's Close")

    def noticed(self, how: str, exception: BaseException | None = None) -> None:
        """Record that the library told the handler of the connection's end."""
        self._told = True
        told = None if exception is None else of_exception(exception)
        text = how if exception is None else f"{how}: {type(exception).__name__}: {exception}"
        self.timeline.record("handler", "notice", text, {"how": how, "exception": told, "code": self.close_code()})

    def ended_with(self, exception: BaseException) -> None:
        """Note what the handler has raised: the connection's end may have come to it by a way that nobody watches."""
        group = isinstance(exception, BaseExceptionGroup)
        loss = exception.subgroup(self._is_loss) if group else self._is_loss(exception)  # type: ignore[attr-defined]
        if loss and not self._told:
            self.noticed("what it raised", exception)

    def close_code(self) -> int | None:
        """Read the close code that the handler's own connection reports."""
        code = getattr(self.connection, "close_code", None)
        return None if code is None else int(code)

    def cancelled(self, canceller: Canceller | None) -> None:
        """Record that somebody cancels the handler."""
        if self.error is not None:
            return  # no cancel, as far as the handler is concerned
        by = self.by or (canceller.by if canceller else None)
        package = "labkit" if self.by else canceller.package if canceller else None
        text = f"cancelled by {by}" if by else "cancelled, by whom is unknown"
        self.timeline.record("handler", "cancelled", text, {"by": by, "package": package})
