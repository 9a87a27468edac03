"""Calls a handler for each connection, and records what happens to each call."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Collection, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Literal

from labkit.events import HandlerEnd, HandlerStart, LoopLeaked
from labkit.introspection.alone import begin_handler, begin_outline, end_handler
from labkit.introspection.breaking import was_stopped
from labkit.support.clock import scaled, timeout
from labkit.support.wording import describe_briefly, describe_exception
from labkit.timeline import Scope, Timeline
from labkit.watch.aftermath import Aftermath
from labkit.watch.call import Call
from labkit.watch.cancels import run_step, tell_cancels
from labkit.watch.capture import flush
from labkit.watch.disconnects import LossType
from labkit.watch.handler import Handler, name_of, original, waits_at
from labkit.watch.library import Tap, TappedTransport
from labkit.watch.loop_errors import record_exit
from labkit.watch.mistaken import written_for
from labkit.watch.moments import Moment
from labkit.watch.outline import Outline, Outlines
from labkit.watch.taps import Taps

__all__ = ["Host"]

#: How many times the lab cancels a handler before it closes the coroutine; and how long it waits each time, in seconds.
_TRIES, _WAIT = 2, 0.5


def _tap_of(argument: Any) -> Tap | None:
    """The tap of the connection for which a handler is called."""
    transport = getattr(argument, "transport", None)
    return transport.tap if isinstance(transport, TappedTransport) else None


async def _await(handled: Any) -> Any:
    """Await what a handler gave that is no coroutine; Python says what is wrong where it cannot be awaited."""
    return await handled


class Host:
    """Calls the handler for each connection, and records what happens to it.

    Args:
        handler: the learner's coroutine function.
        timeline: where to record.
        stack: the stack's name.
        library: the library's name and version.
        telltales: for each other library, the names that only its own argument has.
        also: other packages that belong to the library, such as a framework between it and the handler.
        closely: how many connections are watched closely at once; all, if None.

    Attributes:
        calls: the calls that run now, and are watched closely.
        outlines: the others.
        taps: the server's connections.
        aftermath: what follows the ends of the handlers.
        moment: the moment at which a fault shall strike, looked for in the calls that begin from now on.
    """

    def __init__(
        self,
        handler: Handler,
        timeline: Timeline,
        *,
        stack: str,
        library: str,
        telltales: Mapping[str, Collection[str]] = MappingProxyType({}),
        also: Collection[str] = (),
        closely: int | None = None,
    ) -> None:
        self.handler = handler
        self._name, self._function = name_of(handler), original(handler)
        self._starts = f"{self._name} starts"
        self.telltales = telltales
        self.timeline = timeline
        self.stack = stack
        self.library = library
        self.calls: list[Call] = []
        self.outlines = Outlines(timeline, closely)
        self.moment: Moment | None = None
        self._package, self._also = library.partition(" ")[0], also
        self._packages = frozenset({self._package, *also})
        self.taps = Taps(timeline)
        self.aftermath = Aftermath(timeline, self._packages, self.taps, self.calls, self.outlines)
        self._on_raise = self.aftermath.delivered  # one for all calls
        self._hosting_task = asyncio.current_task()
        self._stopped = False

    def call(
        self,
        argument: Any,
        loss_type: LossType = ConnectionError,
        prepare: Callable[[Call], Any] | None = None,
        begin: Callable[[], Any] | None = None,
        given: str | None = None,
        outlined: Callable[[Outline], None] | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Run the handler in the current task, exactly as the library would.

        Args:
            argument: the argument with which the library calls the handler.
            loss_type: the exceptions with which the library reports that a connection is lost.
            prepare: called with the call before the handler starts.
            begin: calls the handler, where a framework does so, with arguments of its own; if None, the host does.
            given: what the handler is called with, in words; if None, the type of the argument.
            outlined: called in place of ``prepare``, with the outline of the call, if only that is recorded.

        Returns:
            What to await for what the handler returns. What it raises passes through, except ``SystemExit`` and
            ``KeyboardInterrupt``: in their place, a cancel ends the library's task. An interrupt also cancels the task
            that made this host.
        """
        if self._stopped:
            raise asyncio.CancelledError("the experiment is over")
        tap = _tap_of(argument)
        given = type(argument).__name__ if given is None else given
        if tap is not None and self.outlines.take(tap, len(self.calls)):
            return self._outline(argument, tap.scope, tap.number, begin, given, outlined)
        return self._watch(argument, tap, loss_type, prepare, begin, given)

    async def _outline(
        self,
        argument: Any,
        here: Scope,
        number: int,
        begin: Callable[[], Any] | None,
        given: str,
        outlined: Callable[[Outline], None] | None,
    ) -> Any:
        """Run the handler, and record its outline."""
        self.outlines.running[number] = call = Outline(here)
        if outlined is not None:
            outlined(call)
        here.record(HandlerStart(self._name, self.stack, self.library, given, number, outline=True, text=self._starts))
        ending: Literal["returned", "raised", "cancelled"] = "returned"
        raised: BaseException | None = None
        result: Any = None
        begin_outline()
        try:
            handled = self.handler(argument) if begin is None else begin()
            call.coroutine = handled if inspect.iscoroutine(handled) else _await(handled)
            result = await call.coroutine
            if call.handled is not None:
                ending, raised = "raised", call.handled
            return result
        except asyncio.CancelledError:
            ending = "cancelled"
            raise
        except (SystemExit, KeyboardInterrupt) as exception:
            ending, raised = "raised", exception
            self._leave(exception, here, call.task)
            raise asyncio.CancelledError(describe_exception(exception)) from None
        except BaseException as exception:
            if call.given_up or was_stopped(exception):
                ending = "cancelled"
                raise asyncio.CancelledError("the lab has ended the handler") from None
            ending, raised = "raised", exception
            raise
        finally:
            flush(self.timeline)
            description = None if raised is None else describe_exception(raised)
            text = ending if raised is None else f"raised {describe_briefly(raised)}"
            here.record(HandlerEnd(ending, description, None, number, text=text))
            del self.outlines.running[number]
            call.coroutine = None
            call.ended.set()
            end_handler(self._packages, result if raised is None else raised)
            del raised

    async def _watch(
        self,
        argument: Any,
        tap: Tap | None,
        loss_type: LossType,
        prepare: Callable[[Call], Any] | None,
        begin: Callable[[], Any] | None,
        given: str,
    ) -> Any:
        """Run the handler, and watch it closely."""
        number = self.taps.next_number() if tap is None else tap.number
        call = Call(self.timeline, number, loss_type, self._package, self._also, self._on_raise)
        call.argument = argument
        self.calls.append(call)
        if tap is not None:
            tap.call = call
            call.tap = tap
        call.moment = self.moment
        self.aftermath.handler_begins(number, call.task)
        if prepare is not None:
            prepare(call)
        start = HandlerStart(self._name, self.stack, self.library, given, number, text=self._starts)
        call.here.record(start)
        ending: Literal["returned", "raised", "cancelled"] = "returned"
        raised: BaseException | None = None
        result: Any = None
        begin_handler(call.task)
        try:
            handled = run_step(self.handler, argument) if begin is None else begin()
            call.coroutine = handled if inspect.iscoroutine(handled) else _await(handled)
            async with call.expiring:
                result = await tell_cancels(call.coroutine, call, call.follow(self._function))
            if call.handled is not None:
                ending, raised = "raised", call.handled
            return result
        except asyncio.CancelledError:
            ending = "cancelled"
            raise
        except (SystemExit, KeyboardInterrupt) as exception:
            ending, raised = "raised", exception
            self._leave(exception, call.here, call.task)
            raise asyncio.CancelledError(describe_exception(exception)) from None
        except BaseException as exception:
            if was_stopped(exception):
                ending = "cancelled"
                raise asyncio.CancelledError("the lab has ended a handler that kept the loop to itself") from None
            ending, raised = "raised", exception
            raise
        finally:
            call.release()
            flush(self.timeline)
            unasked = call.followed.unasked if ending == "cancelled" else None
            text = ending if unasked is None else f"{ending} {unasked.how}"
            end = HandlerEnd(
                ending,
                exception=None if raised is None else describe_exception(raised),
                close_code=call.close_code(),
                call=call.number,
                loss=raised is not None and call.find_loss(raised),
                doubt=call.doubt,
                timed_out=call.expiring.timed_out,
                written_for=None if raised is None else written_for(raised, call.argument, self.telltales),
                induced=raised is not None and call.is_induced(raised),
                unasked=None if unasked is None else unasked.how,
                own=None if unasked is None else unasked.own,
                waits=call.suspensions,
                text=text if raised is None else f"raised {describe_briefly(raised)}",
            )
            call.here.record(end)
            self.calls.remove(call)
            self.aftermath.handler_ended(call.number)
            call.end()
            end_handler(call.packages, result if raised is None else raised)
            del raised  # its traceback holds this frame: together they would wait for the garbage collector

    def _leave(self, exception: BaseException, here: Scope, task: asyncio.Task[Any] | None) -> None:
        """Deal with what a handler has raised to end the process; a cancel will take its place.

        A cancel has the same effect on the library: it closes the connection, as after every BaseException that is not
        an Exception.
        """
        if isinstance(exception, KeyboardInterrupt) and not self._interrupt(task):
            raise exception
        if isinstance(exception, SystemExit):
            record_exit(here, exception, "a handler")

    def _interrupt(self, task: asyncio.Task[Any] | None) -> bool:
        """Cancel the task that hosts, as the interrupt of a cell does; return whether that was possible."""
        if self._hosting_task is None or self._hosting_task is task:
            return False
        return self._hosting_task.cancel("KeyboardInterrupt in the handler")

    @property
    def over(self) -> set[int]:
        """The numbers of the connections that are over, of those whose handlers run and are watched in outline."""
        return {n for n in self.outlines.running if (tap := self.taps.get(n)) is None or tap.is_over}

    def stands(self, only: Collection[int]) -> tuple[int | None, int]:
        """Tell where a handler waits.

        Args:
            only: the numbers of its connection.

        Returns:
            The line, in the handler's file, at which it waits, or None; and how many times it has waited by now.
        """
        for call in self.calls:
            if call.number in only and call.coroutine is not None:
                return waits_at(call.coroutine, self.handler), call.suspensions
        return None, 0

    async def cancel(self, by: str, only: Collection[int] | None = None) -> None:
        """Cancel the handlers that run, and wait until each waits for something again, or has ended.

        Args:
            by: who cancels them, in words.
            only: the numbers of the connections; all, if None.
        """
        calls = self._running(only)
        for call in calls:
            call.cancel(by)
        for call in calls:
            await call.waits.wait()

    async def expire(self, only: Collection[int] | None = None) -> None:
        """Let the limits of time around the handlers expire; wait until each handler waits again, or has ended.

        Args:
            only: the numbers of the connections; all, if None.
        """
        calls = self._running(only)
        for call in calls:
            call.expire()
        for call in calls:
            await call.waits.wait()

    def throw(self, exception: Exception, only: Collection[int] | None = None) -> None:
        """Raise an exception in the handlers that run, at the place where each waits.

        Args:
            exception: the exception.
            only: the numbers of the connections; all, if None.
        """
        for call in self._running(only):
            call.throw(exception)

    def _running(self, only: Collection[int] | None) -> list[Call]:
        return [call for call in self.calls if only is None or call.number in only]

    async def stop(self) -> None:
        """Cancel every handler that still runs, and call none any more.

        A handler that swallows its cancels is recorded as left behind, and its coroutine is closed where it waits.
        """
        self._stopped = True  # a stranger may still connect
        for attempt in range(_TRIES + 1):
            running: list[Call | Outline] = [*self.calls, *self.outlines.running.values()]
            if not running:
                return
            for call in running:
                if attempt == _TRIES:
                    call.given_up = True
                    name = name_of(self.handler)
                    text = f"handler {name!r}, which swallowed {_TRIES} cancels"
                    call.here.record(LoopLeaked("handler", name, stubborn=True, text=text))
                call.cancel("the lab")
            with contextlib.suppress(TimeoutError):
                async with timeout(scaled(_WAIT)):
                    for call in running:
                        await call.ended.wait()
