"""Servers: a handler hosted as production hosts it, by one file a stack."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from labkit.checks import find
from labkit.clock import scaled
from labkit.lines import watch
from labkit.pulse import pulse
from labkit.servers.aiohttp_stack import Aiohttp, AiohttpCancel
from labkit.servers.calls import Handler, Host, check_handler, name_of
from labkit.servers.capture import capture
from labkit.servers.server import Server
from labkit.servers.stack import Stack
from labkit.servers.websockets_stack import Websockets
from labkit.tasks import until_done
from labkit.timeline import Place, Timeline, place

__all__ = ["STACKS", "Handler", "Server", "Stack", "check", "find_stack", "host", "name_of"]

#: The stacks, by name.
STACKS: Final[dict[str, Stack]] = {stack.name: stack for stack in (Aiohttp(), AiohttpCancel(), Websockets())}


def find_stack(name: str) -> Stack:
    """Find a stack by its name.

    Raises:
        UnknownName: there is none of this name.
    """
    return find("stack", name, STACKS)


def check(handler: Handler, on: str, options: dict[str, Any]) -> Stack:
    """Refuse what could not be hosted, before any socket opens.

    Args:
        handler: the handler.
        on: the stack's name.
        options: keyword arguments for the library's function.

    Returns:
        The stack.

    Raises:
        UnknownName: there is no stack of this name.
        BadHandler: the handler is not a coroutine function of one argument.
        BadOption: the library does not take an option.
    """
    stack = find_stack(on)
    check_handler(handler, stack.argument)
    stack.check_options(options)
    scaled(1)  # a wrong LABKIT_TIME_SCALE is told now, and not in the middle of the cleanup
    return stack


@asynccontextmanager
async def host(
    handler: Handler, on: str = "aiohttp", *, timeline: Timeline | None = None, **server_options: Any
) -> AsyncIterator[Server]:
    """Host a handler on loopback, with the library's own defaults, while the block runs.

    What the handler prints and logs goes to the timeline. At the end of the block every handler is stopped.

    Args:
        handler: a coroutine function, exactly as the library wants it.
        on: the stack's name.
        timeline: where to record; a new one, if not given.
        server_options: keyword arguments for the library's own function (``AppRunner``, ``serve``).

    Yields:
        The server.

    Raises:
        UnknownName: there is no stack of this name.
        BadHandler: the handler is not a coroutine function of one argument.
        BadOption: the library does not take an option.
    """
    stack = check(handler, on, server_options)
    timeline = Timeline() if timeline is None else timeline
    calls = Host(handler, timeline, stack=stack.name, library=stack.library)
    # The server's tasks, and all that the handler starts, inherit this context, and by it the place.
    context = contextvars.copy_context()
    context.run(place.set, Place(timeline, "handler"))
    with pulse(), capture(timeline), watch(handler, timeline):
        starting = asyncio.create_task(_start(stack, calls, server_options, context), context=context)
        try:
            yield await until_done(starting)
        finally:
            # A task of its own, which a cancel does not reach: an impatient second interrupt leaves nothing either.
            if not starting.cancelled() and starting.exception() is None:
                await until_done(asyncio.create_task(starting.result().stop(), context=context))


async def _start(stack: Stack, calls: Host, options: dict[str, Any], context: contextvars.Context) -> Server:
    return Server(await stack.start(calls, options), stack, calls, context)
