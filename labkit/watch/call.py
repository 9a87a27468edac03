"""One call of the handler, as events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from labkit.events import (
    HandlerCancelled,
    HandlerClose,
    HandlerError,
    HandlerNotice,
    HandlerRecv,
    HandlerSend,
    HandlerSwallowed,
    LibraryCancel,
)
from labkit.support.flag import Flag
from labkit.support.wording import describe_exception, describe_message
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.asked import IsOver, observe_properties
from labkit.watch.cancels import Canceller
from labkit.watch.disconnects import LossType, losses, raised_on, with_origins
from labkit.watch.expiring import Expiring
from labkit.watch.groups import fail_in_group
from labkit.watch.library import Tap
from labkit.watch.limits import Cause
from labkit.watch.lines import begin_connection
from labkit.watch.pings import OwnPings
from labkit.watch.stand_ins import Entered, Method, StandIns, in_method
from labkit.watch.stops import Stops
from labkit.watch.swallowed import Cancel, Followed, Swallow, find_line

__all__ = ["Call"]

#: What a call has that has not begun.
_FOLLOWS_NOTHING: Final = Followed(None, lambda _: None)


@lru_cache
def _packages(*names: str) -> frozenset[str]:
    return frozenset(names)


def _any(_: BaseException) -> bool:
    return True


#: What a message may be; made once, since a union is made anew each time that it is written.
_MESSAGE: Final = (str, bytes, bytearray, memoryview)


def _describe(data: Any) -> tuple[str, str | None, int | None]:
    """The text of a message's event, its opcode's name and its length; of what is no message, its type alone."""
    if isinstance(data, _MESSAGE):
        return describe_message(data if isinstance(data, str) else bytes(data))
    return f"a message, as {type(data).__name__}", None, None


class Call(Stops):
    """One call of the handler, for one connection.

    The lab sees what the library tells the handler through stand-ins for the methods of this one connection. They are
    removed when the handler ends.

    Args:
        timeline: where to record.
        number: the number of the call.
        loss_type: the exceptions with which the library reports that a connection is lost.
        package: the library's package.
        also: other packages that belong to the library, such as a framework between it and the handler.
        on_raise: called with the number and each exception that comes to the handler from what it awaits.

    Attributes:
        timeline: where it records.
        here: the scope of the connection.
        package: the library's package.
        packages: the same, and the others that belong to the library.
        argument: what the handler was called with.
        handled: an exception of the handler's that the library has made an answer of; it goes no further.
        is_loss: tells which of the exceptions report a lost connection, where their types do not tell it.
        tap: the tap between the library and its transport, if there is one.
        coroutine: the handler's coroutine, once the handler is called.
        followed: follows each cancel through that coroutine.
        connection: the library's own connection, once there is one.
        task: the library's task in which the handler runs.
        ended: set when the handler has ended.
        expiring: the limit of time around the handler.
        error: the exception that the lab raises in the handler in place of the next cancel.
        given_up: whether the handler has swallowed every cancel; the lab closes its coroutine at the next one.
        notified: whether the library has told the handler that the connection is over.
        limits: how many limits of time of its own have ended something in the handler.
    """

    # There may be thousands.
    __slots__ = (
        "_by",
        "_closes",
        "_file",
        "_listeners",
        "_loss_type",
        "_on_raise",
        "_pings",
        "_stand_ins",
        "_thrown",
        "_undo",
        "argument",
        "connection",
        "coroutine",
        "ended",
        "error",
        "expiring",
        "followed",
        "given_up",
        "handled",
        "here",
        "is_loss",
        "limits",
        "notified",
        "package",
        "packages",
        "tap",
        "task",
        "timeline",
    )

    def __init__(
        self,
        timeline: Timeline,
        number: int,
        loss_type: LossType,
        package: str,
        also: Collection[str] = (),
        on_raise: Callable[[int, BaseException], None] = lambda *_: None,
    ) -> None:
        super().__init__(number)
        self.timeline = timeline
        self.here = Scope(timeline, "handler", number)
        begin_connection(timeline, number)
        self.tap: Tap | None = None
        self.coroutine: Any = None
        self.followed: Followed = _FOLLOWS_NOTHING
        self.connection: Any = None
        self.task = asyncio.current_task()
        self.ended = Flag()
        self.error: Exception | None = None
        self.expiring = Expiring()
        self._file = ""
        self._thrown: Exception | None = None
        self.given_up = False
        self.notified = False
        self.limits = 0
        self._on_raise = on_raise
        self._pings: OwnPings | None = None
        self._loss_type = loss_type
        self.package = package
        self.packages = _packages(package, *also)
        self.argument: Any = None
        self.handled: BaseException | None = None
        self.is_loss: Callable[[BaseException], bool] = _any
        self._by: str | None = None
        self._stand_ins: list[StandIns] = []
        self._undo: list[Callable[[], None]] = []
        self._listeners: tuple[tuple[Callable[[], None], Callable[[], None]], ...] = ()
        self._closes = False  # whether the handler has closed the connection by itself

    def _of_another(self) -> int | None:
        """The connection whose handler's code runs now, if that is not this one's: its number on the server's side."""
        here = scope.get()
        if here is None or here.timeline is not self.timeline or here.number == self.number:
            return None
        return here.number

    def connect(
        self, connection: Any, methods: Mapping[str, Method], by_library: Callable[[Any], bool] = lambda _: False
    ) -> None:
        """Note the handler's connection, and observe its methods until the handler ends.

        Args:
            connection: the library's own connection.
            methods: how to observe its methods, by their names; what they call gets this call first.
            by_library: says of the connection whether the running task belongs to the library.
        """
        self.connection = connection
        self._stand_ins.append(StandIns(self, connection, self._loss_type, methods, by_library))

    def observe_properties(
        self, target: Any, tests: Mapping[str, IsOver], identity: Callable[[Any], Any] = lambda target: target
    ) -> None:
        """Observe what the handler asks an object of the library, until the handler ends.

        Args:
            target: the object.
            tests: for each property, which of its values tell that the connection is over.
            identity: gives what an object shares with its copies, if the copies count too.
        """
        self._undo.append(observe_properties(target, tests, self.asked, self.packages, identity))

    def asked(self, answer: str) -> None:
        """Record that the handler has asked, and was told that the connection is over.

        Args:
            answer: what it was told, in words. It counts only if nobody has told it before, and if it has not closed
                the connection by itself.
        """
        if not self.notified and not self._closes and not self.ended.is_set():
            self.record_notice(answer)

    def gave_up(self, method: str, cause: Cause) -> None:
        """Note what has ended a method of the connection before it was through."""
        self.limits += cause == "limit"
        if method == "receive" and self._pings is not None:
            self._pings.read_in_vain(cause)

    @property
    def pings(self) -> OwnPings:
        """The pings that the handler has sent by itself."""
        if self._pings is None:
            self._pings = OwnPings(lambda: self.asked("its own ping was not answered"), lambda: self.limits)
        return self._pings

    def pinged(self, pong: Any) -> Any:
        """Observe the future of a pong that the library's ``ping()`` has given; return what stands in for it."""
        stand_ins = self._stand_ins[-1]
        return self.pings.observe(pong, lambda exception: stand_ins.report("the pong of ping()", exception))

    @property
    def doubt(self) -> str | None:
        """Why it is unknown whether the handler has noticed a loss, if nothing that the lab saw has told it."""
        return "a ping of its own was not answered" if self._pings is not None and self._pings.in_doubt else None

    @property
    def inside(self) -> list[str]:
        """The methods of the connection in which the handler is now, such as ``"send()"``."""
        return [f"{entered.method}()" for entered in self.entered]

    @property
    def entered(self) -> list[Entered]:
        """The calls of the connection's methods by the handler that have not returned yet."""
        return [entered for stand_ins in self._stand_ins for entered in list(stand_ins.entered)]

    def cancel(self, by: str) -> None:
        """Cancel the handler's task.

        Args:
            by: who cancels it, in words.
        """
        self.goes_on()
        if self.task is not None:
            self._by = by
            self.task.cancel()
            self._by = None

    def expire(self) -> None:
        """Let the ``asyncio.timeout`` around the handler expire, which cancels the handler's task."""
        self.goes_on()
        if not self.ended.is_set():
            self.expiring.expire()

    def throw(self, exception: Exception) -> None:
        """Raise an exception in the handler, at the place where it waits.

        Args:
            exception: the exception.
        """
        description = describe_exception(exception)
        self.here.record(HandlerError(description, text=f"the fault raises {description}"))
        self._thrown = exception
        if fail_in_group(self.coroutine, exception):
            return
        # asyncio has no public way to raise another exception in a task. So cancel it, and replace the cancel.
        self.error = exception
        self.cancel("the fault")

    def replace(self, exception: BaseException) -> BaseException:
        """Choose what to raise in the handler in place of an exception that has come to its task."""
        self._on_raise(self.number, exception)
        # Inside a method of the library, leave the cancel as it is, so that the library can clean up after it.
        if not isinstance(exception, asyncio.CancelledError) or in_method():
            return exception
        return self.take_error() or exception

    def take_error(self) -> Exception | None:
        """Return the error that the lab wants to raise, once, and undo the cancel that brought it."""
        error, self.error = self.error, None
        if error is not None and self.task is not None:
            # Otherwise `asyncio.timeout` and `TaskGroup` would still count this cancel (Task.cancelling()).
            self.task.uncancel()
        return error

    def release(self) -> None:
        """Remove the stand-ins, and let go of what has ended."""
        while self._undo:
            self._undo.pop()()
        for stand_ins in self._stand_ins:
            stand_ins.release()
        self.coroutine = None
        if self.tap is not None:
            self.tap.call = None

    def find_loss(self, exception: BaseException) -> bool:
        """Find out whether the handler raised an exception that reports a lost connection.

        If that is proved to be this connection, and no stand-in has seen it, record it.

        Args:
            exception: what the handler raised.

        Returns:
            Whether it reports a lost connection, this one or another.
        """
        found = [loss for loss in losses(exception, self._loss_type, *self.packages) if self.is_loss(loss)]
        ours = [
            loss for loss in found if any(raised_on(loss, each.connection, *self.packages) for each in self._stand_ins)
        ]
        if ours and not self.notified:
            self.record_notice("the handler raised", ours[0])
        return bool(found)

    def is_induced(self, exception: BaseException) -> bool:
        """Find out whether what the handler raised comes from the exception of a fault: it, or around it."""
        return self._thrown is not None and any(each is self._thrown for each in with_origins(exception))

    def received(self, data: Any) -> None:
        """Record a message that the handler was given; a class of the user's own may give anything for it."""
        text, opcode, length = _describe(data)
        self.here.record(HandlerRecv(opcode, length, text=text))
        for on_read, _ in self._listeners:
            on_read()

    def listen(self, on_read: Callable[[], None], on_arrival: Callable[[], None]) -> Callable[[], None]:
        """Be told of what the client sends.

        Args:
            on_read: called when the library has given a message to the handler.
            on_arrival: called when the library has got something.

        Returns:
            What ends it.
        """
        listener = (on_read, on_arrival)
        self._listeners = (*self._listeners, listener)
        if self.tap is not None:
            self.tap.heard = self._heard

        def stop() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)
            if self.tap is not None and not self._listeners:
                self.tap.heard = None

        return stop

    def _heard(self) -> None:
        for _, on_arrival in self._listeners:
            on_arrival()

    @property
    def messages(self) -> tuple[int, int]:
        """How many messages of the client the library has got, and how many it has sent."""
        return (0, 0) if self.tap is None else self.tap.messages

    @property
    def reading(self) -> bool:
        """Whether the library reads what the client sends."""
        transport = None if self.tap is None else self.tap.transport
        return transport is not None and transport.is_reading()

    def sent(self, data: Any, opcode: str | None = None, *, own: bool = False) -> None:
        """Record a message, or a fragment of one, that the handler gives to the library.

        Args:
            data: the message. Anything that is not a message is not recorded, since the library will refuse it.
            opcode: the opcode's name; if None, the type of the data decides.
            own: whether a class of the user's own takes the message, which may be anything then.
        """
        text, default, length = _describe(data)
        if default is not None or own:
            self.here.record(HandlerSend(default and (opcode or default), length, self._of_another(), text=text))

    def closing(self, arguments: dict[str, Any]) -> None:
        """Record that the handler closes the connection."""
        self._closes = True
        code = arguments.get("code", 1000)
        if isinstance(code, int):
            self.here.record(HandlerClose(int(code), self._of_another(), text=f"close({int(code)})"))

    def noticed(self, how: str, exception: BaseException) -> None:
        """Record that a method has reported a lost connection, if it is this handler's."""
        if self.is_loss(exception):
            self.record_notice(how, exception)

    def record_notice(self, how: str, exception: BaseException | None = None) -> None:
        """Record that the library told the handler that the connection is over.

        Args:
            how: how the library told it, such as ``"recv()"``.
            exception: the exception with which it did, if it did so with one.
        """
        by = self._of_another()
        self.notified = self.notified or by is None
        description = None if exception is None else describe_exception(exception)
        text = how if exception is None else f"{how}: {type(exception).__name__}: {exception}"
        self.here.record(HandlerNotice(description, self.close_code(), how, by, text=text))

    def close_code(self) -> int | None:
        """Read the close code that the handler's own connection reports."""
        code = getattr(self.connection, "close_code", None)
        return None if code is None else int(code)

    def end(self) -> None:
        """Note that the handler has ended."""
        self.waits.set()
        self.ended.set()

    def is_given_up(self) -> bool:
        """Whether the handler has swallowed every cancel."""
        return self.given_up

    async def before_close(self) -> None:
        """Wait until the handler may close the connection. Who closes it from elsewhere does not wait for that."""
        if self.moment is not None:
            here = scope.get()
            if self.held() is not None and (here is None or here.number != self.number):
                return
            self.moment.closes(self.number, spoken=self.messages[1] > 0)
            if (gate := self.held()) is not None:
                await gate

    def cancelled(self, canceller: Canceller | None) -> None:
        """Record that somebody cancels the handler."""
        if self.error is not None:
            return  # the handler gets this error, not the cancel
        self.limits += canceller is not None and canceller.limit
        by = self._by or (canceller.by if canceller else None)
        package = canceller.package if canceller else None
        whose = "other" if canceller is None or self._by else canceller.whose
        again = self.followed.cancelled(Cancel(by, whose))
        text = f"cancelled by {by}" if by else "cancelled, by whom is unknown"
        if again:
            text += ", before the last cancel has come to it"
        if by is not None and package == self.package:
            self.here.record(LibraryCancel(by, text="cancels the handler"))
        self.here.record(HandlerCancelled(by, package, followed=True, again=again, text=text))

    def follow(self, handler: Any) -> Followed:
        """Follow each cancel through the handler's coroutine, to record where one ends.

        Args:
            handler: the function that its author wrote.

        Returns:
            What follows them.
        """
        self._file = getattr(getattr(handler, "__code__", None), "co_filename", "")
        self.followed = Followed(self.coroutine, self._swallowed)
        return self.followed

    def _swallowed(self, swallow: Swallow) -> None:
        if (found := find_line(swallow, self._file)) is not None:
            line, where = found
            place = "an unknown line" if line is None else f"line {line}"
            by = f" by {swallow.cancel.by}" if swallow.cancel.by else ""
            text = f"{place} ends the cancel{by}" + (f", in {where}" if where else "")
            event = HandlerSwallowed(line, swallow.cancel.by, swallow.cancel.whose, swallow.then, where, text=text)
            self.here.record(event)
