"""Hosts a handler on loopback, as it is hosted in production."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

from labkit.clients import make_request
from labkit.connections import Connections
from labkit.errors import BadValue
from labkit.events import Event, HandlerEnd, LoopStop, WireFault
from labkit.experiment.run import Run, run_so_far
from labkit.experiment.target import find_here
from labkit.faults.fault import registry
from labkit.remains.tasks import reap
from labkit.remains.watching import watch_remains
from labkit.stacks import STACKS, find_stack
from labkit.stacks.server import Server
from labkit.stacks.stack import Program, Stack
from labkit.support.checks import check_seconds, is_whole
from labkit.support.clock import scaled
from labkit.support.descriptors import told_if_starved
from labkit.support.interrupts import cancel_on_interrupt
from labkit.support.loop import check_loop, finish, until_done
from labkit.support.wakeup import wakeups
from labkit.timeline import APPLICATION, Scope, Timeline, check_timeline, scope
from labkit.watch.block import Blocks, watch_blocks
from labkit.watch.capture import capture
from labkit.watch.handler import Handler, name_of, original
from labkit.watch.host import Host
from labkit.watch.lines import gather, watch
from labkit.watch.over import why_over

__all__ = ["HostedServer", "check_target", "end_experiment", "host"]


class HostedServer(Server):
    """A server with a handler, as ``labkit.host`` yields it."""

    def run(self) -> Run:
        """Give the run so far: what has happened on the server's timeline until now.

        Inside the block of ``labkit.host``, what has not happened yet may still happen, so more is unknown, such as
        what a handler will leave behind. After the block, all is known, unless the timeline was given and goes on.

        Returns:
            The run. What happens later does not change it.
        """
        gather(self.timeline)
        return run_so_far(self.timeline, self.handler, self.stack.name, self.inside)

    @property
    def handler(self) -> str:
        """The name of the handler."""
        return name_of(self._host.handler)


def check_target(target: Any, on: str, options: dict[str, Any]) -> Stack:
    """Refuse a target that cannot be hosted, before any socket opens.

    Args:
        target: the handler or the application; no name.
        on: the stack's name.
        options: keyword arguments for the library's function.

    Returns:
        The stack.

    Raises:
        UnknownName: there is no stack of this name.
        NotInstalled: the stack needs packages that are not installed.
        BadHandler: it is neither a coroutine function of one argument nor an application, where the library has those.
        BadOption: the library does not take an option.
    """
    stack = find_stack(on)
    stack.check_installed()
    stack.check_target(target)
    stack.check_options(options)
    scaled(1)  # report a wrong LABKIT_TIME_SCALE now, and not in the middle of the cleanup
    return stack


@asynccontextmanager
async def host(
    target: Any,
    on: str = "aiohttp",
    *,
    path: str = "/",
    timeline: Timeline | None = None,
    patience: float = 2.0,
    closely: int | None = 50,
    **server_options: Any,
) -> AsyncIterator[HostedServer]:
    """Host a handler on loopback, with the library's own defaults, while the block runs.

    What the handler prints and logs goes to the timeline, and ``server.run()`` gives a run of what has happened. At the
    end of the block, a handler whose connection is over may end by itself while the patience lasts; then every handler
    is stopped, and the tasks that handlers have left are ended.

    To watch a connection closely takes several times as long as the library itself takes for it. So of a crowd, only so
    many are: see ``closely``.

    Args:
        target: a handler: a coroutine function, exactly as the library wants it; or an application, as for
            ``labkit.play``; or the name of one.
        on: the stack's name.
        path: of an application, the path whose handler is watched.
        timeline: where to record; a new one, if None. One that is given may go on after the block, so nothing is waited
            for at its end.
        patience: how long a handler may take from the end of its connection to its own, in seconds, times
            ``LABKIT_TIME_SCALE``.
        closely: how many connections are watched closely at once; all, if None. Those that come through a
            ``labkit.Wire`` with this timeline always are, since a fault may strike them. Of each other one, only the
            outline is recorded: when its handler was called, when and how it ended, what it noted, printed, logged and
            opened, and what it has left. All else of its verdict is unknown, and the run says so.
        server_options: keyword arguments for the library's own function (``AppRunner``, ``serve``).

    Yields:
        The server.

    Raises:
        UnknownName: there is no stack of this name.
        BadHandler: the target is neither a handler nor an application; or it is one, and has no handler for the path.
        BadOption: the library does not take an option.
        BadValue: the patience or ``closely`` is wrong, or a name cannot be found.
        LabError: no loop of asyncio runs the caller; or no file descriptor is left for the server.
    """
    target = find_here(target, "put labkit.Wire in front of it, or give it to labkit.play")
    with told_if_starved():
        stack = check_target(target, on, server_options)
    limit = scaled(check_seconds("patience", patience))
    if closely is not None and not (is_whole(closely) and closely >= 0):
        raise BadValue(f"closely={closely!r}; it takes a number of connections of 0 or more, or None for all")
    check_timeline(timeline)
    make_request(path, None, ())
    check_loop()
    own, timeline = timeline is None, Timeline() if timeline is None else timeline
    telltales = {other.interface: other.telltales for other in STACKS.values() if other.interface != stack.interface}
    # The server's tasks, and all that the handler starts, inherit this context, and with it the scope.
    context = contextvars.copy_context()
    context.run(scope.set, Scope(timeline, "handler"))
    begun = False
    capturing = ExitStack()
    capturing.enter_context(capture(timeline))
    try:
        with cancel_on_interrupt(), wakeups(), ExitStack() as watches:
            program = await _load(stack, target, path, timeline)
            handler = program.handler
            handler_host = Host(
                handler,
                timeline,
                stack=stack.name,
                library=stack.library,
                telltales=telltales,
                also=stack.also,
                closely=closely,
            )
            watches.enter_context(_watch(handler, timeline))
            blocks = watches.enter_context(watch_blocks(timeline, getattr(original(handler), "__code__", None)))
            starting = asyncio.create_task(
                _start(stack, handler_host, server_options, program, context, blocks), context=context
            )
            try:
                server = await until_done(starting)
                begun = True
                yield server
                if own:
                    began = timeline.now()
                    await _let_end(server, limit)
                    await server.outlived(max(began + limit - timeline.now(), 0.0))
                    await end_experiment(server, limit)
            finally:
                # In a task of its own, which a cancel does not reach: so a second interrupt leaves nothing behind
                # either.
                if not starting.cancelled() and starting.exception() is None:
                    await finish(starting.result().stop, context)
    except OSError:
        if begun:
            raise
        with told_if_starved():
            raise
    finally:
        with capturing:  # what the tasks that are left say at their end is the experiment's
            await reap(timeline)


@contextmanager
def _watch(handler: Handler, timeline: Timeline) -> Iterator[None]:
    """Watch the lines of the handler, and what it starts and opens."""
    with watch_remains(timeline, handler, original(handler)), watch(handler, timeline):
        yield


async def _load(stack: Stack, target: Any, path: str, timeline: Timeline) -> Program:
    """Make the handler, and its application; what that prints, logs and starts is the application's."""
    token = scope.set(Scope(timeline, APPLICATION))
    try:
        return await stack.load(target, path)
    finally:
        scope.reset(token)


