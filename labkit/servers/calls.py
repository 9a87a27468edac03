"""A handler's call: checked beforehand, and its life recorded."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from labkit.clock import scaled
from labkit.errors import BadHandler
from labkit.lines import original
from labkit.servers.cancels import Canceller, tell_cancels
from labkit.servers.capture import flush
from labkit.timeline import Timeline
from labkit.wording import of_exception, of_message

__all__ = ["Call", "Handler", "Host", "check_handler", "name_of"]

Handler = Callable[[Any], Coroutine[Any, Any, Any]]

#: How often the lab asks a handler to stop before it makes it stop, and how long it waits each time, in seconds.
_TRIES, _WAIT = 2, 0.5

#: The close code of a connection that ended without a Close frame (RFC 6455, section 7.1.5); never on the wire.
_ABNORMAL = 1006

#: Whether the running code is inside a method of the connection that the handler called.
_inside: ContextVar[bool] = ContextVar("labkit_inside", default=False)


def name_of(handler: Callable[..., Any]) -> str:
    """Name a handler for a reader."""
    function = original(handler)
    name: str = getattr(function, "__qualname__", type(handler).__name__)
    return name.rpartition("<locals>.")[2]


def check_handler(handler: object, argument: str) -> None:
    """Refuse what no stack could call, before any socket opens.

    Args:
        handler: the handler.
        argument: the name of the one argument that the stack calls it with.

    Raises:
        BadHandler: it is not a coroutine function, or does not take exactly one argument.
    """
    if not callable(handler):
        raise BadHandler(
            f"the handler is {handler!r}, which cannot be called; give the function itself: async def h({argument})"
        )
    name = name_of(handler)
    function = original(handler)
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(function)):
        kind = "a class" if inspect.isclass(handler) else "not a coroutine function"
        raise BadHandler(f"the handler {name!r} is {kind}; write it as: async def {name}({argument})")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(object())
    except TypeError:
        bare = str(signature.replace(return_annotation=inspect.Signature.empty))
        takes = bare if signature.parameters else "nothing"
        raise BadHandler(
            f"the handler {name!r} takes {takes}, but is called with one argument, the {argument};"
            f" write it as: async def {name}({argument})"
        ) from None


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
        self.given_up = False
        self._observed: list[str] = []

    def connect(self, connection: Any) -> None:
        """Note the handler's connection."""
        self.connection = connection

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
                _inside.reset(token)
            return result

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

    def closing(self, code: int = 1000, *_: Any, **keywords: Any) -> None:
        """Record that the handler closes the connection."""
        code = int(keywords.get("code", code))
        self.timeline.record("handler", "close", f"close({code})", {"code": code})

    def closed(self) -> None:
        """Record that the closing ended, where the peer had no part in it."""
        if self.close_code() == _ABNORMAL:
            self.noticed("close() ended without the peer's Close")

    def noticed(self, how: str, exception: BaseException | None = None) -> None:
        """Record that the library told the handler of the connection's end."""
        told = None if exception is None else of_exception(exception)
        text = how if exception is None else f"{how}: {type(exception).__name__}: {exception}"
        self.timeline.record("handler", "notice", text, {"how": how, "exception": told, "code": self.close_code()})

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


class Host:
    """Calls the handler for each connection, and records what becomes of it.

    Args:
        handler: the learner's coroutine function.
        timeline: where to record.
        stack: the stack's name.
        library: the library's name and version.
    """

    def __init__(self, handler: Handler, timeline: Timeline, *, stack: str, library: str) -> None:
        self.handler = handler
        self.timeline = timeline
        self.stack = stack
        self.library = library
        self.calls: list[Call] = []
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._numbers = itertools.count(1)

    async def call(self, argument: Any, prepare: Callable[[Call], Any] | None = None) -> Any:
        """Run the handler in the current task, exactly as the library would.

        Args:
            argument: what the library calls the handler with.
            prepare: called with the call before the handler starts.

        Returns:
            What the handler returns; what it raises, passes.
        """
        call = Call(self.timeline, next(self._numbers))
        self.calls.append(call)
        if call.task is not None:
            self._tasks.add(call.task)
        if prepare is not None:
            prepare(call)
        self.timeline.record(
            "handler",
            "start",
            f"{name_of(self.handler)} starts",
            {
                "handler": name_of(self.handler),
                "stack": self.stack,
                "library": self.library,
                "given": type(argument).__name__,
                "call": call.number,
            },
        )
        ending = "returned"
        raised: BaseException | None = None
        try:
            return await tell_cancels(
                self.handler(argument),
                call.cancelled,
                lambda: call.given_up,
                waits=call.waits.set,
                raised=call.raised,
            )
        except asyncio.CancelledError:
            ending = "cancelled"
            raise
        except BaseException as exception:
            ending, raised = "raised", exception
            raise
        finally:
            call.release()
            flush(self.timeline)
            data = {
                "ending": ending,
                "exception": None if raised is None else of_exception(raised),
                "close_code": call.close_code(),
                "call": call.number,
            }
            text = ending if raised is None else f"raised {type(raised).__name__}: {raised}".removesuffix(": ")
            self.timeline.record("handler", "end", text, data)
            self.calls.remove(call)
            call.waits.set()
            call.ended.set()
            del raised  # its traceback holds this frame

    async def settled(self, timeout: float) -> None:
        """Wait until the library has dealt with the end of its handlers, as when it logs what one has raised.

        Args:
            timeout: seconds to wait at most.
        """
        pending = {task for task in self._tasks if not task.done()} - {asyncio.current_task()}
        if pending:
            await asyncio.wait(pending, timeout=timeout)
        # aiohttp's handler has a task of its own inside the connection's, which goes on in the loop's next turns.
        for _ in range(3):
            await asyncio.sleep(0)

    async def cancel(self, by: str) -> None:
        """Cancel the handlers that run, and wait until each waits for something again, or has ended.

        Args:
            by: who cancels.
        """
        calls = list(self.calls)
        for call in calls:
            call.cancel(by)
        for call in calls:
            await call.waits.wait()

    def throw(self, exception: Exception) -> None:
        """Raise an exception in the handlers that run, where they wait.

        Args:
            exception: what is raised.
        """
        told = of_exception(exception)
        for call in list(self.calls):
            self.timeline.record("handler", "error", f"the fault raises {told}", {"exception": told})
            call.error = exception
            call.cancel("the fault")

    async def stop(self) -> None:
        """Cancel every handler that still runs.

        One that swallows its cancels is recorded as left behind, and closed where it stands.
        """
        for attempt in range(_TRIES + 1):
            running = list(self.calls)
            if not running:
                return
            for call in running:
                if attempt == _TRIES:
                    call.given_up = True
                    text = f"handler {name_of(self.handler)!r}, which swallowed {_TRIES} cancels"
                    data = {"what": "handler", "name": name_of(self.handler), "stubborn": True}
                    self.timeline.record("loop", "leaked", text, data)
                call.cancel("the lab")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(scaled(_WAIT)):
                    for call in running:
                        await call.ended.wait()
