"""Hears what a loop's exception handler is given, whoever sets another one meanwhile; and who stops the loop."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

from labkit.events import LoopException
from labkit.introspection.origin import find_line
from labkit.introspection.steps import scope_of_handle
from labkit.remains.started import starts_here
from labkit.remains.tasks import scope_of
from labkit.support.descriptors import is_starved, note_starved
from labkit.support.replacing import replace
from labkit.support.wording import describe_exception
from labkit.timeline import Scope, scope
from labkit.watch.logged import told_already

__all__ = ["hear_loop", "record_exit"]

#: The class whose methods the loops of asyncio have; another loop has those of its own class.
_ASYNCIOS: Final = asyncio.BaseEventLoop

_Method = Callable[..., None]


class _Heard:
    """A loop that is listened to: the exception handler it had before, and whether an experiment has set another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.before = loop.get_exception_handler()
        self.users = 0
        self.changed = False


_heard: Final[dict[asyncio.AbstractEventLoop, _Heard]] = {}


@contextmanager
def hear_loop(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.AbstractEventLoop]:
    """Turn the errors of experiments that a loop is told into events, while the block runs.

    What the loop had before for such errors is not called for them: it is the business of who runs the lab. What an
    experiment sets for itself, such as an application at its start, is called, and taken off at the end. Who stops the
    loop would end the lab in the middle of the experiment: that is told, and the loop goes on.

    Args:
        loop: the loop.

    Yields:
        The loop.
    """
    heard = _heard.setdefault(loop, _Heard(loop))
    heard.users += 1
    owner = _ASYNCIOS if isinstance(loop, _ASYNCIOS) else type(loop)
    with ExitStack() as undo:
        for name, make in (
            ("call_exception_handler", _telling),
            ("set_exception_handler", _noting),
            ("stop", _staying),
        ):
            undo.callback(replace(owner, name, partial(_in_place_of, getattr(owner, name), make)))
        try:
            yield loop
        finally:
            heard.users -= 1
            if not heard.users:
                del _heard[loop]
                if heard.changed:
                    loop.set_exception_handler(heard.before)


def _in_place_of(method: _Method, make: Callable[[_Method], _Method], _: object) -> _Method:
    """What is there may be inherited, and so be no member of the class itself."""
    return make(method)


def _noting(method: _Method) -> _Method:
    @functools.wraps(method)
    def stand_in(loop: asyncio.AbstractEventLoop, handler: Any) -> None:
        method(loop, handler)
        if loop in _heard and scope.get() is not None:
            _heard[loop].changed = True

    return stand_in


def _staying(method: _Method) -> _Method:
    @functools.wraps(method)
    def stand_in(loop: asyncio.AbstractEventLoop) -> None:
        if loop not in _heard or (found := starts_here()) is None:
            method(loop)
            return
        here, starts = found
        line = find_line(sys._getframe(1), starts.file)  # noqa: SLF001 - who stops it
        where = "a handler" if line is None else line
        message = f"loop.stop() in {where}, which ends the server outside the lab"
        here.record(LoopException(None, message, text=message))

    return stand_in


def _telling(method: _Method) -> _Method:
    @functools.wraps(method)
    def stand_in(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if loop not in _heard:
            method(loop, context)
        elif "socket" in context and is_starved(context.get("exception")):  # a server cannot accept a client
            note_starved()
        elif (here := _tell(context)) is None:
            method(loop, context)
        elif loop.get_exception_handler() not in {None, _heard[loop].before}:
            token, thread = scope.set(here), threading.get_ident()
            told_already.add(thread)  # asyncio's default, which it may call, logs what is told
            try:
                method(loop, context)
            finally:
                scope.reset(token)
                told_already.discard(thread)

    return stand_in


def _tell(context: dict[str, Any]) -> Scope | None:
    """Record an event, if the error is an experiment's; return its scope."""
    # Python 3.12 and later call this in the context of the code at fault; for Python 3.11, ask the task, or the handle
    # of a callback or a timer.
    here = (
        scope_of(context.get("task") or context.get("future")) or scope_of_handle(context.get("handle")) or scope.get()
    )
    if here is None:
        return None
    exception = context.get("exception")
    description = None if exception is None else describe_exception(exception)
    message = str(context.get("message", "an unhandled exception"))
    text = message if description is None else f"{message}: {description}"
    here.record(LoopException(description, message, text=text))
    return here


def record_exit(here: Scope, exception: SystemExit, raised_in: str) -> None:
    """Record that code of a handler has asked the process to end.

    asyncio lets that pass from a task or a callback to the caller of ``run_forever``. In production it ends the server;
    in the lab it would end the lab in the middle of an experiment, so whoever calls this lets it go no further.

    Args:
        here: the scope of the handler's connection.
        exception: what the code has raised.
        raised_in: where, in words, such as ``"a handler"``.
    """
    message = f"SystemExit in {raised_in}, which ends the server's process outside the lab"
    here.record(LoopException(describe_exception(exception), message, text=message))
