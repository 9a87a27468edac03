"""The exceptions that nobody gets, since the future of ``concurrent.futures`` that has one is dropped.

asyncio complains of its own futures; of these, Python says nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from labkit.events import LoopException
from labkit.remains.started import starts_here, starts_of
from labkit.support.replacing import replace
from labkit.support.wording import describe_exception
from labkit.timeline import Scope

__all__ = ["watch_dropped", "watch_future"]

#: The attribute of a future with the scope of the code that has it, and what its work is, in words.
_WHOSE: Final = "_labkit_whose"

#: The callback by which a future of asyncio hears of this one's end: then asyncio complains, where it does.
_ASYNCIOS: Final = "_chain_future.<locals>._call_set_state"


class _Watched(Future[Any]):
    """A future that knows whether anybody has asked for its exception.

    Its methods are those of every future: one that blocks must not be the lab's own, which nobody could end.
    """

    @property
    def _exception(self) -> BaseException | None:
        vars(self).pop(_WHOSE, None)
        error: BaseException | None = vars(self)["_exception"]
        return error

    @_exception.setter
    def _exception(self, error: BaseException | None) -> None:
        vars(self)["_exception"] = error

    def __del__(self) -> None:
        whose: tuple[Scope, str] | None = vars(self).get(_WHOSE)
        error: BaseException | None = vars(self)["_exception"]
        told = {getattr(callback, "__qualname__", "") for callback in vars(self)["_done_callbacks"]}
        if whose is None or error is None or _ASYNCIOS in told or starts_of(whose[0].timeline) is None:
            return
        here, what = whose
        message, description = f"Exception in {what}, whose future is dropped", describe_exception(error)
        here.record(LoopException(description, message, text=f"{message}: {description}"))


@contextmanager
def watch_dropped() -> Iterator[None]:
    """Watch the futures of coroutines that threads of handlers give to a loop, while the block runs."""
    with ExitStack() as undo:
        for module in (asyncio, asyncio.tasks):
            undo.callback(replace(module, "run_coroutine_threadsafe", _Running))
        yield


class _Running:
    """A stand-in for ``asyncio.run_coroutine_threadsafe``. It is no function: a class would take that for a method."""

    def __init__(self, function: Callable[..., Future[Any]]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, coro: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        name = getattr(coro, "__qualname__", type(coro).__name__)
        return watch_future(self._function(coro, *args, **kwargs), f"{name}() of a thread")


def watch_future(future: Future[Any], what: str) -> Future[Any]:
    """Have it told if a handler's future is dropped with an exception in it.

    Args:
        future: the future.
        what: what its work is, in words.

    Returns:
        The future.
    """
    if (found := starts_here()) is not None and found[0].number is not None and type(future) is Future:
        setattr(future, _WHOSE, (found[0], what.replace(".<locals>", "")))
        future.__class__ = _Watched
    return future
