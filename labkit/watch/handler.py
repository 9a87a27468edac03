"""What a handler is: the function that its author wrote, what a reader calls it, and whether a stack can call it."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Coroutine
from itertools import pairwise
from types import CodeType
from typing import Any, Final

from labkit.errors import BadHandler
from labkit.introspection.origin import is_users
from labkit.introspection.suspended import frames

__all__ = ["Handler", "check_handler", "may_be_awaited", "name_of", "original", "waits_at"]

Handler = Callable[[Any], Coroutine[Any, Any, Any]]

#: The methods of class-based handlers: of aiohttp's ``web.View``, since a WebSocket begins with GET, and of Starlette's
#: ``WebSocketEndpoint``; and the frameworks whose own methods are nobody's handler.
_METHODS: Final = ("get", "on_receive", "on_connect", "on_disconnect")
_FRAMEWORKS: Final = frozenset({"aiohttp", "starlette"})


def original(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Find the function that the author wrote.

    Args:
        handler: a function, a method, a ``functools.partial``, a decorated function, an object with ``__call__``, or a
            class such as aiohttp's ``web.View`` or Starlette's ``WebSocketEndpoint``.

    Returns:
        The wrapped function, or ``handler`` itself if it wraps none.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    handler = inspect.unwrap(handler)
    if inspect.isclass(handler) and hasattr(handler, "__await__"):
        handler = inspect.unwrap(_main_method(handler))
    if not inspect.isclass(handler) and not hasattr(handler, "__code__") and hasattr(type(handler), "__call__"):  # noqa: B004 - the method is wanted
        handler = inspect.unwrap(type(handler).__call__)
    return getattr(handler, "__func__", handler)


def _main_method(handler: type[Any]) -> Any:
    """The method of a class-based handler that stands for it; the others of its file are its helpers."""
    own = [base for base in handler.__mro__ if base.__module__.partition(".")[0] not in _FRAMEWORKS]
    members = {name: getattr(handler, name) for base in own for name in vars(base) if name in _METHODS}
    return next((members[name] for name in _METHODS if name in members), handler)


def waits_at(coroutine: Any, handler: Callable[..., Any]) -> int | None:
    """Find the line at which a handler waits.

    Args:
        coroutine: what runs it, and waits for something now.
        handler: the handler.

    Returns:
        The line of the handler's own ``await``, in its file, whatever it awaits there; None if it has not been found.
    """
    code = getattr(original(handler), "__code__", None)
    return next((frame.f_lineno for frame in frames(coroutine) if frame.f_code is code), None)


def name_of(handler: Callable[..., Any]) -> str:
    """Name a handler for a reader."""
    function = handler if inspect.isclass(handler) else original(handler)
    name: str = getattr(function, "__qualname__", type(handler).__name__)
    code = getattr(function, "__code__", None)
    if code is not None and code.co_name == "__call__" and not is_users(code.co_filename):
        return type(handler).__name__  # an application, of which the reader has not written that method
    return name.rpartition("<locals>.")[2]


def check_handler(handler: object, argument: str, what: str = "handler") -> None:
    """Refuse a handler that no stack could call, before any socket opens.

    Args:
        handler: the handler.
        argument: the name of the one argument with which the stack calls it.
        what: what the message of the error calls it.

    Raises:
        BadHandler: the handler is not a coroutine function, or does not take exactly one argument.
    """
    if not callable(handler):
        raise BadHandler(
            f"the {what} is {handler!r}, which cannot be called; give the function itself: async def h({argument})"
        )
    name = name_of(handler)
    if not may_be_awaited(handler):
        if inspect.isasyncgenfunction(original(handler)):
            raise BadHandler(
                f"the {what} {name!r} has a `yield`, which makes it an async generator; no library takes one"
            )
        kind = "a class" if inspect.isclass(handler) else "not a coroutine function"
        raise BadHandler(f"the {what} {name!r} is {kind}; write it as: async def {_as_a_name(name)}({argument})")
    try:
        # As it is called: a decorator may supply arguments of the function beneath.
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(object())
    except TypeError:
        if [*signature.parameters] == ["scope", "receive", "send"]:
            raise BadHandler(
                f"{name!r} takes scope, receive and send, as an ASGI application does: play it on asgi"
            ) from None
        bare = str(signature.replace(return_annotation=inspect.Signature.empty))
        takes = bare if signature.parameters else "nothing"
        raise BadHandler(
            f"the {what} {name!r} takes {takes}, but is called with one argument, the {argument};"
            f" write it as: async def {_as_a_name(name)}({argument})"
        ) from None


def _as_a_name(name: str) -> str:
    """A name that can stand behind ``def``."""
    name = name.rpartition(".")[2]
    return name if name.isidentifier() else "h"


def may_be_awaited(handler: Callable[..., Any]) -> bool:
    """Tell whether a call may give something to await, which is all that the libraries ask of a handler.

    Args:
        handler: a function, a class, or an object that can be called.

    Returns:
        Whether it may.
    """
    if inspect.isclass(handler):
        return hasattr(handler, "__await__")  # such as aiohttp's `web.View`
    function = original(handler)
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(function):
        return True
    # A lambda, or a function that returns a coroutine. One that returns nothing lacks its `async`.
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    if code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return True  # what `types.coroutine` makes of a generator
    return _returns_something(code) and not code.co_flags & inspect.CO_GENERATOR


def _returns_something(code: CodeType) -> bool:
    instructions = list(dis.get_instructions(code))
    returned = [before for before, last in pairwise(instructions) if last.opname == "RETURN_VALUE"]
    nothing = [each for each in returned if each.opname == "LOAD_CONST" and each.argval is None]
    # Python 3.12 and 3.13 have one instruction for it.
    constants = [each for each in instructions if each.opname == "RETURN_CONST" and each.argval is not None]
    return len(returned) > len(nothing) or bool(constants)