async def _start(
    stack: Stack,
    handler_host: Host,
    options: dict[str, Any],
    program: Program,
    context: contextvars.Context,
    blocks: Blocks,
) -> HostedServer:
    running = await stack.start(handler_host, options, program.app)
    return HostedServer(running, stack, handler_host, context, blocks)


async def _let_end(server: Server, limit: float) -> None:
    """Wait for the handlers whose connection is over, or is about to be since a fault has struck it."""
    timeline, running = server.timeline, server.running
    if not running:
        return
    start = len(timeline.recorded())
    over = [event for event in timeline if why_over(event) is not None or _ends_a_connection(event)]
    waited_for = running & (Connections(timeline).served_of(over) | server.over)

    ended: set[int | None] = set()

    def are_over(event: Event) -> bool:
        if not isinstance(event, HandlerEnd):
            return False
        ended.add(event.served)
        return waited_for <= ended and not waited_for & server.running

    if waited_for & server.running:
        await timeline.until(are_over, limit, start=start)


def _ends_a_connection(event: Event) -> bool:
    return isinstance(event, WireFault) and event.fault in registry and registry[event.fault].ends == "connection"


async def end_experiment(server: Server, patience: float = 0.0, only: Collection[int] | None = None) -> None:
    """Record what handlers have left, and that the experiment ends here; then stop the handlers.

    The lab causes what happens after this.

    Args:
        server: the server.
        patience: the longest wait that the experiment allowed, in seconds.
        only: the numbers, on the server's side, of the connections to tell of; all, if None.
    """
    await server.tell_left(only)
    # asyncio logs "Task exception was never retrieved" when the task is collected. Such tasks are young.
    gc.collect(1)
    inside = server.inside
    methods, numbers = [method for _, method in inside], [number for number, _ in inside]
    if not server.blocks.ended:  # else it is recorded already
        server.timeline.append(LoopStop(patience, methods, numbers, text="the lab ends the experiment"))
    await server.stop_handlers()
