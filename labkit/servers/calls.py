"""Calling a handler: checked beforehand, and recorded from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakSet

from labkit.clock import scaled
from labkit.errors import BadHandler
from labkit.lines import original
from labkit.servers.call import Call
from labkit.servers.cancels import tell_cancels
from labkit.servers.capture import flush
from labkit.timeline import Timeline
from labkit.wording import of_exception

__all__ = ["Call", "Handler", "Host", "check_handler", "name_of"]

Handler = Callable[[Any], Coroutine[Any, Any, Any]]

#: How often the lab asks a handler to stop before it makes it stop, and how long it waits each time, in seconds.
_TRIES, _WAIT = 2, 0.5


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
        except SystemExit as exception:
            # Outside the lab it would go through the loop and end the server's process; here the call ends, the loop
            # goes on, and the sentence says so.
            ending, raised = "raised", exception
            message = "SystemExit in a handler, which ends the server's process outside the lab"
            self.timeline.record(
                "loop", "exception", message, {"message": message, "exception": of_exception(exception)}
            )
            raise asyncio.CancelledError from None
        except BaseException as exception:
            ending, raised = "raised", exception
            raise
        finally:
            if raised is not None:
                call.ended_with(raised)
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
