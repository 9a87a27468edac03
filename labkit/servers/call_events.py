"""One call of the handler, as events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from labkit.servers.cancels import Canceller
from labkit.servers.losses import losses, raised_on
from labkit.servers.stand_ins import StandIns, inside
from labkit.timeline import Timeline
from labkit.wording import of_exception, of_message

__all__ = ["Call"]

#: The close code of a connection that ended without a Close frame (RFC 6455, section 7.1.5); never on the wire.
_ABNORMAL = 1006


class Call:
    """One call of the handler, for one connection.

    The lab watches what the library tells the handler through stand-ins for the methods of this one connection; they
    are taken off when the handler ends.

    Attributes:
        connection: the library's own connection, once there is one.
        task: the library's task in which the handler runs.
        ended: set when the handler has ended.
        stopping: whether the lab itself is cancelling the handler.
        error: what the lab raises in the handler in place of its next cancel.
        waits: set whenever the handler waits for something, and when it has ended.
        given_up: whether the handler has swallowed every cancel, and is to be closed at the next.
        told: whether the library has told the handler of the connection's end.
    """

    def __init__(self, timeline: Timeline, number: int, lost: type[Exception]) -> None:
        self.timeline = timeline
        self.number = number
        self.connection: Any = None
        self.task = asyncio.current_task()
        self.ended = asyncio.Event()
        self.stopping = False
        self.error: Exception | None = None
        self.waits = asyncio.Event()
        self.given_up = False
        self.told = False
        self._lost = lost
        self._by: str | None = None
        self._stand_ins: list[StandIns] = []

    def connect(self, connection: Any, by_library: Callable[[], bool] = lambda: False) -> StandIns:
        """Note the handler's connection.

        Args:
            connection: the library's own.
            by_library: whether the running task is one of the library's own.

        Returns:
            Where to say which of its methods to watch.
        """
        self.connection = connection
        self._stand_ins.append(StandIns(connection, self._lost, self.noticed, by_library, self._take_error))
        return self._stand_ins[-1]

    @property
    def inside(self) -> list[str]:
        """The methods of the connection in which the handler is now, such as ``"send()"``."""
        return [method for stand_ins in self._stand_ins for method in list(stand_ins.entered)]

    def cancel(self, by: str) -> None:
        """Cancel the handler's task.

        Args:
            by: who does.
        """
        self.waits.clear()
        if self.task is not None:
            self._by = by
            self.task.cancel()
            self._by = None

    def throw(self, exception: Exception) -> None:
        """Raise an exception in the handler, where it waits.

        Args:
            exception: what is raised.
        """
        told = of_exception(exception)
        self.timeline.record("handler", "error", f"the fault raises {told}", {"exception": told})
        self.error = exception
        self.cancel("the fault")

    def raised(self, exception: BaseException) -> BaseException:
        """Tell what to raise in the handler in place of an exception that has come to its task."""
        # Inside a method of the library it stays the cancel, so that the library can clean up after it.
        if not isinstance(exception, asyncio.CancelledError) or inside():
            return exception
        return self._take_error() or exception

    def _take_error(self) -> Exception | None:
        """Take the error that the lab raises, if there is one; the cancel that brought it is taken back."""
        error, self.error = self.error, None
        if error is not None and self.task is not None:
            self.task.uncancel()
        return error

    def release(self) -> None:
        """Take the stand-ins off."""
        for stand_ins in self._stand_ins:
            stand_ins.release()

    def escaped(self, exception: BaseException, library: str) -> bool:
        """Look at what the handler raised for a lost connection that no stand-in has seen.

        Args:
            exception: what it raised.
            library: the library's package.

        Returns:
            Whether it tells of a lost connection. If it is proved to be this one, that has been recorded.
        """
        found = losses(exception, self._lost, library)
        ours = [loss for loss in found if raised_on(loss, self.connection, library)]
        if ours and not self.told:
            self.noticed("the handler raised", ours[0])
        return bool(found)

    def received(self, data: Any) -> None:
        """Record a message that the library gave to the handler."""
        self.timeline.record("handler", "recv", *of_message(data))

    def sent(self, data: Any, opcode: str | None = None) -> None:
        """Record a message, or a fragment of one, that the handler gives to the library.

        Args:
            data: the message; what is none, the library will refuse.
            opcode: the opcode's name, where it is not the one that the type of the data suggests.
        """
        if isinstance(data, str | bytes | bytearray | memoryview):
            text, told = of_message(data if isinstance(data, str) else bytes(data))
            self.timeline.record("handler", "send", text, told if opcode is None else {**told, "opcode": opcode})

    def closing(self, arguments: dict[str, Any]) -> None:
        """Record that the handler closes the connection."""
        code = arguments.get("code", 1000)
        if isinstance(code, int):
            self.timeline.record("handler", "close", f"close({int(code)})", {"code": int(code)})

    def closed(self, _: Any = None) -> None:
        """Record that the closing ended, where the peer had no part in it."""
        if self.close_code() == _ABNORMAL:
            self.noticed("close() ended without the peer's Close")

    def noticed(self, how: str, exception: BaseException | None = None) -> None:
        """Record that the library told the handler of the connection's end."""
        self.told = True
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
        ours = self._by or ("the lab" if self.stopping else None)
        by = ours or (canceller.by if canceller else None)
        package = "labkit" if ours else canceller.package if canceller else None
        text = f"cancelled by {by}" if by else "cancelled, by whom is unknown"
        self.timeline.record("handler", "cancelled", text, {"by": by, "package": package})
