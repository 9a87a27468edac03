"""Pings of the handler's own: one that is not answered may be how the handler notices that its client is gone."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from typing import Any

from labkit.watch.asked import asked_by_user
from labkit.watch.limits import Cause, cause_of_cancel, cause_of_removal

__all__ = ["OwnPings"]


class OwnPings:
    """The pings that one handler has sent, with ``ping()`` of its connection.

    Args:
        on_unanswered: called when a limit of time that the handler has set ends its waiting for an answer.
        limits: counts the limits of time that have ended something else in the handler.
    """

    def __init__(self, on_unanswered: Callable[[], None], limits: Callable[[], int]) -> None:
        self._on_unanswered = on_unanswered
        self._limits = limits
        self._doubtful: list[_Pong] = []
        self._awaits_message = False

    def observe(self, future: asyncio.Future[Any], report: Callable[[BaseException | None], None]) -> Any:
        """Observe the future of a pong.

        Args:
            future: what the library's ``ping()`` returned.
            report: called with the exception that the handler gets from it, or with None.

        Returns:
            A stand-in for the future, for the handler.
        """
        before = self._limits()

        def given_up(pong: _Pong, cause: Cause) -> None:
            if cause == "limit":
                self._on_unanswered()
            # If a limit of something else ended the handler, it no longer needs the pong.
            elif cause == "user" and self._limits() == before:
                self._doubt(pong)

        return _Pong(future, report, given_up, self._doubt)

    def _doubt(self, pong: _Pong) -> None:
        if pong not in self._doubtful:
            self._doubtful = [each for each in self._doubtful if each.unanswered]
            self._doubtful.append(pong)

    def sent(self, _: Any = None) -> None:
        """Note a ping whose pong the handler will receive as a message, since the library gives no future."""
        self._awaits_message = True

    def answered(self) -> None:
        """Note such a pong."""
        self._awaits_message = False

    def read_in_vain(self, cause: Cause) -> None:
        """Note that the handler has given up its waiting for a message, which such a pong would have been.

        Args:
            cause: what ended its waiting.
        """
        if self._awaits_message and cause == "limit":
            self._on_unanswered()

    @property
    def in_doubt(self) -> bool:
        """Whether one is unanswered, and the handler may have found that out in a way that cannot be seen."""
        return self._awaits_message or any(pong.unanswered for pong in self._doubtful)


class _Pong(asyncio.Future[Any]):
    """A stand-in for the future of a pong. It has no state of its own: every method asks the library's future.

    Args:
        future: the library's future.
        report: called with the exception that the handler gets, or with None.
        on_given_up: called when a waiting for it ends too early, with the cause.
        on_question: called when the handler looks at it otherwise than by awaiting it.
    """

    def __init__(
        self,
        future: asyncio.Future[Any],
        report: Callable[[BaseException | None], None],
        on_given_up: Callable[[_Pong, Cause], None],
        on_question: Callable[[_Pong], None],
    ) -> None:
        super().__init__(loop=future.get_loop())
        self._future = future
        self._report = report
        self._on_given_up = on_given_up
        self._on_question = on_question
        self._calls: list[tuple[Callable[[Any], object], Callable[[Any], object]]] = []

    @property
    def unanswered(self) -> bool:
        """Whether there is no pong."""
        return not self._future.done() or self._future.cancelled()

    def __await__(self) -> Generator[Any, None, Any]:
        # As `asyncio.Future` does it, with this object in its place: a cancel of the waiting task then comes here.
        if not self._future.done():
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    __iter__ = __await__

    def done(self) -> bool:
        done = self._future.done()
        if not done and asked_by_user():
            self._on_question(self)
        return done

    def cancelled(self) -> bool:
        return self._future.cancelled()

    def cancel(self, msg: Any = None) -> bool:
        if not self._future.done():
            self._on_given_up(self, cause_of_cancel(inspect.currentframe()))
        return self._future.cancel(msg)

    def result(self) -> Any:
        try:
            return self._future.result()
        except Exception as exception:
            self._report(exception)
            raise

    def exception(self) -> BaseException | None:
        exception = self._future.exception()
        self._report(exception)
        return exception

    def set_result(self, result: Any, /) -> None:
        self._future.set_result(result)

    def set_exception(self, exception: Any, /) -> None:
        self._future.set_exception(exception)

    def add_done_callback(self, callback: Callable[[Any], object], /, *, context: Any = None) -> None:
        def call(_: Any) -> None:
            callback(self)

        if asked_by_user():
            self._on_question(self)
        self._calls.append((callback, call))
        self._future.add_done_callback(call, context=context)

    def remove_done_callback(self, callback: Callable[[Any], object], /) -> int:
        calls = [call for given, call in self._calls if given == callback]
        self._calls = [pair for pair in self._calls if pair[0] != callback]
        if calls and not self._future.done():
            match cause_of_removal(inspect.currentframe()):
                case "limit":
                    self._on_given_up(self, "limit")
                case "user":
                    self._on_question(self)
        return sum(self._future.remove_done_callback(call) for call in calls)
